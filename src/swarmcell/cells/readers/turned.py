"""Matrices that lie in the wrong direction, turned into blocks of rows by way of a temporary file.

Rules: values come in parts of any order (columns of a CSC matrix, genes of a table, lines of an .mtx file sorted by
gene) and are dealt to buckets of rows; a bucket is read back when its turn has come. In memory stand one part, one
bucket and the places of the pieces, so memory does not grow with the number of values; the file takes 16 bytes each.
"""

import errno
import tempfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from swarmcell.cells.readers.source import Block
from swarmcell.errors import OutputError

BUCKET_ROWS = 1024  # cells turned at once: 25 MB of 2,000 values each; chosen
IN_MEMORY_BYTES = 2**26  # up to which nothing is written; chosen
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Part = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]  # rows, columns, values, shape (n,) each
_Pieces = list[tuple[int, int]]  # offset in the file, number of values


def by_rows(parts: Iterator[Part], n_rows: int, n_columns: int) -> Iterator[Block]:
    """Yield CSR blocks, shape `(n, n_columns)`, of all `n_rows` rows in order; values of one place are summed.

    Raises
    ------
    OutputError
        If there is no room for the temporary file.
    """
    try:
        yield from _turned(parts, n_rows, n_columns)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        msg = (
            f"{tempfile.gettempdir()}: no room for a temporary file ({error.strerror}). Name a larger place in TMPDIR."
        )
        raise OutputError(msg) from error


def _turned(parts: Iterator[Part], n_rows: int, n_columns: int) -> Iterator[Block]:
    n_buckets = -(-n_rows // BUCKET_ROWS)
    pieces: list[_Pieces] = [[] for _ in range(n_buckets)]
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as file:
        record = np.dtype([("row", np.int32), ("column", np.int32), ("value", np.float64)])
        for part in parts:
            _deal(part, file, pieces, record)
        for number, places in enumerate(pieces):
            n_here = min(BUCKET_ROWS, n_rows - number * BUCKET_ROWS)
            yield _bucket(file, places, record, (n_here, n_columns))


def _deal(part: Part, file: Any, pieces: list[_Pieces], record: np.dtype[Any]) -> None:  # noqa: ANN401
    rows = np.asarray(part[0], np.int64)
    order = np.argsort(rows // BUCKET_ROWS, kind="stable")
    records = np.empty(len(rows), record)
    records["row"], records["column"], records["value"] = rows[order] % BUCKET_ROWS, part[1][order], part[2][order]
    ends = np.searchsorted(rows[order] // BUCKET_ROWS, np.arange(len(pieces) + 1))
    start = file.tell()
    file.write(records.tobytes())
    for number in np.flatnonzero(np.diff(ends)):
        pieces[number].append((start + int(ends[number]) * record.itemsize, int(ends[number + 1] - ends[number])))


def _bucket(file: IO[bytes], places: _Pieces, record: np.dtype[Any], shape: tuple[int, int]) -> Block:
    read = []
    for offset, n_values in places:
        file.seek(offset)
        read.append(np.frombuffer(file.read(n_values * record.itemsize), record))
    found = np.concatenate(read) if read else np.empty(0, record)
    return sparse.csr_matrix((found["value"], (found["row"], found["column"])), shape=shape)
