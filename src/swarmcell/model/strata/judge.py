"""How many strata there are, if any: found again when donors are drawn anew, and tighter than samples without strata.

Rules: three tests, all needed. *Stable*: every stratum comes back (mean Jaccard index at least `STABLE`) when a fifth
of the donors is left out. *Tighter than chance*: the samples' sum of squares within strata is smaller than that of
all null twins, which are normal samples of the same variances along the same components. *More than a split*: of more
than two strata, k tighten what k - 1 leave by more than they do in twins drawn normally about the centres of k - 1.
Without it the two halves of a large stratum are taken for two. The largest number of strata that passes is taken.
Everything follows from exact counts and sums.

References
----------
Hennig 2007, Comput Stat Data Anal 52:258 (a stratum's Jaccard index over resamples; 0.75 is called stable). Liu et al.
2008, J Am Stat Assoc 103:1281 (the cluster index against normal samples). John et al. 2020, Sci Rep 10:1816. McLachlan
1987, J R Stat Soc C 36:318 (k against k - 1 components by samples drawn from the fit of k - 1).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swarmcell.model.fixed import Integers

STABLE = 0.75  # Hennig 2007
P_MAX = 0.05
K_MIN = 2
DONORS_MIN = 3  # of a stratum; chosen: fewer are a family, not a stratum


@dataclass(frozen=True)
class Verdict:
    """What was found about one number of strata.

    Attributes
    ----------
    stability
        Mean Jaccard index of each stratum, by size of the stratum as the model numbers them.
    within
        Share of all squares that stays within strata.
    within_null
        The same of each null twin.
    p_value
        Share of null twins that are at least as tight, the samples themselves counted.
    n_donors
        Donors with a sample in each stratum.
    """

    k: int
    stability: tuple[float, ...]
    agreement: float
    within: float
    within_null: tuple[float, ...]
    p_value: float
    n_donors: tuple[int, ...]

    @property
    def least_stable(self) -> float:
        """Stability of the stratum that comes back worst."""
        return min(self.stability)

    def passes(self, donors_min: int) -> bool:
        """Whether all strata are stable, large enough, and tighter than chance."""
        return self.least_stable >= STABLE and self.p_value <= P_MAX and min(self.n_donors) >= donors_min


def verdict(
    k: int, tables: Sequence[Integers], within: float, within_null: Sequence[float], n_donors: Sequence[int]
) -> Verdict:
    """Judge one number of strata.

    Parameters
    ----------
    tables
        Per resample, shape `(k, k)`: samples by stratum and by the stratum that the resample's centres give them.
    """
    jaccards = [jaccard(table) for table in tables]
    stability = tuple(math.fsum(row[i] for row in jaccards) / len(jaccards) for i in range(k))
    agreement = math.fsum(adjusted_rand(table) for table in tables) / len(tables)
    at_least = sum(other <= within for other in within_null)
    p_value = (1 + at_least) / (1 + len(within_null))
    return Verdict(k, stability, agreement, within, tuple(within_null), p_value, tuple(map(int, n_donors)))


def jaccard(table: Integers) -> list[float]:
    """Return each stratum's best Jaccard index among the strata of a resample."""
    rows, columns = table.sum(axis=1).tolist(), table.sum(axis=0).tolist()
    cells = table.tolist()
    return [
        max(cells[i][j] / max(rows[i] + columns[j] - cells[i][j], 1) for j in range(len(columns)))
        for i in range(len(rows))
    ]


def adjusted_rand(table: Integers) -> float:
    """Return the adjusted Rand index of two partitions from their table of counts; 1 where both are trivial.

    References
    ----------
    Hubert, Arabie 1985, J Classif 2:193.
    """

    def pairs(counts: npt.NDArray[np.int64]) -> int:
        return sum(int(n) * (int(n) - 1) // 2 for n in counts.ravel())

    both, first, second = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    every = max(pairs(np.array([table.sum()])), 1)
    expected, highest = first * second / every, (first + second) / 2
    return 1.0 if highest == expected else float((both - expected) / (highest - expected))


def overall_p(verdicts: Mapping[int, Verdict]) -> float:
    """Return the p value of any structure at all: the best number of strata against the best of each null twin."""
    found, nulls = [], []
    for one in verdicts.values():
        n = len(one.within_null)
        mean = math.fsum(one.within_null) / n
        spread = math.sqrt(math.fsum((v - mean) * (v - mean) for v in one.within_null) / max(n - 1, 1)) or 1.0
        found.append((mean - one.within) / spread)
        nulls.append([(mean - v) / spread for v in one.within_null])
    best = max(found)
    at_least = sum(max(column) >= best for column in zip(*nulls, strict=True))
    return float((1 + at_least) / (1 + len(nulls[0])))


def split_p(found: float, twins: Sequence[float]) -> float:
    """Return the share of twins in which k strata leave at most as large a share of what k - 1 left."""
    return (1 + sum(twin <= found for twin in twins)) / (1 + len(twins))


def candidates(verdicts: Mapping[int, Verdict], *, donors_min: int) -> list[int]:
    """Return the numbers of strata that are stable, large enough and tighter than chance, ascending."""
    if not verdicts or overall_p(verdicts) > P_MAX:
        return []
    return [k for k, one in sorted(verdicts.items()) if one.passes(donors_min)]


def choose(verdicts: Mapping[int, Verdict], splits: Mapping[int, float], *, donors_min: int) -> int:
    """Return the largest number of strata that passes, or 0: no stable strata.

    Parameters
    ----------
    splits
        p value of each candidate of more than two strata (`split_p`).
    """
    found = candidates(verdicts, donors_min=donors_min)
    return max((k for k in found if k == K_MIN or splits[k] <= P_MAX), default=0)


def why_not(verdicts: Mapping[int, Verdict], splits: Mapping[int, float], *, donors_min: int) -> str:
    """Say in words why there are no strata."""
    p = overall_p(verdicts)
    if p > P_MAX:
        return f"the samples are no tighter in any number of strata than samples without strata (p = {p:.2g})"
    best = max(verdicts.values(), key=lambda one: one.least_stable)
    if best.least_stable < STABLE:
        return (
            f"no number of strata comes back when donors are drawn anew (at best {best.k} strata, whose least stable "
            f"has a mean Jaccard index of {best.least_stable:.2f}; {STABLE} is called stable)"
        )
    missed = [_miss(one, splits, donors_min) for one in verdicts.values() if one.least_stable >= STABLE]
    return "; ".join(missed)


def _miss(one: Verdict, splits: Mapping[int, float], donors_min: int) -> str:
    if one.k in splits:
        return f"{one.k} strata come back, but may be a chance split of {one.k - 1} (p = {splits[one.k]:.2g})"
    if one.p_value > P_MAX:
        return f"{one.k} strata come back, but are no tighter than chance (p = {one.p_value:.2g})"
    return f"{one.k} strata come back, but one has fewer than {donors_min} donors"
