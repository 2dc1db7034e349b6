"""One site's part of a round: epochs of gradient descent from the merged parameters, and their validation.

Rules: torch, float32, dense only by the batch; the order of batches depends on (seed, stage, round), so a resumed run
equals an uninterrupted one bit for bit on the same machine with the same number of threads.
"""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from swarmcell.cells.bags import Bags
from swarmcell.cells.batches import Batch, Codes, Matrix, batches, dense, filled
from swarmcell.errors import UsageError
from swarmcell.model import bag_models
from swarmcell.model.classifier import NORM_EPSILON, Scaling, log_softmax, logits
from swarmcell.model.fixed import STATISTICS_BITS, Floats
from swarmcell.model.state import Score
from swarmcell.model.study import FitRule

if TYPE_CHECKING:
    import torch

_CHUNK_ROWS = 8192
_NLL_CELL_MAX = 64.0  # nats; one hopeless cell must not drown a sum


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What a stage's classifier learns from at one site.

    Attributes
    ----------
    X
        Unscaled inputs, shape `(n_rows, n_features)`.
    y
        Class of each row, -1 where unlabelled.
    train, validation
        Labelled rows to fit and to judge.
    scaling
        The classifier's first layer.
    class_weights
        Of each class, shape `(n_classes,)`.
    """

    X: Matrix
    y: Codes
    train: Codes
    validation: Codes
    scaling: Scaling
    class_weights: Floats


def judge(parameters: Mapping[str, Floats], examples: Examples) -> Score:
    """Return how parameters do on the inner-validation rows."""
    rows = examples.validation
    n, correct, nll = 0, 0, 0
    for start in range(0, len(rows), _CHUNK_ROWS):
        chosen = rows[start : start + _CHUNK_ROWS]
        logs = log_softmax(logits(parameters, examples.X[chosen], examples.scaling))
        y = examples.y[chosen]
        losses = np.minimum(-logs[np.arange(len(y)), y], _NLL_CELL_MAX) * examples.class_weights[y]
        n, correct = n + len(y), correct + int((logs.argmax(axis=1) == y).sum())
        nll += int(np.rint(losses * (1 << STATISTICS_BITS)).astype(np.int64).sum())
    return Score(n=n, correct=correct, nll=nll)


def fit(
    start: Mapping[str, Floats],
    examples: Examples,
    rule: FitRule,
    *,
    rng: np.random.Generator,
    device: str,
    stop: threading.Event,
    correction: Mapping[str, Floats] | None = None,
) -> dict[str, Floats] | None:
    """Return the parameters after a round's local steps (`n_steps`); `None` if `stop` was set meanwhile.

    The loss is the mean over cells of the class-weighted negative log-likelihood, so that averaging sites by their
    cells follows the pooled loss, plus `l2 / 2` times the squared coefficients (for `fedprox` also `proximal / 2` times
    the squared distance to the start). Gradient descent with Nesterov's momentum, which starts at nothing in each
    round. Adam, that starts anew, steps equally far along every coordinate at first, whatever a site knows about it:
    sites without a class speak as loud as those that have it. So it serves classifiers of bags only.

    Parameters
    ----------
    correction
        Added to each gradient (`scaffold`).

    References
    ----------
    McMahan et al. 2017, arXiv:1602.05629, Algorithm 1. Sutskever et al. 2013, On the importance of initialization and
    momentum (ICML). Kingma and Ba 2015, arXiv:1412.6980.
    """
    import torch  # noqa: PLC0415 (a third of a second, and only training needs it)

    place = torch.device(device)
    parameters = {n: torch.tensor(a, dtype=torch.float32, device=place, requires_grad=True) for n, a in start.items()}
    layer = FirstLayer(examples.scaling, place)
    class_weights = torch.tensor(examples.class_weights, dtype=torch.float32, device=place)
    optimiser = _optimiser(list(parameters.values()), rule)
    origin = {name: p.detach().clone() for name, p in parameters.items()}
    added = {n: torch.tensor(a, dtype=torch.float32, device=place) for n, a in (correction or {}).items()}
    for batch in islice(_passes(examples, rule, rng), n_steps(rule, len(examples.train))):
        if stop.is_set():
            return None
        y = torch.from_numpy(examples.y[batch.rows]).to(place)
        values = outputs(parameters, batch.X, layer)
        losses = torch.nn.functional.cross_entropy(values, y, reduction="none") * class_weights[y]
        loss = losses.mean() + rule.l2 / 2 * _squares(parameters)
        if rule.merge == "fedprox":
            loss = loss + rule.proximal / 2 * sum((p - origin[n]).square().sum() for n, p in parameters.items())
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        for name, more in added.items():
            _left_by_backward(parameters[name]).add_(more)
        optimiser.step()
    return {name: p.detach().cpu().numpy().astype(np.float64) for name, p in parameters.items()}


def n_steps(rule: FitRule, n_rows: int) -> int:
    """Return the number of batches that a site of `n_rows` training rows learns from in a round."""
    return (rule.steps_per_round or rule.epochs_per_round * -(-n_rows // rule.batch_rows)) if n_rows else 0


def _passes(examples: Examples, rule: FitRule, rng: np.random.Generator) -> Iterator[Batch]:
    """Yield batches of one pass over the training rows after another, without an end."""
    while True:
        yield from batches(examples.X, examples.train, n_rows=rule.batch_rows, rng=rng)


def gradient(at: Mapping[str, Floats], examples: Examples, rule: FitRule, *, device: str) -> dict[str, Floats]:
    """Return the gradient of a site's whole loss at parameters; zero where it has no training rows."""
    import torch  # noqa: PLC0415

    place = torch.device(device)
    parameters = {n: torch.tensor(a, dtype=torch.float32, device=place, requires_grad=True) for n, a in at.items()}
    layer = FirstLayer(examples.scaling, place)
    class_weights = torch.tensor(examples.class_weights, dtype=torch.float32, device=place)
    total = {name: np.zeros(array.shape) for name, array in at.items()}
    for start in range(0, len(examples.train), _CHUNK_ROWS):
        rows = examples.train[start : start + _CHUNK_ROWS]
        y = torch.from_numpy(examples.y[rows]).to(place)
        values = outputs(parameters, dense(examples.X, rows), layer)
        losses = torch.nn.functional.cross_entropy(values, y, reduction="none") * class_weights[y]
        share = len(rows) / len(examples.train)
        found = torch.autograd.grad(losses.mean() + rule.l2 / 2 * _squares(parameters), list(parameters.values()))
        for name, part in zip(parameters, found, strict=True):
            total[name] += share * part.cpu().numpy().astype(np.float64)
    return total


def _optimiser(parameters: "list[torch.Tensor]", rule: FitRule) -> "torch.optim.Optimizer":
    import torch  # noqa: PLC0415

    if rule.descends:
        nesterov = rule.momentum > 0
        return torch.optim.SGD(parameters, lr=rule.step_length, momentum=rule.momentum, nesterov=nesterov)
    return torch.optim.Adam(parameters, lr=rule.step_length)


def _squares(parameters: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
    import torch  # noqa: PLC0415

    weights = [p for name, p in parameters.items() if name.endswith("weight") and name != "norm_weight"]
    return torch.stack([p.square().sum() for p in weights]).sum()


def _left_by_backward(parameter: "torch.Tensor") -> "torch.Tensor":
    """Return the gradient that a backward pass left at a parameter."""
    if parameter.grad is None:
        msg = "no backward pass was run"
        raise AssertionError(msg)
    return parameter.grad


class FirstLayer:
    """The scaling folded into the first layer's weights: no scaled copy of a batch is made.

    On a GPU that has it, a layer before LayerNorm is computed in bfloat16, of scaled values: they need few digits.
    """

    def __init__(self, scaling: Scaling, place: "torch.device") -> None:
        import torch  # noqa: PLC0415

        self.place = place
        self.mean = torch.tensor(scaling.mean, dtype=torch.float32, device=place)
        self.inverse = torch.tensor(1 / scaling.scale, dtype=torch.float32, device=place)
        self.in_half = place.type == "cuda" and has_half()

    def __call__(self, X: "torch.Tensor", weight: "torch.Tensor", bias: "torch.Tensor") -> "torch.Tensor":
        """Return the layer's outputs."""
        folded = weight * self.inverse
        return X @ folded.T + (bias - folded @ self.mean)

    def hidden(self, X: "torch.Tensor", weight: "torch.Tensor", bias: "torch.Tensor") -> "torch.Tensor":
        """Return a layer that LayerNorm follows."""
        import torch  # noqa: PLC0415

        if not self.in_half:
            return self(X, weight, bias)
        scaled = ((X - self.mean) * self.inverse).to(torch.bfloat16)
        return (scaled @ weight.to(torch.bfloat16).T).float() + bias


def has_half() -> bool:
    """Return whether the GPU computes in bfloat16 by itself; older ones only emulate it, slower than full precision."""
    import torch  # noqa: PLC0415

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def outputs(parameters: Mapping[str, "torch.Tensor"], X: Matrix, layer: FirstLayer) -> "torch.Tensor":
    """Return a classifier's outputs by torch, shape `(n_rows, n_classes)`, of dense rows or of bags."""
    import torch  # noqa: PLC0415

    if not isinstance(X, Bags):
        return forward(parameters, torch.from_numpy(X).to(layer.place), layer)
    weight, bias = parameters["embed_weight"], parameters["embed_bias"]
    bags = (torch.from_numpy(filled(bag)).to(layer.place) for bag in X)
    return torch.stack([bag_models.forward(parameters, layer.hidden(bag, weight, bias)) for bag in bags])


def forward(parameters: Mapping[str, "torch.Tensor"], X: "torch.Tensor", layer: FirstLayer) -> "torch.Tensor":
    """Return the outputs of a linear model or a perceptron by torch, shape `(n_rows, n_classes)`."""
    import torch  # noqa: PLC0415

    if "hidden_weight" not in parameters:
        return layer(X, parameters["weight"], parameters["bias"])
    hidden = layer.hidden(X, parameters["hidden_weight"], parameters["hidden_bias"])
    width = (hidden.shape[1],)
    norm = torch.nn.functional.layer_norm(
        hidden, width, parameters["norm_weight"], parameters["norm_bias"], NORM_EPSILON
    )
    return torch.nn.functional.linear(torch.relu(norm), parameters["weight"], parameters["bias"])


def set_up(*, threads: int, device: str) -> str:
    """Set torch's threads (0: all) and return the device's name.

    Raises
    ------
    UsageError
        If the device is not there.
    """
    import torch  # noqa: PLC0415

    check_device(device)
    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def check_device(device: str) -> None:
    """Check that `device` (`auto`, `cpu` or `cuda`) is there; for `cuda` only, torch is imported.

    Raises
    ------
    UsageError
        If it is not, or is none of these.
    """
    if device not in ("auto", "cpu", "cuda"):
        msg = f"--device {device}: expected auto, cpu or cuda."
        raise UsageError(msg)
    if device != "cuda":
        return
    import torch  # noqa: PLC0415

    if not torch.cuda.is_available():
        msg = "--device cuda: no CUDA device is visible to torch. Use --device cpu, or install torch for CUDA."
        raise UsageError(msg)


def labelled(y: Codes, mask: npt.NDArray[np.bool_]) -> Codes:
    """Return the labelled rows where `mask` holds."""
    return np.flatnonzero((y >= 0) & mask)
