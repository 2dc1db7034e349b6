"""A local quadratic fit (loess) that has the same bits at every peer, so that no peer need trust another's.

Rules: float64 `+ - * / sqrt`, sorting and `math.fsum` only. The fit is that of the `dloess` library (which scikit-misc
and so `scanpy` call) in its default setting for one predictor: tricube weights over the nearest `SPAN` of the points,
local quadratics at the vertices of a k-d tree, cubic blending of their values and slopes between them. The result
agrees with it to about 1e-12; what differs is the order of the operations.

References
----------
Cleveland and Grosse 1991, Statistics and Computing 1:47 (the algorithm). Stuart et al. 2019, Cell 177:1888 (its use).
"""

import math

import numpy as np

from swarmcell.errors import ModelError
from swarmcell.model.fixed import Floats

SPAN = 0.3  # of scanpy and Seurat
CELL = 0.2  # of dloess: a cell of the tree with fewer than span * cell of the points is not cut
MARGIN = 0.005  # of dloess: how far the outer vertices lie beyond the points, per range
SINGULAR = 1e-12  # chosen: below this share of a column that the others do not explain, the quadratic is noise


def fit(x: Floats, y: Floats) -> Floats:
    """Return the fitted value at each point.

    Parameters
    ----------
    x, y
        Shape `(n,)`, finite.

    Raises
    ------
    ModelError
        If the points near some vertex do not determine a quadratic: too few points, or too many of one `x`.
    """
    order = np.argsort(x, kind="stable")
    x_sorted, y_sorted = x[order], y[order]
    n_near = min(len(x), math.floor(len(x) * SPAN + 1e-5))
    if n_near < 4:
        msg = f"{len(x)} points are too few for a trend; expected at least 14"
        raise ModelError(msg)
    at = _vertices(x_sorted)
    local = np.array([_local_quadratic(x_sorted, y_sorted, float(v), n_near) for v in at])
    fitted = np.empty(len(x))
    fitted[order] = _blended(x_sorted, at, local[:, 0], local[:, 1])
    return fitted


def _vertices(x: Floats) -> Floats:
    """Return where the tree's cells meet, ascending: they are cut at the middle point, never between equal ones."""
    low, high = float(x[0]), float(x[-1])
    margin = MARGIN * max(high - low, 1e-10 * max(abs(low), abs(high)) + 1e-30)
    smallest = math.floor(len(x) * (SPAN * CELL))
    found = {low - margin, high + margin}
    cells = [(0, len(x) - 1, low - margin, high + margin)]
    while cells:
        first, last, left, right = cells.pop()
        if last - first + 1 <= smallest:
            continue
        middle = _middle(x, first, last)
        cut = float(x[middle])
        if cut in {left, right}:
            continue
        found.add(cut)
        cells += [(first, middle, left, cut), (middle + 1, last, cut, right)]
    return np.array(sorted(found))


def _middle(x: Floats, first: int, last: int) -> int:
    """Return the point nearest the middle that differs from the next one; the middle itself where the search ends."""
    middle = (first + last + 2) // 2 - 1  # dloess counts from 1
    offset = 0
    while first <= middle + offset < last:
        if x[middle + offset] != x[middle + offset + 1]:
            return middle + offset
        offset = -offset if offset > 0 else 1 - offset
    return middle


def _local_quadratic(x: Floats, y: Floats, at: float, n_near: int) -> tuple[float, float]:
    """Return value and slope at `at` of the weighted quadratic through the nearest points (Gram-Schmidt, by `fsum`)."""
    squared = (x - at) * (x - at)
    radius = np.partition(squared, n_near - 1)[n_near - 1]
    near = squared < radius  # the farthest weighs nothing
    if not near.any():
        msg = "the nearest points all have one value"
        raise ModelError(msg)
    reach = math.sqrt(float(radius))
    u = (x[near] - at) / reach
    share = np.sqrt(squared[near] / radius)
    closeness = 1 - share * share * share
    weight = np.sqrt(closeness * closeness * closeness)
    target = weight * y[near]
    basis, triangle = _orthogonal([weight, weight * u, weight * u * u])
    along = [math.fsum(b * target) for b in basis]
    bend = along[2] / triangle[2][2]
    slope = (along[1] - triangle[1][2] * bend) / triangle[1][1]
    value = (along[0] - triangle[0][1] * slope - triangle[0][2] * bend) / triangle[0][0]
    return value, slope / reach


def _orthogonal(columns: list[Floats]) -> tuple[list[Floats], list[list[float]]]:
    """Return orthonormal columns and the upper triangle that makes the given ones of them."""
    basis: list[Floats] = []
    triangle = [[0.0] * len(columns) for _ in columns]
    for j, column in enumerate(columns):
        rest = column
        for _ in range(2):  # twice is enough: the second pass removes what rounding left of the first
            for i, b in enumerate(basis):
                part = math.fsum(b * rest)
                triangle[i][j] += part
                rest = rest - part * b
        length = math.sqrt(math.fsum(rest * rest))
        if length <= SINGULAR * math.sqrt(math.fsum(column * column)):
            msg = "too many of the nearest points have one value"
            raise ModelError(msg)
        triangle[j][j] = length
        basis.append(rest / length)
    return basis, triangle


def _blended(x: Floats, at: Floats, value: Floats, slope: Floats) -> Floats:
    """Return the cubic between two vertices that has their values and slopes, at each `x`."""
    cell = np.clip(np.searchsorted(at, x, side="left") - 1, 0, len(at) - 2)
    width = at[cell + 1] - at[cell]
    h = (x - at[cell]) / width
    rest = 1 - h
    from_left, from_right = rest * rest * (1 + 2 * h), h * h * (3 - 2 * h)
    bends = h * rest * rest * slope[cell] - h * h * rest * slope[cell + 1]
    return np.asarray(from_left * value[cell] + from_right * value[cell + 1] + bends * width)
