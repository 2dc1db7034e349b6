"""Mean and scale of features from exact sums, so that any partition of the cells gives the same bits.

Rules: every value is rounded to 2**-24 before it is summed (a float32 log1p CP10k above 1 already is a multiple of
2**-23), its square likewise; sums are integers; mean and standard deviation are exact integer arithmetic of them.
"""

import math

import numpy as np
import numpy.typing as npt

from swarmcell.cells.batches import Matrix, is_sparse
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import STATISTICS_BITS, Integers, to_int64

CHUNK_ROWS = 4096
_ONE = 1 << STATISTICS_BITS


def sums(X: Matrix) -> tuple[Integers, Integers]:
    """Return fixed-point sums of each column and of its squares, both int64 of shape `(n_features,)`.

    Parameters
    ----------
    X
        Shape `(n_rows, n_features)`, CSR or dense.

    Raises
    ------
    ModelError
        If a value is not finite or absurdly large.
    """
    first, second = np.zeros(X.shape[1], np.int64), np.zeros(X.shape[1], np.int64)
    for start in range(0, X.shape[0], CHUNK_ROWS):
        chunk = X[start : start + CHUNK_ROWS]
        first += column_sums(chunk, _rounded(chunk, 1))
        second += column_sums(chunk, _rounded(chunk, 2))
    return first, second


def _rounded(chunk: Matrix, power: int) -> Integers:
    values = np.asarray(chunk.data if is_sparse(chunk) else chunk, np.float64)
    return to_int64(values**power, STATISTICS_BITS, what="X")


def column_sums(chunk: Matrix, values: Integers) -> Integers:
    """Return the exact sum of each column, int64 of shape `(n_columns,)`.

    Parameters
    ----------
    chunk
        CSR or dense; only its shape and its places count.
    values
        Integers at those places: as many as a CSR matrix stores, or of the shape of a dense one.
    """
    if not is_sparse(chunk):
        return np.asarray(values.sum(axis=0), np.int64)
    # float64 weights hold these integers exactly: 4,096 rows of values below 2**9 in 2**-24 are below 2**53
    if values.size and int(np.abs(values).max()) * chunk.shape[0] >= 1 << 53:
        total = np.zeros(chunk.shape[1], np.int64)
        np.add.at(total, chunk.indices, values)
        return total
    counted = np.bincount(chunk.indices, weights=values.astype(np.float64), minlength=chunk.shape[1])
    return np.asarray(counted.astype(np.int64))


def mean_and_scale(n: int, first: Array, second: Array) -> tuple[Integers, Integers]:
    """Return mean and standard deviation (divisor n) in fixed point 2**-24; a constant feature has scale 1.

    A feature is constant if its variance is within the rounding of the values that were summed.

    Parameters
    ----------
    n
        Rows summed, > 0.
    first, second
        Exact sums, Python integers in object arrays of shape `(n_features,)`.
    """
    means, scales = [], []
    for s1, s2 in zip(first.tolist(), second.tolist(), strict=True):
        mean, variance = (2 * s1 + n) // (2 * n), variance_numerator(n, s1, s2) // (n * n)
        noise = (_ONE >> 1) + abs(mean) + 1  # of x**2 - mean**2 in 2**-48, where x and x**2 were rounded to 2**-24
        means.append(mean)
        scales.append(math.isqrt(variance) if variance > noise else _ONE)
    return np.array(means, np.int64), np.array(scales, np.int64)


def variance_numerator(n: int, first: int, second: int) -> int:
    """Return `n**2` times the variance in fixed point 2**-48: an exact integer, >= 0."""
    return max(n * (second << STATISTICS_BITS) - first * first, 0)


def widen(scale: Integers, widths: npt.NDArray[np.int64]) -> Integers:
    """Return `scale * sqrt(width)`, in exact integers: each block of sample features then has unit total variance."""
    factors = [math.isqrt(int(width) << 2 * STATISTICS_BITS) for width in widths]
    return np.array([(int(s) * f) >> STATISTICS_BITS for s, f in zip(scale, factors, strict=True)], np.int64)
