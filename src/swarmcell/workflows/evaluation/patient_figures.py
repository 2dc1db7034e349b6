"""The patient task: samples are classified, donors are resampled within their conditions.

Rules: all models share one set of resamples, so differences are paired. A donor's stratum is the set of conditions of
its samples, so every resample holds every condition. Where perfect separation leaves the bootstrap no width, a score
interval with donors as trials takes its place and says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from swarmcell.metrics import cell, patient, resampling, words
from swarmcell.metrics.arrays import FloatArray, IntArray
from swarmcell.metrics.calibration import reliability_sums
from swarmcell.metrics.estimate import Estimate
from swarmcell.metrics.permutation import ChanceTest, conditions_test
from swarmcell.metrics.pooled import allowing_for_few, calibration_of_donors
from swarmcell.metrics.pooled_patient import balanced_accuracy
from swarmcell.metrics.resampling import Resamples
from swarmcell.metrics.score_intervals import newcombe_auroc, wilson
from swarmcell.workflows.evaluation.cell_figures import (
    BY_SCORE,
    CALIBRATION_ERROR,
    ERROR_BEFORE,
    calibration_error,
    differences,
    reliability,
)
from swarmcell.workflows.evaluation.cohort import UNLABELLED, Cohort
from swarmcell.workflows.evaluation.scores import SampleScores
from swarmcell.workflows.evaluation.values import (
    Curve,
    PatientFigures,
    PatientTask,
    SampleFigures,
    Settings,
)

GRID = np.linspace(0, 1, 51)  # where the bands of curves are computed
BAND_RESAMPLES = 500  # chosen: a band is read by eye


@dataclass(frozen=True, eq=False)
class _Design:
    """The held-out samples of known condition, and how their donors are drawn.

    Attributes
    ----------
    rows
        Which of the cohort's samples they are.
    true, donor
        Condition and (renumbered) donor per sample, shape `(n_samples,)`.
    resamples, weights
        Weights per donor and per sample.
    donors_per_condition
        Shape `(n_conditions,)`.
    """

    rows: IntArray
    true: IntArray
    donor: IntArray
    resamples: Resamples
    weights: IntArray
    donors_per_condition: IntArray

    @property
    def n_held(self) -> int:
        """Conditions among the held-out samples."""
        return len(np.unique(self.true))


def patient_task(cohort: Cohort, scores: Mapping[str, SampleScores], settings: Settings) -> PatientTask:
    """Compute the patient task's figures.

    Parameters
    ----------
    scores
        Of all samples by each model, the model asked for first.
    """
    design = _design(cohort, settings)
    conditions = cohort.conditions
    positive = patient.positive_condition(conditions)
    values = {name: _values(design, s.probabilities[design.rows], positive) for name, s in scores.items()}
    found = tuple(_one_model(name, cohort, design, s, values[name], settings) for name, s in scores.items())
    samples = np.bincount(design.true, minlength=len(conditions))
    return PatientTask(
        conditions=conditions,
        positive=conditions[positive],
        n_cells=sum(cohort.samples[i].n_cells for i in design.rows),
        n_samples=len(design.rows),
        n_donors=design.resamples.n_donors,
        samples_per_condition=dict(zip(conditions, samples.tolist(), strict=True)),
        donors_per_condition=dict(zip(conditions, design.donors_per_condition.tolist(), strict=True)),
        models=found,
        differences=differences(values, design.resamples, settings.level),
    )


def _design(cohort: Cohort, settings: Settings) -> _Design:
    rows = np.array([i for i, s in enumerate(cohort.samples) if s.condition != UNLABELLED], dtype=np.int64)
    true = np.array([cohort.samples[i].condition for i in rows], dtype=np.int64)
    _, donor = np.unique([cohort.samples[i].donor for i in rows], return_inverse=True)
    held = [tuple(np.unique(true[donor == d]).tolist()) for d in range(donor.max() + 1)]
    rng = np.random.default_rng([settings.seed, 4])
    resamples = resampling.draw(held, n_resamples=settings.n_bootstrap, rng=rng)
    per_condition = np.array([sum(k in h for h in held) for k in range(len(cohort.conditions))], dtype=np.int64)
    return _Design(rows, true, donor.astype(np.int64), resamples, resamples.per_row(donor), per_condition)


def _values(design: _Design, probabilities: FloatArray, positive: int) -> dict[str, FloatArray]:
    """Figures on all resamples; with two conditions one is positive, beyond two each is against the rest."""
    true, weights = design.true, design.weights
    two = probabilities.shape[1] == 2
    versus_rest = partial(patient.binary, positive=positive) if two else patient.macro
    sensitivity = partial(patient.sensitivity_at, specificity=patient.SPECIFICITY)
    predicted = probabilities.argmax(axis=1)
    balanced = patient.balanced_accuracy(true, predicted, weights, probabilities.shape[1])
    return {
        "auroc": versus_rest(patient.auroc, true, probabilities, weights),
        "auprc": versus_rest(patient.auprc, true, probabilities, weights),
        "balanced_accuracy": balanced if design.n_held > 1 else np.full(len(weights), np.nan),
        patient.SENSITIVITY: versus_rest(sensitivity, true, probabilities, weights),
        "brier": patient.brier(true, probabilities, weights),
        CALIBRATION_ERROR: calibration_error(_sums(design, probabilities, positive), design.resamples),
    }


def _one_model(
    name: str,
    cohort: Cohort,
    design: _Design,
    scores: SampleScores,
    values: Mapping[str, FloatArray],
    settings: Settings,
) -> PatientFigures:
    probabilities, positive = scores.probabilities[design.rows], patient.positive_condition(cohort.conditions)
    predicted = probabilities.argmax(axis=1)
    figures = {key: _estimate(key, v, design, cohort, settings.level) for key, v in values.items()}
    sums = {CALIBRATION_ERROR: _sums(design, probabilities, positive)}
    if scores.uncalibrated is not None:
        sums[ERROR_BEFORE] = _sums(design, scores.uncalibrated[design.rows], positive)
    figures |= {key: _calibration(by_donor, settings.level) for key, by_donor in sums.items()}
    confusion = cell.confusion(design.true, predicted, len(cohort.conditions))
    figures["balanced_accuracy"] = _with_closed_form(figures["balanced_accuracy"], confusion, design)
    curves = {key: reliability(by_donor.sum(axis=0)) for key, by_donor in sums.items()}
    chance = _chance(design, probabilities, settings)
    keys = _curve_keys(cohort, design)
    return PatientFigures(
        model=name,
        figures=figures,
        confusion=tuple(map(tuple, confusion.tolist())),
        samples=tuple(_sample(cohort, i, scores.probabilities[i]) for i in range(len(cohort.samples))),
        roc={cohort.conditions[k]: _roc(design, probabilities, k) for k in keys},
        precision_recall={cohort.conditions[k]: _precision_recall(design, probabilities, k) for k in keys},
        reliability=curves[CALIBRATION_ERROR],
        uncalibrated=curves.get(ERROR_BEFORE),
        chance=chance,
        verdict="AUROC is " + words.against_chance(figures["auroc"], 0.5, chance),
    )


def _estimate(key: str, values: FloatArray, design: _Design, cohort: Cohort, level: float) -> Estimate:
    held = ", ".join(cohort.conditions[k] for k in np.unique(design.true))
    found = resampling.estimate(
        values, design.resamples, reason=f"all held-out samples are {held}, and it needs two conditions", level=level
    )
    if resampling.has_no_width(found) and found.value is not None:
        ends = _score_interval(key, found.value, design, level)
        return replace(found, low=ends[0], high=ends[1], method="score", note=BY_SCORE) if ends else found
    return found


def _with_closed_form(found: Estimate, confusion: IntArray, design: _Design) -> Estimate:
    """Return the balanced accuracy; no resample tells how few donors a condition has whose samples are all right."""
    if found.low is None or found.high is None:
        return found
    closed = balanced_accuracy(confusion, design.donors_per_condition, level=found.level)
    ends = (found.low, found.high, closed.low, closed.high)
    known = [end for end in ends if end is not None]
    return replace(found, low=min(known), high=max(known))


def _score_interval(key: str, value: float, design: _Design, level: float) -> tuple[float, float] | None:
    """Return a closed-form interval with donors as trials, smallest condition first; `None` where there is none."""
    held = design.donors_per_condition[design.donors_per_condition > 0]
    fewest = int(held.min())
    if key == "auroc":
        return newcombe_auroc(value, fewest, max(1, design.resamples.n_donors - fewest), level=level)
    return None if key == "brier" else wilson(value, fewest, level=level)


def _chance(design: _Design, probabilities: FloatArray, settings: Settings) -> ChanceTest | None:
    if design.n_held < 2:
        return None
    ones = np.ones((1, len(design.true)), dtype=np.int64)

    def area(true: IntArray) -> float:
        return float(patient.macro(patient.auroc, true, probabilities, ones)[0])

    rng = np.random.default_rng([settings.seed, 5])
    return conditions_test(area, design.true, design.donor, n_permutations=settings.n_permutations, rng=rng)


def _sample(cohort: Cohort, number: int, probabilities: FloatArray) -> SampleFigures:
    sample = cohort.samples[number]
    donor = cohort.donors[sample.donor]
    known = sample.condition != UNLABELLED
    return SampleFigures(
        site=donor.site,
        donor=donor.name,
        sample=sample.name,
        condition=cohort.conditions[sample.condition] if known else "",
        predicted=cohort.conditions[int(probabilities.argmax())],
        probabilities=tuple(probabilities.tolist()),
        n_cells=sample.n_cells,
    )


def _curve_keys(cohort: Cohort, design: _Design) -> list[int]:
    if design.n_held < 2:
        return []
    if len(cohort.conditions) == 2:
        return [patient.positive_condition(cohort.conditions)]
    return [int(k) for k in np.unique(design.true)]


def _roc(design: _Design, probabilities: FloatArray, k: int) -> Curve:
    weights = design.resamples.drawn[: 1 + BAND_RESAMPLES, design.donor]
    true_rate, false_rate = patient.roc(design.true == k, probabilities[:, k], weights)
    origin = np.zeros((len(weights), 1))
    x, y = np.hstack([origin, false_rate]), np.hstack([origin, true_rate])
    band = [y_b[np.searchsorted(x_b, GRID + 1e-12, side="right") - 1] for x_b, y_b in zip(x[1:], y[1:], strict=True)]
    if not band or design.resamples.freedom < 1:
        return Curve(x=_floats(x[0]), y=_floats(y[0]))
    low, high = np.quantile(band, [0.025, 0.975], axis=0)
    return Curve(x=_floats(x[0]), y=_floats(y[0]), band_x=_floats(GRID), low=_floats(low), high=_floats(high))


def _precision_recall(design: _Design, probabilities: FloatArray, k: int) -> Curve:
    precision, recall = patient.precision_recall(design.true == k, probabilities[:, k], design.weights[:1])
    return Curve(x=_floats(recall[0]), y=_floats(precision[0]))


def _floats(values: FloatArray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _calibration(by_donor: FloatArray, level: float) -> Estimate:
    return allowing_for_few(calibration_of_donors(by_donor, level=level), by_donor.sum(axis=0), len(by_donor))


def _sums(design: _Design, probabilities: FloatArray, positive: int) -> FloatArray:
    """Return each donor's sums of reliability, shape `(n_donors, n_bins, 3)`.

    They are of the positive condition's probability, or beyond two conditions of the predicted one's.
    """
    confidence, hit = probabilities.max(axis=1), probabilities.argmax(axis=1) == design.true
    if probabilities.shape[1] == 2:
        confidence, hit = probabilities[:, positive], design.true == positive
    donors = range(design.resamples.n_donors)
    return np.stack([reliability_sums(confidence[design.donor == d], hit[design.donor == d]) for d in donors])
