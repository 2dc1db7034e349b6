"""Figures of a swarm's patients from histograms of probabilities with fixed edges, one per condition.

Rules: a figure is that of the binned probabilities (a bin stands for its middle); how far it can be from the figure of
the exact ones follows from the histograms, and the interval reaches so much further on each side. Where sites merge
neighbours until each holds some donors, ranks tie within wide bins. That hides skill, so the interval of a figure of
ranks reaches up as far as the exact one can be, and its lower end supposes that within a bin the model is no worse than
guessing; the Brier score's is that of the figure as binned. Trials are donors, not samples: a donor's samples are not
independent.

References
----------
Newcombe 2006, Statistics in Medicine 25:559 (AUROC). Boyd, Eng, Page 2013, doi 10.1007/978-3-642-40994-3_29 (AUPRC: a
binomial interval with the positives as trials). Zou, Donner 2008, Statistics in Medicine 27:1693 (an interval for a
mean of independent figures).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t as student_t

from swarmcell.metrics import patient
from swarmcell.metrics.arrays import BoolArray, FloatArray, IntArray
from swarmcell.metrics.calibration import N_BINS, expected_calibration_error
from swarmcell.metrics.estimate import Estimate, undefined
from swarmcell.metrics.pooled import BY_DELTA, BY_SCORE, ONE_DONOR, allowing_for_few, calibration_estimate
from swarmcell.metrics.score_intervals import newcombe_auroc, wilson

ALLOWED = "of bins of {width:g}: the exact figure is between {low:.3f} and {high:.3f}, and the interval allows for it"
TIES = "within which ranks tie"
HIDDEN = (
    f"of bins that hold {{least}} donors or more at each site, {TIES}: that hides skill. By these counts "
    "the exact figure is between {low:.3f} and {high:.3f}; the interval supposes no less than guessing within a bin"
)
TOLD = (
    "of bins that hold {least} donors or more at each site: by these counts the exact figure is between {low:.3f} and "
    "{high:.3f}; the interval is that of the figure from bins"
)
OF_TWO = ("auroc", "auprc", "balanced_accuracy", patient.SENSITIVITY)


@dataclass(frozen=True, eq=False)
class _Binned:
    """Samples by the bins that their probability of one condition may lie in.

    Attributes
    ----------
    hits, misses
        Samples of the condition, and of all others, per entry.
    at, low, high
        The bin that stands for an entry, and the first and the last one that its samples can be of.
    n_bins, least
        Bins from 0 to 1; donors that a site's bin holds at least (1: nothing was merged).
    """

    hits: IntArray
    misses: IntArray
    at: IntArray
    low: IntArray
    high: IntArray
    n_bins: int
    least: int

    @property
    def weights(self) -> IntArray:
        """Samples of the condition, then of all others."""
        return np.concatenate([self.hits, self.misses])


def _binned(by_site: Sequence[IntArray], k: int, least: int) -> _Binned:
    """Return what sites' histograms say of the probability of condition `k`."""
    parts = []
    n_bins = by_site[0].shape[2]
    for scores in by_site:
        histogram = scores[:, k]
        at = np.flatnonzero(histogram.sum(axis=0))
        low, high = at, at
        if least > 1:  # groups are neighbours, so one ends before the next begins
            low = np.concatenate([[0], at[:-1] + 1])[: len(at)]
            high = np.concatenate([at[1:] - 1, [n_bins - 1]])[: len(at)]
        parts.append((histogram[k, at], np.delete(histogram, k, axis=0).sum(axis=0)[at], at, low, high))
    hits, misses, at, low, high = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Binned(hits=hits, misses=misses, at=at, low=low, high=high, n_bins=n_bins, least=least)


def patient_figures(
    by_site: Sequence[IntArray],
    confusion: IntArray,
    donors: IntArray,
    *,
    positive: int,
    least: int = 1,
    level: float = 0.95,
) -> dict[str, Estimate]:
    """Return the patient task's figures.

    Parameters
    ----------
    by_site
        Each site's samples by true condition, condition and bin of its probability, shape `(K, K, n_bins)`.
    confusion
        Samples by true and predicted condition, shape `(K, K)`.
    donors
        Donors per condition, shape `(K,)`.
    positive
        The condition that counts as positive where there are two.
    least
        Donors until which a site merges a bin into its neighbours.
    """
    of = [_binned(by_site, k, least) for k in range(len(confusion))]
    held = np.flatnonzero(confusion.sum(axis=1))
    found = {"brier": _brier(of, donors, level)} if len(held) else {}
    if len(confusion) == 2 and len(held):
        found["expected_calibration_error"] = _calibration(of[positive], donors, level)
    if len(held) < 2:
        reason = "the held-out samples of the swarm are of fewer than two conditions"
        return {name: undefined(reason) for name in OF_TWO} | found
    shown = [positive] if len(confusion) == 2 else held.tolist()
    return {
        "auroc": _mean([_area(of[k], int(k), donors, level) for k in shown], level),
        "auprc": _mean([_precision(of[k], int(k), donors, level) for k in shown], level),
        "balanced_accuracy": balanced_accuracy(confusion, donors, level=level),
        patient.SENSITIVITY: _mean([_sensitivity(of[k], int(k), donors, level) for k in shown], level),
    } | found


def balanced_accuracy(confusion: IntArray, donors: IntArray, *, level: float = 0.95) -> Estimate:
    """Return the mean recall over the conditions that are held, with donors as trials (Zou, Donner 2008).

    Parameters
    ----------
    confusion
        Samples by true and predicted condition, shape `(K, K)`, some of them > 0.
    donors
        Donors per condition, shape `(K,)`.
    """
    recalls = []
    for k in np.flatnonzero(confusion.sum(axis=1)):
        share = float(confusion[k, k] / confusion[k].sum())
        recalls.append(_scored(share, wilson(share, float(donors[k]), level=level), level))
    return _mean(recalls, level)


def _scored(value: float, ends: tuple[float, float], level: float) -> Estimate:
    return Estimate(value=value, low=ends[0], high=ends[1], method=BY_SCORE, level=level)


def _with_bounds(found: Estimate, bounds: tuple[float, float], binned: _Binned, *, merged: str = HIDDEN) -> Estimate:
    """Return a figure whose interval reaches further as the exact figure may be away, and says so; see the rules."""
    value, low, high = (0.0 if v is None else v for v in (found.value, found.low, found.high))
    text = ALLOWED if binned.least == 1 else merged
    note = text.format(width=1 / binned.n_bins, least=binned.least, low=bounds[0], high=bounds[1])
    if not found.has_interval:
        return replace(found, note=f"{found.note}; {note}")
    reach_low = max(0.0, value - bounds[0]) if text is ALLOWED else 0.0
    reach_high = max(0.0, bounds[1] - value) if text is not TOLD else 0.0
    return replace(found, low=max(0.0, low - reach_low), high=min(1.0, high + reach_high), note=note)


def _area(binned: _Binned, k: int, donors: IntArray, level: float) -> Estimate:
    value = float(patient.auroc(*_listed(binned))[0])
    others = int(donors.sum() - donors[k])
    found = _scored(value, newcombe_auroc(value, max(1, int(donors[k])), max(1, others), level=level), level)
    pairs = np.outer(binned.hits, binned.misses)
    surely, maybe = binned.low[:, None] > binned.high, binned.high[:, None] >= binned.low
    ends = [float((pairs * which).sum() / pairs.sum()) for which in (surely, maybe)]
    return _with_bounds(found, (ends[0], ends[1]), binned)


def _precision(binned: _Binned, k: int, donors: IntArray, level: float) -> Estimate:
    value = float(patient.auprc(*_listed(binned))[0])
    found = _scored(value, wilson(value, max(1, int(donors[k])), level=level), level)
    worst = _ordered_precision(binned, binned.low, binned.high, hits_first=False)
    best = _ordered_precision(binned, binned.high, binned.low, hits_first=True)
    return _with_bounds(found, (worst, best), binned)


def _sensitivity(binned: _Binned, k: int, donors: IntArray, level: float) -> Estimate:
    """Return the sensitivity at a fixed specificity.

    Two things are uncertain: the share of ill donors that is found, and where the threshold lies, for the others are
    few. The second is judged by the sensitivities at both ends of the share of others that it lets through.
    """
    false_rate, n_others = 1 - patient.SPECIFICITY, max(1, int(donors.sum() - donors[k]))
    listed = _listed(binned)
    value = float(patient.sensitivity_at(*listed, specificity=patient.SPECIFICITY)[0])
    low, high = wilson(value, max(1, int(donors[k])), level=level)
    at = [
        float(patient.sensitivity_at(*listed, specificity=1 - rate)[0])
        for rate in wilson(false_rate, n_others, level=level)
    ]
    below, above = math.hypot(value - low, value - at[0]), math.hypot(high - value, at[1] - value)
    found = _scored(value, (max(0.0, value - below), min(1.0, value + above)), level)
    worst = _ordered_sensitivity(binned, binned.low, binned.high, hits_first=False)
    best = _ordered_sensitivity(binned, binned.high, binned.low, hits_first=True)
    return _with_bounds(found, (worst, best), binned)


def _listed(binned: _Binned) -> tuple[BoolArray, FloatArray, IntArray]:
    """Return what `metrics.patient` takes: two rows per entry, weighted."""
    positive = np.repeat([True, False], len(binned.at))
    return positive, np.tile(binned.at.astype(np.float64), 2), binned.weights[None]


def _ordered_precision(binned: _Binned, of_hits: IntArray, of_misses: IntArray, *, hits_first: bool) -> float:
    """Return the average precision of samples in these bins, the positives of a bin before or after the others."""
    total, seen, called = 0.0, 0, 0
    for n_hits, n_misses in _from_the_top(binned, of_hits, of_misses):
        before = called + (0 if hits_first else n_misses)
        rank = np.arange(1, n_hits + 1)
        total += float(((seen + rank) / (before + rank)).sum())
        seen, called = seen + n_hits, called + n_hits + n_misses
    return total / seen


def _from_the_top(binned: _Binned, of_hits: IntArray, of_misses: IntArray) -> list[tuple[int, int]]:
    """Return samples of the condition, and all others, bin by bin from the highest, where these bins hold them."""
    counts = [np.bincount(at, n, binned.n_bins) for at, n in ((of_hits, binned.hits), (of_misses, binned.misses))]
    return [(round(n_hits), round(n_misses)) for n_hits, n_misses in np.stack(counts, axis=1)[::-1].tolist()]


def _ordered_sensitivity(binned: _Binned, of_hits: IntArray, of_misses: IntArray, *, hits_first: bool) -> float:
    """Return the sensitivity of samples in these bins, the positives of a bin before or after the others."""
    allowed = (1 - patient.SPECIFICITY) * float(binned.misses.sum()) + 1e-9
    found, called = 0, 0
    for n_hits, n_misses in _from_the_top(binned, of_hits, of_misses):
        found += n_hits if called + (0 if hits_first else n_misses) <= allowed else 0
        called += n_misses
    return found / float(binned.hits.sum())


def _brier(of: Sequence[_Binned], donors: IntArray, level: float) -> Estimate:
    """Return the Brier score; its spread is bounded by that of its parts, one per condition."""
    parts = of[:1] if len(of) == 2 else of  # with two conditions the halves are equal
    n, n_donors = int(of[0].weights.sum()), float(donors.sum())
    value, spread, low, high = 0.0, 0.0, 0.0, 0.0
    for binned in parts:
        middle, near, far = _squares(binned)
        mean = float(binned.weights @ middle) / n
        value, low, high = value + mean, low + float(binned.weights @ near) / n, high + float(binned.weights @ far) / n
        spread += math.sqrt(max(0.0, float(binned.weights @ middle**2) / n - mean**2))
    if n_donors < 2:
        return _with_bounds(Estimate(value=value, note=ONE_DONOR, level=level), (low, high), of[0], merged=TOLD)
    half = float(student_t.ppf(0.5 + level / 2, n_donors - 1)) * spread / math.sqrt(n_donors - 1)
    found = Estimate(value=value, low=max(0.0, value - half), high=value + half, method=BY_DELTA, level=level)
    return _with_bounds(found, (low, high), of[0], merged=TOLD)


def _squares(binned: _Binned) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return squared distances from 1, then from 0, of the middle, the nearest and the farthest probability."""
    left, right = binned.low / binned.n_bins, (binned.high + 1) / binned.n_bins
    middle = (binned.at + 0.5) / binned.n_bins
    ends = ((middle, middle), (right, left), (left, right))
    found = [np.concatenate([(1 - to_one) ** 2, to_zero**2]) for to_one, to_zero in ends]
    return found[0], found[1], found[2]


def _calibration(binned: _Binned, donors: IntArray, level: float) -> Estimate:
    """Return the calibration error of one condition's probability, in the coarse bins of `metrics.calibration`."""
    middle, coarse = (binned.at + 0.5) / binned.n_bins, binned.at * N_BINS // binned.n_bins
    rows = binned.hits + binned.misses
    weights = (rows, rows * middle, binned.hits)
    sums = np.stack([np.bincount(coarse, w, N_BINS) for w in weights], axis=1).astype(np.float64)
    error, n, n_donors = float(expected_calibration_error(sums)), float(rows.sum()), float(donors.sum())
    bounds = (max(0.0, error - 0.5 / binned.n_bins), error + 0.5 / binned.n_bins)
    if n_donors < 2:
        return _bounded_error(Estimate(value=error, note=ONE_DONOR, level=level), bounds, binned)
    sign = np.sign(sums[:, 1] - sums[:, 2])[coarse]
    each = np.concatenate([sign * (middle - 1), sign * middle])
    variance = max(0.0, float(binned.weights @ each**2) / n - (float(binned.weights @ each) / n) ** 2)
    share = np.divide(sums[:, 1], sums[:, 0], out=np.zeros(N_BINS), where=sums[:, 0] > 0)
    by_bin = np.sqrt(sums[:, 0] / n * share * (1 - share) / n_donors)
    found = calibration_estimate(error, math.sqrt(variance / (n_donors - 1)), by_bin, n_donors, level)
    found = allowing_for_few(found, sums, n_donors)
    return _bounded_error(found, bounds, binned)


def _bounded_error(found: Estimate, bounds: tuple[float, float], binned: _Binned) -> Estimate:
    if binned.least == 1:
        return _with_bounds(found, bounds, binned)
    note = f"no interval: of bins that hold {binned.least} donors or more at each site; the exact figure can be larger"
    return Estimate(value=found.value, note=note, level=found.level)


def _mean(parts: list[Estimate], level: float) -> Estimate:
    """Return the mean of independent figures, its interval by recovering variances from theirs (Zou, Donner 2008)."""
    if len(parts) == 1:
        return parts[0]
    values = [part.value or 0.0 for part in parts]
    mean = sum(values) / len(values)
    below = math.sqrt(sum((v - (p.low or 0.0)) ** 2 for v, p in zip(values, parts, strict=True))) / len(parts)
    above = math.sqrt(sum(((p.high or 1.0) - v) ** 2 for v, p in zip(values, parts, strict=True))) / len(parts)
    return Estimate(value=mean, low=max(0.0, mean - below), high=min(1.0, mean + above), method=BY_SCORE, level=level)
