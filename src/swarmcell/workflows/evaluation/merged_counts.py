"""Neighbours merged where a published count would be of too few: bins of a histogram, and rare cell types.

Rules: a function of one site's counts and the floors alone, so the site and whoever checks it get the same. Merging
keeps sums: what is merged stays in the totals, at a coarser place.
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from swarmcell.model.study import Floors

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def groups(n_by_bin: Integers, least: int) -> Integers:
    """Return the bin that each bin is merged into, shape `(n_bins,)`; ascending neighbours, none of fewer than `least`.

    A group stands at the bin of its middle row, so that a histogram keeps its place. What is left over at the end joins
    the group before.

    Parameters
    ----------
    n_by_bin
        Rows in each bin.
    least
        Rows that a bin must have; all bins are one group where even all rows are fewer.
    """
    ends, held = [], 0
    for place, n in enumerate(n_by_bin.tolist()):
        held += n
        if held >= least:
            ends.append(place + 1)
            held = 0
    ends = [*ends[:-1], len(n_by_bin)] if ends else [len(n_by_bin)]
    into = np.zeros(len(n_by_bin), np.int64)
    for start, stop in zip([0, *ends[:-1]], ends, strict=True):
        rows = np.cumsum(n_by_bin[start:stop])
        into[start:stop] = start + int(np.searchsorted(rows, rows[-1] / 2)) if rows[-1] else start
    return into


def merged_bins(by_bin: Floats, least: int) -> Floats:
    """Return sums by bin with small bins merged into neighbours, of the same shape.

    Parameters
    ----------
    by_bin
        Rows, confidence and hits per donor and bin, shape `(n_donors, n_bins, 3)`.
    least
        Rows over all donors that a bin must have.
    """
    into = groups(np.rint(by_bin[:, :, 0].sum(axis=0)).astype(np.int64), least)
    moved = (into[:, None] == np.arange(len(into))).astype(np.float64)  # each bin, and the one that it is merged into
    return np.asarray(np.einsum("dbv,bm->dmv", by_bin, moved), np.float64)


def merged_places(place: Integers, donor: Integers, n_bins: int, least: int) -> Integers:
    """Return the bin of each sample, with bins of too few donors merged into neighbours.

    Parameters
    ----------
    place, donor
        Bin and donor of each sample, shape `(n_samples,)`.
    least
        Donors that a bin must have.
    """
    into, ordered = np.zeros(n_bins, np.int64), np.sort(place)
    held, closed = set[int](), [0]
    for at in np.unique(place):
        held |= set(donor[place == at].tolist())
        if len(held) >= least:
            closed.append(int(at) + 1)
            held = set()
    closed = [*closed[:-1], n_bins] if len(closed) > 1 else [0, n_bins]
    for start, stop in pairwise(closed):
        inside = ordered[(ordered >= start) & (ordered < stop)]
        into[start:stop] = inside[len(inside) // 2] if len(inside) else start
    return into[place]


def rare_types(n_cells: Integers, floors: Floors) -> tuple[list[int], bool]:
    """Return the types that are below the floor of cells and those merged with them, and whether that makes a group.

    The rare ones are merged together; where even together they are too few, the smallest other type joins them, as long
    as two types keep rows of their own. Otherwise the rare ones are left out (`False`).

    Parameters
    ----------
    n_cells
        Cells of each type.
    floors
        Of the study.
    """
    rare = [k for k, n in enumerate(n_cells.tolist()) if 0 < n < floors.cells]
    others = sorted((n, k) for k, n in enumerate(n_cells.tolist()) if n >= floors.cells)
    if not rare or sum(n_cells[rare]) >= floors.cells:
        return rare, bool(rare)
    if len(others) <= 2:
        return rare, False
    return sorted([*rare, others[0][1]]), True
