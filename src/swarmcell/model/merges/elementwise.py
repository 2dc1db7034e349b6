"""Float64 arithmetic whose bits are the same on every machine: elementwise operations and sums of a fixed shape.

Rules: numpy's own sums and products of matrices choose their order by processor and thread count, so none is used
here: a sum folds its vector in halves, each fold one elementwise addition.
"""

import numpy as np

from swarmcell.model.fixed import Floats


def total(values: Floats) -> float:
    """Return the sum of all values, folded in halves: rounding error grows with the logarithm of their number."""
    return float(totals(np.ravel(values)))


def totals(values: Floats) -> Floats:
    """Return the sums over the first axis, folded in halves; shape `values.shape[1:]`."""
    return _folded(np.array(values, np.float64))


def _folded(values: Floats) -> Floats:
    """Return the sums over the first axis; what was in `values` is lost."""
    if not len(values):
        return np.zeros(values.shape[1:])
    while len(values) > 1:
        half = (len(values) + 1) // 2
        values[: len(values) - half] += values[half:]
        values = values[:half]
    return np.asarray(values[0])


def dot(left: Floats, right: Floats) -> float:
    """Return the inner product of two vectors."""
    return float(_folded(left * right))


def norm(values: Floats) -> float:
    """Return the Euclidean norm."""
    return float(np.sqrt(dot(np.ravel(values), np.ravel(values))))
