"""Figures of a whole swarm from counts that its sites publish: nobody's cells, donors or probabilities are needed.

Rules: everything published is an integer that adds up over sites, so the order of sites does not matter and whoever
holds the same counts computes the same figures. Intervals need no donor either: second moments of donors' own counts
add up too, and give the variance of a ratio by the delta method, with donors as units.

References
----------
Cochran 1977, Sampling Techniques, section 6.3 (variance of a ratio over clusters). Newcombe 2006, Statistics in
Medicine 25:559. Zou, Donner 2008, Statistics in Medicine 27:1693 (an interval for a sum of independent figures).
"""

import math
from dataclasses import replace

import numpy as np
from scipy.stats import t as student_t

from swarmcell.metrics import cell
from swarmcell.metrics.arrays import FloatArray, IntArray
from swarmcell.metrics.calibration import expected_calibration_error
from swarmcell.metrics.estimate import Estimate, undefined
from swarmcell.metrics.score_intervals import wilson

SCALE_BITS = 20  # of published sums of probabilities; 2**-20 is far below what a figure shows
BY_DELTA = "delta method over donors, from sums of their counts"
BY_SCORE = "score interval with donors as trials"
ONE_DONOR = "no interval: one held-out donor"


def donor_vectors(confusion: IntArray, merged: IntArray | None = None) -> IntArray:
    """Return each donor's cells, hits and calls per type, then cells and hits of merged types: `(n_donors, 3 K + 2)`.

    Parameters
    ----------
    confusion
        Shape `(n_donors, K, K)`.
    merged
        Cells and hits of the types that are too rare at a site for rows of their own, shape `(n_donors, 2)`.
    """
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    rest = np.zeros((len(confusion), 2), np.int64) if merged is None else merged
    return np.concatenate([confusion.sum(axis=2), hits, confusion.sum(axis=1), rest], axis=1)


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
    confusion: IntArray,
    moments: IntArray | None,
    n_donors: int,
    reliability: FloatArray,
    gaps: IntArray | None = None,
    merged: IntArray | None = None,
    *,
    level: float = 0.95,
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
    gaps
        Sums over donors of `packed_moments` of `gap_vectors`, over all sites; `None` where a site has none.
    merged
        Cells and hits of merged types over all sites, shape `(2,)`: they count in the accuracy alone.
    """
    n_types = len(confusion)
    merged = np.zeros(2, np.int64) if merged is None else merged
    total = donor_vectors(confusion[None], merged[None])[0].astype(np.float64)
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
        if name == "accuracy":
            value = float((np.trace(confusion) + merged[1]) / (confusion.sum() + merged[0]))
        found[name] = _by_delta(value, variance, n_donors, level) if moments is not None else _without(value)
    found["expected_calibration_error"] = _calibration_of_counts(reliability, gaps, n_donors, level)
    return found


def _calibration_of_counts(reliability: FloatArray, gaps: IntArray | None, n_donors: int, level: float) -> Estimate:
    if gaps is None:
        error = float(expected_calibration_error(reliability))
        return Estimate(value=error, note="no interval: a site published no second moments of it")
    return _calibration(reliability, unpacked_moments(gaps, 1 + 2 * len(reliability)), n_donors, level)


def gap_vectors(reliability: FloatArray) -> IntArray:
    """Return each donor's rows, and its confidence and hits per bin, in whole cells.

    Parameters
    ----------
    reliability
        Rows, confidence and hits per donor and bin, shape `(n_donors, n_bins, 3)`.

    Returns
    -------
    Shape `(n_donors, 1 + 2 n_bins)`.
    """
    return np.round(_gaps(reliability)).astype(np.int64)


def _gaps(reliability: FloatArray) -> FloatArray:
    rows = reliability[:, :, 0].sum(axis=1, keepdims=True)
    return np.concatenate([rows, reliability[:, :, 1], reliability[:, :, 2]], axis=1)


def calibration_of_donors(by_donor: FloatArray, *, level: float = 0.95) -> Estimate:
    """Return the calibration error of donors' own sums, shape `(n_donors, n_bins, 3)`, with its interval."""
    vectors = _gaps(by_donor)
    return _calibration(by_donor.sum(axis=0), vectors.T @ vectors, len(by_donor), level)


def allowing_for_few(found: Estimate, sums: FloatArray, n_donors: float) -> Estimate:
    """Return a calibration error of patients whose interval reaches as far up as so few donors leave it open.

    Where a bin's samples are all of the condition, or none is, their own spread is nothing; but three right out of
    three do not show that a probability of 0.99 is right. So the upper end is at least that of Wilson's intervals of
    the bins' shares with donors as trials, joined (Zou, Donner 2008).

    Parameters
    ----------
    sums
        Rows, confidence and hits per bin, shape `(n_bins, 3)`.
    """
    if found.value is None or found.high is None:
        return found
    n, reach = float(sums[:, 0].sum()), 0.0
    for rows, confidence, hits in sums[sums[:, 0] > 0].tolist():
        ends = wilson(hits / rows, rows * n_donors / n, level=found.level)
        farthest = max(abs(confidence / rows - end) for end in ends)
        reach += (rows / n * (farthest - abs(confidence - hits) / rows)) ** 2
    return replace(found, high=min(1.0, max(found.high, found.value + math.sqrt(reach))))


def _calibration(reliability: FloatArray, second: FloatArray, n_donors: int, level: float) -> Estimate:
    """Return the calibration error of sums per bin; `second` are sums over donors of products of their `_gaps`."""
    error = float(expected_calibration_error(reliability))
    if n_donors < 2:
        return Estimate(value=error, note=ONE_DONOR, level=level)
    n_bins, n = len(reliability), reliability[:, 0].sum()
    gap = reliability[:, 1] - reliability[:, 2]
    gradient = np.concatenate([[-error], np.sign(gap), -np.sign(gap)]) / n
    correction = n_donors / (n_donors - 1)
    spread = math.sqrt(max(0.0, correction * float(gradient @ second @ gradient)))
    each = np.concatenate([np.zeros((n_bins, 1)), np.eye(n_bins), -np.eye(n_bins)], axis=1)
    by_bin = np.diagonal(each @ second @ each.T) - gap**2 / n_donors
    return calibration_estimate(error, spread, np.sqrt(np.maximum(0.0, correction * by_bin)) / n, n_donors, level)


def calibration_estimate(error: float, spread: float, by_bin: FloatArray, n_donors: float, level: float) -> Estimate:
    """Return a calibration error with its interval, whose lower end allows for what chance alone adds.

    A mean of absolute gaps is too large by chance: a perfectly calibrated bin of standard deviation `s` shows a gap of
    `s * sqrt(2 / pi)`.

    Parameters
    ----------
    spread
        Standard error of the error, its signs as they are.
    by_bin
        Standard deviation of each bin's share of it, shape `(n_bins,)`.
    """
    half = float(student_t.ppf(0.5 + level / 2, n_donors - 1)) * spread
    chance = float(by_bin.sum()) * math.sqrt(2 / math.pi)
    low, high = max(0.0, error - half - chance), min(1.0, error + half)
    return Estimate(value=error, low=low, high=high, method=BY_DELTA, level=level)


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
    n, hits = total[:n_types].sum() + total[-2], total[n_types : 2 * n_types].sum() + total[-1]
    ones = np.ones(n_types)
    return np.concatenate([-hits / n**2 * ones, ones / n, 0 * ones, [-hits / n**2, 1 / n]])


def _of_balanced(total: FloatArray, n_types: int) -> FloatArray:
    n, hits = total[:n_types], total[n_types : 2 * n_types]
    held = n > 0
    share = held / held.sum()
    safe = np.where(held, n, 1.0)
    return np.concatenate([-share * hits / safe**2, share / safe, np.zeros(n_types + 2)])


def _of_macro_f1(total: FloatArray, n_types: int) -> FloatArray:
    n, hits, calls = np.split(total[: 3 * n_types], 3)
    either = n + calls > 0
    share = either / either.sum()
    safe = np.where(either, n + calls, 1.0)
    by_size = -share * 2 * hits / safe**2
    return np.concatenate([by_size, share * 2 / safe, by_size, np.zeros(2)])


GRADIENTS = {"accuracy": _of_accuracy, "balanced_accuracy": _of_balanced, "macro_f1": _of_macro_f1}
