"""Every figure of the cell task is scikit-learn's."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from swarmcell.metrics import cell

labels = st.integers(2, 6).flatmap(
    lambda k: st.tuples(
        st.just(k),
        st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=60),
    )
)


def split(drawn):
    k, pairs = drawn
    true, predicted = np.array(pairs).T
    return k, true, predicted


@given(labels)
def test_confusion_is_sklearns(drawn):
    k, true, predicted = split(drawn)
    expected = oracle.confusion_matrix(true, predicted, labels=range(k))
    np.testing.assert_array_equal(cell.confusion(true, predicted, k), expected)


@given(labels)
def test_summary_figures_are_sklearns(drawn):
    k, true, predicted = split(drawn)
    counts = cell.confusion(true, predicted, k)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a predicted class that the truth lacks
        balanced = oracle.balanced_accuracy_score(true, predicted)
        macro = oracle.f1_score(true, predicted, average="macro", zero_division=0)
    assert cell.accuracy(counts) == pytest.approx(oracle.accuracy_score(true, predicted))
    assert cell.balanced_accuracy(counts) == pytest.approx(balanced)
    assert cell.macro_f1(counts) == pytest.approx(macro)


@given(labels)
def test_per_class_figures_are_sklearns_where_defined(drawn):
    k, true, predicted = split(drawn)
    counts = cell.confusion(true, predicted, k)
    precision, recall, f1, support = oracle.precision_recall_fscore_support(
        true, predicted, labels=range(k), zero_division=np.nan
    )
    np.testing.assert_allclose(cell.precision(counts), precision)
    np.testing.assert_allclose(cell.recall(counts), recall)
    np.testing.assert_array_equal(cell.support(counts), support)
    neither = (support == 0) & (counts.sum(axis=0) == 0)
    np.testing.assert_allclose(cell.f1(counts)[~neither], f1[~neither])
    assert np.isnan(cell.f1(counts)[neither]).all()


@given(labels, st.integers(0, 2**32 - 1))
def test_a_resample_equals_listing_the_donors_cells_as_often_as_drawn(drawn, seed):
    k, true, predicted = split(drawn)
    rng = np.random.default_rng(seed)
    donor = rng.integers(0, 4, len(true))
    per_donor = np.stack([cell.confusion(true[donor == d], predicted[donor == d], k) for d in range(4)])
    weights = rng.integers(0, 3, (5, 4))
    batch = cell.resampled_confusion(per_donor, weights)
    for row, drawn_often in zip(batch, weights, strict=True):
        repeated = np.repeat(np.arange(len(true)), drawn_often[donor])
        np.testing.assert_array_equal(row, cell.confusion(true[repeated], predicted[repeated], k))


def test_figures_of_no_cells_are_undefined_not_zero():
    empty = np.zeros((3, 3), dtype=np.int64)
    for figure in (cell.accuracy, cell.balanced_accuracy, cell.macro_f1):
        assert np.isnan(figure(empty))
