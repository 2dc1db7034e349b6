"""Cells that stay on disk: a matrix whose rows are read when they are asked for, from h5ad and zarr alike.

Rules: of a file only the row pointers are in memory (8 bytes a cell). Rows that lie near each other are read in one
go, so a pass in file order is sequential; what comes back is CSR (or dense), never more than was asked for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import numpy.typing as npt
from scipy import sparse

from swarmcell.cells import hdf5, schema
from swarmcell.cells.readers.zarr_store import is_zarr
from swarmcell.errors import CellsError

GAP_ROWS = 64  # rows that are read for nothing rather than seek anew; chosen
RUN_ROWS, RUNS_PER_WINDOW = 1024, 8  # 8,192 cells of 2,000 values each are 131 MB as CSR; chosen
NO_COUNTS = (
    "has no raw counts, and the study chooses features by them. Prepare it from counts, or agree on "
    'rule = "top_variance" in [study.features].'
)
_Rows = npt.NDArray[np.int64]


def open_store(path: Path) -> Any:  # noqa: ANN401 (an h5py file or a zarr group; neither has types)
    """Open an `.h5ad` file or a zarr folder for reading.

    Raises
    ------
    InputError
        If it is missing or neither.
    """
    if is_zarr(path):
        import zarr  # noqa: PLC0415 (slow to import, and few have one)

        return zarr.open_group(path, mode="r")
    if not path.is_file():
        raise schema.missing(path)
    return hdf5.open_file(path)


class _Part:
    """The chosen rows of one file's X."""

    def __init__(self, stored: Any, rows: _Rows, source: str) -> None:  # noqa: ANN401
        self.rows, self.source = rows, source
        self._is_csr = hasattr(stored, "keys")
        self._stored = stored
        if not self._is_csr:
            self.n_columns = int(stored.shape[1])
            return
        if (kind := dict(stored.attrs).get("encoding-type")) != "csr_matrix":
            msg = f"{source}: X is {kind}, and only csr_matrix or a dense X is read from disk. Prepare it again."
            raise CellsError(msg)
        self.n_columns = int(dict(stored.attrs)["shape"][1])
        self._indptr: _Rows = np.asarray(stored["indptr"][:], np.int64)
        self._indices, self._values = stored["indices"], stored["data"]

    def read(self, chosen: _Rows) -> Any:  # noqa: ANN401 (CSR or dense)
        """Return the file rows `chosen` (ascending), reading over small gaps."""
        breaks = np.flatnonzero(np.diff(chosen) > GAP_ROWS) + 1
        pieces = [self._run(run) for run in np.split(chosen, breaks)]
        return _joined(pieces)

    def _run(self, rows: _Rows) -> Any:  # noqa: ANN401
        first, last = int(rows[0]), int(rows[-1]) + 1
        with hdf5.reading(Path(self.source)):
            block = self._block(first, last)
        return block if np.array_equal(rows, np.arange(first, last)) else block[rows - first]  # a row may come twice

    def _block(self, first: int, last: int) -> Any:  # noqa: ANN401
        if not self._is_csr:
            return self._checked(np.asarray(self._stored[first:last], np.float32))
        a, b = int(self._indptr[first]), int(self._indptr[last])
        values = self._checked(np.asarray(self._values[a:b], np.float32))
        pointers = self._indptr[first : last + 1] - a
        return sparse.csr_matrix((values, self._indices[a:b], pointers), shape=(last - first, self.n_columns))

    def _checked(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if not np.isfinite(values).all():
            msg = f"{self.source}: X holds NaN or infinite values. Prepare it again."
            raise CellsError(msg)
        return values


@dataclass(frozen=True, eq=False)
class StoredRows:
    """Rows of one or several files as one matrix: `X.shape`, `X[rows]`, `X[start:stop]` and `X.take_columns(chosen)`.

    Attributes
    ----------
    parts
        The files, in order.
    chosen
        Columns to return; `None` for all.
    """

    parts: tuple[_Part, ...]
    chosen: _Rows | None = None

    @classmethod
    def of(cls, stored: Any, rows: _Rows, *, source: str) -> "StoredRows":  # noqa: ANN401 (an HDF5 or zarr X)
        """Return the `rows` (ascending) of an `X` as anndata stores it.

        Raises
        ------
        CellsError
            If it is stored in columns.
        """
        return cls((_Part(stored, rows, source),))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        n_columns = self.parts[0].n_columns if self.chosen is None else len(self.chosen)
        return sum(len(part.rows) for part in self.parts), n_columns

    def take_columns(self, chosen: _Rows) -> "StoredRows":
        """Return the same rows with these columns only."""
        return StoredRows(self.parts, chosen if self.chosen is None else self.chosen[chosen])

    def __getitem__(self, key: "_Rows | slice") -> Any:  # noqa: ANN401 (CSR or dense)
        """Return rows in the order asked for, in memory."""
        wanted = np.arange(self.shape[0])[key] if isinstance(key, slice) else np.asarray(key, np.int64)
        order = np.argsort(wanted, kind="stable")
        found = self._ascending(wanted[order])
        if self.chosen is not None:
            found = found[:, self.chosen]
        if np.array_equal(order, np.arange(len(order))):
            return found
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return found[back]

    def _ascending(self, wanted: _Rows) -> Any:  # noqa: ANN401
        if not len(wanted):
            return sparse.csr_matrix(np.zeros((0, self.parts[0].n_columns), np.float32))
        pieces, start = [], 0
        for part in self.parts:
            here = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, start + len(part.rows))]
            if len(here):
                pieces.append(part.read(part.rows[here - start]))
            start += len(part.rows)
        return _joined(pieces)

    @staticmethod
    def windows(rows: _Rows, rng: np.random.Generator) -> Iterator[_Rows]:
        """Yield all `rows` (ascending) once, as windows of neighbours in a seeded order, each window shuffled.

        A window is made of several runs of neighbouring rows from anywhere in the files, so that it mixes samples,
        and reading it is sequential but for a few seeks.

        Parameters
        ----------
        rows
            Rows of this matrix.
        rng
            Order of the runs, and of the rows within a window.
        """
        runs = np.split(rows, np.arange(RUN_ROWS, len(rows), RUN_ROWS))
        order = rng.permutation(len(runs))
        for start in range(0, len(order), RUNS_PER_WINDOW):
            together = np.concatenate([runs[i] for i in np.sort(order[start : start + RUNS_PER_WINDOW])])
            yield together[rng.permutation(len(together))]


def stack(matrices: Sequence[StoredRows]) -> StoredRows:
    """Return the rows of several matrices, one after the other."""
    return StoredRows(tuple(part for matrix in matrices for part in matrix.parts), matrices[0].chosen)


def open_cells(path: Path) -> tuple[ad.AnnData, Any]:
    """Open a prepared file: its labels and features as AnnData without X, and X as it lies on disk.

    Raises
    ------
    InputError
        If it is missing or cannot be read.
    CellsError, PanelError
        If it breaks the data contract.
    """
    store = open_store(path)
    with hdf5.reading(path):
        obs, var, uns = _elements(store)
        layers, stored = list(store["layers"]) if "layers" in store else [], store["X"]
        kind = (stored["data"] if hasattr(stored, "keys") else stored).dtype
    empty: Any = sparse.csr_matrix((len(obs), len(var)), dtype=kind)
    schema.check(ad.AnnData(empty, obs=obs, var=var, uns=uns, layers=dict.fromkeys(layers, empty)), str(path))
    return ad.AnnData(None, obs=obs, var=var, uns=uns), stored


def read_cells(path: Path) -> ad.AnnData:
    """Read a prepared file without its layers: the raw counts never enter memory.

    Raises
    ------
    InputError
        If it is missing or cannot be read.
    CellsError, PanelError
        If it breaks the data contract.
    """
    bare, stored = open_cells(path)
    with hdf5.reading(path):
        X = ad.io.read_elem(stored)
    parts: dict[str, Any] = {"obs": bare.obs, "var": bare.var, "uns": bare.uns}
    found = ad.AnnData(X, **parts)
    schema.check_values(found, str(path))
    return found


def open_counts(path: Path) -> Any:  # noqa: ANN401 (an HDF5 or zarr group)
    """Open the raw counts of a prepared file as they lie on disk.

    Raises
    ------
    InputError
        If the file is missing or cannot be read.
    CellsError
        If it has none.
    """
    store = open_store(path)
    with hdf5.reading(path):
        if f"layers/{schema.COUNTS}" not in store:
            msg = f"{path.name}: {NO_COUNTS}"
            raise CellsError(msg)
        return store[f"layers/{schema.COUNTS}"]


def _elements(store: Any) -> Any:  # noqa: ANN401 (frames and a mapping; anndata cannot say which is which)
    return tuple(ad.io.read_elem(store[name]) for name in ("obs", "var", "uns"))


def _joined(pieces: Sequence[Any]) -> Any:  # noqa: ANN401
    if len(pieces) == 1:
        return pieces[0]
    return sparse.vstack(pieces, format="csr") if sparse.issparse(pieces[0]) else np.concatenate(pieces)
