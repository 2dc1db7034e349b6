"""Intervals: who is resampled, and how often the truth lies within."""

import numpy as np
import pytest
from benchmarks import intervals
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap

from swarmcell.metrics import patient, resampling


@given(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
def test_each_stratum_is_drawn_as_often_as_it_has_donors(strata, seed):
    drawn = resampling.draw(strata, n_resamples=20, rng=np.random.default_rng(seed))
    assert (drawn.weights[0] == 1).all()
    for stratum in set(strata):
        members = np.array(strata) == stratum
        assert (drawn.drawn[:, members].sum(axis=1) == members.sum()).all()


@given(st.lists(st.integers(0, 2), min_size=1, max_size=12))
def test_behind_the_resamples_each_donor_is_left_out_once(strata):
    drawn = resampling.draw(strata, n_resamples=20, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(drawn.weights[21:], 1 - np.eye(len(strata)))


def test_of_very_many_donors_none_is_left_out_and_the_interval_stands():
    drawn = resampling.draw([0] * 600, n_resamples=200, rng=np.random.default_rng(0))
    assert drawn.weights.shape == (201, 600)
    assert resampling.estimate(drawn.weights @ np.linspace(0, 1, 600) / 600, drawn).contains(0.5)


def test_one_donor_gives_a_figure_without_interval_and_says_why():
    drawn = resampling.draw([0], n_resamples=50, rng=np.random.default_rng(0))
    found = resampling.estimate(np.full(52, 0.7), drawn)
    assert found.value == pytest.approx(0.7)
    assert not found.has_interval
    assert "one held-out donor" in found.note


def test_an_undefined_figure_has_a_reason_and_no_number():
    drawn = resampling.draw([0, 0, 0], n_resamples=50, rng=np.random.default_rng(0))
    found = resampling.estimate(np.full(54, np.nan), drawn, reason="one condition")
    assert found.value is None
    assert found.note == "one condition"
    assert found.to_json()["value"] is None


def test_a_figure_that_few_resamples_define_has_no_interval():
    drawn = resampling.draw([0, 0, 0], n_resamples=100, rng=np.random.default_rng(0))
    values = np.where(np.arange(104) % 2 == 0, 0.5, np.nan)
    found = resampling.estimate(values, drawn)
    assert not found.has_interval
    assert "defined in only" in found.note


def test_the_interval_is_wider_than_that_of_plain_percentiles_for_few_donors():
    drawn = resampling.draw([0] * 9, n_resamples=4000, rng=np.random.default_rng(0))
    values = drawn.weights @ np.linspace(0.2, 0.8, 9) / 9
    low, high = resampling.accelerated_interval(values, drawn)
    plain_low, plain_high = np.quantile(values[1:4001], [0.025, 0.975])
    assert low < plain_low
    assert high > plain_high


def test_of_many_donors_the_interval_of_a_skewed_mean_is_scipys():
    """Its bias correction and acceleration; 400 donors leave Student's t next to nothing to widen."""
    values = np.random.default_rng(1).exponential(0.1, 400) ** 2
    drawn = resampling.draw([0] * 400, n_resamples=20_000, rng=np.random.default_rng(2))
    found = resampling.accelerated_interval(drawn.weights @ values / drawn.weights.sum(axis=1), drawn)
    oracle = bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(3))
    width = oracle.confidence_interval.high - oracle.confidence_interval.low
    assert found == pytest.approx(tuple(oracle.confidence_interval), abs=0.03 * width)
    plain = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(3))
    assert abs(plain.confidence_interval.high - oracle.confidence_interval.high) > 0.05 * width


@pytest.mark.parametrize("n_donors", [2, 3, 4])
def test_intervals_of_a_mean_over_very_few_donors_cover_the_truth_and_stay_within_the_scale(n_donors):
    """400 studies; the outermost resamples of two donors hold the truth in half of them, of three in 74 %."""
    rng = np.random.default_rng(20261130)
    held = 0
    for _ in range(400):
        hits = rng.binomial(200, rng.beta(16, 4, n_donors))
        drawn = resampling.draw([0] * n_donors, n_resamples=300, rng=rng)
        found = resampling.estimate(drawn.weights @ hits / (drawn.weights.sum(axis=1) * 200), drawn)
        assert 0 <= found.low <= found.high <= 1
        held += found.contains(0.8)
    assert 0.91 <= held / 400 <= 0.99


def test_a_difference_of_very_few_donors_may_be_negative():
    drawn = resampling.draw([0, 0, 0], n_resamples=300, rng=np.random.default_rng(0))
    found = resampling.estimate(drawn.weights @ np.array([-0.6, 0.1, 0.2]) / 3, drawn, least=-1.0)
    assert -1 <= found.low < -0.6


@pytest.mark.parametrize("n_donors", [6, 12, 30])
def test_intervals_of_a_mean_over_donors_cover_the_truth(n_donors):
    """500 studies whose donors differ in accuracy (Beta, mean 0.8): 95 % intervals hold 0.8 in 91 % to 98 %."""
    rng = np.random.default_rng(20261124)
    held = 0
    for _ in range(500):
        shares = rng.beta(16, 4, n_donors)
        hits, cells = rng.binomial(200, shares), np.full(n_donors, 200)
        drawn = resampling.draw([0] * n_donors, n_resamples=400, rng=rng)
        found = resampling.estimate(drawn.weights @ hits / (drawn.weights @ cells), drawn)
        held += found.contains(0.8)
    assert 0.91 <= held / 500 <= 0.98


def test_intervals_of_auroc_cover_the_truth():
    """300 studies of 12 + 12 donors, scores normal with a shift of 1 SD: the truth is Phi(1 / sqrt 2) = 0.7602."""
    rng = np.random.default_rng(7)
    true = np.repeat([0, 1], 12)
    held = 0
    for _ in range(300):
        score = rng.normal(size=24) + true
        drawn = resampling.draw(true.tolist(), n_resamples=400, rng=rng)
        held += resampling.estimate(patient.auroc(true == 1, score, drawn.weights), drawn).contains(0.7602)
    assert 0.90 <= held / 300 <= 0.985


def test_intervals_of_every_figure_of_patients_cover_the_truth():
    """200 cohorts of 15 + 15 donors. Plain percentiles held the AUPRC of 86 %."""
    study = intervals.of_patients(np.random.default_rng(5), 15, 15, 1.6, n_bootstrap=300)
    for name, share in intervals.held(study, 200).items():
        assert 0.91 <= share <= (1 if "calibration" in name else 0.995), (name, share)


def test_the_balanced_accuracy_of_a_small_group_that_is_all_right_is_no_certainty():
    """150 cohorts of 6 + 30 donors; resamples alone held the truth of 86 %."""
    study = intervals.of_patients(np.random.default_rng(5), 6, 30, 1.6, n_bootstrap=200)
    assert intervals.held(study, 150)["balanced_accuracy"] >= 0.92


@pytest.mark.parametrize("n_donors", [2, 3, 12])
def test_intervals_of_every_figure_of_cells_cover_the_truth(n_donors):
    """200 cohorts of donors with 150 cells each, whose skill differs (Beta)."""
    study = intervals.of_cells(np.random.default_rng(6), n_donors, n_bootstrap=300)
    for name, share in intervals.held(study, 200).items():
        assert 0.86 <= share <= (1 if "calibration" in name else 0.995), (name, share)
