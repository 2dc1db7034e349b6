"""The cell task: from sums per donor to figures with intervals.

Rules: all models share one set of resamples of donors, so differences are paired. Per-donor figures come first in any
reading: cells of one donor are not independent, so a donor's own figure carries no interval.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np

from swarmcell.metrics import calibration, cell, resampling, words
from swarmcell.metrics.arrays import FloatArray, IntArray, ratio
from swarmcell.metrics.estimate import Estimate, undefined
from swarmcell.metrics.permutation import ChanceTest, cells_test
from swarmcell.metrics.pooled import calibration_of_donors
from swarmcell.metrics.resampling import Resamples
from swarmcell.metrics.score_intervals import wilson
from swarmcell.workflows.evaluation.cohort import UNLABELLED, Cohort
from swarmcell.workflows.evaluation.scores import THRESHOLDS, UNKNOWN_RATE, UNKNOWN_RATES, CellScores
from swarmcell.workflows.evaluation.values import (
    CellFigures,
    CellTask,
    ClassFigures,
    Difference,
    GroupFigures,
    Reliability,
    Settings,
)

FIGURES = {"accuracy": cell.accuracy, "balanced_accuracy": cell.balanced_accuracy, "macro_f1": cell.macro_f1}
CALIBRATION_ERROR, ERROR_BEFORE = "expected_calibration_error", "expected_calibration_error_before_temperature"
KNOWN_SHARE, KNOWN_ACCURACY = "share_not_called_unknown", "accuracy_of_those_not_called_unknown"
SMALLER_IS_BETTER = frozenset({CALIBRATION_ERROR, ERROR_BEFORE, "brier"})
ONE_DONOR = "no interval: one donor, whose cells are not independent"
NO_WIDTH = "every resample of the donors gives this figure, so the interval has no width; it is no certainty"
BY_SCORE = "score interval with donors as trials, because every resample gives this figure"
ALL_UNKNOWN = "every cell is called unknown"


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
        n_samples=sum(len(np.unique(part.sample[part.cell_type != UNLABELLED])) for part in cohort.parts),
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
    values[CALIBRATION_ERROR] = calibration_error(scores.reliability[labelled], resamples)
    beside = _beside(scores, labelled, resamples)
    figures = _figures(values | beside, scores, labelled, resamples, settings.level)
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
        reliability=reliability(scores.reliability[labelled].sum(axis=0)),
        coverage=_coverage(THRESHOLDS, scores.called),
        uncalibrated=None if scores.uncalibrated is None else reliability(scores.uncalibrated[labelled].sum(axis=0)),
        unknown=() if scores.known is None else _coverage(UNKNOWN_RATES, scores.known),
        chance=chance,
        verdict=_verdict(figures["balanced_accuracy"], n_held, chance),
    )
    return _Computed(found, values)


def _figures(
    values: Mapping[str, FloatArray], scores: CellScores, donors: IntArray, resamples: Resamples, level: float
) -> dict[str, Estimate]:
    """Return figures with their intervals; resamples are too far from calibrated, so those of errors are others."""
    found = {name: _estimate(v, resamples, level, reason=ALL_UNKNOWN) for name, v in values.items()}
    for name, sums in ((CALIBRATION_ERROR, scores.reliability), (ERROR_BEFORE, scores.uncalibrated)):
        if sums is not None and len(donors) > 1:
            found[name] = calibration_of_donors(sums[donors], level=level)
    return found


def calibration_error(per_donor: FloatArray, resamples: Resamples) -> FloatArray:
    """Return the calibration error on all resamples, from sums per donor, shape `(n_donors, n_bins, 3)`."""
    sums = np.tensordot(resamples.weights.astype(np.float64), per_donor, axes=1)
    return calibration.expected_calibration_error(sums)


def _beside(scores: CellScores, donors: IntArray, resamples: Resamples) -> dict[str, FloatArray]:
    """Return what stands beside a model's figures without being compared: before temperature, and "unknown"."""
    found: dict[str, FloatArray] = {}
    if scores.uncalibrated is not None:
        found[ERROR_BEFORE] = calibration_error(scores.uncalibrated[donors], resamples)
    if scores.known is not None:
        kept, hits = (resamples.weights @ scores.known[donors, UNKNOWN_RATES.index(UNKNOWN_RATE)]).T.astype(np.float64)
        n_cells = resamples.weights @ scores.confusion[donors].sum(axis=(1, 2))
        found |= {KNOWN_SHARE: ratio(kept, n_cells.astype(np.float64)), KNOWN_ACCURACY: ratio(hits, kept)}
    return found


def _verdict(balanced: Estimate, n_held: int, chance: ChanceTest) -> str:
    if n_held < 2:
        return "chance cannot be told from skill: the held-out cells are of one type"
    return "balanced accuracy is " + words.against_chance(balanced, 1 / n_held, chance)


def _estimate(values: FloatArray, resamples: Resamples, level: float, *, reason: str = "") -> Estimate:
    found = resampling.estimate(values, resamples, reason=reason, level=level)
    if found.value is not None and resamples.n_donors < 2:
        return replace(found, note=ONE_DONOR)
    if not resampling.has_no_width(found) or found.value is None:
        return found
    if found.value not in {0.0, 1.0}:
        return replace(found, note=NO_WIDTH)
    low, high = wilson(found.value, resamples.n_donors, level=level)
    return replace(found, low=low, high=high, method="score", note=BY_SCORE)


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
    counts, donor = scores.confusion[number], cohort.donors[number]
    alone = resampling.draw([0], n_resamples=0, rng=np.random.default_rng(0))
    values = _of_group(scores, np.array([number]), alone)
    figures = _figures(values, scores, np.array([number]), alone, 0.95)
    return GroupFigures(site=donor.site, donor=donor.name, n_cells=int(counts.sum()), figures=figures)


def _site(cohort: Cohort, site: str, scores: CellScores, labelled: IntArray, settings: Settings) -> GroupFigures:
    mine = np.array([i for i in labelled if cohort.donors[i].site == site], dtype=np.int64)
    if not len(mine):
        none = {name: undefined("no held-out cell of this site has a known type") for name in FIGURES}
        return GroupFigures(site=site, donor="", n_cells=0, figures=none)
    rng = np.random.default_rng([settings.seed, 3])
    resamples = resampling.draw([0] * len(mine), n_resamples=settings.n_bootstrap, rng=rng)
    values = _of_group(scores, mine, resamples)
    figures = _figures(values, scores, mine, resamples, settings.level)
    return GroupFigures(site=site, donor="", n_cells=int(scores.confusion[mine].sum()), figures=figures)


def _of_group(scores: CellScores, donors: IntArray, resamples: Resamples) -> dict[str, FloatArray]:
    counts = cell.resampled_confusion(scores.confusion[donors], resamples.weights)
    found = {name: compute(counts) for name, compute in FIGURES.items()}
    found[CALIBRATION_ERROR] = calibration_error(scores.reliability[donors], resamples)
    return found | _beside(scores, donors, resamples)


def reliability(sums: FloatArray) -> Reliability:
    """Return the reliability curve of sums per bin, shape `(n_bins, 3)`."""
    confidence, hits, n = calibration.reliability_curve(sums)
    return Reliability(
        confidence=tuple(None if np.isnan(v) else float(v) for v in confidence),
        hits=tuple(None if np.isnan(v) else float(v) for v in hits),
        n=tuple(n.tolist()),
    )


def _coverage(thresholds: Iterable[float], per_donor: IntArray) -> tuple[tuple[float, float, float | None], ...]:
    """Return threshold, share kept and accuracy among those; at the first threshold every cell is kept."""
    called, hits = per_donor.sum(axis=0).T
    total = called[0]
    return tuple(
        (float(threshold), float(n / total), float(h / n) if n else None)
        for threshold, n, h in zip(thresholds, called, hits, strict=True)
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
            less = values[first][figure] - values[second][figure]
            estimate = resampling.estimate(less, resamples, least=-1.0, level=level)
            smaller = figure in SMALLER_IS_BETTER
            verdict = words.difference(estimate, first, second, smaller_is_better=smaller)
            found.append(Difference(first=first, second=second, figure=figure, estimate=estimate, verdict=verdict))
    return tuple(found)
