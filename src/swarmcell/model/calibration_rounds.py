"""Rounds at the end of a stage: how far probabilities can be trusted, and which cells are like none of the known.

Rules: sites publish integer sums; those of cells are divided by the swarm's number of cells before they are rounded,
so that they fit. Each round's sums come with their own number of cells, so a site that comes or goes between two
rounds makes a round one of other cells, and no figure a mixture: sites need not be pinned. Training rows describe,
inner-validation rows calibrate. Without any of the latter the cells are described and no more, and the model says that
it is not calibrated. Arrays of the result: `novelty.*`, `cell_calibration.*`, `patient_calibration.*`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse

from swarmcell.cells.batches import Codes, Matrix, is_sparse
from swarmcell.model import novelty, temperature
from swarmcell.model.classifier import Scaling, logits, to_floats
from swarmcell.model.contribution import COUNT_MAX, SUM_MAX, Slot, Update, add
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import STATISTICS_BITS, Floats, to_float, to_int64
from swarmcell.model.local_fit import Examples
from swarmcell.model.novelty import Density, Novelty, Projection
from swarmcell.model.stages import (
    CALIBRATION,
    CELL,
    CLOSING,
    DENSITY,
    SPREAD,
    THRESHOLD,
    counts,
    is_judged,
    labels,
    open_later,
    parameters_of,
)
from swarmcell.model.state import MergedState
from swarmcell.model.study import Study
from swarmcell.model.temperature import Calibration, grid

_CHUNK_ROWS = 8192
_MOMENTS = ("distance", "distance_squared", "energy", "energy_squared")


def is_closing(state: MergedState) -> bool:
    """Say whether the state's round is one of those at the end of a stage."""
    return state.phase in CLOSING or state.phase == CALIBRATION


def statistics(state: MergedState, study: Study, examples: Examples) -> dict[str, Array]:
    """Return a site's sums for the round after `state`."""
    if state.phase == CALIBRATION:
        return _grid_sums(state, examples, study)
    if state.phase == DENSITY:
        return _density_sums(state, study, examples)
    if state.phase == SPREAD:
        return _spread_sums(state, examples) | _grid_sums(state, examples, study)
    if state.phase == THRESHOLD:
        return _score_sums(state, examples)
    return _sketch_sums(state, examples)


def slots(state: MergedState, study: Study) -> dict[str, Slot]:
    """Return what a site's sums must look like."""
    n_classes, n_points = len(labels(study, state.stage)), len(grid(len(labels(study, state.stage))))
    sums_on_grid = {"losses": _whole(n_points, SUM_MAX), "rows": _whole(1)}
    width = min(novelty.WIDTH, len(state.arrays["panel"]))
    if state.phase == CALIBRATION:
        return sums_on_grid
    if state.phase == DENSITY:
        first, second = (Slot(bits=64, shape=(n, width), last=SUM_MAX) for n in (n_classes, width))
        by_type = Slot(bits=64, shape=(n_classes, len(state.arrays["panel"])), last=SUM_MAX)
        return {"count": _whole(n_classes), "first": first, "second": second, "by_type": by_type}
    if state.phase == SPREAD:
        moments = {name: Slot(bits=64, shape=(1,), last=SUM_MAX) for name in _MOMENTS}
        return moments | {"spread_over": _whole(1)} | sums_on_grid
    if state.phase == THRESHOLD:
        return {"n_by_score": _whole(len(novelty.EDGES))}
    return {"sketch": Slot(bits=64, shape=(len(state.arrays["panel"]), width), last=SUM_MAX)}


def _whole(n: int, last: int = COUNT_MAX) -> Slot:
    return Slot(bits=64, shape=(n,), last=last, signed=False)


def merge(state: MergedState, study: Study, updates: Sequence[Update]) -> MergedState:
    """Return the state with the sums, at the next round of the end of the stage, or at the next stage."""
    summed = {name: _fitting(add(updates, name)) for name in updates[0].arrays}
    chosen = {}
    if "losses" in summed:
        n_classes = len(labels(study, state.stage))
        point = np.array([temperature.best(summed.pop("losses"), n_classes)], np.int64)
        chosen = {f"{state.stage}_calibration.point": point, f"{state.stage}_calibration.rows": summed.pop("rows")}
    kept = {f"novelty.{name}": array for name, array in summed.items()} | chosen
    return _next(replace(state, arrays={**state.arrays, **kept}), study)


def _fitting(total: Array) -> Array:
    last = (1 << 63) - 1  # what so many sites at their bounds would overflow is clipped: equal at every peer
    return np.array([min(max(int(v), -last), last) for v in total.ravel()], np.int64).reshape(total.shape)


def _next(state: MergedState, study: Study) -> MergedState:
    if state.phase in (CALIBRATION, THRESHOLD):
        return open_later(state, study)
    if state.phase == DENSITY and not (state.arrays["novelty.count"].any() and is_judged(state, CELL)):
        return open_later(state, study)
    if state.phase == SPREAD and not state.arrays["novelty.spread_over"].any():  # who has such rows has left meanwhile
        return open_later(state, study)
    return replace(state, phase=CLOSING[CLOSING.index(state.phase) + 1])


def _chunks(examples: Examples, rows: Codes) -> Iterator[tuple[Matrix, Codes]]:
    for start in range(0, len(rows), _CHUNK_ROWS):
        chosen = rows[start : start + _CHUNK_ROWS]
        yield examples.X[chosen], examples.y[chosen]


def _n_total(state: MergedState) -> int:
    return max(int(counts(state, CELL).sum()), 1)


def _fixed(total: Floats, state: MergedState, what: str) -> Array:
    return to_int64(total / _n_total(state), STATISTICS_BITS, what=what)


def _sketch_sums(state: MergedState, examples: Examples) -> dict[str, Array]:
    done = state.arrays.get("novelty.sketch")
    basis = novelty.start_basis(len(state.arrays["panel"])) if done is None else novelty.orthonormal(done)
    project = Projection(examples.scaling, basis)
    total = np.zeros(basis.shape)
    for X, _ in _chunks(examples, examples.train):
        total += project.back(X, project(X))
    return {"sketch": _fixed(total, state, "the sketch of the principal components")}


def _density_sums(state: MergedState, study: Study, examples: Examples) -> dict[str, Array]:
    project = Projection(examples.scaling, novelty.orthonormal(state.arrays["novelty.sketch"]))
    n_classes, width = len(labels(study, CELL)), project.basis.shape[1]
    count = np.bincount(examples.y[examples.train], minlength=n_classes).astype(np.int64)
    first, second = np.zeros((n_classes, width)), np.zeros((width, width))
    by_type = np.zeros((n_classes, len(project.basis)))
    for X, y in _chunks(examples, examples.train):
        projected = project(X)
        member: Matrix = sparse.csr_matrix((np.ones(len(y)), (y, np.arange(len(y)))), shape=(n_classes, len(y)))
        total: Matrix = member @ X
        first += member @ projected
        second += projected.T @ projected
        by_type += total.toarray() if is_sparse(total) else total
    return {
        "by_type": _fixed(by_type, state, "the sums of each type"),
        "count": count,
        "first": _fixed(first, state, "the class sums"),
        "second": _fixed(second, state, "the second moments"),
    }


def _spread_sums(state: MergedState, examples: Examples) -> dict[str, Array]:
    """Return a site's sums of both figures over inner-validation rows.

    Of training rows the classifier is surer, and much more alike, than of any others: in units of their spread the
    energy of new cells would drown the distance (on 1,767 genes of 763 cells AUROC .75 instead of .79).
    """
    density, parameters = _density(state), to_floats(state.group(CELL))
    total = np.zeros(len(_MOMENTS))
    for X, _ in _chunks(examples, examples.validation):
        distance = density.log_distance(X)
        lack = novelty.energy(logits(parameters, X, examples.scaling))
        total += [distance.sum(), (distance**2).sum(), lack.sum(), (lack**2).sum()]
    fixed = _fixed(total, state, "the spread of the distances")
    moments: dict[str, Array] = {name: fixed[i : i + 1] for i, name in enumerate(_MOMENTS)}
    return moments | {"spread_over": np.array([len(examples.validation)], np.int64)}


def _score_sums(state: MergedState, examples: Examples) -> dict[str, Array]:
    scorer, parameters = novelty_of(state), to_floats(state.group(CELL))
    total = np.zeros(len(novelty.EDGES), np.int64)
    for X, _ in _chunks(examples, examples.validation):
        total += novelty.histogram(scorer.score(X, logits(parameters, X, examples.scaling)))
    return {"n_by_score": total}


def _grid_sums(state: MergedState, examples: Examples, study: Study) -> dict[str, Array]:
    parameters = to_floats(parameters_of(state, state.stage))
    total = np.zeros(len(grid(len(labels(study, state.stage)))), np.int64)
    for X, y in _chunks(examples, examples.validation):
        total += temperature.losses(logits(parameters, X, examples.scaling), y, examples.class_weights)
    return {"losses": total, "rows": np.array([len(examples.validation)], np.int64)}


def _density(state: MergedState) -> Density:
    scaling = Scaling.from_fixed(state.arrays["mean"], state.arrays["scale"])
    return Density.of(state.group("novelty"), scaling, share=_share(state, "count"))


def _share(state: MergedState, over: str) -> float:
    """Return the cells that a round's sums were divided by, over the cells that it summed.

    These are fewer: training rows only, or inner-validation ones, and of the sites that contributed to the round.
    """
    summed = state.arrays.get(f"novelty.{over}", state.arrays["novelty.count"])  # older models have one count for both
    return _n_total(state) / max(int(summed.sum()), 1)


def density_of(state: MergedState) -> Density | None:
    """Return where the cells of each type lie; `None` where the swarm has not described its cells."""
    counted = state.arrays.get("novelty.count")
    return _density(state) if counted is not None and counted.any() else None


def novelty_of(state: MergedState) -> Novelty:
    """Return the novelty score of a state that has described its cells (from the round `threshold` on)."""
    sums = [float(to_float(state.arrays[f"novelty.{name}"], STATISTICS_BITS)[0]) for name in _MOMENTS]
    moments = [total * _share(state, "spread_over") for total in sums]
    spread = [max(moments[i + 1] - moments[i] ** 2, 1e-12) ** 0.5 for i in (0, 2)]
    counted = state.arrays.get("novelty.n_by_score", np.zeros(len(novelty.EDGES), np.int64))
    return Novelty(_density(state), (moments[0], moments[2]), (spread[0], spread[1]), counted.astype(np.int64))


def type_means(state: MergedState, n_types: int) -> Floats:
    """Return the swarm-wide mean of each type (or cluster) on the panel, shape `(n_types, n_panel)`, in units of X.

    A type that nobody has, and every type where the cells were not described, has the mean of all cells.
    """
    if "clusters.means" in state.arrays:
        return to_float(state.arrays["clusters.means"], STATISTICS_BITS)
    means = np.tile(to_float(state.arrays["mean"], STATISTICS_BITS), (n_types, 1))
    if "novelty.by_type" not in state.arrays:
        return means
    count = state.arrays["novelty.count"].astype(np.float64)
    known = count > 0
    totals = to_float(state.arrays["novelty.by_type"], STATISTICS_BITS)[known]
    means[known] = totals * (_n_total(state) / count[known])[:, None]
    return means


def calibration_of(state: MergedState, study: Study, stage: str) -> Calibration:
    """Return a finished stage's calibration; temperature 1 where it was not fitted."""
    point = state.arrays.get(f"{stage}_calibration.point")
    if point is None:
        return Calibration()
    chosen = grid(len(labels(study, stage)))[int(point[0])]
    return replace(chosen, n=int(state.arrays[f"{stage}_calibration.rows"][0]))
