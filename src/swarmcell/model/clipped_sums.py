"""A site's sums under differential privacy, before the noise: of each unit, at most so much.

Rules: nothing here leaves the site as it is; `Learner` adds the noise before a contribution is made. A unit is a cell,
or a donor with all cells; a donor's part is the mean over its cells (or samples), then clipped. Float64, but for the
gradients of networks, which are float32 until they are clipped.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from swarmcell.cells.bags import Bags
from swarmcell.cells.batches import Codes, Matrix, dense, is_sparse
from swarmcell.model.classifier import log_softmax
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import Floats, to_int64
from swarmcell.model.local_fit import Examples, FirstLayer, forward, outputs
from swarmcell.model.noised_rounds import GRID_BITS, SUM_LAST, statistics_bounds, statistics_slots
from swarmcell.model.study import Study

if TYPE_CHECKING:
    import torch

    from swarmcell.model.training_cells import TrainingCells

_CHUNK_ROWS = 4096
_NETWORK_ROWS = 256  # gradients of so many cells are in memory at a time


class Noise(Protocol):
    """What hides one round's sums of one site (`privacy.noise.Noise`)."""

    def added(self, arrays: Mapping[str, Array], deviation: float) -> dict[str, Array]:
        """Return the arrays with this site's share of noise of that standard deviation, in their own units."""
        ...

    def coins(self, n: int) -> Floats:
        """Return secret uniform numbers in `(0, 1)`, shape `(n,)`."""
        ...


@dataclass(frozen=True)
class Units:
    """Rows of which each unit consists: the unit of each row of `rows`, ascending units in `0 .. n - 1`."""

    rows: Codes
    unit: Codes
    n: int

    @classmethod
    def of(cls, rows: Codes, unit: Codes) -> "Units":
        """Return the units of rows whose units have these names."""
        names, codes = np.unique(unit, return_inverse=True)
        return cls(rows, codes.astype(np.int64), len(names))

    def drawn(self, coins: Floats, chance: float) -> "Units":
        """Return the units whose coins are below a chance."""
        taken = coins[self.unit] < chance
        return Units.of(self.rows[taken], self.unit[taken])

    def split(self) -> Iterator[Codes]:
        """Yield the rows of each unit, ascending."""
        order = np.argsort(self.unit, kind="stable")
        for places in np.split(order, np.searchsorted(self.unit[order], np.arange(1, self.n))):
            yield np.sort(self.rows[places])


def on_grid(sums: Mapping[str, Floats]) -> dict[str, Array]:
    """Return sums in fixed point 2**-20.

    Raises
    ------
    ModelError
        If one is not finite or over the bound.
    """
    return {name: to_int64(a, GRID_BITS, what=f"the sum {name!r}", last=SUM_LAST) for name, a in sums.items()}


def statistics(cells: "TrainingCells", study: Study, units: Units) -> dict[str, Floats]:
    """Return sums over units of the blocks of `statistics_slots`, of each of which a unit adds at most 1 (L2)."""
    wanted = statistics_slots(study, cells.X.shape[1])
    bounds = statistics_bounds(study, cells.X.shape[1])
    found = {name: np.zeros(slot.shape) for name, slot in wanted.items()}
    share = (1.0 / np.bincount(units.unit, minlength=units.n))[units.unit]
    for start in range(0, len(units.rows), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        rows, each = units.rows[part], share[part]
        X = cells.X[rows].astype(np.float64)
        found["n"] += each.sum()
        for name, values, bound in (("x", X, bounds[0]), ("xx", _power(X, 2), bounds[1])):
            lengths = np.sqrt(_row_sums(_power(values, 2)))
            found[name] += np.asarray(values.T @ (each / np.maximum(lengths, bound)))
        for name, codes in _labels(cells, rows).items():
            if name in found:
                known = codes >= 0
                found[name] += np.bincount(codes[known], weights=each[known], minlength=len(found[name]))
    return found


def _labels(cells: "TrainingCells", rows: Codes) -> dict[str, Codes]:
    conditions = cells.sample_condition[cells.sample[rows]]
    return {"cells_by_type": cells.cell_type[rows], "samples_by_condition": conditions}


def gradients(
    parameters: Mapping[str, Floats], examples: Examples, units: Units, *, by_cell: bool, clip: float, device: str
) -> dict[str, Floats]:
    """Return the sum over units of their loss's gradient, each clipped to `clip` (L2, over all arrays together).

    Parameters
    ----------
    units
        Of labelled rows of the examples.
    by_cell
        Whether each row is a unit of its own.
    """
    if "hidden_weight" not in parameters and "embed_weight" not in parameters:
        chunks = _linear_cells if by_cell else _linear_units
        return chunks(parameters, examples, units, clip)
    return _network(parameters, examples, units, by_cell=by_cell, clip=clip, device=device)


# -- linear: the gradient of a cell is an outer product ----------------------------------------------------------------


def _linear_cells(parameters: Mapping[str, Floats], examples: Examples, units: Units, clip: float) -> dict[str, Floats]:
    found = {name: np.zeros(array.shape) for name, array in parameters.items()}
    for start in range(0, len(units.rows), _CHUNK_ROWS):
        rows = units.rows[start : start + _CHUNK_ROWS]
        X = examples.X[rows].astype(np.float64)
        slope = _slopes(parameters, X, examples, rows)
        lengths = np.sqrt((slope * slope).sum(axis=1) * (_scaled_lengths(X, examples) + 1.0))
        _add_outer(found, X, slope * (clip / np.maximum(lengths, clip))[:, None], examples)
    return found


def _linear_units(parameters: Mapping[str, Floats], examples: Examples, units: Units, clip: float) -> dict[str, Floats]:
    found = {name: np.zeros(array.shape) for name, array in parameters.items()}
    for rows in units.split():
        mine = {name: np.zeros(array.shape) for name, array in parameters.items()}
        for start in range(0, len(rows), _CHUNK_ROWS):
            chunk = rows[start : start + _CHUNK_ROWS]
            X = examples.X[chunk].astype(np.float64)
            _add_outer(mine, X, _slopes(parameters, X, examples, chunk) / len(rows), examples)
        _add_clipped(found, mine, clip)
    return found


def _slopes(parameters: Mapping[str, Floats], X: Matrix, examples: Examples, rows: Codes) -> Floats:
    """Return the slope of each row's class-weighted loss by its outputs, shape `(n_rows, n_classes)`."""
    folded = parameters["weight"] / examples.scaling.scale
    values = np.asarray(X @ folded.T + (parameters["bias"] - folded @ examples.scaling.mean), np.float64)
    slope, y = np.exp(log_softmax(values)), examples.y[rows]
    slope[np.arange(len(y)), y] -= 1.0
    return np.asarray(slope * examples.class_weights[y][:, None])


def _scaled_lengths(X: Matrix, examples: Examples) -> Floats:
    """Return the squared norm of each scaled row, without a dense copy of a CSR matrix."""
    inverse, shift = 1.0 / examples.scaling.scale, examples.scaling.mean / examples.scaling.scale
    crossed = np.asarray(X @ (inverse * shift))
    squares = np.asarray(_power(X, 2) @ (inverse * inverse))
    return np.maximum(squares - 2.0 * crossed + float(shift @ shift), 0.0)


def _add_outer(found: dict[str, Floats], X: Matrix, slope: Floats, examples: Examples) -> None:
    bias = slope.sum(axis=0)
    found["bias"] += bias
    found["weight"] += (np.asarray(X.T @ slope).T - np.outer(bias, examples.scaling.mean)) / examples.scaling.scale


def _add_clipped(found: dict[str, Floats], mine: Mapping[str, Floats], clip: float) -> None:
    length = float(np.sqrt(sum(float((part * part).sum()) for part in mine.values())))
    if not np.isfinite(length):
        return  # a network beyond float32: such a unit adds nothing
    for name, part in mine.items():
        found[name] += part * (clip / max(length, clip))


def _power(X: Matrix, power: int) -> Matrix:
    return X.power(power) if is_sparse(X) else X**power


def _row_sums(X: Matrix) -> Floats:
    return np.asarray(X.sum(axis=1), np.float64).ravel()


# -- networks: the gradient of each unit by itself ---------------------------------------------------------------------


def _network(
    parameters: Mapping[str, Floats], examples: Examples, units: Units, *, by_cell: bool, clip: float, device: str
) -> dict[str, Floats]:
    import torch  # noqa: PLC0415 (a third of a second, and only networks need it)

    place = torch.device(device)
    at = {
        n: torch.tensor(a, dtype=torch.float32, device=place, requires_grad=not by_cell) for n, a in parameters.items()
    }
    layer, weights = FirstLayer(examples.scaling, place), torch.tensor(examples.class_weights, dtype=torch.float32)
    found = {name: np.zeros(array.shape) for name, array in parameters.items()}
    if by_cell:
        for start in range(0, len(units.rows), _NETWORK_ROWS):
            _add_cells(found, at, examples, units.rows[start : start + _NETWORK_ROWS], layer, weights.to(place), clip)
        return found
    for rows in units.split():
        mine = {name: np.zeros(array.shape) for name, array in parameters.items()}
        for start in range(0, len(rows), _CHUNK_ROWS):
            chunk = rows[start : start + _CHUNK_ROWS]
            y = torch.from_numpy(examples.y[chunk]).to(place)
            X = examples.X[chunk] if isinstance(examples.X, Bags) else dense(examples.X, chunk)
            losses = torch.nn.functional.cross_entropy(outputs(at, X, layer), y, reduction="none")
            loss = (losses * weights.to(place)[y]).sum() / len(rows)
            for name, part in zip(at, torch.autograd.grad(loss, list(at.values())), strict=True):
                mine[name] += part.cpu().numpy().astype(np.float64)
        _add_clipped(found, mine, clip)
    return found


def _add_cells(
    found: dict[str, Floats],
    at: "dict[str, torch.Tensor]",
    examples: Examples,
    rows: Codes,
    layer: FirstLayer,
    weights: "torch.Tensor",
    clip: float,
) -> None:
    import torch  # noqa: PLC0415

    def loss(at: "dict[str, torch.Tensor]", *row: "torch.Tensor") -> "torch.Tensor":
        x, y, weight = row
        return torch.nn.functional.cross_entropy(forward(at, x[None], layer), y[None], reduction="sum") * weight

    X = torch.from_numpy(dense(examples.X, rows)).to(layer.place)
    y = torch.from_numpy(examples.y[rows]).to(layer.place)
    parts = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0, 0))(at, X, y, weights[y])
    each = {name: part.cpu().numpy().astype(np.float64).reshape(len(rows), -1) for name, part in parts.items()}
    lengths = np.sqrt(sum((part * part).sum(axis=1) for part in each.values()))
    share = np.where(np.isfinite(lengths), clip / np.maximum(lengths, clip), 0.0)
    for name, part in each.items():
        found[name] += (share @ np.nan_to_num(part, posinf=0.0, neginf=0.0)).reshape(found[name].shape)
