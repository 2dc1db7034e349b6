"""What a site publishes of an evaluation: integers that add up over sites, and what a reader makes of them.

Rules: counts only, of sums over the site's held-out donors: confusion matrices, histograms with fixed edges, and second
moments of donors' counts (for intervals). A site with fewer held-out donors than the study's floor publishes nothing.
Cell types with fewer cells are merged into one row (`merged_counts`), bins with fewer cells or donors into their
neighbours; a condition with fewer donors is left out, for of two conditions merged nothing is left to tell apart. A
reader believes no count that contradicts another.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swarmcell.metrics import cell, pooled
from swarmcell.metrics.calibration import N_BINS
from swarmcell.model.study import Floors, Study
from swarmcell.workflows.evaluation.cohort import UNLABELLED, Cohort
from swarmcell.workflows.evaluation.merged_counts import merged_bins, merged_places, rare_types
from swarmcell.workflows.evaluation.scores import CellScores

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Counts = Mapping[str, tuple[int, ...]]

SCORE_BINS = 50  # of a condition's probability, edges at multiples of 0.02; chosen: 4 conditions need 800 numbers
VALUES_MAX = 10_000  # of one entry's key, as `swarm.payloads` has it
COUNT_MAX = 2**50
GAPS = (1 + 2 * N_BINS) * (2 + 2 * N_BINS) // 2  # second moments of a donor's rows, confidence and hits per bin
CELL = "cell.confusion"
MERGED = "cell.merged"  # cells of the types that are too rare at a site for rows of their own, and hits among them
PATIENT = "patient.confusion"


@dataclass(frozen=True, kw_only=True)
class Withheld:
    """What a site keeps to itself, in words for its own eyes."""

    reasons: tuple[str, ...]


def count_cells(scores: CellScores, floors: Floors, types: tuple[str, ...]) -> tuple[Counts, Withheld]:
    """Return what a site publishes of the cell task; nothing below the floors."""
    held = scores.confusion.sum(axis=(1, 2)) > 0
    per_donor = scores.confusion[held]
    n_cells = per_donor.sum(axis=(0, 2))
    small, is_group = rare_types(n_cells, floors)
    per_donor, merged = per_donor.copy(), np.zeros((len(per_donor), 2), np.int64)
    if is_group:
        merged[:, 0] = per_donor[:, small].sum(axis=(1, 2))
        merged[:, 1] = per_donor[:, small, small].sum(axis=1)
    per_donor[:, small] = 0
    n_donors = int(((per_donor.sum(axis=(1, 2)) + merged[:, 0]) > 0).sum())
    if n_donors < floors.donors:
        reason = f"cell task: {n_donors} held-out donor(s), below the floor of {floors.donors}; nothing is published"
        return {}, Withheld(reasons=(reason,))
    counts = {"cell.donors": (n_donors,), CELL: _plain(per_donor.sum(axis=0)), MERGED: _plain(merged.sum(axis=0))}
    moments = pooled.packed_moments(pooled.donor_vectors(per_donor, merged))
    if len(moments) <= VALUES_MAX and moments.max(initial=0) <= COUNT_MAX:
        counts["cell.moments"] = _plain(moments)
    if is_group or not small:  # a type that is left out would be in the bins
        by_bin = merged_bins(scores.reliability[held], floors.cells)
        sums = by_bin.sum(axis=0)
        counts["cell.rows"], counts["cell.hits"] = _plain(sums[:, 0]), _plain(sums[:, 2])
        counts["cell.confidence"] = _plain(np.round(sums[:, 1] * 2**pooled.SCALE_BITS))
        gaps = pooled.packed_moments(pooled.gap_vectors(by_bin))
        if gaps.max(initial=0) <= COUNT_MAX:
            counts["cell.gaps"] = _plain(gaps)
    return counts, Withheld(reasons=tuple(_said(types, n_cells, small, floors, is_group=is_group)))


def _said(
    types: tuple[str, ...], n_cells: Integers, small: list[int], floors: Floors, *, is_group: bool
) -> Iterator[str]:
    for k in small:
        rare = n_cells[k] < floors.cells
        what = f"{n_cells[k]} cells, below the floor of {floors.cells}" if rare else f"its {n_cells[k]} cells are next"
        yield f"{types[k]}: {what}; {'merged with the other rare types' if is_group else 'left out'}"


def count_samples(cohort: Cohort, probabilities: Floats, floors: Floors) -> tuple[Counts, Withheld]:
    """Return what a site publishes of the patient task; nothing below the floors.

    Parameters
    ----------
    probabilities
        Shape `(n_samples, n_conditions)`.
    """
    n = len(cohort.conditions)
    condition = np.array([sample.condition for sample in cohort.samples], dtype=np.int64)
    donor = np.array([sample.donor for sample in cohort.samples], dtype=np.int64)
    n_donors = [len(np.unique(donor[condition == k])) for k in range(n)]
    small = [k for k in range(n) if 0 < n_donors[k] < floors.donors]
    why = [
        f"{cohort.conditions[k]}: {n_donors[k]} held-out donor(s), below the floor of {floors.donors}; left out"
        for k in small
    ]
    rows = np.flatnonzero((condition != UNLABELLED) & ~np.isin(condition, small))
    if not len(rows):
        return {}, Withheld(reasons=tuple(why))
    scores = np.zeros((n, n, SCORE_BINS), dtype=np.int64)
    bins = np.minimum((probabilities[rows] * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
    for k in range(n):
        places = merged_places(bins[:, k], donor[rows], SCORE_BINS, floors.donors)
        np.add.at(scores[:, k], (condition[rows], places), 1)
    confusion = cell.confusion(condition[rows], probabilities[rows].argmax(axis=1), n)
    donors = [0 if k in small else n_donors[k] for k in range(n)]
    counts = {PATIENT: _plain(confusion), "patient.donors": tuple(donors), "patient.scores": _plain(scores)}
    return (counts if scores.size <= VALUES_MAX else {}), Withheld(reasons=tuple(why))


def _plain(values: Integers | Floats) -> tuple[int, ...]:
    return tuple(int(value) for value in np.asarray(values).ravel())


# -- reading -----------------------------------------------------------------------------------------------------------


def faults(counts: Counts, study: Study) -> Iterator[str]:
    """Yield why counts cannot be what a site of this study counted."""
    sizes = _sizes(study)
    for key, values in counts.items():
        if key not in sizes:
            yield f"{key!r} is no count of this study"
        elif len(values) != sizes[key]:
            yield f"{key!r} has {len(values)} numbers, expected {sizes[key]}"
    if not any(key not in sizes or len(values) != sizes[key] for key, values in counts.items()):
        yield from _contradictions(counts, study)


def _sizes(study: Study) -> dict[str, int]:
    n_types, n = len(study.cell_types), len(study.conditions)
    sizes: dict[str, int] = {}
    if "cell" in study.stages:
        sizes |= {"cell.donors": 1, CELL: n_types**2, MERGED: 2, "cell.moments": moments_of(n_types)}
        sizes["cell.gaps"] = GAPS
        sizes |= dict.fromkeys(("cell.rows", "cell.hits", "cell.confidence"), N_BINS)
    if "patient" in study.stages:
        sizes |= {PATIENT: n**2, "patient.donors": n, "patient.scores": n**2 * SCORE_BINS}
    return sizes


def moments_of(n_types: int) -> int:
    """Return how many second moments a site publishes: of cells, hits and calls per type, and of the merged types."""
    return (3 * n_types + 2) * (3 * n_types + 3) // 2


def _contradictions(counts: Counts, study: Study) -> Iterator[str]:
    if CELL in counts:
        (n_merged, hits), n_donors = counts.get(MERGED, (0, 0)), counts.get("cell.donors", (0,))[0]
        n_cells = sum(counts[CELL]) + n_merged
        if hits > n_merged or 0 < n_merged < study.floors.cells:
            yield f"{hits} hits among {n_merged} merged cells, where the floor is {study.floors.cells}"
        if n_donors < study.floors.donors or n_donors > n_cells:
            yield f"{n_cells} cells of {n_donors} donors, where the floor is {study.floors.donors}"
        if "cell.rows" in counts and sum(counts["cell.rows"]) != n_cells:
            yield f"{sum(counts['cell.rows'])} cells in the bins of confidence, {n_cells} in the confusion matrix"
    if PATIENT in counts:
        n = len(study.conditions)
        confusion = np.array(counts[PATIENT], dtype=np.int64).reshape(n, n)
        if "patient.scores" in counts:
            scores = np.array(counts["patient.scores"], dtype=np.int64).reshape(n, n, SCORE_BINS)
            if (scores.sum(axis=2) != confusion.sum(axis=1)[:, None]).any():
                yield "the histograms of probabilities hold other numbers of samples than the confusion matrix"
        donors = counts.get("patient.donors", (0,) * n)
        if any(d > s or (s and d < study.floors.donors) for d, s in zip(donors, confusion.sum(axis=1), strict=True)):
            yield f"samples of {list(donors)} donors per condition, where the floor is {study.floors.donors}"


def added(every: list[Counts], key: str, shape: tuple[int, ...]) -> Integers:
    """Return the sum of one count over the sites that have it."""
    total = np.zeros(shape, dtype=np.int64)
    for counts in every:
        if key in counts:
            total += np.array(counts[key], dtype=np.int64).reshape(shape)
    return total
