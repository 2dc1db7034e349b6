"""What the held-out cells look like to a model: composition, markers, what drives each class, and a map of cells.

Rules: one pass over the held-out cells, sample by sample, by the model that was asked for; sums per type, never cells,
but for a map that is asked for and capped. Nothing here changes a figure.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from swarmcell.cells.batches import Matrix, filled, generator
from swarmcell.cells.known_markers import markers_of, places
from swarmcell.model.classifier import Scaling
from swarmcell.model.released import TrainedModel
from swarmcell.workflows.evaluation.cohort import UNLABELLED, Cohort, Part
from swarmcell.workflows.evaluation.drivers import cell_drivers, contributions, patient_drivers
from swarmcell.workflows.evaluation.portrait_values import (
    CellMap,
    Composition,
    Drivers,
    KnownMarker,
    Markers,
    Portrait,
    TypeContribution,
)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

MARKERS_PER_TYPE, MARKERS_MAX = 3, 40  # of the dot plot; chosen, more are no longer read
EXPLAINED_CELLS_MAX = 400  # per class, for a perceptron's drivers, which differ from cell to cell; chosen
KNOWN_CELLS_MIN = 20  # called a type, for its markers to be checked; chosen: a mean of fewer says little
SAMPLES_MAX = 80  # of the composition; chosen, more bars are no longer read


@dataclass
class _Sums:
    """What is added up over samples."""

    predicted: Integers  # (n_samples, n_types)
    true: Integers
    totals: Floats  # (n_types, n_features): sum of X by predicted type
    positive: Floats  # cells with X > 0, likewise
    cells: Integers  # (n_types,)
    contributions: list[tuple[int, Integers, Floats]] = field(default_factory=list)
    kept: dict[int, list[Floats]] = field(default_factory=dict)
    mapped: list[tuple[Floats, Integers, Integers]] = field(default_factory=list)


def portray(
    model: TrainedModel,
    cohort: Cohort,
    *,
    n_mapped: int = 0,
    seed: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> Portrait:
    """Look at the held-out cells as `model` sees them.

    Parameters
    ----------
    n_mapped
        Cells of the map at most; 0 makes none.
    seed
        Chooses the cells of the map.
    progress
        Gets the number of cells of each block.
    """
    names = symbols(model, cohort)
    sums = _pass(model, cohort, n_mapped, seed, progress)
    drivers = cell_drivers(model, sums.kept, names) if model.has_cell_task else ()
    return Portrait(
        composition=_composition(model, cohort, sums) if model.has_cell_task else None,
        markers=_markers(model, sums, drivers, names) if model.has_cell_task else None,
        known=_known(model, sums, names) if model.has_cell_task else (),
        cell_drivers=drivers,
        patient_drivers=patient_drivers(model, names) if model.has_patient_task else None,
        contributions=_by_type(model, cohort, sums),
        cell_map=_map(model, sums, seed) if sums.mapped else None,
    )


def symbols(model: TrainedModel, cohort: Cohort) -> tuple[str, ...]:
    """Return the names of the model's features as people know them: symbols where the files have them."""
    var = cohort.parts[0].file.var
    known = dict(zip(map(str, var.index), map(str, var["symbol"]), strict=True)) if "symbol" in var else {}
    return tuple(known.get(name) or name for name in model.panel_ids)


def _pass(model: TrainedModel, cohort: Cohort, n_mapped: int, seed: int, progress: Callable[[int], None]) -> _Sums:
    n_samples, n_types, n_features = len(cohort.samples), len(model.cell_types), len(model.panel_ids)
    sums = _Sums(
        predicted=np.zeros((n_samples, n_types), np.int64),
        true=np.zeros((n_samples, len(cohort.cell_types)), np.int64),
        totals=np.zeros((n_types, n_features)),
        positive=np.zeros((n_types, n_features)),
        cells=np.zeros(n_types, np.int64),
    )
    share = min(1.0, n_mapped / max(1, cohort.n_cells))
    for number, part in enumerate(cohort.parts):
        rng = generator(seed, "map", number)
        for block in part.file.groups(part.rows, part.sample):
            at = np.searchsorted(part.rows, block.rows)
            _add(sums, model, cohort, part, at, model.on_panel(block.cells))
            if n_mapped and model.has_cell_task:
                chosen = np.flatnonzero(rng.uniform(size=len(at)) < share)
                _keep_for_map(sums, model, cohort, part, at[chosen], block.cells[chosen])
            progress(len(at))
    return sums


def _add(sums: _Sums, model: TrainedModel, cohort: Cohort, part: Part, at: Integers, X: Matrix) -> None:
    types = model.cell_logits(X).argmax(axis=1) if model.has_cell_task else None
    if types is not None:
        np.add.at(sums.predicted, (part.sample[at], types), 1)
        known = part.cell_type[at] != UNLABELLED
        np.add.at(sums.true, (part.sample[at][known], part.cell_type[at][known]), 1)
        member = np.eye(len(model.cell_types))[types]
        sums.cells += member.sum(axis=0).astype(np.int64)
        sums.totals += np.asarray(X.T @ member).T
        sums.positive += np.asarray((X > 0).T @ member).T
        _keep_for_drivers(sums, X, types)
    if model.has_patient_task:
        for sample in np.unique(part.sample[at]):
            mine = np.flatnonzero(part.sample[at] == sample)
            shared = contributions(model, X[mine])
            if shared is not None:
                sums.contributions.append((int(sample), types[mine] if types is not None else mine * 0, shared))


def _keep_for_drivers(sums: _Sums, X: Matrix, types: Integers) -> None:
    for k in np.unique(types):
        kept = sums.kept.setdefault(int(k), [])
        room = EXPLAINED_CELLS_MAX - sum(map(len, kept))
        if room > 0:
            kept.append(filled(X[np.flatnonzero(types == k)[:room]]).astype(np.float64))


def _keep_for_map(sums: _Sums, model: TrainedModel, cohort: Cohort, part: Part, at: Integers, cells: Any) -> None:  # noqa: ANN401
    if not len(at):
        return
    X = model.on_panel(cells)
    common = np.array([cohort.cell_types.index(name) for name in model.cell_types], dtype=np.int64)
    predicted = common[model.cell_logits(X).argmax(axis=1)]
    sums.mapped.append((filled(X).astype(np.float64), part.cell_type[at], predicted))


def _by_type(model: TrainedModel, cohort: Cohort, sums: _Sums) -> tuple[TypeContribution, ...]:
    """Average contributions by predicted type and true condition: per sample first, for samples differ in size."""
    found = []
    names = model.cell_types if model.has_cell_task else ("all cells",)
    for c, condition in enumerate(cohort.conditions):
        mine = [(t, shared) for s, t, shared in sums.contributions if cohort.samples[s].condition == c]
        for k, name in enumerate(names):
            values = [float(shared[t == k].sum() / len(shared)) for t, shared in mine]
            if values:
                found.append(
                    TypeContribution(
                        condition=condition, cell_type=name, contribution=float(np.mean(values)), n_samples=len(values)
                    )
                )
    return tuple(found)


# -- composition and markers -------------------------------------------------------------------------------------------


def _composition(model: TrainedModel, cohort: Cohort, sums: _Sums) -> Composition:
    order = sorted(
        range(len(cohort.samples)),
        key=lambda i: (cohort.samples[i].condition, *_name_of(cohort, i)),
    )[:SAMPLES_MAX]
    return Composition(
        samples=tuple(_name_of(cohort, i) for i in order),
        conditions=tuple(_condition(cohort, i) for i in order),
        types=model.cell_types,
        true_types=cohort.cell_types,
        predicted=tuple(tuple(sums.predicted[i].tolist()) for i in order),
        true=tuple(tuple(sums.true[i].tolist()) for i in order),
        n_samples=len(cohort.samples),
    )


def _name_of(cohort: Cohort, number: int) -> tuple[str, str, str]:
    sample = cohort.samples[number]
    donor = cohort.donors[sample.donor]
    return donor.site, donor.name, sample.name


def _condition(cohort: Cohort, number: int) -> str:
    code = cohort.samples[number].condition
    return "" if code == UNLABELLED else cohort.conditions[code]


def _markers(model: TrainedModel, sums: _Sums, drivers: tuple[Drivers, ...], names: tuple[str, ...]) -> Markers:
    chosen = _chosen(model, drivers, names)
    n = np.maximum(sums.cells, 1)[:, None]
    mean, share = sums.totals[:, chosen] / n, sums.positive[:, chosen] / n
    return Markers(
        types=model.cell_types,
        n_cells=tuple(sums.cells.tolist()),
        features=tuple(names[i] for i in chosen),
        mean=tuple(map(tuple, mean.tolist())),
        share=tuple(map(tuple, share.tolist())),
    )


def _chosen(model: TrainedModel, drivers: tuple[Drivers, ...], names: tuple[str, ...]) -> list[int]:
    """Choose features for the dot plot: known markers of each type, then its strongest drivers, type by type."""
    place = {name: i for i, name in reversed(list(enumerate(names)))}
    chosen: dict[int, None] = {}
    for k, cell_type in enumerate(model.cell_types):
        found = list(places(markers_of(cell_type), names).values())[:2]
        if k < len(drivers):
            found += [place[d.feature] for d in drivers[k].drivers if d.weight > 0]
        chosen |= dict.fromkeys([i for i in dict.fromkeys(found) if i not in chosen][:MARKERS_PER_TYPE])
    return list(chosen)[:MARKERS_MAX]


def _known(model: TrainedModel, sums: _Sums, names: tuple[str, ...]) -> tuple[KnownMarker, ...]:
    """Hold the cells called each type to its textbook markers: their mean should be highest in a type that has them."""
    mean = sums.totals / np.maximum(sums.cells, 1)[:, None]
    called = np.flatnonzero(sums.cells >= KNOWN_CELLS_MIN)
    found = []
    for k in called:
        for marker, place in places(markers_of(model.cell_types[k]), names).items():
            others = {int(j) for j in called if marker in markers_of(model.cell_types[j])}
            top = int(called[mean[called, place].argmax()])
            found.append(
                KnownMarker(
                    cell_type=model.cell_types[k],
                    marker=marker,
                    mean=float(mean[k, place]),
                    highest=model.cell_types[top],
                    as_expected=bool(mean[top, place] > 0) and top in others,
                )
            )
    return tuple(found)


# -- map ---------------------------------------------------------------------------------------------------------------


def _map(model: TrainedModel, sums: _Sums, seed: int) -> CellMap:
    import warnings  # noqa: PLC0415 (only a map needs these)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba's and scikit-learn's, none of the reader's concern
        import umap  # noqa: PLC0415 (ten seconds: it compiles)

        X = np.concatenate([x for x, _, _ in sums.mapped])
        scaling = Scaling.from_fixed(model.state.arrays["mean"], model.state.arrays["scale"])
        scaled = np.clip((X - scaling.mean) / scaling.scale, -10, 10)  # as scanpy's tutorials clip before a PCA
        n_kept = min(30, *scaled.shape)
        left, sizes, _ = np.linalg.svd(scaled - scaled.mean(axis=0), full_matrices=False)
        reduced = left[:, :n_kept] * sizes[:n_kept]
        embedding: Any = umap.UMAP  # type: ignore[attr-defined]
        places_ = embedding(n_neighbors=min(15, len(X) - 1), random_state=seed, n_jobs=1).fit_transform(reduced)
    return CellMap(
        x=tuple(np.round(places_[:, 0], 3).tolist()),
        y=tuple(np.round(places_[:, 1], 3).tolist()),
        true=tuple(np.concatenate([t for _, t, _ in sums.mapped]).tolist()),
        predicted=tuple(np.concatenate([p for _, _, p in sums.mapped]).tolist()),
    )
