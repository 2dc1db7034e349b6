"""The classifiers, as named arrays: a linear softmax, a LayerNorm perceptron, and those of bags (`bag_models`).

Rules: scaling is the first layer, so inputs are unscaled cells (or sample features), dense or CSR; a CSR matrix is
never densified. `logits` is for prediction and validation at one site (float64, BLAS allowed); merges never call it.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swarmcell.cells.bags import Bags
from swarmcell.cells.batches import Matrix
from swarmcell.model import bag_models
from swarmcell.model.fixed import PARAMETER_BITS, STATISTICS_BITS, Floats, parameter_bits, to_float
from swarmcell.model.study import FitRule

Parameters = Mapping[str, npt.NDArray[Any]]

NORM_EPSILON = 1e-5  # torch.nn.LayerNorm's default


@dataclass(frozen=True)
class Scaling:
    """The first layer: `(x - mean) / scale`.

    Attributes
    ----------
    mean, scale
        float64, shape `(n_features,)`, in units of X; `scale` > 0.
    """

    mean: Floats
    scale: Floats

    @classmethod
    def from_fixed(cls, mean: npt.NDArray[Any], scale: npt.NDArray[Any]) -> "Scaling":
        """Return the scaling of fixed-point arrays (2**-24)."""
        return cls(to_float(mean, STATISTICS_BITS), to_float(scale, STATISTICS_BITS))


def shapes(rule: FitRule, n_features: int, n_classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each parameter array of the classifier that `rule` names."""
    if rule.model == "linear":
        return {"bias": (n_classes,), "weight": (n_classes, n_features)}
    if rule.model in bag_models.MODELS:
        return bag_models.shapes(rule.model, rule.hidden, n_features, n_classes)
    return {
        "bias": (n_classes,),
        "hidden_bias": (rule.hidden,),
        "hidden_weight": (rule.hidden, n_features),
        "norm_bias": (rule.hidden,),
        "norm_weight": (rule.hidden,),
        "weight": (n_classes, rule.hidden),
    }


def initial(rule: FitRule, n_features: int, n_classes: int, *, seed: int) -> dict[str, npt.NDArray[Any]]:
    """Return the parameters before the first round, in fixed point, the same bits on every machine.

    Linear models start at zero; all other weights are He-uniform integers of a SHAKE-256 stream of `seed`.

    References
    ----------
    He et al. 2015, arXiv:1502.01852, section 2.2.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, shape in shapes(rule, n_features, n_classes).items():
        arrays[name] = np.zeros(shape, np.int32)
        if name == "norm_weight":
            arrays[name] += np.int32(1 << PARAMETER_BITS)
        elif rule.model != "linear" and len(shape) == 2:
            arrays[name] = _he_uniform(shape, f"swarmcell/initial/{seed}/{name}")
    return arrays


def _he_uniform(shape: tuple[int, ...], label: str) -> npt.NDArray[np.int32]:
    bound = math.isqrt((6 << 2 * PARAMETER_BITS) // shape[1])
    stream = hashlib.shake_256(label.encode()).digest(4 * math.prod(shape))
    uniform = np.frombuffer(stream, "<u4").astype(np.uint64)
    return (
        (((uniform * np.uint64(2 * bound + 1)) >> np.uint64(32)).astype(np.int64) - bound)
        .astype(np.int32)
        .reshape(shape)
    )


def to_floats(parameters: Parameters) -> dict[str, Floats]:
    """Return fixed-point parameters (int32: 2**-22; int64, of an exact fit: 2**-40) as float64."""
    return {name: to_float(array, parameter_bits(array)) for name, array in parameters.items()}


def logits(parameters: Mapping[str, Floats], X: Matrix, scaling: Scaling) -> Floats:
    """Return the classifier's outputs, shape `(n_rows, n_classes)`.

    Parameters
    ----------
    parameters
        float64 arrays as `shapes` names them.
    X
        Shape `(n_rows, n_features)`, unscaled; for a classifier of samples by their cells, `Bags`.
    """
    if isinstance(X, Bags):
        return bag_models.outputs(parameters, X, folded_embedding(parameters, scaling))
    if "hidden_weight" not in parameters:
        return _affine(X, parameters["weight"], parameters["bias"], scaling)
    hidden = _affine(X, parameters["hidden_weight"], parameters["hidden_bias"], scaling)
    centred = hidden - hidden.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + NORM_EPSILON)
    normed = centred / spread * parameters["norm_weight"] + parameters["norm_bias"]
    return np.asarray(np.maximum(normed, 0.0) @ parameters["weight"].T + parameters["bias"])


def folded_embedding(parameters: Mapping[str, Floats], scaling: Scaling) -> tuple[Floats, Floats]:
    """Return weight and bias of the embedding of cells with the scaling folded in."""
    folded = parameters["embed_weight"] / scaling.scale
    return folded, parameters["embed_bias"] - folded @ scaling.mean


def _affine(X: Matrix, weight: Floats, bias: Floats, scaling: Scaling) -> Floats:
    folded = weight / scaling.scale
    return np.asarray(X @ folded.T + (bias - folded @ scaling.mean), np.float64)


def log_softmax(values: Floats) -> Floats:
    """Return the logarithm of the softmax of each row, without overflow."""
    shifted = values - values.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def log_sum_exp(values: Floats) -> Floats:
    """Return the logarithm of the sum of the exponentials of each row, shape `(n_rows,)`, without overflow."""
    top = values.max(axis=1)
    return np.asarray(top + np.log(np.exp(values - top[:, None]).sum(axis=1)))


def softmax(values: Floats) -> Floats:
    """Return the softmax of each row: float64, rows sum to 1."""
    return np.asarray(np.exp(log_softmax(values)))
