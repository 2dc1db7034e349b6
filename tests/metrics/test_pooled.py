"""Swarm-wide figures from published counts: values are scikit-learn's, intervals hold the truth often enough."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from swarmcell.metrics import calibration, cell, patient, pooled, pooled_patient


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
    total = pooled.donor_vectors(confusion[None], np.array([[9.0, 4.0]]))[0]
    values = {"accuracy": _accuracy, "balanced_accuracy": _balanced, "macro_f1": _macro_f1}[name]
    found = pooled.GRADIENTS[name](total, 3)
    for j in range(11):
        step = np.eye(11)[j] * 1e-5
        assert found[j] == pytest.approx((values(total + step) - values(total - step)) / 2e-5, abs=1e-7)


def _accuracy(v):
    return (v[3:6].sum() + v[10]) / (v[:3].sum() + v[9])


def _balanced(v):
    return (v[3:6] / v[:3]).mean()


def _macro_f1(v):
    return (2 * v[3:6] / (v[:3] + v[6:9])).mean()


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


def histograms(true, p, n_bins=50):
    """Count samples as a site does; `p` has shape `(n_samples, K)`."""
    n = p.shape[1]
    bins = np.minimum((p * n_bins).astype(int), n_bins - 1)
    scores = np.zeros((n, n, n_bins), np.int64)
    for k in range(n):
        np.add.at(scores[:, k], (true, bins[:, k]), 1)
    return scores, bins, cell.confusion(true, p.argmax(axis=1), n)


def drawn(seed, n_classes, n=40):
    rng = np.random.default_rng(seed)
    true = np.append(rng.integers(0, n_classes, n), np.arange(n_classes))
    logits = rng.normal(size=(len(true), n_classes)) + 1.5 * np.eye(n_classes)[true]
    p = np.exp(logits)
    return true, p / p.sum(axis=1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_figures_of_two_conditions_are_sklearns_on_the_binned_probabilities(seed):
    true, p = drawn(seed, 2)
    scores, bins, confusion = histograms(true, p)
    found = pooled_patient.patient_figures([scores], confusion, np.bincount(true), positive=1)
    middle = (bins[:, 1] + 0.5) / 50
    assert found["auroc"].value == pytest.approx(oracle.roc_auc_score(true, middle))
    assert found["auprc"].value == pytest.approx(oracle.average_precision_score(true, middle))
    assert found["brier"].value == pytest.approx(oracle.brier_score_loss(true, middle))
    false_rate, true_rate, _ = oracle.roc_curve(true, middle, drop_intermediate=False)
    expected = true_rate[false_rate <= 0.1 + 1e-12].max()
    assert found[patient.SENSITIVITY].value == pytest.approx(expected)
    sums = calibration.reliability_sums(middle, true == 1)
    expected = float(calibration.expected_calibration_error(sums))
    assert found["expected_calibration_error"].value == pytest.approx(expected)
    assert found["balanced_accuracy"].value == pytest.approx(oracle.balanced_accuracy_score(true, p[:, 1] > 0.5))
    exact = {
        "auroc": oracle.roc_auc_score(true, p[:, 1]),
        "auprc": oracle.average_precision_score(true, p[:, 1]),
        "brier": oracle.brier_score_loss(true, p[:, 1]),
        patient.SENSITIVITY: patient.sensitivity_at(
            true == 1, p[:, 1], np.ones((1, len(true)), np.int64), specificity=0.9
        )[0],
    }
    for name, value in exact.items():
        low, high = (float(word) for word in re.findall(r"\d\.\d{3}", found[name].note))
        assert low - 5e-4 <= value <= high + 5e-4, name
        assert found[name].low <= value <= found[name].high


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_figures_of_three_conditions_are_sklearns_on_the_binned_probabilities(seed):
    true, p = drawn(seed, 3)
    scores, bins, confusion = histograms(true, p)
    found = pooled_patient.patient_figures([scores], confusion, np.bincount(true), positive=2)
    middle = (bins + 0.5) / 50
    areas = [oracle.roc_auc_score(true == k, middle[:, k]) for k in range(3)]
    precisions = [oracle.average_precision_score(true == k, middle[:, k]) for k in range(3)]
    assert found["auroc"].value == pytest.approx(np.mean(areas))
    assert found["auprc"].value == pytest.approx(np.mean(precisions))
    assert found["brier"].value == pytest.approx(((middle - np.eye(3)[true]) ** 2).sum(axis=1).mean())
    assert "expected_calibration_error" not in found


def test_intervals_of_patients_figures_hold_the_truth_about_as_often_as_they_say():
    """30 donors with one sample each, half of them ill; 300 cohorts; the truth is that of 200,000 donors."""

    def cohort(rng, n):
        true = np.arange(n) % 2
        chance = 1 / (1 + np.exp(-(rng.normal(size=n) + 1.6 * true - 0.8)))
        return true, np.stack([1 - chance, chance], axis=1)

    rng = np.random.default_rng(2)
    true, p = cohort(rng, 200_000)
    scores, _, confusion = histograms(true, p)
    truth = pooled_patient.patient_figures([scores], confusion, np.bincount(true), positive=1)
    held = dict.fromkeys(truth, 0)
    for _ in range(300):
        true, p = cohort(rng, 30)
        scores, _, confusion = histograms(true, p)
        found = pooled_patient.patient_figures([scores], confusion, np.bincount(true), positive=1)
        for name in held:
            held[name] += found[name].contains(truth[name].value)
    for name, n in held.items():
        assert n / 300 >= 0.92, (name, n / 300)


@pytest.mark.parametrize("bias", [0.0, 0.15])
def test_intervals_of_the_calibration_error_hold_the_truth_about_as_often_as_they_say(bias):
    """12 donors of 150 cells whose skill differs; confidence is too high by `bias`; 300 cohorts."""
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        confidence = rng.uniform(0.5, 0.95, (12, 150))
        skill = np.clip(confidence - bias + rng.normal(0, 0.04, (12, 1)), 0, 1)
        hit = rng.uniform(size=skill.shape) < skill
        sums = np.stack([calibration.reliability_sums(c, h) for c, h in zip(confidence, hit, strict=True)])
        gaps = pooled.packed_moments(pooled.gap_vectors(sums))
        matrix = np.stack([np.array([[h.sum(), 150 - h.sum()], [0, 0]]) for h in hit])
        found = pooled.cell_figures(*counts_of(matrix), sums.sum(axis=0), gaps)["expected_calibration_error"]
        assert found.value == pytest.approx(float(calibration.expected_calibration_error(sums.sum(axis=0))))
        held += found.contains(bias)
    assert held / 300 >= 0.92


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_intervals_of_patients_own_calibration_error_hold_the_truth_about_as_often_as_they_say(shift):
    """30 donors with one sample each; probabilities are too high by `shift` on the log-odds; 300 cohorts."""

    def sums(rng, n):
        odds = rng.normal(0, 1.2, n)
        hit = rng.uniform(size=n) < 1 / (1 + np.exp(-odds))
        p = 1 / (1 + np.exp(-odds - shift))
        return np.stack([calibration.reliability_sums(p[[i]], hit[[i]]) for i in range(n)])

    rng = np.random.default_rng(4)
    truth = float(calibration.expected_calibration_error(sums(rng, 100_000).sum(axis=0)))
    held = sum(pooled.calibration_of_donors(sums(rng, 30)).contains(truth) for _ in range(300))
    assert held / 300 >= 0.92, held / 300


def test_three_right_out_of_three_do_not_show_that_probabilities_are_right():
    p = np.array([0.99, 0.99, 0.99, 0.01, 0.01, 0.01])
    by_donor = np.stack([calibration.reliability_sums(p[[i]], np.array([i < 3])) for i in range(6)])
    found = pooled.calibration_of_donors(by_donor)
    assert found.high < 0.02
    few = pooled.allowing_for_few(found, by_donor.sum(axis=0), 6)
    assert few.value == found.value
    assert few.low == found.low
    assert few.high > 0.3


def test_perfect_cells_and_one_condition_are_told_as_they_are():
    confusion = np.stack([np.diag([10, 20])] * 4)
    found = pooled.cell_figures(*counts_of(confusion), no_bins())
    assert found["accuracy"].value == 1
    assert found["accuracy"].low < 0.6
    scores, _, confusion = histograms(np.zeros(5, int), np.full((5, 2), (0.9, 0.1)))
    one = pooled_patient.patient_figures([scores], confusion, np.array([5, 0]), positive=1)
    assert one["auroc"].value is None
    assert "fewer than two conditions" in one["auroc"].note
    assert one["auprc"].value is None
    assert one["brier"].value == pytest.approx(0.1**2, abs=0.003)
    alone = pooled_patient.patient_figures([scores], confusion, np.array([1, 0]), positive=1)
    assert "one held-out donor" in alone["brier"].note
    assert not alone["expected_calibration_error"].has_interval


def test_one_donor_has_no_interval():
    found = pooled.cell_figures(*counts_of(np.array([[[5, 1], [2, 6]]])), no_bins())
    assert not found["accuracy"].has_interval
    assert "one held-out donor" in found["accuracy"].note
