"""Calibration: sums, curve and error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from swarmcell.metrics import calibration


@given(st.integers(0, 2**32 - 1), st.integers(1, 80))
def test_the_curve_is_sklearns(seed, n):
    rng = np.random.default_rng(seed)
    confidence, hit = rng.uniform(size=n), rng.uniform(size=n) < 0.5
    curve = calibration.reliability_curve(calibration.reliability_sums(confidence, hit))
    hits, mean = calibration_curve(hit, confidence, n_bins=10)
    filled = curve[2] > 0
    np.testing.assert_allclose(curve[0][filled], mean)
    np.testing.assert_allclose(curve[1][filled], hits)
    assert np.isnan(curve[0][~filled]).all()


def test_error_is_the_gap_weighted_by_rows():
    confidence = np.array([0.95, 0.95, 0.55, 0.55])
    hit = np.array([True, True, True, False])
    error = calibration.expected_calibration_error(calibration.reliability_sums(confidence, hit))
    assert error == pytest.approx((2 * 0.05 + 2 * 0.05) / 4)


@given(st.integers(0, 2**32 - 1))
def test_sums_of_donors_are_the_sums_of_all(seed):
    rng = np.random.default_rng(seed)
    confidence, hit, donor = rng.uniform(size=50), rng.uniform(size=50) < 0.7, rng.integers(0, 3, 50)
    parts = [calibration.reliability_sums(confidence[donor == d], hit[donor == d]) for d in range(3)]
    np.testing.assert_allclose(sum(parts), calibration.reliability_sums(confidence, hit))
