"""Facts about fixed point: sums and means are exact, rounded half to even, the same bits in any order."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcell.errors import ModelError
from swarmcell.model.fixed import PARAMETER_BITS, divide, root, to_float, to_int32, to_int64


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(ModelError, match="'weight' is not finite: the fit diverged"):
        to_int32([0.0, value], what="'weight'")
    with pytest.raises(ModelError, match="not finite"):
        to_int64([value], 24, what="X")


def test_what_does_not_fit_is_refused():
    with pytest.raises(ModelError, match=r"beyond \+-512"):
        to_int32([512.1], what="'weight'")
    with pytest.raises(ModelError, match="beyond"):
        to_int64([2.0**30], 24, what="X")


@given(st.lists(st.floats(-511, 511), max_size=5))
def test_rounding_moves_a_value_by_half_a_unit_at_most(values):
    back = to_float(to_int32(values, what="x"), PARAMETER_BITS)
    assert np.all(np.abs(back - np.asarray(values)) <= 2.0 ** -(PARAMETER_BITS + 1))


@given(st.lists(st.integers(-(2**53), 2**53), max_size=5), st.integers(0, 40))
def test_fixed_point_becomes_float_without_loss(values, bits):
    assert to_int64(to_float(np.array(values, np.int64), bits), bits, what="x").tolist() == values


@given(st.integers(-(2**60), 2**60), st.integers(1, 2**60))
def test_a_quotient_is_rounded_half_to_even(numerator, denominator):
    expected = round(Fraction(numerator, denominator))
    assert divide(np.array([numerator], np.int64), denominator).tolist() == [expected]
    assert divide(np.array([numerator], object), denominator).tolist() == [expected]


@pytest.mark.parametrize(("numerator", "expected"), [(1, 0), (3, 2), (5, 2), (-1, 0), (-3, -2)])
def test_halves_go_to_the_even_neighbour(numerator, expected):
    assert divide(np.array([numerator]), 2).tolist() == [expected]


@given(st.integers(0, 2**200))
def test_a_root_is_rounded_down(value):
    (found,) = root([value])
    assert found**2 <= value < (found + 1) ** 2
