"""Principal components of rows (samples, cells) from exact sums of products: the space in which they are clustered.

Rules: rows, sums and projections are exact integers, the same bits for any partition of the rows, by whatever library
multiplies: matrices of integers whose products stay below 2**53 lose nothing in float64. The eigenvectors follow by
`merges.linear`, so that all sites get the same bits.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swarmcell.errors import MergeError
from swarmcell.model.fixed import Floats, Integers
from swarmcell.model.merges import linear

ROW_BITS = 20  # of scaled features
ROW_MAX = 32.0  # in standard deviations; beyond it a value is cut
ROWS_MAX = 4096  # in one product: 2**25 x 2**25 x 2**12 stays in 64 bits
WIDTH_MAX = 1000  # features: a row of 2**25 each and a unit vector in 2**22 multiply to 2**52 at most
VECTOR_BITS = 22
_EXACT = 1 << 53


@dataclass(frozen=True)
class Components:
    """Directions and variances of the rows' space.

    Attributes
    ----------
    vectors
        Fixed point 2**-22, shape `(n_features, n_components)`; the largest entry of each is positive.
    variance
        Of the rows along each, float64, shape `(n_components,)`, descending.
    total
        Variance in all directions.
    """

    vectors: Integers
    variance: Floats
    total: float


def fixed(scaled: Floats, *, bits: int = ROW_BITS, most: float = ROW_MAX) -> Integers:
    """Return scaled features as integers, shape `(n_rows, n_features)`."""
    return np.rint(np.clip(scaled, -most, most) * (1 << bits)).astype(np.int64)


def products(rows: Integers) -> Integers:
    """Return the upper triangle of the sums of products, row by row, shape `(n_features * (n_features + 1) / 2,)`.

    At most `ROWS_MAX` rows.
    """
    top = int(np.abs(rows).max(initial=0))
    if top * top * len(rows) < _EXACT:
        floats = rows.astype(np.float64)
        whole = (floats.T @ floats).astype(np.int64)
    else:
        whole = rows.T @ rows
    return np.ascontiguousarray(whole[np.triu_indices(len(whole))])


def n_products(n_features: int) -> int:
    """Return the length of the triangle of `n_features`."""
    return n_features * (n_features + 1) // 2


def decompose(
    triangle: npt.NDArray[np.object_], n_rows: int, n_features: int, *, n_max: int, share: float, bits: int = ROW_BITS
) -> Components:
    """Return the leading components: as few as hold `share` of the variance, at least one, at most `n_max`.

    Parameters
    ----------
    triangle
        Sums over all sites, Python integers in an object array.
    n_rows
        Rows summed, > 1; their mean is zero.
    bits
        Fixed point of the rows.

    Raises
    ------
    MergeError
        If the rows do not vary at all.
    """
    matrix = np.zeros((n_features, n_features))
    matrix[np.triu_indices(n_features)] = triangle.astype(np.float64)
    matrix = matrix + np.triu(matrix, 1).T
    top = float(np.abs(matrix).max())
    if top == 0:
        msg = "the samples do not differ in any feature"
        raise MergeError(msg)
    unit = math.ldexp(1.0, -2 * bits) / n_rows
    values, axes = linear.leading_eigenvectors(matrix / top, min(n_features, n_max))
    variance = [max(value, 0.0) * top * unit for value in values.tolist()]
    total = math.fsum(np.diag(matrix).tolist()) * unit
    n = min(n_max, n_rows - 1, sum(value > total * 1e-9 for value in variance))
    held = [math.fsum(variance[: i + 1]) >= share * total for i in range(n)]
    n = max(1, held.index(True) + 1 if True in held else n)
    vectors = np.rint(axes[:n].T * (1 << VECTOR_BITS)).astype(np.int64)
    return Components(vectors, np.array(variance[:n]), total)


def project(rows: Integers, vectors: Integers) -> Floats:
    """Return the rows' coordinates, shape `(n_rows, n_components)`, exactly; rows of `ROW_BITS`."""
    found = rows.astype(np.float64) @ vectors.astype(np.float64)  # integers below 2**53 all along
    return np.asarray(found * math.ldexp(1.0, -ROW_BITS - VECTOR_BITS))
