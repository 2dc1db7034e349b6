"""Fixed-point integers: the only numbers that leave a site, so that a sum has the same bits in any order.

Rules: a fixed-point array is `round(value * 2**bits)`. Everything here is elementwise and correctly rounded, or exact
integer arithmetic: no BLAS, exp, log or pow, whose bits change with the processor.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from swarmcell.errors import ModelError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

STATISTICS_BITS = 24  # DESIGN: float32 values of log1p CP10k above 1 are exact multiples of 2**-23
PARAMETER_BITS = 22  # int32 then reaches 512; the rounding of 2,000 coefficients moves a logit by about 1e-5
EXACT_BITS = 40  # DESIGN: at 2**-24 L-BFGS stalls at a gradient of 2e-5, at 2**-40 it reaches 9e-8
_INT32_LAST = 2**31 - 1
_EXACT_FLOAT = 2**53


def to_int32(values: npt.ArrayLike, *, what: str) -> npt.NDArray[np.int32]:
    """Return `values` in fixed point 2**-22 as int32.

    Raises
    ------
    ModelError
        If a value is not finite, or does not fit (beyond +-512).
    """
    return _rounded(values, PARAMETER_BITS, _INT32_LAST, what).astype(np.int32)


def to_int64(values: npt.ArrayLike, bits: int, *, what: str, last: int = _EXACT_FLOAT) -> Integers:
    """Return `values` in fixed point 2**-bits as int64, none beyond `last`.

    Raises
    ------
    ModelError
        If a value is not finite, or is so large that its float64 no longer resolves it (2**53 units).
    """
    return _rounded(values, bits, min(last, _EXACT_FLOAT), what).astype(np.int64)


def to_float(values: npt.NDArray[Any], bits: int) -> Floats:
    """Return fixed-point integers (below 2**53) as float64, exactly."""
    return np.asarray(values).astype(np.float64) * math.ldexp(1.0, -bits)


def parameter_bits(array: npt.NDArray[Any]) -> int:
    """Return the fixed point of a parameter array: averaged ones are int32 (2**-22), exact ones int64 (2**-40)."""
    return PARAMETER_BITS if array.dtype.itemsize == 4 else EXACT_BITS


def to_exact(parameters: npt.NDArray[Any]) -> Integers:
    """Return a parameter array in fixed point 2**-40, exactly."""
    return np.asarray(parameters.astype(np.int64) << (EXACT_BITS - parameter_bits(parameters)))


def _rounded(values: npt.ArrayLike, bits: int, last: int, what: str) -> Floats:
    scaled = np.rint(np.asarray(values, np.float64) * math.ldexp(1.0, bits))
    if not np.isfinite(scaled).all():
        msg = f"{what} is not finite: the fit diverged. Lower learning_rate, or check the cells for outliers."
        raise ModelError(msg)
    if scaled.size and np.abs(scaled).max() > last:
        msg = (
            f"{what} is beyond +-{math.ldexp(float(last), -bits):g}: the fit diverged. Lower learning_rate, "
            "or check the cells for outliers."
        )
        raise ModelError(msg)
    return scaled


def divide(numerator: npt.NDArray[Any], denominator: int) -> npt.NDArray[Any]:
    """Return the elementwise quotient, rounded half to even, in exact integers.

    Parameters
    ----------
    numerator
        int64, or Python integers in an object array.
    denominator
        > 0; at most 2**62 for int64.
    """
    quotient = numerator // denominator  # numpy's divmod takes no object arrays
    twice = 2 * (numerator - quotient * denominator)
    up = (twice > denominator) | ((twice == denominator) & (quotient % 2 == 1))
    return np.asarray(quotient + up.astype(quotient.dtype))


def root(values: Sequence[int]) -> list[int]:
    """Return the integer square roots, rounded down."""
    return [math.isqrt(value) for value in values]
