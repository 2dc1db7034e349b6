"""Is it better than chance? Labels are exchanged as the study's design allows, and the figure computed again.

Rules: conditions are exchanged between donors that have one condition each, and within donors that have several;
cells' types are exchanged within each donor. p counts the arrangement as measured, so it is never 0.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import factorial, prod

import numpy as np
from scipy.stats import random_table

from swarmcell.metrics import cell
from swarmcell.metrics.arrays import IntArray

TOLERANCE = 1e-12  # figures closer than this are equal: sums in another order differ by less


@dataclass(frozen=True, kw_only=True)
class ChanceTest:
    """A permutation test of one figure against chance (one-sided: larger is better).

    Attributes
    ----------
    p_value
        Share of arrangements that do at least as well.
    smallest_p_value
        The smallest p that this number of donors can give at all.
    n_arrangements
        Arrangements tried.
    exact
        All possible arrangements were tried, each once.
    """

    p_value: float
    smallest_p_value: float
    n_arrangements: int
    exact: bool


@dataclass(frozen=True, eq=False)
class _Group:
    """Units whose labels may be exchanged: `members[u]` are the samples of unit `u`."""

    labels: tuple[int, ...]
    members: tuple[IntArray, ...]

    @property
    def n_arrangements(self) -> int:
        return factorial(len(self.labels)) // prod(factorial(n) for n in Counter(self.labels).values())


def conditions_test(
    figure: Callable[[IntArray], float],
    true: IntArray,
    donor_of_sample: IntArray,
    *,
    n_permutations: int,
    rng: np.random.Generator,
) -> ChanceTest | None:
    """Test a figure of the patient task against exchanged conditions.

    Parameters
    ----------
    figure
        Computes the figure from condition indices `(n_samples,)`; larger is better.
    true, donor_of_sample
        Condition and donor index per sample, shape `(n_samples,)`.

    Returns
    -------
    `None` if the donors allow one arrangement only (one condition, or one donor with one sample).
    """
    groups = _exchangeable(true, donor_of_sample)
    n_possible = prod(group.n_arrangements for group in groups)
    if n_possible < 2:
        return None
    exact = n_possible <= n_permutations
    drawn = _every(groups, true) if exact else _random(groups, true, n_permutations, rng)
    measured = figure(true)
    at_least = sum(figure(arrangement) >= measured - TOLERANCE for arrangement in drawn)
    if exact:
        return ChanceTest(
            p_value=at_least / n_possible, smallest_p_value=1 / n_possible, n_arrangements=n_possible, exact=True
        )
    return _counted(at_least, n_permutations)


def cells_test(
    per_donor: IntArray, *, n_permutations: int, rng: np.random.Generator, figure: str = "balanced_accuracy"
) -> ChanceTest:
    """Test a figure of the cell task against cell types exchanged within donors.

    A donor's matrix under exchange is a random table with the margins of its own.

    Parameters
    ----------
    per_donor
        Confusion matrices, shape `(n_donors, K, K)`.
    figure
        Name of a function of `metrics.cell`.
    """
    compute = getattr(cell, figure)
    exchanged = np.zeros((n_permutations, *per_donor.shape[1:]), dtype=np.int64)
    for counts in per_donor:
        exchanged += _random_tables(counts, n_permutations, rng)
    measured = float(compute(per_donor.sum(axis=0)))
    return _counted(int((compute(exchanged) >= measured - TOLERANCE).sum()), n_permutations)


def _random_tables(counts: IntArray, n_tables: int, rng: np.random.Generator) -> IntArray:
    rows, columns = np.flatnonzero(counts.sum(axis=1)), np.flatnonzero(counts.sum(axis=0))
    if len(rows) < 2 or len(columns) < 2:  # the margins allow this table only (and scipy 1.17's patefield errs there)
        return np.broadcast_to(counts, (n_tables, *counts.shape))
    tables = np.zeros((n_tables, *counts.shape), dtype=np.int64)
    margins = counts.sum(axis=1)[rows], counts.sum(axis=0)[columns]
    drawn = random_table.rvs(*margins, size=n_tables, method="patefield", random_state=rng)
    tables[np.ix_(np.arange(n_tables), rows, columns)] = drawn
    return tables


def _counted(at_least: int, n_permutations: int) -> ChanceTest:
    smallest = 1 / (n_permutations + 1)
    p_value = (at_least + 1) * smallest
    return ChanceTest(p_value=p_value, smallest_p_value=smallest, n_arrangements=n_permutations, exact=False)


def _exchangeable(true: IntArray, donor_of_sample: IntArray) -> list[_Group]:
    donors = [np.flatnonzero(donor_of_sample == donor) for donor in np.unique(donor_of_sample)]
    single = [members for members in donors if len(np.unique(true[members])) == 1]
    several = [members for members in donors if len(np.unique(true[members])) > 1]
    between = _Group(tuple(int(true[members[0]]) for members in single), tuple(single))
    within = [_Group(tuple(true[members].tolist()), tuple(members[:, None])) for members in several]
    return [between, *within]


def _arranged(true: IntArray, groups: Sequence[_Group], labels: Sequence[Sequence[int]]) -> IntArray:
    arrangement = true.copy()
    for group, given in zip(groups, labels, strict=True):
        for members, label in zip(group.members, given, strict=True):
            arrangement[members] = label
    return arrangement


def _every(groups: Sequence[_Group], true: IntArray) -> Iterator[IntArray]:
    for labels in product(*(tuple(_distinct(Counter(group.labels), ())) for group in groups)):
        yield _arranged(true, groups, labels)


def _distinct(left: Counter[int], so_far: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    if not left.total():
        yield so_far
    for label in [label for label, n in left.items() if n]:
        yield from _distinct(left - Counter([label]), (*so_far, label))


def _random(
    groups: Sequence[_Group], true: IntArray, n_permutations: int, rng: np.random.Generator
) -> Iterator[IntArray]:
    for _ in range(n_permutations):
        yield _arranged(true, groups, [rng.permutation(np.array(group.labels, dtype=np.int64)) for group in groups])  # type: ignore[misc]
