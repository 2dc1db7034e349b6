"""Array types of this package, and division where zero by zero is `nan`."""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def ratio(part: FloatArray | IntArray, whole: FloatArray | IntArray) -> FloatArray:
    """Return `part / whole` in float64, `nan` where `whole` is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    quotient: FloatArray = np.full(part.shape, np.nan)
    return np.divide(part, whole, out=quotient, where=whole != 0)


def mean_of_defined(values: FloatArray) -> FloatArray:
    """Return the mean over the last axis of what is not `nan`; `nan` where nothing is."""
    defined = ~np.isnan(values)
    total: FloatArray = np.where(defined, values, 0.0).sum(axis=-1)
    return ratio(total, defined.sum(axis=-1))
