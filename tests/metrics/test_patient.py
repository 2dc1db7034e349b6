"""Every figure of the patient task is scikit-learn's, weights meaning repetition."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from swarmcell.metrics import patient


@st.composite
def samples(draw, n_classes=(2, 4)):
    """Conditions, probabilities with ties, and weights of one batch."""
    k = draw(st.integers(*n_classes))
    n = draw(st.integers(2, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    true = rng.integers(0, k, n)
    probabilities = rng.integers(1, 6, (n, k)).astype(float)  # few distinct values: ties
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return true, probabilities, rng.integers(0, 3, (1, n))


def repeated(true, probabilities, weights):
    index = np.repeat(np.arange(len(true)), weights[0])
    return true[index], probabilities[index]


@given(samples((2, 2)))
def test_binary_curves_are_sklearns(drawn):
    true, probabilities, weights = drawn
    labels, scores = repeated(*drawn)
    assume(len(np.unique(labels)) == 2)
    positive, score = true == 1, probabilities[:, 1]
    assert patient.auroc(positive, score, weights)[0] == pytest.approx(oracle.roc_auc_score(labels, scores[:, 1]))
    expected = oracle.average_precision_score(labels, scores[:, 1])
    assert patient.auprc(positive, score, weights)[0] == pytest.approx(expected)
    false_rate, true_rate, _ = oracle.roc_curve(labels, scores[:, 1], drop_intermediate=False)
    best = true_rate[false_rate <= 0.2 + 1e-12].max()
    assert patient.sensitivity_at(positive, score, weights, specificity=0.8)[0] == pytest.approx(best)


@given(samples((3, 4)))
def test_macro_auroc_and_auprc_are_sklearns(drawn):
    true, probabilities, weights = drawn
    labels, scores = repeated(*drawn)
    k = probabilities.shape[1]
    assume(len(np.unique(labels)) == k)
    found = patient.macro(patient.auroc, true, probabilities, weights)[0]
    assert found == pytest.approx(oracle.roc_auc_score(labels, scores, multi_class="ovr", average="macro"))
    found = patient.macro(patient.auprc, true, probabilities, weights)[0]
    assert found == pytest.approx(oracle.average_precision_score(np.eye(k)[labels], scores, average="macro"))


@given(samples())
def test_brier_and_balanced_accuracy_are_sklearns(drawn):
    true, probabilities, weights = drawn
    labels, scores = repeated(*drawn)
    assume(len(labels))
    k = probabilities.shape[1]
    expected = np.mean(((np.eye(k)[labels] - scores) ** 2).sum(axis=1)) * (0.5 if k == 2 else 1)
    assert patient.brier(true, probabilities, weights)[0] == pytest.approx(expected)
    if k == 2 and len(np.unique(labels)) == 2:
        assert patient.brier(true, probabilities, weights)[0] == pytest.approx(
            oracle.brier_score_loss(labels, scores[:, 1])
        )
    predicted = probabilities.argmax(axis=1)
    members = np.unique(labels)
    recalls = oracle.recall_score(
        labels, np.repeat(predicted, weights[0]), labels=members, average=None, zero_division=0
    )
    found = patient.balanced_accuracy(true, predicted, weights, k)[0]
    assert found == pytest.approx(recalls.mean())


@given(samples((2, 2)))
def test_curves_are_sklearns_point_for_point(drawn):
    true, probabilities, _ = drawn
    assume(len(np.unique(true)) == 2)
    ones = np.ones((1, len(true)), dtype=np.int64)
    true_rate, false_rate = patient.roc(true == 1, probabilities[:, 1], ones)
    expected_false, expected_true, _ = oracle.roc_curve(true, probabilities[:, 1], drop_intermediate=False)
    np.testing.assert_allclose(true_rate[0], expected_true[1:])
    np.testing.assert_allclose(false_rate[0], expected_false[1:])
    precision, recall = patient.precision_recall(true == 1, probabilities[:, 1], ones)
    expected_precision, expected_recall, _ = oracle.precision_recall_curve(true, probabilities[:, 1])
    np.testing.assert_allclose(precision[0], expected_precision[:-1][::-1])
    np.testing.assert_allclose(recall[0], expected_recall[:-1][::-1])


def test_one_condition_makes_two_class_figures_undefined_not_half():
    true, probabilities = np.zeros(4, dtype=np.int64), np.full((4, 2), 0.5)
    ones = np.ones((3, 4), dtype=np.int64)
    assert np.isnan(patient.macro(patient.auroc, true, probabilities, ones)).all()
    assert np.isnan(patient.binary(patient.auroc, true, probabilities, ones, positive=1)).all()
    assert np.isnan(patient.auroc(true == 0, probabilities[:, 0], ones)).all()
    assert np.isnan(patient.sensitivity_at(true == 0, probabilities[:, 0], ones, specificity=0.9)).all()


@pytest.mark.parametrize(
    ("conditions", "positive"),
    [(("aml", "normal"), "aml"), (("Healthy", "lupus"), "lupus"), (("a", "b"), "b"), (("ctrl", "mock"), "mock")],
)
def test_the_positive_condition_is_no_control(conditions, positive):
    assert conditions[patient.positive_condition(conditions)] == positive
