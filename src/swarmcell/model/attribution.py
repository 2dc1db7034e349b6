"""What a classifier's answer rests on: gradients averaged on the way from the average cell to the cell at hand.

Rules: a path gradient times (x - reference) are integrated gradients, and they add up to the change of the output
(completeness). For a linear classifier they are its coefficients. A sample's answer is shared out among its cells by
the influence of each on the sample's features, so that the mean over cells is the sample's own sum.

References
----------
Sundararajan, Taly, Yan 2017, arXiv:1703.01365 (integrated gradients). Hampel 1974, J Am Stat Assoc 69:383 (influence).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from swarmcell.cells.batches import Matrix, filled
from swarmcell.model.classifier import NORM_EPSILON, Scaling
from swarmcell.model.fixed import Floats
from swarmcell.model.sample_features import PSEUDO_CELLS, PSEUDO_COUNT, Block

N_STEPS = 64  # of the path; chosen: sums then differ from the change of the output by less than 1 %
SPREAD = 0.05  # of probability, around a quantile, within which its density is taken; chosen
LINEAR, PERCEPTRON = frozenset({"weight", "bias"}), "hidden_weight"


def is_explainable(parameters: Mapping[str, Floats]) -> bool:
    """Whether this module knows the classifier: linear, or a perceptron with one normed hidden layer."""
    return parameters.keys() == LINEAR or PERCEPTRON in parameters


def path_gradients(parameters: Mapping[str, Floats], rows: Floats, direction: Floats, scaling: Scaling) -> Floats:
    """Return the mean gradient of `logits @ direction` between the training average and each row.

    Parameters
    ----------
    parameters
        float64 arrays of a classifier.
    rows
        Shape `(n_rows, n_features)`, unscaled.
    direction
        Weight of each class's logit, shape `(n_classes,)`.

    Returns
    -------
    Shape `(n_rows, n_features)`, per unit of the unscaled features.
    """
    if parameters.keys() == LINEAR:
        folded = direction @ parameters["weight"] / scaling.scale
        return np.broadcast_to(folded, rows.shape)
    scaled = (rows - scaling.mean) / scaling.scale
    total = np.zeros_like(scaled)
    for step in (np.arange(N_STEPS) + 0.5) / N_STEPS:
        total += _perceptron_gradient(parameters, step * scaled, direction)
    return np.asarray(total / N_STEPS / scaling.scale)


def _perceptron_gradient(parameters: Mapping[str, Floats], scaled: Floats, direction: Floats) -> Floats:
    hidden = scaled @ parameters["hidden_weight"].T + parameters["hidden_bias"]
    centred = hidden - hidden.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + NORM_EPSILON)
    unit = centred / spread
    active = unit * parameters["norm_weight"] + parameters["norm_bias"] > 0
    back = active * (direction @ parameters["weight"]) * parameters["norm_weight"]
    back = back - back.mean(axis=1, keepdims=True) - unit * (back * unit).mean(axis=1, keepdims=True)
    return np.asarray(back / spread @ parameters["hidden_weight"])


def against_rest(k: int, n_classes: int) -> Floats:
    """Return the direction of class `k`'s logit less the mean of the others'."""
    direction = np.full(n_classes, -1 / max(1, n_classes - 1))
    direction[k] = 1.0
    return direction


def cell_contributions(
    X: Matrix,
    cell_type: npt.NDArray[np.int64] | None,
    *,
    parts: Sequence[Block],
    features: Floats,
    gradient: Floats,
    reference: Floats,
) -> Floats:
    """Share a sample's answer out among its cells; the mean over cells is `gradient @ (features - reference)`.

    Parameters
    ----------
    X
        The sample's cells on the panel, shape `(n_cells, n_panel)`.
    cell_type
        Predicted type of each cell, where a block needs it.
    parts
        Blocks of the sample's features, in order.
    features, gradient, reference
        The sample's features, their path gradient and the training average, shape `(n_features,)`.

    Returns
    -------
    Shape `(n_cells,)`; quantiles are shared out to first order (their mean is right to 1 / n_cells).
    """
    shared = np.full(X.shape[0], float(gradient @ (features - reference)))
    start = 0
    for block in parts:
        columns = slice(start, start + block.width)
        shared += _influence(X, cell_type, block.kind, features[columns], gradient[columns])
        start += block.width
    return shared


def _influence(
    X: Matrix, cell_type: npt.NDArray[np.int64] | None, kind: str, values: Floats, gradient: Floats
) -> Floats:
    """Return `influence of each cell on the block's features @ gradient`; its mean is 0."""
    if kind == "clr" and cell_type is not None:
        return _type_influence(cell_type, gradient)
    if kind == "mean":
        return np.asarray(X @ gradient, np.float64) - float(values @ gradient)
    if kind == "type" and cell_type is not None:
        return _own_type_influence(X, cell_type, values, gradient)
    dense = filled(X).astype(np.float64)
    if kind == "sd":
        centred = (dense - dense.mean(axis=0)) ** 2 - values**2
        return np.asarray(centred @ np.divide(gradient, 2 * values, out=np.zeros_like(values), where=values > 1e-12))
    level = float(kind.removeprefix("q"))
    low, high = max(0.0, level - SPREAD), min(1.0, level + SPREAD)
    slope = (np.quantile(dense, high, axis=0) - np.quantile(dense, low, axis=0)) / (high - low)
    below = dense <= values
    return np.asarray((below.mean(axis=0) - below) @ (slope * gradient))


def _type_influence(cell_type: npt.NDArray[np.int64], gradient: Floats) -> Floats:
    counts = np.bincount(cell_type, minlength=len(gradient))
    slope = (gradient - gradient.mean()) / (counts + PSEUDO_COUNT)  # of centred logarithms, by the number of cells
    per_type = slope * counts.sum()
    return np.asarray(per_type[cell_type] - float(per_type @ counts) / counts.sum())


def _own_type_influence(X: Matrix, cell_type: npt.NDArray[np.int64], values: Floats, gradient: Floats) -> Floats:
    """Return the influence on the pseudobulk of the cell's own type; what the swarm's mean adds is shared evenly."""
    n_panel, n = X.shape[1], np.bincount(cell_type, minlength=len(values) // X.shape[1])
    by_type, means = gradient.reshape(-1, n_panel), values.reshape(-1, n_panel)
    offset = np.asarray(X @ by_type.T, np.float64) - (means * by_type).sum(axis=1)
    rows = np.arange(len(cell_type))
    moved = offset[rows, cell_type] * len(cell_type) / (n[cell_type] + PSEUDO_CELLS)
    return np.asarray(moved - moved.mean())
