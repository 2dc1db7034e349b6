"""Closed-form intervals: against scipy, and against published figures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from swarmcell.metrics.score_intervals import newcombe_auroc, wilson


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_wilson_is_scipys(drawn):
    n, hits = drawn
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits / n, n) == pytest.approx((expected.low, expected.high))


@given(st.floats(0, 1), st.integers(2, 60), st.integers(2, 60))
def test_newcombe_contains_the_area_and_keeps_its_width(area, n_positive, n_negative):
    low, high = newcombe_auroc(area, n_positive, n_negative)
    assert 0 <= low <= area + 1e-8
    assert area - 1e-8 <= high <= 1
    assert high - low > 0.01


@given(st.floats(0.01, 0.99), st.integers(2, 40))
def test_newcombe_mirrors(area, n):
    low, high = newcombe_auroc(area, n, n)
    mirrored_low, mirrored_high = newcombe_auroc(1 - area, n, n)
    assert mirrored_low == pytest.approx(1 - high, abs=1e-6)
    assert mirrored_high == pytest.approx(1 - low, abs=1e-6)


def test_perfect_separation_of_few_donors_is_no_certainty():
    low, high = newcombe_auroc(1.0, 4, 4)
    assert low < 0.75
    assert high == 1.0
