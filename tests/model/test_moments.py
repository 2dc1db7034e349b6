"""Facts about mean and scale: exact sums, so that no partition of the cells into sites changes a bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from swarmcell.errors import ModelError
from swarmcell.model import moments
from swarmcell.model.fixed import STATISTICS_BITS, to_float
from swarmcell.model.moments import mean_and_scale, sums, variance_numerator, widen

ONE = 1 << STATISTICS_BITS


def scaling(X):
    first, second = sums(X)
    mean, scale = mean_and_scale(X.shape[0], first.astype(object), second.astype(object))
    return to_float(mean, STATISTICS_BITS), to_float(scale, STATISTICS_BITS)


def cells(seed, n=50, n_features=4, *, density=0.5):
    rng = np.random.default_rng(seed)
    return (rng.gamma(1, 2, (n, n_features)) * (rng.uniform(size=(n, n_features)) < density)).astype(np.float32)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e9])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_a_value_that_is_not_finite_or_absurd_is_refused(value, kind):
    with pytest.raises(ModelError, match=r"^X is "):
        sums(kind(np.array([[1, value]], np.float32)))


@given(st.integers(0, 2**32 - 1), st.integers(2, 400), st.floats(0, 1))
@settings(max_examples=50)
def test_mean_and_scale_are_those_of_numpy(seed, n, density):
    X = cells(seed, n, density=density)
    mean, scale = scaling(sparse.csr_matrix(X))
    np.testing.assert_allclose(mean, X.mean(axis=0, dtype=np.float64), atol=2.0**-24)
    exact = X.astype(np.float64).std(axis=0)
    varying = exact > 0.01
    np.testing.assert_allclose(scale[varying], exact[varying], atol=1e-4)
    assert np.all(scale[exact == 0] == 1)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 49), max_size=5))
@settings(max_examples=50)
def test_sums_over_sites_are_the_sums_over_all_cells_to_the_bit(seed, cuts):
    X = cells(seed)
    whole = sums(sparse.csr_matrix(X))
    parts = [sums(sparse.csr_matrix(p)) for p in np.split(X[np.random.default_rng(seed).permutation(50)], sorted(cuts))]
    for i in range(2):
        assert np.array_equal(sum(part[i] for part in parts), whole[i])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_dense_and_sparse_cells_have_the_same_sums(seed):
    X = cells(seed)
    for dense, csr in zip(sums(X), sums(sparse.csr_matrix(X)), strict=True):
        assert np.array_equal(dense, csr)


def test_large_values_are_summed_exactly_too(monkeypatch):
    monkeypatch.setattr(moments, "CHUNK_ROWS", 3)
    X = np.array([[20_000.0, 1.0], [20_000.0, 0.0], [3.0, 0.0], [0.5, 2.0]], np.float32)
    expected = [sum(int(v) for v in column) for column in np.rint(X.astype(np.float64) ** 2 * ONE).T]
    assert sums(sparse.csr_matrix(X))[1].tolist() == expected
    assert sums(X)[1].tolist() == expected


@given(st.floats(-30, 30, width=32), st.integers(1, 5000))
def test_a_constant_feature_has_scale_one(value, n):
    """Its variance is nothing but the rounding of x and of its square: dividing by that would blow up another site."""
    first, second = (s.astype(object) * n for s in sums(np.array([[value]], np.float32)))
    mean, scale = mean_and_scale(n, first, second)
    assert scale.tolist() == [ONE]
    assert abs(mean[0] / ONE - value) <= 2.0**-24


def test_a_small_but_true_spread_is_kept():
    X = np.array([[1.0], [1.002]] * 50, np.float32)
    assert scaling(X)[1] == pytest.approx(0.001, rel=0.05)


@given(st.integers(1, 2**40), st.integers(-(2**53), 2**53), st.integers(0, 2**53))
def test_no_sums_give_a_negative_variance_or_a_scale_of_zero(n, first, second):
    assert variance_numerator(n, first, second) >= 0
    _, scale = mean_and_scale(n, np.array([first], object), np.array([second], object))
    assert scale[0] > 0


def test_a_block_is_widened_by_the_root_of_its_width():
    assert widen(np.array([ONE, ONE]), np.array([4, 2000])).tolist() == [2 * ONE, int(2000**0.5 * ONE)]
