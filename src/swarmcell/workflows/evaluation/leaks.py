"""Cells that stand on both sides of a split: a donor under two names, or one file prepared twice with two splits.

Rules: cells are compared by their values, whatever donor, sample or site their labels say. A cell is known by two
random projections of its values: equal cells give equal bits, and two different ones about never do. A few
equal cells are chance (debris, saturated events); a donor with a share of them is a leak, and is refused.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from swarmcell.cells.batches import Matrix, filled, generator, is_sparse
from swarmcell.cells.split import HELD_OUT
from swarmcell.errors import CellsError
from swarmcell.workflows.stream import PreparedFile

SHARE_MAX, CELLS_MAX = 0.05, 5  # of a held-out donor's cells that may equal a training cell; chosen
VALUES_MIN = 5  # chosen: cells with fewer values that differ from 0 are equal by chance
Marks = npt.NDArray[np.complex128]


def refuse_shared_cells(files: Sequence[PreparedFile]) -> str:
    """Refuse files in which a held-out donor's cells are training cells as well; return a note on single ones.

    Raises
    ------
    CellsError
        If more than a twentieth of a held-out donor's cells, and more than five, equal training cells.
    """
    trained = _marks(files, held_out=False)
    if not len(trained):
        return ""
    known = np.unique(trained)
    n_shared = 0
    for file in files:
        for donor, marks in _held_out(file):
            shared = int(np.isin(marks, known).sum())
            n_shared += shared
            if shared > CELLS_MAX and shared > SHARE_MAX * len(marks):
                msg = (
                    f"{file.name}: {shared} of {len(marks)} cells of the held-out donor {donor} are training cells as "
                    "well, value for value: the same person under two names, or one measurement prepared twice. Give "
                    "all cells of a person one donor name, prepare again, and train again."
                )
                raise CellsError(msg)
    return f"{n_shared} held-out cell(s) equal a training cell in every value; so few are chance." if n_shared else ""


def _held_out(file: PreparedFile) -> Iterator[tuple[str, Marks]]:
    rows = np.flatnonzero(file.labels("split") == HELD_OUT)
    found, sites, donors = _of_rows(file, rows), file.labels("site")[rows], file.labels("donor")[rows]
    for site, donor in sorted(set(zip(sites, donors, strict=True))):
        mine = found[(donors == donor) & (sites == site)]
        yield f"{site}/{donor}", mine[~np.isnan(mine)]


def _marks(files: Sequence[PreparedFile], *, held_out: bool) -> Marks:
    parts = [_of_rows(file, np.flatnonzero((file.labels("split") == HELD_OUT) == held_out)) for file in files]
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
