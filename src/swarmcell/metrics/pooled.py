"""Figures of a whole swarm from counts that its sites publish: nobody's cells, donors or probabilities are needed.

Rules: everything published is an integer that adds up over sites, so the order of sites does not matter and whoever
holds the same counts computes the same figures. Intervals need no donor either: second moments of donors' own counts
add up too, and give the variance of a ratio by the delta method, with donors as units.

References
----------
Cochran 1977, Sampling Techniques, section 6.3 (variance of a ratio over clusters). Newcombe 2006, Statistics in
Medicine 25:559. Zou, Donner 2008, Statistics in Medicine 27:1693 (an interval for a mean of independent figures).
"""

import math

import numpy as np
from scipy.stats import t as student_t

from swarmcell.metrics import cell, patient
from swarmcell.metrics.arrays import FloatArray, IntArray
from swarmcell.metrics.calibration import expected_calibration_error
from swarmcell.metrics.estimate import Estimate, undefined
from swarmcell.metrics.score_intervals import newcombe_auroc, wilson

SCALE_BITS = 20  # of published sums of probabilities; 2**-20 is far below what a figure shows
BY_DELTA = "delta method over donors, from sums of their counts"
BY_SCORE = "score interval with donors as trials"
ONE_DONOR = "no interval: one held-out donor"


def donor_vectors(confusion: IntArray) -> IntArray:
    """Return each donor's cells, hits and calls per type, shape `(n_donors, 3 K)`, of matrices `(n_donors, K, K)`."""
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    return np.concatenate([confusion.sum(axis=2), hits, confusion.sum(axis=1)], axis=1)


def packed_moments(vectors: IntArray) -> IntArray:
    """Return the sums over donors of all products of two entries: the upper triangle of `vectors.T @ vectors`."""
    whole = vectors.T @ vectors
    return np.asarray(whole[np.triu_indices(len(whole))], dtype=np.int64)


def unpacked_moments(packed: IntArray, n: int) -> FloatArray:
    """Return the symmetric matrix of `packed_moments`, shape `(n, n)`."""
    whole = np.zeros((n, n))
    whole[np.triu_indices(n)] = packed
    return whole + np.triu(whole, 1).T


def cell_figures(
    confusion: IntArray, moments: IntArray | None, n_donors: int, reliability: FloatArray, *, level: float = 0.95
) -> dict[str, Estimate]:
    """Return the cell task's figures with intervals over donors.

    Parameters
    ----------
    confusion
        Cells by true and predicted type over all sites, shape `(K, K)`.
    moments
        Sums over donors of `packed_moments`, over all sites; `None` where a site has none: then there is no interval.
    n_donors
        Donors behind these sums.
    reliability
        Rows, confidence and hits per bin, shape `(n_bins, 3)`.
    """
    n_types = len(confusion)
    total = donor_vectors(confusion[None])[0].astype(np.float64)
    if not total[:n_types].sum():
        return {name: undefined("no held-out cell of the swarm has a known type") for name in GRADIENTS}
    second = np.zeros((len(total),) * 2) if moments is None else unpacked_moments(moments, len(total))
    covariance = n_donors / max(1, n_donors - 1) * (second - np.outer(total, total) / max(1, n_donors))
    values = {"accuracy": cell.accuracy, "balanced_accuracy": cell.balanced_accuracy, "macro_f1": cell.macro_f1}
    found = {}
    for name, gradient_of in GRADIENTS.items():
        gradient = gradient_of(total, n_types)
        variance = float(gradient @ covariance @ gradient)
        value = float(values[name](confusion))
        found[name] = _by_delta(value, variance, n_donors, level) if moments is not None else _without(value)
    error = float(expected_calibration_error(reliability))
    found["expected_calibration_error"] = Estimate(value=error, note="no interval: sums over donors do not give it")
    return found


def _without(value: float) -> Estimate:
    return Estimate(value=value, note="no interval: a site published no second moments")


def _by_delta(value: float, variance: float, n_donors: int, level: float) -> Estimate:
    if n_donors < 2:
        return Estimate(value=value, note=ONE_DONOR, level=level)
    half = float(student_t.ppf(0.5 + level / 2, n_donors - 1)) * math.sqrt(max(0.0, variance))
    if half < 1e-12:
        low, high = wilson(value, n_donors, level=level)
        return Estimate(value=value, low=low, high=high, method=BY_SCORE, level=level)
    low, high = max(0.0, value - half), min(1.0, value + half)
    return Estimate(value=value, low=low, high=high, method=BY_DELTA, level=level)


def _of_accuracy(total: FloatArray, n_types: int) -> FloatArray:
    n, hits = total[:n_types].sum(), total[n_types : 2 * n_types].sum()
    ones = np.ones(n_types)
    return np.concatenate([-hits / n**2 * ones, ones / n, 0 * ones])


def _of_balanced(total: FloatArray, n_types: int) -> FloatArray:
    n, hits = total[:n_types], total[n_types : 2 * n_types]
    held = n > 0
    share = held / held.sum()
    safe = np.where(held, n, 1.0)
    return np.concatenate([-share * hits / safe**2, share / safe, np.zeros(n_types)])


def _of_macro_f1(total: FloatArray, n_types: int) -> FloatArray:
    n, hits, calls = np.split(total, 3)
    either = n + calls > 0
    share = either / either.sum()
    safe = np.where(either, n + calls, 1.0)
    by_size = -share * 2 * hits / safe**2
    return np.concatenate([by_size, share * 2 / safe, by_size])


GRADIENTS = {"accuracy": _of_accuracy, "balanced_accuracy": _of_balanced, "macro_f1": _of_macro_f1}


def patient_figures(
    scores: IntArray, confusion: IntArray, donors: IntArray, *, positive: int, level: float = 0.95
) -> dict[str, Estimate]:
    """Return the patient task's figures.

    Parameters
    ----------
    scores
        Samples by true condition, condition and bin of its probability, shape `(K, K, n_bins)`.
    confusion
        Samples by true and predicted condition, shape `(K, K)`.
    donors
        Donors per condition, shape `(K,)`.
    positive
        The condition that counts as positive where there are two.
    """
    held = np.flatnonzero(confusion.sum(axis=1))
    if len(held) < 2:
        reason = "the held-out samples of the swarm are of fewer than two conditions"
        return {name: undefined(reason) for name in ("auroc", "balanced_accuracy")}
    shown = [positive] if len(confusion) == 2 else held.tolist()
    areas = [_area(scores, int(k), donors, level) for k in shown]
    recalls = []
    for k in held:
        share = float(confusion[k, k] / confusion[k].sum())
        low, high = wilson(share, float(donors[k]), level=level)
        recalls.append(Estimate(value=share, low=low, high=high, method=BY_SCORE, level=level))
    return {"auroc": _mean(areas, level), "balanced_accuracy": _mean(recalls, level)}


def _area(scores: IntArray, k: int, donors: IntArray, level: float) -> Estimate:
    n_classes, _, n_bins = scores.shape
    positive = np.repeat(np.arange(n_classes) == k, n_bins)
    bins = np.tile(np.arange(n_bins, dtype=np.float64), n_classes)
    value = float(patient.auroc(positive, bins, scores[:, k, :].reshape(1, -1))[0])
    others = int(donors.sum() - donors[k])
    low, high = newcombe_auroc(value, max(1, int(donors[k])), max(1, others), level=level)
    return Estimate(value=value, low=low, high=high, method=BY_SCORE, level=level)


def _mean(parts: list[Estimate], level: float) -> Estimate:
    """Return the mean of independent figures, its interval by recovering variances from theirs (Zou, Donner 2008)."""
    values = [part.value or 0.0 for part in parts]
    mean = sum(values) / len(values)
    below = math.sqrt(sum((v - (p.low or 0.0)) ** 2 for v, p in zip(values, parts, strict=True))) / len(parts)
    above = math.sqrt(sum(((p.high or 1.0) - v) ** 2 for v, p in zip(values, parts, strict=True))) / len(parts)
    return Estimate(value=mean, low=max(0.0, mean - below), high=min(1.0, mean + above), method=BY_SCORE, level=level)
