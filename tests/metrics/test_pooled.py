"""Swarm-wide figures from published counts: values are scikit-learn's, intervals hold the truth often enough."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from swarmcell.metrics import calibration, cell, patient, pooled


def counts_of(confusion):
    return confusion.sum(axis=0), pooled.packed_moments(pooled.donor_vectors(confusion)), len(confusion)


def no_bins():
    return np.zeros((10, 3))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), n_types=st.integers(2, 5), n_donors=st.integers(2, 9))
def test_values_are_sklearns_on_all_cells_together(seed, n_types, n_donors):
    rng = np.random.default_rng(seed)
    true, predicted = rng.integers(0, n_types, (2, n_donors, 30))
    confusion = np.stack([cell.confusion(t, p, n_types) for t, p in zip(true, predicted, strict=True)])
    sums = calibration.reliability_sums(rng.uniform(size=true.size), (true == predicted).ravel())
    found = pooled.cell_figures(*counts_of(confusion), sums)
    assert found["accuracy"].value == pytest.approx(oracle.accuracy_score(true.ravel(), predicted.ravel()))
    expected = oracle.balanced_accuracy_score(true.ravel(), predicted.ravel())
    assert found["balanced_accuracy"].value == pytest.approx(expected)
    expected = oracle.f1_score(true.ravel(), predicted.ravel(), average="macro")
    assert found["macro_f1"].value == pytest.approx(expected)
    assert all(found[name].has_interval for name in pooled.GRADIENTS)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), cut=st.integers(1, 7))
def test_counts_of_two_sites_add_up_to_those_of_both(seed, cut):
    confusion = np.random.default_rng(seed).integers(0, 20, (8, 3, 3))
    parts = [counts_of(confusion[:cut]), counts_of(confusion[cut:])]
    whole = counts_of(confusion)
    for mine, other, both in zip(*parts, whole, strict=True):
        np.testing.assert_array_equal(mine + other, both)


@pytest.mark.parametrize("name", list(pooled.GRADIENTS))
def test_gradients_are_those_of_finite_differences(name):
    rng = np.random.default_rng(0)
    confusion = rng.integers(1, 50, (3, 3)).astype(np.float64)
    total = pooled.donor_vectors(confusion[None])[0]
    values = {"accuracy": _accuracy, "balanced_accuracy": _balanced, "macro_f1": _macro_f1}[name]
    found = pooled.GRADIENTS[name](total, 3)
    for j in range(9):
        step = np.eye(9)[j] * 1e-5
        assert found[j] == pytest.approx((values(total + step) - values(total - step)) / 2e-5, abs=1e-7)


def _accuracy(v):
    return v[3:6].sum() / v[:3].sum()


def _balanced(v):
    return (v[3:6] / v[:3]).mean()


def _macro_f1(v):
    return (2 * v[3:6] / (v[:3] + v[6:])).mean()


def test_intervals_over_donors_hold_the_truth_about_as_often_as_they_say():
    """15 donors differ in skill (beta) and size; 400 cohorts: 95 %, within what chance and few donors allow."""
    rng = np.random.default_rng(1)
    held = {"accuracy": 0, "balanced_accuracy": 0}
    for _ in range(400):
        skill, sizes = rng.beta(12, 4, 15), rng.integers(100, 300, 15)
        confusion = np.zeros((15, 2, 2), np.int64)
        for d in range(15):
            for k, n in enumerate((sizes[d] // 2, sizes[d] - sizes[d] // 2)):
                hits = rng.binomial(n, skill[d])
                confusion[d, k, k], confusion[d, k, 1 - k] = hits, n - hits
        found = pooled.cell_figures(*counts_of(confusion), no_bins())
        for name in held:
            held[name] += found[name].contains(0.75)
    for name, n in held.items():
        assert 0.90 <= n / 400 <= 0.985, (name, n / 400)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_auroc_from_bins_is_that_of_binned_scores(seed):
    rng = np.random.default_rng(seed)
    true = np.append(rng.integers(0, 2, 28), [0, 1])
    p = rng.uniform(size=30)
    bins = np.minimum((p * 50).astype(int), 49)
    scores = np.zeros((2, 2, 50), np.int64)
    np.add.at(scores, (true, np.ones(30, int), bins), 1)
    np.add.at(scores, (true, np.zeros(30, int), 49 - bins), 1)
    confusion = cell.confusion(true, (p > 0.5).astype(int), 2)
    found = pooled.patient_figures(scores, confusion, np.bincount(true), positive=1)
    assert found["auroc"].value == pytest.approx(oracle.roc_auc_score(true, bins))
    assert found["auroc"].low < found["auroc"].value <= found["auroc"].high
    assert found["balanced_accuracy"].value == pytest.approx(oracle.balanced_accuracy_score(true, p > 0.5))
    exact = float(patient.auroc(true == 1, p, np.ones((1, 30), np.int64))[0])
    assert abs(found["auroc"].value - exact) < 0.15


def test_perfect_cells_and_one_condition_are_told_as_they_are():
    confusion = np.stack([np.diag([10, 20])] * 4)
    found = pooled.cell_figures(*counts_of(confusion), no_bins())
    assert found["accuracy"].value == 1
    assert found["accuracy"].low < 0.6
    one = pooled.patient_figures(np.zeros((2, 2, 50), np.int64), np.diag([5, 0]), np.array([5, 0]), positive=1)
    assert one["auroc"].value is None
    assert "fewer than two conditions" in one["auroc"].note


def test_one_donor_has_no_interval():
    found = pooled.cell_figures(*counts_of(np.array([[[5, 1], [2, 6]]])), no_bins())
    assert not found["accuracy"].has_interval
    assert "one held-out donor" in found["accuracy"].note
