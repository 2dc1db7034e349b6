"""A prepared file read in passes of bounded size, so that a million cells need no more memory than ten thousand.

Rules: labels (obs, var, uns) are read whole and checked as everywhere; X is read in blocks of file rows, and of a block
only the rows that were asked for are kept. Layers are never read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anndata as ad
import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from swarmcell.cells import hdf5, schema, site_scaling, stored
from swarmcell.errors import CellsError, InputError

BLOCK_ROWS = 8192  # chosen: 8192 cells x 2,000 genes are 65 MB dense, 13 MB at a tenth filled
GROUP_ROWS = 65536  # rows kept at once for samples; chosen, a sample larger than this is read alone

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """Cells of one pass: `rows` are their positions in the file, ascending."""

    rows: Rows
    cells: ad.AnnData


class PreparedFile:
    """An open prepared file; close it, or use it in a `with` block.

    Attributes
    ----------
    path
        The file.
    obs, var, uns
        Labels of cells and features, and what stands in `uns`, all in memory.
    """

    def __init__(self, path: Path) -> None:
        """Open and check `path`.

        Raises
        ------
        InputError
            If the file is missing, truncated or not HDF5.
        CellsError
            If it breaks the data contract.
        """
        self.path = path
        self._file = _open(path)
        try:
            self.obs, self.var, self.uns = (_element(self._file, path, name) for name in ("obs", "var", "uns"))
            schema.check(self._without_values(), str(path))
        except BaseException:
            _close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        _close(self._file)

    @property
    def name(self) -> str:
        """The path, as errors show it."""
        return str(self.path)

    @property
    def n_cells(self) -> int:
        """Cells in the file."""
        return len(self.obs)

    @property
    def contents(self) -> dict[str, Any]:
        """What `preprocess` wrote into `uns`."""
        return dict(self.uns[schema.UNS])

    def describe_sites(self) -> None:
        """Let every block carry the moments of its sites (`uns[site_scaling.KEY]`): one pass over the file, once."""
        if site_scaling.KEY in self.uns:
            return
        names, site = site_scaling.sites_of(self.obs)
        sums = site_scaling.MomentSums(names, len(self.var))
        for block in self.blocks(site_scaling.described_rows(self.obs)):
            sums.add(block.cells.X, site[block.rows])
        self.uns = {**self.uns, site_scaling.KEY: sums.moments()}

    def labels(self, name: str) -> npt.NDArray[np.object_]:
        """Return a label of every cell as text, shape `(n_cells,)`."""
        return np.asarray(self.obs[name].astype(str), dtype=object)

    def blocks(self, rows: Rows) -> Iterator[Block]:
        """Yield the cells at `rows` (ascending file positions) in file order, a bounded number at a time."""
        for start in np.unique(rows // BLOCK_ROWS) * BLOCK_ROWS:
            inside = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + BLOCK_ROWS)]
            yield Block(inside, self._cells(inside))

    def groups(self, rows: Rows, group: npt.NDArray[np.int64]) -> Iterator[Block]:
        """Yield cells so that all cells of one group come in one block, several groups together up to `GROUP_ROWS`.

        Parameters
        ----------
        rows
            Ascending file positions, shape `(n_rows,)`.
        group
            Group of each row, shape `(n_rows,)`.
        """
        known, sizes = np.unique(group, return_counts=True)
        batch = _batches(sizes)[np.searchsorted(known, group)]
        for number in range(int(batch.max(initial=-1)) + 1):
            inside = rows[batch == number]
            yield Block(inside, _joined([block.cells for block in self.blocks(inside)]))

    def _cells(self, rows: Rows) -> ad.AnnData:
        first, last = int(rows[0]), int(rows[-1]) + 1
        values_on_disk = self._file["X"]
        dense = not hasattr(values_on_disk, "keys")
        with hdf5.reading(self.path):
            X: Any = values_on_disk[first:last] if dense else ad.io.sparse_dataset(values_on_disk)[first:last]
        if len(rows) < last - first:
            X = X[rows - first]
        values = X if dense else X.data
        if not np.isfinite(values).all():
            msg = f"{self.path}: X holds NaN or infinite values. Prepare it again."
            raise CellsError(msg)
        return ad.AnnData(X, obs=self.obs.iloc[rows], var=self.var, uns=self.uns)

    def _without_values(self) -> ad.AnnData:
        """Return the file with no value stored in X, for the checks of labels and features."""
        on_disk = self._file.get("X")
        kind = None if on_disk is None else (on_disk["data"] if hasattr(on_disk, "keys") else on_disk).dtype
        empty: Any = sparse.csr_matrix((len(self.obs), len(self.var)), dtype=kind or np.float32)  # type: ignore[arg-type]
        layers = dict.fromkeys(self._file.get("layers", ()), empty)
        return ad.AnnData(None if kind is None else empty, obs=self.obs, var=self.var, uns=self.uns, layers=layers)


def _batches(sizes: Rows) -> Rows:
    """Give each group a number, such that groups of one number hold `GROUP_ROWS` rows at most, or are one group."""
    batch = np.zeros(len(sizes), dtype=np.int64)
    number, filled = 0, 0
    for i, size in enumerate(sizes):
        if filled and filled + size > GROUP_ROWS:
            number, filled = number + 1, 0
        batch[i], filled = number, filled + int(size)
    return batch


def _joined(parts: list[ad.AnnData]) -> ad.AnnData:
    if len(parts) == 1:
        return parts[0]
    obs: Any = pd.concat([part.obs for part in parts])  # type: ignore[misc]
    values: list[Any] = [part.X for part in parts]
    X = sparse.vstack(values, format="csr") if sparse.issparse(values[0]) else np.concatenate(values)
    return ad.AnnData(X, obs=obs, var=parts[0].var, uns=parts[0].uns)


def _close(file: Any) -> None:  # noqa: ANN401 (an h5py.File, or a zarr group, which has nothing to close)
    if hasattr(file, "close"):
        file.close()


def _open(path: Path) -> Any:  # noqa: ANN401 (an h5py.File; h5py has no types)
    if path.suffix == ".zarr" and path.is_dir():
        return stored.open_store(path)
    if not path.is_file():
        raise schema.missing(path)
    if not schema.is_hdf5(path):
        msg = f"{path}: not an .h5ad file (it is no HDF5). Make one with: swarmcell preprocess."
        raise InputError(msg)
    try:
        return h5py.File(path, "r")  # type: ignore[no-untyped-call, attr-defined]
    except OSError as error:
        msg = f"{path}: cannot be read as .h5ad ({error}). It may be truncated: make it again."
        raise InputError(msg) from error


def _element(file: Any, path: Path, name: str) -> Any:  # noqa: ANN401 (an h5py.File; a frame or a mapping)
    try:
        return ad.io.read_elem(file[name])
    except Exception as error:
        msg = f"{path}: its {name} cannot be read ({type(error).__name__}). It may be truncated: make it again."
        raise InputError(msg) from error
