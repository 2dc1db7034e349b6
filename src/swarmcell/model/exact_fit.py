"""A site's part of an exact round: the sums of loss and gradient over its own training rows, at the merged iterate.

Rules: float64, in chunks of a fixed number of rows, straight from CSR; only a chunk is ever copied. The parts of all
sites add up to the mean class-weighted loss of the pinned sites and its gradient; the penalty is added by the merge.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from swarmcell.model.classifier import log_softmax, logits
from swarmcell.model.encoding import Array
from swarmcell.model.exact_rounds import SUM_LAST
from swarmcell.model.fixed import EXACT_BITS, Floats, to_int64
from swarmcell.model.local_fit import Examples
from swarmcell.model.stages import class_weights

_CHUNK_ROWS = 4096


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


def published(parameters: Mapping[str, Floats], examples: Examples, swarm_by_class: Array) -> dict[str, Array]:
    """Return a site's sums in fixed point 2**-40.

    Raises
    ------
    ModelError
        If a sum is not finite or over the bound (a cell's scaled value is absurd).
    """
    found = sums(parameters, examples, swarm_by_class)
    parts = {"bias": found.bias, "loss": np.array([found.loss]), "weight": found.weight}
    return {name: to_int64(a, EXACT_BITS, what=f"the sum {name!r}", last=SUM_LAST) for name, a in parts.items()}


def sums(parameters: Mapping[str, Floats], examples: Examples, swarm_by_class: Array) -> Sums:
    """Return this site's part of the swarm's mean class-weighted loss and of its gradient.

    Parameters
    ----------
    parameters
        `bias` of shape `(n_classes,)` and `weight` of shape `(n_classes, n_features)`, for scaled features.
    swarm_by_class
        Training rows of each class at all pinned sites together: their weights are balanced, and their total is 1.
    """
    weights = class_weights(swarm_by_class) / float(swarm_by_class.sum())
    n_classes = len(weights)
    loss, bias = 0.0, np.zeros(n_classes)
    raw = np.zeros((n_classes, examples.X.shape[1]))
    for start in range(0, len(examples.train), _CHUNK_ROWS):
        rows = examples.train[start : start + _CHUNK_ROWS]
        X, y = examples.X[rows], examples.y[rows]
        logs = log_softmax(logits(parameters, X, examples.scaling))
        each = weights[y]
        loss -= float((each * logs[np.arange(len(y)), y]).sum())
        slope = np.exp(logs)
        slope[np.arange(len(y)), y] -= 1.0
        slope *= each[:, None]
        bias += slope.sum(axis=0)
        raw += (X.T @ slope).T
    return Sums(max(loss, 0.0), bias, (raw - np.outer(bias, examples.scaling.mean)) / examples.scaling.scale)
