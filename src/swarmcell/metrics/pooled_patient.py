"""Figures of a swarm's patients from histograms of probabilities with fixed edges, one per condition.

Rules: a figure is that of the binned probabilities (a bin stands for its middle); how far it can be from the figure of
the exact ones follows from the histogram, and the interval reaches so much further on each side. Trials are donors, not
samples: a donor's samples are not independent.

References
----------
Newcombe 2006, Statistics in Medicine 25:559 (AUROC). Boyd, Eng, Page 2013, doi 10.1007/978-3-642-40994-3_29 (AUPRC: a
binomial interval with the positives as trials). Zou, Donner 2008, Statistics in Medicine 27:1693 (an interval for a
mean of independent figures).
"""

import math
from dataclasses import replace

import numpy as np
from scipy.stats import t as student_t

from swarmcell.metrics import patient
from swarmcell.metrics.arrays import FloatArray, IntArray
from swarmcell.metrics.calibration import N_BINS, expected_calibration_error
from swarmcell.metrics.estimate import Estimate, undefined
from swarmcell.metrics.pooled import BY_DELTA, BY_SCORE, ONE_DONOR, calibration_estimate
from swarmcell.metrics.score_intervals import newcombe_auroc, wilson

BINNED = "of {n} bins: the exact figure is between {low:.3f} and {high:.3f}, and the interval allows for it"
OF_TWO = ("auroc", "auprc", "balanced_accuracy")


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
    found = {"brier": _brier(scores, donors, level)} if len(held) else {}
    if len(confusion) == 2 and len(held):
        found["expected_calibration_error"] = _calibration(scores[:, positive], positive, donors, level)
    if len(held) < 2:
        reason = "the held-out samples of the swarm are of fewer than two conditions"
        return {name: undefined(reason) for name in OF_TWO} | found
    shown = [positive] if len(confusion) == 2 else held.tolist()
    recalls = []
    for k in held:
        share = float(confusion[k, k] / confusion[k].sum())
        recalls.append(_scored(share, wilson(share, float(donors[k]), level=level), level))
    return {
        "auroc": _mean([_area(scores[:, k], int(k), donors, level) for k in shown], level),
        "auprc": _mean([_precision(scores[:, k], int(k), donors, level) for k in shown], level),
        "balanced_accuracy": _mean(recalls, level),
    } | found


def _scored(value: float, ends: tuple[float, float], level: float) -> Estimate:
    return Estimate(value=value, low=ends[0], high=ends[1], method=BY_SCORE, level=level)


def _allowing(found: Estimate, bounds: tuple[float, float], n_bins: int) -> Estimate:
    """Return a figure whose interval reaches as much further as the exact figure may be away."""
    value, low, high = (0.0 if v is None else v for v in (found.value, found.low, found.high))
    reach_low, reach_high = max(0.0, value - bounds[0]), max(0.0, bounds[1] - value)
    note = BINNED.format(n=n_bins, low=bounds[0], high=bounds[1])
    if not found.has_interval:
        return replace(found, note=f"{found.note}; {note}")
    return replace(found, low=max(0.0, low - reach_low), high=min(1.0, high + reach_high), note=note)


def _split(histogram: IntArray, k: int) -> tuple[IntArray, IntArray]:
    """Return the samples of condition `k`, and of all others, per bin."""
    return histogram[k], np.delete(histogram, k, axis=0).sum(axis=0)


def _area(histogram: IntArray, k: int, donors: IntArray, level: float) -> Estimate:
    hits, misses = _split(histogram, k)
    value = float(patient.auroc(*_listed(hits, misses))[0])
    others = int(donors.sum() - donors[k])
    found = _scored(value, newcombe_auroc(value, max(1, int(donors[k])), max(1, others), level=level), level)
    tied = float((hits * misses).sum() / (hits.sum() * misses.sum()) / 2)
    return _allowing(found, (value - tied, value + tied), len(hits))


def _precision(histogram: IntArray, k: int, donors: IntArray, level: float) -> Estimate:
    hits, misses = _split(histogram, k)
    value = float(patient.auprc(*_listed(hits, misses))[0])
    found = _scored(value, wilson(value, max(1, int(donors[k])), level=level), level)
    ends = [_ordered_precision(hits, misses, hits_first=first) for first in (False, True)]
    return _allowing(found, (ends[0], ends[1]), len(hits))


def _listed(
    hits: IntArray, misses: IntArray
) -> tuple[np.ndarray[tuple[int], np.dtype[np.bool_]], FloatArray, IntArray]:
    """Return what `metrics.patient` takes: two rows per bin, weighted."""
    n_bins = len(hits)
    positive = np.repeat([True, False], n_bins)
    return positive, np.tile(np.arange(n_bins, dtype=np.float64), 2), np.concatenate([hits, misses])[None]


def _ordered_precision(hits: IntArray, misses: IntArray, *, hits_first: bool) -> float:
    """Return the average precision if all positives of each bin stood before its negatives, or after."""
    total, seen, called = 0.0, 0, 0
    for n_hits, n_misses in zip(hits[::-1].tolist(), misses[::-1].tolist(), strict=True):
        before = called + (0 if hits_first else n_misses)
        rank = np.arange(1, n_hits + 1)
        total += float(((seen + rank) / (before + rank)).sum())
        seen, called = seen + n_hits, called + n_hits + n_misses
    return total / seen


def _brier(scores: IntArray, donors: IntArray, level: float) -> Estimate:
    """Return the Brier score; its spread is bounded by that of its parts, one per condition."""
    n_classes, _, n_bins = scores.shape
    n, n_donors = int(scores[:, 0].sum()), float(donors.sum())
    parts = [0] if n_classes == 2 else list(range(n_classes))  # with two conditions the halves are equal
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    value, spread, low, high = 0.0, 0.0, 0.0, 0.0
    for k in parts:
        weights = np.concatenate(_split(scores[:, k], k))
        middle, near, far = _squares(edges)
        mean = float(weights @ middle) / n
        value, low, high = value + mean, low + float(weights @ near) / n, high + float(weights @ far) / n
        spread += math.sqrt(max(0.0, float(weights @ middle**2) / n - mean**2))
    if n_donors < 2:
        return _allowing(Estimate(value=value, note=ONE_DONOR, level=level), (low, high), n_bins)
    half = float(student_t.ppf(0.5 + level / 2, n_donors - 1)) * spread / math.sqrt(n_donors - 1)
    found = Estimate(value=value, low=max(0.0, value - half), high=value + half, method=BY_DELTA, level=level)
    return _allowing(found, (low, high), n_bins)


def _squares(edges: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return squared distances of a bin's middle, nearest and farthest probability from 1, then from 0."""
    left, right = edges[:-1], edges[1:]
    middle = (left + right) / 2
    return tuple(  # type: ignore[return-value]
        np.concatenate([(1 - to_one) ** 2, to_zero**2])
        for to_one, to_zero in ((middle, middle), (right, left), (left, right))
    )


def _calibration(histogram: IntArray, k: int, donors: IntArray, level: float) -> Estimate:
    """Return the calibration error of one condition's probability, in the coarse bins of `metrics.calibration`."""
    hits, misses = _split(histogram, k)
    n_bins = len(hits)
    middle = (np.arange(n_bins) + 0.5) / n_bins
    rows = hits + misses
    fine = np.stack([rows, rows * middle, hits], axis=1).astype(np.float64)
    sums = fine.reshape(N_BINS, n_bins // N_BINS, 3).sum(axis=1)
    error, n, n_donors = float(expected_calibration_error(sums)), float(rows.sum()), float(donors.sum())
    width = 0.5 / n_bins
    if n_donors < 2:
        return _allowing(Estimate(value=error, note=ONE_DONOR, level=level), (error - width, error + width), n_bins)
    sign = np.repeat(np.sign(sums[:, 1] - sums[:, 2]), n_bins // N_BINS)
    each = np.concatenate([sign * (middle - 1), sign * middle])
    weights = np.concatenate([hits, misses])
    variance = max(0.0, float(weights @ each**2) / n - (float(weights @ each) / n) ** 2)
    share = np.divide(sums[:, 1], sums[:, 0], out=np.zeros(N_BINS), where=sums[:, 0] > 0)
    by_bin = np.sqrt(sums[:, 0] / n * share * (1 - share) / n_donors)
    found = calibration_estimate(error, math.sqrt(variance / (n_donors - 1)), by_bin, n_donors, level)
    return _allowing(found, (max(0.0, error - width), error + width), n_bins)


def _mean(parts: list[Estimate], level: float) -> Estimate:
    """Return the mean of independent figures, its interval by recovering variances from theirs (Zou, Donner 2008)."""
    if len(parts) == 1:
        return parts[0]
    values = [part.value or 0.0 for part in parts]
    mean = sum(values) / len(values)
    below = math.sqrt(sum((v - (p.low or 0.0)) ** 2 for v, p in zip(values, parts, strict=True))) / len(parts)
    above = math.sqrt(sum(((p.high or 1.0) - v) ** 2 for v, p in zip(values, parts, strict=True))) / len(parts)
    return Estimate(value=mean, low=max(0.0, mean - below), high=min(1.0, mean + above), method=BY_SCORE, level=level)
