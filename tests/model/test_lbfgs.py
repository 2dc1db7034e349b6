"""Facts about L-BFGS in fixed point, and about arithmetic with the same bits everywhere."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcell.model.fixed import EXACT_BITS, to_float, to_int64
from swarmcell.model.merges import lbfgs
from swarmcell.model.merges.elementwise import dot, norm, total, totals


def fixed(values):
    return to_int64(values, EXACT_BITS, what="x")


def run(loss_and_gradient, start, *, rounds=200, tolerance=1e-9):
    """Minimise, one evaluation per step; return the accepted iterate and the number of evaluations."""
    now = lbfgs.begin(fixed(start))
    for count in range(1, rounds + 1):
        loss, gradient = loss_and_gradient(to_float(now.trial, EXACT_BITS))
        if np.abs(gradient).max() <= tolerance:
            return to_float(now.trial, EXACT_BITS), count
        now, _ = lbfgs.advance(now, lbfgs.Evaluated(int(fixed([loss])[0]), fixed(gradient)))
        if lbfgs.has_stalled(now):
            break
    return to_float(now.at, EXACT_BITS), count


def test_a_quadratic_is_minimised_though_its_axes_differ_a_thousandfold():
    curvature, centre = np.geomspace(0.05, 50, 20), np.linspace(-3, 3, 20)
    found, rounds = run(lambda x: ((curvature * (x - centre) ** 2).sum() / 2, curvature * (x - centre)), np.zeros(20))
    assert np.abs(found - centre).max() < 1e-7
    assert rounds < 120


def test_a_step_that_is_too_long_is_followed_by_a_shorter_one_from_the_same_place():
    now = lbfgs.begin(fixed([1.0]))
    now, taken = lbfgs.advance(now, lbfgs.Evaluated(int(fixed([50.0])[0]), fixed([100.0])))
    assert taken
    assert to_float(now.trial, EXACT_BITS) == [0.0]
    after, taken = lbfgs.advance(now, lbfgs.Evaluated(int(fixed([60.0])[0]), fixed([-100.0])))
    assert not taken
    assert after.at == now.at
    assert 0.5 <= to_float(after.trial, EXACT_BITS)[0] <= 0.9


def test_sums_that_contradict_each_other_end_the_fit_instead_of_looping():
    now = lbfgs.begin(fixed([0.0, 0.0]))
    for count in range(200):
        rising = lbfgs.Evaluated(int(fixed([float(count)])[0]), fixed([1.0, 1.0]))
        now, _ = lbfgs.advance(now, rising)
        if lbfgs.has_stalled(now):
            break
    assert count < 60


def test_no_iterate_leaves_fixed_point():
    now = lbfgs.begin(fixed([0.0]))
    for _ in range(40):
        now, _ = lbfgs.advance(now, lbfgs.Evaluated(now.loss - (1 << 45), fixed([-1000.0])))
    assert abs(int(now.trial[0])) <= 2**52


def test_the_history_holds_what_fits_its_bytes_between_thirty_pairs_and_a_hundred_and_fifty():
    assert lbfgs.pairs_kept(5) == lbfgs.PAIRS_MOST
    assert lbfgs.pairs_kept(10_500) == lbfgs.HISTORY_BYTES // (8 * 10_500) == 99
    assert lbfgs.pairs_kept(40_020) == lbfgs.PAIRS_LEAST


@given(st.lists(st.integers(-(1 << 61), 1 << 61), min_size=1, max_size=5))
def test_a_difference_in_the_history_is_right_to_thirty_bits_of_its_largest_value(values):
    now = lbfgs.begin(np.zeros(len(values), np.int64))
    gradient, moved = np.array(values, np.int64), np.ones(len(values), np.int64)
    now = replace(now, gradient=np.zeros_like(gradient), trial=np.sign(gradient) * moved)
    after, taken = lbfgs.advance(now, lbfgs.Evaluated(-(1 << 60), gradient))
    if not taken or not len(after.y):
        return
    largest = int(np.abs(gradient).max())
    found = after.y[0].astype(object) * (1 << int(after.shifts[0, 1]))
    assert np.abs(found - gradient.astype(object)).max() <= max(largest >> 30, 0) + 1
    assert after.y.dtype == after.s.dtype == np.int32


@given(st.lists(st.floats(-1e6, 1e6), max_size=50))
def test_a_folded_sum_is_the_sum(values):
    assert total(np.array(values)) == pytest.approx(math.fsum(values), abs=1e-6)


def test_a_folded_sum_has_one_order_of_additions():
    a, b, c, d, e = 1e16, 1.0, -1e16, 1.0, 3.0
    assert total(np.array([a, b, c, d, e])) == ((a + d) + c) + (b + e)


def test_folding_leaves_its_argument_alone():
    values = np.arange(5.0)
    assert totals(np.stack([values, values])).tolist() == (2 * values).tolist()
    assert dot(values, values) == 30
    assert norm(values) == math.sqrt(30)
    assert values.tolist() == [0, 1, 2, 3, 4]
