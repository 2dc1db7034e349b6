"""Facts about the local quadratic fit: it is that of scanpy's own library, and it refuses where that one does."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from skmisc.loess import loess as peer

from swarmcell.errors import ModelError
from swarmcell.model import loess


def points(seed, n, kind):
    """Return points as of genes: `tied` has the log of few different counts, `rounded` values of one decimal."""
    rng = np.random.default_rng(seed)
    if kind == "tied":
        x = np.log10(rng.geometric(1 / rng.uniform(1.1, 50), n) / 1000)
    elif kind == "rounded":
        x = np.round(rng.gamma(1, 1, n), 1)
    else:
        x = rng.normal(size=n)
    return x, 1.2 * x + 0.3 * x * x + 0.2 * rng.normal(size=n)


def peers_fit(x, y):
    model = peer(x, y, span=0.3, degree=2)
    model.fit()
    return model.outputs.fitted_values.copy()


@given(st.integers(0, 2**32 - 1), st.integers(20, 900), st.sampled_from(["distinct", "tied", "rounded"]))
@example(3, 900, "tied")
@settings(max_examples=60, deadline=None)
def test_the_fit_is_that_of_scanpys_library(seed, n, kind):
    x, y = points(seed, n, kind)
    try:
        expected = peers_fit(x, y)
    except ValueError:
        with pytest.raises(ModelError):
            loess.fit(x, y)
    else:
        np.testing.assert_allclose(loess.fit(x, y), expected, atol=1e-10)


@pytest.mark.parametrize("n_different", [1, 2])
def test_points_that_determine_no_quadratic_are_refused_as_there(n_different):
    x = np.arange(100) % n_different * 1.0
    y = np.random.default_rng(0).normal(size=100)
    with pytest.raises(ValueError):  # noqa: PT011 (its message changes with the singularity)
        peers_fit(x, y)
    with pytest.raises(ModelError, match="one value"):
        loess.fit(x, y)


@pytest.mark.parametrize("n", [0, 1, 13])
def test_too_few_points_are_refused(n):
    with pytest.raises(ModelError, match=f"{n} points are too few"):
        loess.fit(np.arange(n) * 1.0, np.arange(n) * 1.0)


def test_a_quadratic_is_fitted_by_itself():
    x = np.linspace(-2, 3, 400)
    np.testing.assert_allclose(loess.fit(x, 1 - x + 2 * x * x), 1 - x + 2 * x * x, atol=1e-3)


def test_the_fit_does_not_depend_on_the_order_of_distinct_points():
    x, y = points(5, 300, "distinct")
    order = np.random.default_rng(1).permutation(300)
    assert loess.fit(x[order], y[order]).tobytes() == loess.fit(x, y)[order].tobytes()
