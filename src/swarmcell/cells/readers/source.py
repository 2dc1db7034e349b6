"""What every reader gives: one matrix of cells, described at once and read in blocks of rows.

Rules: opening a source reads names only; `blocks` may be called more than once, and holds one block in memory. A block
that leaves `checked` holds what its kind promises.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from swarmcell.cells import background, chunks
from swarmcell.errors import CellsError

InputKind = Literal["counts", "lognorm"]
Block = Any  # scipy.sparse.csr_matrix, shape (n_rows, n_features); its stubs differ between versions
Names = npt.NDArray[np.object_]
BLOCK_VALUES = 2**21  # stored values per block: 17 MB with their columns; chosen
BLOCK_ROWS = 4096  # chosen
COUNT_MAX = 2**31 - 1  # what an int32 holds; no cell has so many molecules
LOGNORM_MAX = 20.0  # log1p of 10,000 is 9.2, of a million 13.8; larger values are no logarithms


@dataclass(frozen=True)
class ReadOptions:
    """What a reader must be told where a file leaves a choice."""

    kind: InputKind = "counts"
    genome: str | None = None  # of a 10x h5 file with several
    cells_in: Literal["auto", "rows", "columns"] = "auto"  # of a csv or tsv table


@dataclass(frozen=True)
class CountSource:
    """One matrix of cells.

    Attributes
    ----------
    path
        The file or folder.
    format
        Its format, as people call it.
    obs
        What the file says of its cells; index: barcodes, as they stand in the file.
    ids, symbols
        Feature IDs and symbols, shape `(n_features,)` each.
    read
        Yields the values, block after block of whole rows.
    notes
        What a reader of the summary must know (features kept out, where the counts were found).
    """

    path: Path
    format: str
    obs: pd.DataFrame
    ids: Names
    symbols: Names
    read: Callable[[], Iterator[Block]]
    kind: InputKind = "counts"
    notes: tuple[str, ...] = ()

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return len(self.obs)

    def blocks(self) -> Iterator[Block]:
        """Yield checked blocks: CSR, shape `(n_rows, n_features)`, int32 counts or float32 log values, columns sorted.

        The next block is read and decompressed in a thread meanwhile.

        Raises
        ------
        CellsError
            If a value is not what `kind` promises, with its cell and feature.
        """
        start = 0
        for block in background.ahead(self.read()):
            yield checked(block, self, start)
            start += block.shape[0]


def checked(block: Block, source: CountSource, start: int) -> Block:
    """Return `block` with explicit zeros gone and its values checked; `start` is its first row in the source."""
    block = sparse.csr_matrix(block)
    values = _as_counts(block.data) if source.kind == "counts" else _as_logs(block.data)
    if values is None:
        _refuse_values(block, source, start)
    block = sparse.csr_matrix((values, block.indices, block.indptr), shape=block.shape)
    block.sum_duplicates()
    if len(values) and not values.all():
        block.eliminate_zeros()
    return block


def _as_counts(values: npt.NDArray[Any]) -> npt.NDArray[np.int32] | None:
    """Return values as int32, or `None` if one is no count: the cast changes NaN, fractions and what is too large."""
    with np.errstate(invalid="ignore"):
        counts = values.astype(np.int32)
    is_same = values.dtype == np.int32 or np.array_equal(counts, values)
    return counts if is_same and (not len(counts) or counts.min() >= 0) else None


def _as_logs(values: npt.NDArray[Any]) -> npt.NDArray[np.float32] | None:
    if not len(values) or (np.isfinite(values).all() and values.min() >= 0 and values.max() <= LOGNORM_MAX):
        return values.astype(np.float32)
    return None


def _refuse_values(block: Block, source: CountSource, start: int) -> NoReturn:
    _refuse_where(~np.isfinite(block.data), block, source, start, "NaN or infinite values", "Mend or remove it.")
    _refuse_where(block.data < 0, block, source, start, "negative values", _NEGATIVE)
    if source.kind == "lognorm":
        _refuse_where(block.data > LOGNORM_MAX, block, source, start, "values that are no logarithms", _TOO_LARGE)
    _refuse_where(block.data != np.rint(block.data), block, source, start, "values that are no counts", _FRACTIONS)
    _refuse_where(block.data > COUNT_MAX, block, source, start, "counts beyond 2^31", "Check the file.")
    raise AssertionError  # one of them applies


_NEGATIVE = "Scaled or corrected values cannot be used: give raw counts, or log-normalised values with --input lognorm."
_FRACTIONS = "Give raw counts (in X, layers['counts'] or raw), or say that X is log-normalised: --input lognorm."
_TOO_LARGE = "If these are counts, leave out --input lognorm."


def _refuse_where(
    wrong: npt.NDArray[np.bool_], block: Block, source: CountSource, start: int, what: str, remedy: str
) -> None:
    if not wrong.any():
        return
    place = int(np.argmax(wrong))
    row = int(np.searchsorted(block.indptr, place, side="right")) - 1
    cell, feature = source.obs.index[start + row], source.symbols[block.indices[place]]
    msg = f"{source.path}: holds {what} (cell {cell!r}, feature {feature!r}: {block.data[place]:g}). {remedy}"
    raise CellsError(msg)


def refuse_empty(n_obs: int, n_features: int, path: Path) -> None:
    """Refuse a matrix without cells or features.

    Raises
    ------
    CellsError
        If either number is 0.
    """
    if not n_obs or not n_features:
        msg = f"{path}: an empty matrix ({n_obs} cells x {n_features} features). Check how it was exported."
        raise CellsError(msg)


def row_ranges(indptr: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows with at most `BLOCK_ROWS` rows and about `BLOCK_VALUES` stored values each."""
    start, n_rows = 0, len(indptr) - 1
    while start < n_rows:
        limit = int(np.searchsorted(indptr, indptr[start] + BLOCK_VALUES, side="right")) - 1
        stop = min(max(limit, start + 1), start + BLOCK_ROWS, n_rows)
        yield start, stop
        start = stop


def compressed_blocks(stored: Any, indptr: npt.NDArray[np.int64], n_features: int) -> Iterator[Block]:  # noqa: ANN401
    """Yield CSR blocks of a group with `data` and `indices` on disk (HDF5 or zarr), major axis cells."""
    stored_values, stored_columns = chunks.opened(stored["data"]), chunks.opened(stored["indices"])
    for start, stop in row_ranges(indptr):
        low, high = int(indptr[start]), int(indptr[stop])
        values, columns = np.asarray(stored_values[low:high]), np.asarray(stored_columns[low:high])
        yield csr(values, columns, indptr[start : stop + 1] - low, n_features)


def csr(values: npt.NDArray[Any], columns: npt.NDArray[Any], indptr: npt.NDArray[Any], n_features: int) -> Block:
    """Make a CSR block after checking that its columns exist.

    Raises
    ------
    ValueError
        If `columns` points outside the features, as in a damaged file.
    """
    if columns.size and (int(columns.max()) >= n_features or int(columns.min()) < 0):
        msg = f"a column index of {int(columns.max())} among {n_features} features"
        raise ValueError(msg)
    shape = (len(indptr) - 1, n_features)
    places = np.int32 if len(columns) <= COUNT_MAX else np.int64  # one type for both, as scipy's own routines expect
    return sparse.csr_matrix((values, columns.astype(places, copy=False), indptr.astype(places)), shape=shape)
