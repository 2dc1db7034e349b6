"""Classifiers of a sample by its cells themselves: gated attention, and the mean of the highest cells (top-k).

Rules: cells are embedded by a layer with LayerNorm; numpy here is for prediction (float64), torch in `local_fit` for
training, and both compute the same. What a cell adds to the answer is exact, and its mean over cells is the answer.

References
----------
Ilse, Tomczak, Welling 2018, arXiv:1802.04712, equation 9 (gated attention). Top-k pooling: the mean over the tenth of
the cells that speak most for a class, so that few diseased cells are not drowned.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from swarmcell.cells.bags import Bags
from swarmcell.cells.batches import Matrix
from swarmcell.model.fixed import Floats

if TYPE_CHECKING:
    import torch

ATTENTION, TOP_K = "attention", "top_k"
MODELS = (ATTENTION, TOP_K)
TOP_SHARE = 0.1  # of a bag's cells; chosen
NORM_EPSILON = 1e-5  # torch.nn.LayerNorm's default


def is_of_bags(parameters: Mapping[str, object]) -> bool:
    """Say whether these are parameters of a classifier of bags."""
    return "embed_weight" in parameters


def has_attention(parameters: Mapping[str, object]) -> bool:
    """Say whether these are parameters of gated attention."""
    return "attend_weight" in parameters


def shapes(model: str, hidden: int, n_features: int, n_classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each parameter array."""
    embedding = {"embed_bias": (hidden,), "embed_weight": (hidden, n_features)}
    embedding |= {"norm_bias": (hidden,), "norm_weight": (hidden,)}
    if model == TOP_K:
        return {**embedding, "instance_bias": (n_classes,), "instance_weight": (n_classes, hidden)}
    half = max(hidden // 2, 1)
    gates = {"gate_bias": (half,), "gate_weight": (half, hidden), "open_bias": (half,), "open_weight": (half, hidden)}
    return {**embedding, **gates, "attend_weight": (1, half), "bias": (n_classes,), "weight": (n_classes, hidden)}


def n_top(n_cells: int) -> int:
    """Return how many cells of a bag are averaged by top-k pooling."""
    return max(1, round(TOP_SHARE * n_cells))


def outputs(parameters: Mapping[str, Floats], bags: Bags, folded: tuple[Floats, Floats]) -> Floats:
    """Return the classifier's outputs, shape `(n_bags, n_classes)`.

    Parameters
    ----------
    folded
        Weight and bias of the embedding with the scaling folded in.
    """
    return np.vstack([_shares(parameters, X, folded).mean(axis=0) for X in bags])


def contributions(
    parameters: Mapping[str, Floats], X: Matrix, folded: tuple[Floats, Floats], direction: Floats
) -> Floats:
    """Return what each cell adds to `outputs @ direction` of its sample, shape `(n_cells,)`; their mean is the answer.

    Parameters
    ----------
    X
        The sample's cells on the panel.
    direction
        Weight of each class, shape `(n_classes,)`.
    """
    return np.asarray(_shares(parameters, X, folded) @ direction)


def attention(parameters: Mapping[str, Floats], X: Matrix, folded: tuple[Floats, Floats]) -> Floats:
    """Return each cell's weight in its sample, shape `(n_cells,)`, summing to 1; for `attention` only."""
    return _attention(parameters, _embedded(parameters, X, folded))


def _shares(parameters: Mapping[str, Floats], X: Matrix, folded: tuple[Floats, Floats]) -> Floats:
    """Return each cell's part of the outputs, shape `(n_cells, n_classes)`; their mean is the bag's outputs."""
    embedded = _embedded(parameters, X, folded)
    n = len(embedded)
    if "instance_weight" not in parameters:
        weight = n * _attention(parameters, embedded)[:, None]
        return np.asarray(weight * (embedded @ parameters["weight"].T) + parameters["bias"])
    scores = embedded @ parameters["instance_weight"].T + parameters["instance_bias"]
    k = n_top(n)
    rank = np.argsort(np.argsort(-scores, axis=0, kind="stable"), axis=0)
    return np.asarray(np.where(rank < k, scores * n / k, 0.0))


def _embedded(parameters: Mapping[str, Floats], X: Matrix, folded: tuple[Floats, Floats]) -> Floats:
    hidden = np.asarray(X @ folded[0].T, np.float64) + folded[1]
    centred = hidden - hidden.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + NORM_EPSILON)
    return np.asarray(np.maximum(centred / spread * parameters["norm_weight"] + parameters["norm_bias"], 0.0))


def _attention(parameters: Mapping[str, Floats], embedded: Floats) -> Floats:
    gate = np.tanh(embedded @ parameters["gate_weight"].T + parameters["gate_bias"])
    opened = 1 / (1 + np.exp(-np.clip(embedded @ parameters["open_weight"].T + parameters["open_bias"], -500, 500)))
    score = ((gate * opened) @ parameters["attend_weight"].T)[:, 0]
    weight = np.exp(score - score.max())
    return np.asarray(weight / weight.sum())


def forward(parameters: "Mapping[str, torch.Tensor]", hidden: "torch.Tensor") -> "torch.Tensor":
    """Return one bag's outputs, shape `(n_classes,)`, by torch.

    Parameters
    ----------
    hidden
        The embedding of its cells before LayerNorm, shape `(n_cells, hidden)`.
    """
    import torch  # noqa: PLC0415

    norm = torch.nn.functional.layer_norm(
        hidden, (hidden.shape[1],), parameters["norm_weight"], parameters["norm_bias"], NORM_EPSILON
    )
    embedded = torch.relu(norm)
    linear = torch.nn.functional.linear
    if "instance_weight" in parameters:
        scores = linear(embedded, parameters["instance_weight"], parameters["instance_bias"])
        return scores.topk(n_top(len(scores)), dim=0).values.mean(dim=0)
    gate = torch.tanh(linear(embedded, parameters["gate_weight"], parameters["gate_bias"]))
    opened = torch.sigmoid(linear(embedded, parameters["open_weight"], parameters["open_bias"]))
    weight = torch.softmax(linear(gate * opened, parameters["attend_weight"])[:, 0], dim=0)
    return linear(weight @ embedded, parameters["weight"], parameters["bias"])
