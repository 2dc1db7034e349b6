"""Bootstrap over donors: weights, intervals, and estimates made of them.

Rules: a resample draws as many donors as there are, with replacement, within strata; a donor brings all its samples
and cells. The same weights serve all models, so differences between models are paired.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t

from swarmcell.metrics.arrays import FloatArray, IntArray
from swarmcell.metrics.estimate import Estimate, undefined

DEFINED_SHARE_MIN = 0.9  # chosen: below it the resamples that remain are a selection, and their spread misleads
BY_BOOTSTRAP = "bootstrap over donors"


@dataclass(frozen=True, eq=False)
class Resamples:
    """Donors drawn with replacement.

    Attributes
    ----------
    weights
        Shape `(1 + n_resamples, n_donors)`: how often each donor was drawn; row 0 is all ones, the data as measured.
    n_strata
        Strata within which donors were drawn.
    """

    weights: IntArray
    n_strata: int

    @property
    def n_donors(self) -> int:
        """Donors resampled."""
        return int(self.weights.shape[1])

    @property
    def freedom(self) -> int:
        """Degrees of freedom: donors less strata."""
        return self.n_donors - self.n_strata

    def per_row(self, donor_of_row: IntArray) -> IntArray:
        """Spread donors' weights over their samples: shape `(1 + n_resamples, n_rows)`."""
        rows: IntArray = self.weights[:, donor_of_row]
        return rows


def draw(strata: Sequence[Hashable], *, n_resamples: int, rng: np.random.Generator) -> Resamples:
    """Draw donors with replacement within their strata.

    Parameters
    ----------
    strata
        The stratum of each donor, length `n_donors`; strata of one donor always bring that donor once.
    n_resamples
        How often to draw.
    """
    names = sorted(set(strata), key=str)
    code = np.array([names.index(stratum) for stratum in strata], dtype=np.int64)
    weights = np.ones((1 + n_resamples, len(code)), dtype=np.int64)
    for index in range(len(names)):
        members = np.flatnonzero(code == index)
        share = np.full(len(members), 1 / len(members))
        weights[1:, members] = rng.multinomial(len(members), share, size=n_resamples)
    return Resamples(weights, len(names))


def percentile_interval(values: FloatArray, *, n_donors: int, freedom: int, level: float = 0.95) -> tuple[float, float]:
    """Return the expanded percentile interval of resampled figures.

    A plain percentile interval is too narrow for few donors, by the factor sqrt((n - 1) / n) and for want of Student's
    t; the expanded one widens the percentiles by both.

    Parameters
    ----------
    values
        Resampled figures, shape `(n_resamples,)`, without `nan`.
    n_donors, freedom
        Donors, and donors less strata (> 0).

    References
    ----------
    Hesterberg 2015, The American Statistician 69:371, section 5.3.
    """
    widened = math.sqrt(n_donors / freedom) * float(student_t.ppf(0.5 + level / 2, freedom))
    tail = float(norm.cdf(-widened))
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def estimate(values: FloatArray, resamples: Resamples, *, reason: str = "", level: float = 0.95) -> Estimate:
    """Return a figure with its interval.

    Parameters
    ----------
    values
        Shape `(1 + n_resamples,)`; entry 0 is the figure on the data as measured. `nan` where undefined.
    reason
        What to say if the figure itself is undefined.
    """
    point = float(values[0])
    if math.isnan(point):
        return undefined(reason or "the held-out donors do not define it")
    problem = _no_interval(values, resamples)
    if problem:
        return Estimate(value=point, note=problem, level=level)
    defined = values[1:][~np.isnan(values[1:])]
    low, high = percentile_interval(defined, n_donors=resamples.n_donors, freedom=resamples.freedom, level=level)
    return Estimate(value=point, low=min(low, point), high=max(high, point), method=BY_BOOTSTRAP, level=level)


def _no_interval(values: FloatArray, resamples: Resamples) -> str:
    if resamples.n_donors < 2:
        return "no interval: one held-out donor"
    if resamples.freedom < 1:
        return "no interval: one held-out donor per group"
    if len(values) < 2:
        return "no interval: no resamples were asked for"
    share = 1 - float(np.isnan(values[1:]).mean())
    if share < DEFINED_SHARE_MIN:
        return f"no interval: defined in only {share:.0%} of the resamples"
    return ""


def has_no_width(found: Estimate) -> bool:
    """Return whether all resamples gave one figure, so that the bootstrap says nothing about its uncertainty."""
    return found.low is not None and found.high is not None and found.high - found.low < 1e-12
