"""Cells that stand on both sides of a split, or with two held-out donors: a person under two names, or one file twice.

Rules: cells are compared by their values, whatever donor, sample or site their labels say. A cell is known by two
random projections of its values: equal cells give equal bits, and two different ones about never do. A few
equal cells are chance (debris, saturated events); a donor with a share of them is a leak, and is refused.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swarmcell.cells.batches import Matrix, filled, generator, is_sparse
from swarmcell.cells.split import HELD_OUT
from swarmcell.errors import CellsError
from swarmcell.workflows.stream import PreparedFile

SHARE_MAX, CELLS_MAX = 0.05, 5  # of a held-out donor's cells that may equal a training cell; chosen
VALUES_MIN = 5  # chosen: cells with fewer values that differ from 0 are equal by chance
Marks = npt.NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class _Held:
    """A held-out donor of a file, with the marks of its cells."""

    file: str
    donor: str
    marks: Marks

    def is_many(self, shared: int) -> bool:
        """Whether so many of its cells cannot be others' by chance."""
        return shared > CELLS_MAX and shared > SHARE_MAX * len(self.marks)


def refuse_shared_cells(files: Sequence[PreparedFile]) -> str:
    """Refuse files in which a held-out donor's cells are training cells, or another's; return a note on single ones.

    Raises
    ------
    CellsError
        If more than a twentieth of a held-out donor's cells, and more than five, equal training cells, or cells of
        another held-out donor.
    """
    every = [held for file in files for held in _held_out(file)]
    _refuse_two_names(every)
    known = np.unique(_training_marks(files))
    n_shared = 0
    for held in every:
        shared = int(np.isin(held.marks, known).sum())
        n_shared += shared
        if held.is_many(shared):
            msg = (
                f"{held.file}: {shared} of {len(held.marks)} cells of the held-out donor {held.donor} are training "
                "cells as well, value for value: the same person under two names, or one measurement prepared twice. "
                "Give all cells of a person one donor name, prepare again, and train again."
            )
            raise CellsError(msg)
    return f"{n_shared} held-out cell(s) equal a training cell in every value; so few are chance." if n_shared else ""


def _refuse_two_names(every: Sequence[_Held]) -> None:
    """Refuse one person held out under two names: every interval over donors would count them twice."""
    owner = np.repeat(np.arange(len(every)), [len(held.marks) for held in every])
    known, place = np.unique(np.concatenate([held.marks for held in every]), return_inverse=True)
    first, last = np.full(len(known), len(every)), np.zeros(len(known), np.int64)
    np.minimum.at(first, place, owner)
    np.maximum.at(last, place, owner)
    for number, held in enumerate(every):
        mine = place[owner == number]
        others = Counter(np.where(first[mine] == number, last[mine], first[mine]).tolist())
        del others[number]
        other, shared = others.most_common(1)[0] if others else (number, 0)
        if held.is_many(shared):
            msg = (
                f"{held.file}: {shared} of {len(held.marks)} cells of the held-out donor {held.donor} are cells of the "
                f"held-out donor {every[other].donor} ({every[other].file}) as well, value for value: one person under "
                "two names, or one measurement given twice, who would count as two donors. Give all cells of a person "
                "one donor name, or leave one of the two out."
            )
            raise CellsError(msg)


def _held_out(file: PreparedFile) -> Iterator[_Held]:
    rows = np.flatnonzero(file.labels("split") == HELD_OUT)
    found, sites, donors = _of_rows(file, rows), file.labels("site")[rows], file.labels("donor")[rows]
    for site, donor in sorted(set(zip(sites, donors, strict=True))):
        mine = found[(donors == donor) & (sites == site)]
        yield _Held(file.name, f"{site}/{donor}", mine[~np.isnan(mine)])


def _training_marks(files: Sequence[PreparedFile]) -> Marks:
    parts = [_of_rows(file, np.flatnonzero(file.labels("split") != HELD_OUT)) for file in files]
    found = np.concatenate([np.zeros(0, np.complex128), *parts])
    return np.asarray(found[~np.isnan(found)])


def _of_rows(file: PreparedFile, rows: npt.NDArray[np.int64]) -> Marks:
    directions = generator("marks", len(file.var)).normal(size=(2, len(file.var)))
    parts = [marks(block.cells.X, directions) for block in file.blocks(rows)]
    return np.concatenate([np.zeros(0, np.complex128), *parts])


def marks(X: Matrix, directions: npt.NDArray[np.float64]) -> Marks:
    """Return a mark of each row, the same for equal rows of one storage; `nan` for a row with too few values.

    Parameters
    ----------
    X
        Shape `(n_rows, n_vars)`.
    directions
        Two random directions, shape `(2, n_vars)`.
    """
    if is_sparse(X):
        enough = np.diff(X.indptr) >= VALUES_MIN
        first, second = (np.asarray(X @ direction, np.float64) for direction in directions)
    else:
        dense = filled(X).astype(np.float64)
        enough = (dense != 0).sum(axis=1) >= min(VALUES_MIN, dense.shape[1])
        first, second = ((dense * direction).sum(axis=1) for direction in directions)
    return np.where(enough, first + 1j * second, np.nan)
