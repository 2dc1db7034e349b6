"""AnnData on disk, .h5ad since anndata 0.5 and zarr, read without loading its matrices.

Rules: counts are looked for in `layers["counts"]`, `raw` and `X`, in that order, and the first that holds integers
is taken; which one it was is noted. CSR and dense matrices are read as a stream; CSC is turned (`turned`).
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from swarmcell.cells import chunks, hdf5
from swarmcell.cells.readers import turned
from swarmcell.cells.readers.source import (
    BLOCK_ROWS,
    BLOCK_VALUES,
    Block,
    CountSource,
    Names,
    ReadOptions,
    compressed_blocks,
    refuse_empty,
    row_ranges,
)
from swarmcell.errors import CellsError, InputError, SwarmcellError

Store = Any  # an open HDF5 or zarr group
Opener = Callable[[], AbstractContextManager[Store]]
_SLOTS = ("layers/counts", "raw/X", "raw.X", "X")
_SYMBOL_COLUMNS = ("symbol", "gene_symbols", "gene_symbol", "gene_name", "gene_names", "feature_name", "name")
_ID_COLUMNS = ("gene_ids", "gene_id", "ensembl_id", "feature_id", "ensembl")
_PEEK = 10_000  # stored values looked at to tell counts from others; chosen


@dataclass(frozen=True)
class _Matrix:
    """A matrix on disk: `layout` is dense, csr or csc; `shape` is `(n_obs, n_vars)`."""

    slot: str
    layout: str
    shape: tuple[int, int]


def open_h5ad(path: Path, options: ReadOptions) -> CountSource:
    """Open an .h5ad file.

    Raises
    ------
    InputError
        If it is truncated, or written in an encoding that the installed anndata does not know.
    CellsError
        If it holds no counts (and `options.kind` asks for them), or is empty.
    """
    return open_store(path, lambda: hdf5.open_file(path), options, "h5ad")


def open_store(path: Path, opener: Opener, options: ReadOptions, name: str) -> CountSource:
    """Open AnnData in whatever `opener` opens; `name` is the format's."""
    with opener() as store:
        try:
            return _open(path, store, opener, options, name)
        except SwarmcellError:
            raise
        except Exception as error:
            raise _broken(path, error) from error


def _open(path: Path, store: Store, opener: Opener, options: ReadOptions, name: str) -> CountSource:
    if "obs" not in store or "var" not in store:
        msg = f"{path}: HDF5 or zarr, but neither AnnData nor a 10x matrix (it holds {', '.join(list(store)[:5])})."
        if any(hasattr(store[name], "keys") and "indptr" in store[name] for name in store):
            msg += " There is a matrix, without the names of its cells and genes: export it again."
        raise InputError(msg)
    obs = _frame(store, "obs")
    matrix = _choose(store, path, options)
    refuse_empty(*matrix.shape, path)
    var = _frame(store, matrix.slot.replace("X", "var") if matrix.slot.startswith("raw") else "var")
    ids, symbols = feature_names(var)
    if (len(obs), len(ids)) != matrix.shape:
        msg = (
            f"{path}: {matrix.slot} has shape {matrix.shape}, obs and var say ({len(obs)}, {len(ids)}). Write it again."
        )
        raise InputError(msg)
    return CountSource(
        path=path,
        format=name,
        obs=obs,
        ids=ids,
        symbols=symbols,
        read=partial(_blocks, path, opener, matrix),
        kind=options.kind,
        notes=_notes(path, matrix, options),
    )


def feature_names(var: pd.DataFrame) -> tuple[Names, Names]:
    """Return IDs and symbols from var: IDs stand in the index or a column such as `gene_ids`, and so do symbols."""
    index = var.index.astype(str).to_numpy(dtype=object)
    ids = next((_texts(var[name]) for name in _ID_COLUMNS if name in var), index)
    symbols = next((_texts(var[name]) for name in _SYMBOL_COLUMNS if name in var), index)
    return np.where(ids == "", index, ids), np.where(symbols == "", index, symbols)


def _texts(column: "pd.Series[Any]") -> Names:
    values = column.astype(object).where(column.notna(), "")
    return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values], dtype=object)


def _choose(store: Store, path: Path, options: ReadOptions) -> _Matrix:
    matrices = [_matrix(store, slot) for slot in _SLOTS if slot in store]
    if not matrices:
        msg = f"{path}: holds no matrix (neither X, layers['counts'] nor raw). Write it with its counts."
        raise CellsError(msg)
    if options.kind == "lognorm":
        return _of_lognorm(store, matrices[-1], path)
    found = next((m for m in matrices if _holds_counts(store, m)), None)
    if found is None:
        looked = ", ".join(m.slot for m in matrices)
        msg = (
            f"{path}: holds no counts; {looked}: no non-negative integers. Write raw counts to layers['counts'], or, "
            "if X is log-normalised, say so with --input lognorm."
        )
        raise CellsError(msg)
    return found


def _of_lognorm(store: Store, matrix: _Matrix, path: Path) -> _Matrix:
    if matrix.slot != "X":
        msg = f"{path}: has no X, which --input lognorm reads. Leave out --input lognorm to read {matrix.slot}."
        raise CellsError(msg)
    if 0 not in matrix.shape and _holds_counts(store, matrix):
        msg = f"{path}: X holds integers, which look like counts. Leave out --input lognorm."
        raise CellsError(msg)
    return matrix


def _matrix(store: Store, slot: str) -> _Matrix:
    stored = store[slot]
    if hasattr(stored, "dtype"):
        shape: Any = stored.shape if len(stored.shape) == 2 else (*stored.shape, 1)
        return _Matrix(slot, "dense", (int(shape[0]), int(shape[1])))
    attrs = dict(stored.attrs)
    kind = str(attrs.get("encoding-type", attrs.get("h5sparse_format", "")))
    layout = {"csr_matrix": "csr", "csc_matrix": "csc", "csr": "csr", "csc": "csc"}.get(kind)
    if layout is None:
        msg = f"{slot} is encoded as {kind!r}, which this version of swarmcell cannot read"
        raise ValueError(msg)
    shape = attrs.get("shape", attrs.get("h5sparse_shape"))
    return _Matrix(slot, layout, (int(shape[0]), int(shape[1])))


def _holds_counts(store: Store, matrix: _Matrix) -> bool:
    """Tell whether the first values are integers; NaN and negative values among them are named when they are read."""
    stored = store[matrix.slot]
    if matrix.layout == "dense":
        n_rows = max(1, _PEEK // max(1, matrix.shape[1]))
        values = np.asarray(stored[:n_rows], dtype=np.float64)
    else:
        values = np.asarray(stored["data"][:_PEEK], dtype=np.float64)
    values = values[np.isfinite(values)]
    return bool((values == np.rint(values)).all())


def _notes(path: Path, matrix: _Matrix, options: ReadOptions) -> tuple[str, ...]:
    what = "log-normalised values" if options.kind == "lognorm" else "counts"
    notes = [f"{path.name}: {what} taken from {matrix.slot}."]
    if matrix.layout == "csc":
        notes.append(
            f"{path.name}: {matrix.slot} is stored by columns (CSC) and was turned, through a temporary file if large."
        )
    return tuple(notes)


def _blocks(path: Path, opener: Opener, matrix: _Matrix) -> Iterator[Block]:
    with opener() as store:
        try:
            yield from _matrix_blocks(store[matrix.slot], matrix)
        except SwarmcellError:
            raise
        except Exception as error:
            raise _broken(path, error) from error


def _matrix_blocks(stored: Any, matrix: _Matrix) -> Iterator[Block]:  # noqa: ANN401
    n_obs, n_features = matrix.shape
    if matrix.layout == "csr":
        indptr = np.asarray(stored["indptr"][:]).astype(np.int64)
        yield from compressed_blocks(stored, indptr, n_features)
    elif matrix.layout == "csc":
        yield from turned.by_rows(_csc_parts(stored, n_obs), n_obs, n_features)
    else:
        n_rows = max(1, min(BLOCK_ROWS, 2 * BLOCK_VALUES // n_features))
        for start in range(0, n_obs, n_rows):
            values = np.asarray(stored[start : start + n_rows])
            yield sparse.csr_matrix(values.reshape(-1, n_features))


def _csc_parts(stored: Any, n_obs: int) -> Iterator[turned.Part]:  # noqa: ANN401
    """Yield ranges of columns; a column that is longer than a range is one."""
    indptr = np.asarray(stored["indptr"][:]).astype(np.int64)
    values, rows = chunks.opened(stored["data"]), chunks.opened(stored["indices"])
    for start, stop in row_ranges(indptr):
        low, high = int(indptr[start]), int(indptr[stop])
        found = np.asarray(rows[low:high])
        if found.size and (int(found.max()) >= n_obs or int(found.min()) < 0):
            msg = f"a row index of {int(found.max())} among {n_obs} cells"
            raise ValueError(msg)
        columns = np.repeat(np.arange(start, stop), np.diff(indptr[start : stop + 1]))
        yield found, columns, np.asarray(values[low:high])


def _frame(store: Store, name: str) -> pd.DataFrame:
    stored = store[name]
    if hasattr(stored, "dtype"):
        return _compound_frame(store, name, np.asarray(stored[()]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # of old encodings: they are read all the same
        elem: Any = ad.io.read_elem(stored)
    frame = pd.DataFrame(elem)
    frame.index = pd.Index(frame.index.astype(str).to_numpy(dtype=object), dtype=object)
    return frame


def _compound_frame(store: Store, name: str, records: npt.NDArray[Any]) -> pd.DataFrame:
    """Read a table as anndata 0.6 and before wrote it: one record per row, categories in `uns`."""
    columns: dict[str, Any] = {}
    for field in records.dtype.names or ():
        values: Any = hdf5.strings(records[field]) if records.dtype[field].kind in "SO" else records[field]
        key = f"uns/{field}_categories"
        if key in store and values.dtype.kind in "iu":
            texts = hdf5.strings(store[key])
            values = pd.Categorical.from_codes(values.astype(int), pd.Index(texts, dtype=object))
        columns[field] = values
    index = columns.pop(next(iter(columns)))
    return pd.DataFrame(columns, index=pd.Index(np.asarray(index, dtype=object), dtype=object))


def _broken(path: Path, error: Exception) -> InputError:
    if type(error).__name__ == "IORegistryError":
        found = version("anndata")
        msg = f"{path}: written in an encoding that anndata {found} cannot read. Update: pip install -U anndata."
        return InputError(msg)
    return hdf5.broken(path, error)
