"""The cell task: from sums per donor to figures with intervals.

Rules: all models share one set of resamples of donors, so differences are paired. Per-donor figures come first in any
reading: cells of one donor are not independent, so a donor's own figure carries no interval.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from swarmcell.metrics import calibration, cell, resampling, words
from swarmcell.metrics.arrays import FloatArray, IntArray
from swarmcell.metrics.estimate import Estimate, undefined
from swarmcell.metrics.permutation import ChanceTest, cells_test
from swarmcell.metrics.resampling import Resamples
from swarmcell.workflows.cohort import Cohort
from swarmcell.workflows.evaluation import (
    CellFigures,
    CellTask,
    ClassFigures,
    Difference,
    GroupFigures,
    Reliability,
    Settings,
)
from swarmcell.workflows.scores import THRESHOLDS, CellScores

FIGURES = {"accuracy": cell.accuracy, "balanced_accuracy": cell.balanced_accuracy, "macro_f1": cell.macro_f1}
CALIBRATION_ERROR = "expected_calibration_error"
SMALLER_IS_BETTER = frozenset({CALIBRATION_ERROR, "brier"})
ONE_DONOR = "no interval: one donor, whose cells are not independent"
NO_WIDTH = "every resample of the donors gives this figure, so the interval has no width; it is no certainty"


class _Computed(NamedTuple):
    """One model's figures, and the resampled values that differences are made of."""

    figures: CellFigures
    values: Mapping[str, FloatArray]


def cell_task(cohort: Cohort, scores: Mapping[str, CellScores], settings: Settings) -> CellTask:
    """Compute the cell task's figures.

    Parameters
    ----------
    scores
        Sums per donor by each model, the model that was asked for first.
    """
    some = next(iter(scores.values()))
    labelled = np.flatnonzero(some.confusion.sum(axis=(1, 2)))
    rng = np.random.default_rng([settings.seed, 1])
    resamples = resampling.draw([0] * len(labelled), n_resamples=settings.n_bootstrap, rng=rng)
    computed = {name: _one_model(name, cohort, s, labelled, resamples, settings) for name, s in scores.items()}
    support = some.confusion.sum(axis=(0, 2))
    return CellTask(
        classes=cohort.cell_types,
        n_cells=int(support.sum()),
        n_donors=len(labelled),
        majority_accuracy=float(support.max() / support.sum()),
        chance_balanced_accuracy=1 / int((support > 0).sum()),
        models=tuple(c.figures for c in computed.values()),
        differences=differences({name: c.values for name, c in computed.items()}, resamples, settings.level),
    )


def _one_model(
    name: str, cohort: Cohort, scores: CellScores, labelled: IntArray, resamples: Resamples, settings: Settings
) -> _Computed:
    per_donor = scores.confusion[labelled]
    counts = cell.resampled_confusion(per_donor, resamples.weights)
    values = {figure: compute(counts) for figure, compute in FIGURES.items()}
    sums = np.tensordot(resamples.weights.astype(np.float64), scores.reliability[labelled], axes=1)
    values[CALIBRATION_ERROR] = calibration.expected_calibration_error(sums)
    figures = {figure: _estimate(v, resamples, settings.level) for figure, v in values.items()}
    rng = np.random.default_rng([settings.seed, 2])
    chance = cells_test(per_donor, n_permutations=settings.n_permutations, rng=rng)
    n_held = int((per_donor.sum(axis=(0, 2)) > 0).sum())
    found = CellFigures(
        model=name,
        figures=figures,
        per_class=_per_class(cohort, per_donor, counts, resamples, settings.level),
        per_donor=tuple(_donor(cohort, i, scores) for i in labelled),
        per_site=tuple(_site(cohort, site, scores, labelled, settings) for site in cohort.sites),
        confusion=tuple(map(tuple, counts[0].tolist())),
        reliability=reliability(sums[0]),
        coverage=_coverage(scores),
        chance=chance,
        verdict=_verdict(figures["balanced_accuracy"], n_held, chance),
    )
    return _Computed(found, values)


def _verdict(balanced: Estimate, n_held: int, chance: ChanceTest) -> str:
    if n_held < 2:
        return "chance cannot be told from skill: the held-out cells are of one type"
    return "balanced accuracy is " + words.against_chance(balanced, 1 / n_held, chance)


def _estimate(values: FloatArray, resamples: Resamples, level: float, *, reason: str = "") -> Estimate:
    found = resampling.estimate(values, resamples, reason=reason, level=level)
    if found.value is not None and resamples.n_donors < 2:
        return replace(found, note=ONE_DONOR)
    return replace(found, note=NO_WIDTH) if resampling.has_no_width(found) else found


def _per_class(
    cohort: Cohort, per_donor: IntArray, counts: IntArray, resamples: Resamples, level: float
) -> tuple[ClassFigures, ...]:
    precision, recall, f1 = cell.precision(counts), cell.recall(counts), cell.f1(counts)
    of_class = per_donor.sum(axis=2)
    found = []
    for k, name in enumerate(cohort.cell_types):
        no_cells, no_calls = f"no held-out cell is {name}", f"no cell was called {name}"
        found.append(
            ClassFigures(
                name=name,
                n_cells=int(of_class[:, k].sum()),
                n_donors=int((of_class[:, k] > 0).sum()),
                precision=_estimate(precision[:, k], resamples, level, reason=no_calls),
                recall=_estimate(recall[:, k], resamples, level, reason=no_cells),
                f1=_estimate(f1[:, k], resamples, level, reason=f"{no_cells}, and {no_calls}"),
            )
        )
    return tuple(found)


def _donor(cohort: Cohort, number: int, scores: CellScores) -> GroupFigures:
    counts = scores.confusion[number]
    donor = cohort.donors[number]
    figures = {name: Estimate(value=float(compute(counts)), note=ONE_DONOR) for name, compute in FIGURES.items()}
    return GroupFigures(site=donor.site, donor=donor.name, n_cells=int(counts.sum()), figures=figures)


def _site(cohort: Cohort, site: str, scores: CellScores, labelled: IntArray, settings: Settings) -> GroupFigures:
    mine = np.array([i for i in labelled if cohort.donors[i].site == site], dtype=np.int64)
    if not len(mine):
        none = {name: undefined("no held-out cell of this site has a known type") for name in FIGURES}
        return GroupFigures(site=site, donor="", n_cells=0, figures=none)
    rng = np.random.default_rng([settings.seed, 3])
    resamples = resampling.draw([0] * len(mine), n_resamples=settings.n_bootstrap, rng=rng)
    counts = cell.resampled_confusion(scores.confusion[mine], resamples.weights)
    figures = {name: _estimate(compute(counts), resamples, settings.level) for name, compute in FIGURES.items()}
    return GroupFigures(site=site, donor="", n_cells=int(counts[0].sum()), figures=figures)


def reliability(sums: FloatArray) -> Reliability:
    """Return the reliability curve of sums per bin, shape `(n_bins, 3)`."""
    confidence, hits, n = calibration.reliability_curve(sums)
    return Reliability(
        confidence=tuple(None if np.isnan(v) else float(v) for v in confidence),
        hits=tuple(None if np.isnan(v) else float(v) for v in hits),
        n=tuple(n.tolist()),
    )


def _coverage(scores: CellScores) -> tuple[tuple[float, float, float | None], ...]:
    called, hits = scores.called.sum(axis=0).T
    total = called[0]
    return tuple(
        (float(threshold), float(n / total), float(h / n) if n else None)
        for threshold, n, h in zip(THRESHOLDS, called, hits, strict=True)
    )


def differences(
    values: Mapping[str, Mapping[str, FloatArray]], resamples: Resamples, level: float
) -> tuple[Difference, ...]:
    """Return paired differences of every two models, figure by figure.

    Parameters
    ----------
    values
        Model -> figure -> values on the same resamples, shape `(1 + n_resamples,)`.
    """
    found = []
    for first, second in combinations(values, 2):
        for figure in values[first]:
            estimate = resampling.estimate(values[first][figure] - values[second][figure], resamples, level=level)
            smaller = figure in SMALLER_IS_BETTER
            verdict = words.difference(estimate, first, second, smaller_is_better=smaller)
            found.append(Difference(first=first, second=second, figure=figure, estimate=estimate, verdict=verdict))
    return tuple(found)
