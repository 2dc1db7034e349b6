"""A site's part of an exact round: the sums of loss and gradient over its own training rows, at the merged iterate.

Rules: float64, in chunks of a fixed number of rows, straight from CSR; only a chunk is ever copied. The parts of all
sites add up to the mean class-weighted loss of the pinned sites and its gradient; the penalty is added by the merge.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from scipy import sparse

from swarmcell.cells.batches import Codes, Matrix, is_sparse
from swarmcell.model.encoding import Array
from swarmcell.model.exact_rounds import SUM_LAST
from swarmcell.model.fixed import EXACT_BITS, Floats, to_int64
from swarmcell.model.local_fit import Examples
from swarmcell.model.stages import class_weights

LOSS_MAX = float(SUM_LAST >> EXACT_BITS)
_CHUNK_ROWS = 4096
_Found: TypeAlias = tuple[float, Floats, Floats]  # loss, and slopes of the intercepts and of the coefficients


@dataclass(frozen=True)
class Sums:
    """One site's part of the loss and of its gradient, float64."""

    loss: float
    bias: Floats
    weight: Floats


def by_class(examples: Examples) -> Array:
    """Return the training rows of each class."""
    n_classes = len(examples.class_weights)
    return np.bincount(examples.y[examples.train], minlength=n_classes).astype(np.int64)


def published(
    parameters: Mapping[str, Floats], examples: Examples, swarm_by_class: Array, *, threads: int = 1
) -> dict[str, Array]:
    """Return a site's sums in fixed point 2**-40.

    Raises
    ------
    ModelError
        If a sum is not finite or over the bound (a cell's scaled value is absurd).
    """
    found = sums(parameters, examples, swarm_by_class, threads=threads)
    loss = min(found.loss, LOSS_MAX)  # a trial that went too far is refused by the merge, not by this site
    parts = {"bias": found.bias, "loss": np.array([loss]), "weight": found.weight}
    return {name: to_int64(a, EXACT_BITS, what=f"the sum {name!r}", last=SUM_LAST) for name, a in parts.items()}


def sums(parameters: Mapping[str, Floats], examples: Examples, swarm_by_class: Array, *, threads: int = 1) -> Sums:
    """Return this site's part of the swarm's mean class-weighted loss and of its gradient.

    Parameters
    ----------
    parameters
        `bias` of shape `(n_classes,)` and `weight` of shape `(n_classes, n_features)`, for scaled features.
    swarm_by_class
        Training rows of each class at all pinned sites together: their weights are balanced, and their total is 1.
    threads
        Chunks of rows computed at a time; their number and order do not depend on it, so neither does a bit.
    """
    weights = class_weights(swarm_by_class) / float(swarm_by_class.sum())
    folded = parameters["weight"] / examples.scaling.scale
    at = (folded.T, parameters["bias"] - folded @ examples.scaling.mean)
    loss, bias, raw = 0.0, np.zeros(len(weights)), np.zeros(at[0].shape)
    for found in _each(partial(_chunk, at, examples, weights), _chunks(len(examples.train)), threads):
        loss, bias, raw = loss + found[0], bias + found[1], raw + found[2]
    gradient = (raw.T - np.outer(bias, examples.scaling.mean)) / examples.scaling.scale
    return Sums(max(loss, 0.0), bias, gradient)


def _each(work: Callable[[slice], _Found], chunks: list[slice], threads: int) -> Iterator[_Found]:
    """Yield what work finds in each chunk, in order; a few chunks at a time, for their gradients wait in memory."""
    if min(threads, len(chunks)) < 2:  # to start a thread takes longer than a small site's sums
        yield from map(work, chunks)
        return
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(chunks), threads):
            yield from pool.map(work, chunks[first : first + threads])


def _chunks(n_rows: int) -> list[slice]:
    return [slice(start, start + _CHUNK_ROWS) for start in range(0, n_rows, _CHUNK_ROWS)]


def _chunk(at: tuple[Floats, Floats], examples: Examples, weights: Floats, part: slice) -> _Found:
    """Return loss, slope of the intercepts and of the coefficients of unscaled features, over some training rows."""
    rows = examples.train[part]
    X, y = _rows(examples.X, rows), examples.y[rows]
    slope = X @ at[0] + at[1]
    each, own = weights[y], np.arange(len(y))
    slope -= slope.max(axis=1, keepdims=True)
    right = slope[own, y]
    np.exp(slope, out=slope)
    spread = slope.sum(axis=1)
    loss = float((each * (np.log(spread) - right)).sum())
    slope *= (each / spread)[:, None]
    slope[own, y] -= each
    return loss, slope.sum(axis=0), np.asarray(X.T @ slope)


def _rows(X: Matrix, rows: Codes) -> Matrix:
    """Return some ascending rows in float64; of neighbouring rows of a CSR in memory only the values are copied."""
    first, last = int(rows[0]), int(rows[-1]) + 1
    if not is_sparse(X) or last - first != len(rows):
        return X[rows].astype(np.float64)
    a, b = int(X.indptr[first]), int(X.indptr[last])
    parts = (X.data[a:b].astype(np.float64), X.indices[a:b], X.indptr[first : last + 1] - X.indptr[first])
    return sparse.csr_matrix(parts, shape=(len(rows), X.shape[1]), copy=False)
