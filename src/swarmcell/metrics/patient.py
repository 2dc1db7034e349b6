"""Figures of the patient task: samples are classified, donors are resampled.

Rules: `true` are condition indices `(n_samples,)`, `probabilities` have shape `(n_samples, n_conditions)`, `weights`
`(n_batches, n_samples)` are how often each sample counts; results have shape `(n_batches,)`, `nan` where a batch lacks
what the figure needs. Weighting a sample by 2 equals listing it twice.
"""

from collections.abc import Callable

import numpy as np

from swarmcell.metrics.arrays import BoolArray, FloatArray, IntArray, mean_of_defined, ratio

SPECIFICITY = 0.9  # at which sensitivity is reported; chosen
SENSITIVITY = "sensitivity_at_0.90_specificity"
OneVersusRest = Callable[[BoolArray, FloatArray, IntArray], FloatArray]


def auroc(positive: BoolArray, score: FloatArray, weights: IntArray) -> FloatArray:
    """Area under the ROC curve: the chance that a positive sample scores above a negative one, ties counting half.

    Undefined where positives or negatives are missing.
    """
    true_rate, false_rate = roc(positive, score, weights)
    widths = np.diff(false_rate, axis=-1, prepend=0.0)
    heights = true_rate - np.diff(true_rate, axis=-1, prepend=0.0) / 2
    area: FloatArray = (widths * heights).sum(axis=-1)
    return area


def auprc(positive: BoolArray, score: FloatArray, weights: IntArray) -> FloatArray:
    """Average precision: precision summed over the steps of recall. Undefined where positives are missing."""
    hits, called = _steps(positive, score, weights)
    true_rate = ratio(hits, hits[..., -1:])
    precision = np.nan_to_num(ratio(hits, called))
    area: FloatArray = (np.diff(true_rate, axis=-1, prepend=0.0) * precision).sum(axis=-1)
    return area


def sensitivity_at(positive: BoolArray, score: FloatArray, weights: IntArray, *, specificity: float) -> FloatArray:
    """Largest sensitivity of any threshold whose specificity is at least `specificity`.

    Undefined where positives or negatives are missing.
    """
    true_rate, false_rate = roc(positive, score, weights)
    allowed = false_rate <= 1 - specificity + 1e-12
    best: FloatArray = np.where(allowed, true_rate, 0.0).max(axis=-1, initial=0.0)
    return np.where(np.isnan(true_rate[..., -1] + false_rate[..., -1]), np.nan, best)


def roc(positive: BoolArray, score: FloatArray, weights: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return true and false positive rates at every distinct score, from the highest: shape `(n_batches, n_scores)`."""
    hits, called = _steps(positive, score, weights)
    misses = called - hits
    return ratio(hits, hits[..., -1:]), ratio(misses, misses[..., -1:])


def precision_recall(positive: BoolArray, score: FloatArray, weights: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return precision and recall at every distinct score, from the highest: shape `(n_batches, n_scores)`."""
    hits, called = _steps(positive, score, weights)
    return ratio(hits, called), ratio(hits, hits[..., -1:])


def _steps(positive: BoolArray, score: FloatArray, weights: IntArray) -> tuple[IntArray, IntArray]:
    """Cumulative weight of positives, and of all, at or above each distinct score, from the highest."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    last_of_ties = np.append(np.flatnonzero(ordered[:-1] != ordered[1:]), len(ordered) - 1)
    sorted_weights = weights[..., order]
    hits = np.cumsum(sorted_weights * positive[order], axis=-1)[..., last_of_ties]
    return hits, np.cumsum(sorted_weights, axis=-1)[..., last_of_ties]


def macro(figure: OneVersusRest, true: IntArray, probabilities: FloatArray, weights: IntArray) -> FloatArray:
    """Mean of a one-versus-rest figure over the conditions that the held-out samples hold.

    Undefined where any of these conditions is missing from a batch, or where only one is held at all.
    """
    held = np.unique(true)
    if len(held) < 2:
        return np.full(weights.shape[0], np.nan)
    per_class = [figure(true == k, probabilities[:, k], weights) for k in held]
    mean: FloatArray = np.mean(per_class, axis=0)
    return mean


def binary(
    figure: OneVersusRest, true: IntArray, probabilities: FloatArray, weights: IntArray, *, positive: int
) -> FloatArray:
    """Return the figure of condition `positive` against the rest; undefined if the samples hold but one condition."""
    if len(np.unique(true)) < 2:
        return np.full(weights.shape[0], np.nan)
    return figure(true == positive, probabilities[:, positive], weights)


def brier(true: IntArray, probabilities: FloatArray, weights: IntArray) -> FloatArray:
    """Brier score: mean squared distance of probabilities from the truth, summed over conditions.

    With two conditions it is halved, as is the custom: 0 is best, 0.25 is what saying 0.5 always earns.
    """
    truth = np.eye(probabilities.shape[1])[true]
    distance = ((probabilities - truth) ** 2).sum(axis=1)
    scale = 0.5 if probabilities.shape[1] == 2 else 1.0
    return ratio(scale * (weights @ distance), weights.sum(axis=-1))


def balanced_accuracy(true: IntArray, predicted: IntArray, weights: IntArray, n_classes: int) -> FloatArray:
    """Mean recall over the conditions that a batch holds."""
    return mean_of_defined(recall(true, predicted, weights, n_classes))


def recall(true: IntArray, predicted: IntArray, weights: IntArray, n_classes: int) -> FloatArray:
    """Share of each condition's samples that were found, shape `(n_batches, n_classes)`; `nan` where it has none."""
    member = np.eye(n_classes)[true]
    hits = (true == predicted).astype(np.float64)[:, None] * member
    return ratio(weights @ hits, weights @ member)


def positive_condition(conditions: tuple[str, ...]) -> int:
    """Return the index of the condition that counts as positive: the last one that is no control."""
    cases = [k for k, name in enumerate(conditions) if name.casefold().strip() not in CONTROL_WORDS]
    return cases[-1] if cases else len(conditions) - 1


CONTROL_WORDS = frozenset(
    {"control", "controls", "ctrl", "ctl", "healthy", "hc", "hd", "normal", "mock", "reference", "ref", "unstimulated"}
    | {"untreated", "vehicle", "baseline", "wt", "wild type", "wildtype", "none", "negative", "no", "0"}
)
