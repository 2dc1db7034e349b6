"""Which counts of a table are left out, so that none below the floor can be read, or found by subtraction.

Rules: who reads a table knows its totals. Those of strata stand beside it; how many samples a site or a condition has
is no secret. So no small count is left out alone: whole rows and columns are, crosswise, until the totals allow it
`floor` values at least, or until nothing is left to show. What is left out says `LEFT_OUT`, small or not.

References
----------
Cox 1980, J Am Stat Assoc 75:377 (complementary suppression). Frechet 1940 (the bounds that totals set to a count).
"""

import numpy as np
import numpy.typing as npt

from swarmcell.model.fixed import Integers

LEFT_OUT = -1
Flags = npt.NDArray[np.bool_]


def table(counts: Integers, donors: Integers, floor: int) -> Integers:
    """Return the counts that may be shown, and `LEFT_OUT` for the others.

    Parameters
    ----------
    counts
        Samples, shape `(n_rows, n_columns)`.
    donors
        Donors behind each count, of the same shape.
    floor
        Least number of donors that a count may be of, if it is of any.
    """
    small = (donors > 0) & (donors < floor)
    rows, columns = np.asarray(small.any(axis=1)), np.asarray(small.any(axis=0))
    while small.any() and not (rows.all() and columns.all()):
        if _narrowest(counts, small, rows, columns) >= floor:
            break
        _widen(counts, rows, columns)
    return np.where(np.outer(rows, columns), LEFT_OUT, counts)


def groups(donors: Integers, floor: int) -> Flags:
    """Return which groups of a number (its sums by stratum) are left out: the small ones, and never one alone.

    Parameters
    ----------
    donors
        Donors of each group, shape `(n_groups,)`.
    """
    hidden = (donors > 0) & (donors < floor)
    while hidden.any() and not hidden.all() and (hidden.sum() < 2 or donors[hidden].sum() < floor):
        hidden[_least(donors, hidden)] = True
    return hidden


def _narrowest(counts: Integers, small: Flags, rows: Flags, columns: Flags) -> int:
    """Return how many values the totals allow the small count that they tell most of."""
    block = counts[np.ix_(rows, columns)]
    by_row, by_column = block.sum(axis=1), block.sum(axis=0)
    high = np.minimum(by_row[:, None], by_column[None])
    low = np.maximum(by_row[:, None] + by_column[None] - int(block.sum()), 0)
    return int((high - low + 1)[small[np.ix_(rows, columns)]].min())


def _widen(counts: Integers, rows: Flags, columns: Flags) -> None:
    """Leave out one more row or column (in place), whichever there are fewer of: the one with the least in it."""
    if columns.all() or (not rows.all() and rows.sum() <= columns.sum()):
        rows[_least(counts.sum(axis=1), rows)] = True
    else:
        columns[_least(counts.sum(axis=0), columns)] = True


def _least(totals: Integers, taken: Flags) -> int:
    """Return the place of the least total that is not taken yet, the first of equals."""
    return min(np.flatnonzero(~taken).tolist(), key=lambda place: (int(totals[place]), place))
