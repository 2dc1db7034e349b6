"""Writing a prepared RNA file block by block: memory does not grow with the number of cells.

Rules: the file is AnnData as `anndata` itself writes it. `X` and `layers["counts"]` have the same places of their
values, so in HDF5 their `indices` and `indptr` are one array with two names; zarr has no such names, and holds two.
"""

import contextlib
import warnings
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Protocol

import anndata as ad
import numpy as np
import numpy.typing as npt
import pandas as pd

from swarmcell.cells import chunks, hdf5
from swarmcell.cells.readers.source import Block
from swarmcell.cells.schema import COUNTS, UNS

Storage = Literal["gzip", "blosc"]
THREADS = 2  # that compress; chosen: with the thread that reads and the main one they fill four cores
ZARR_CHUNK_VALUES = 2**20  # values per file of a zarr array: 4 MiB before compression; chosen
_CSR = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0"}
_GROUPS = ("layers", "obsm", "obsp", "uns", "varm", "varp")


class _Column(Protocol):
    def append(self, values: npt.NDArray[Any]) -> None: ...

    def finish(self) -> None: ...


class PreparedWriter:
    """Writes one prepared file: `add` blocks of rows in order, then `finish`.

    Parameters
    ----------
    path
        A file that may be overwritten, or, for zarr, an empty folder (`files.writing` and `writing_folder` give one).
    n_vars
        Features of the universe.
    with_counts
        Whether there is a layer of counts beside X.
    storage
        `gzip`, which every reader has, or `blosc` (lz4), which is larger.
    zarr
        Write zarr v3 instead of HDF5.
    """

    def __init__(
        self, path: Path, n_vars: int, *, with_counts: bool, storage: Storage = "gzip", zarr: bool = False
    ) -> None:
        self._open = contextlib.ExitStack()
        self._n_vars, self._storage, self._zarr = n_vars, storage, zarr
        self._file: Any = _zarr_root(path) if zarr else self._open.enter_context(hdf5.output(path))
        self._file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for name in _GROUPS:
            self._file.create_group(name).attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="compress")
        self._x = self._file.create_group("X")
        self._counts = self._file["layers"].create_group(COUNTS) if with_counts else None
        self._indices = [self._growing(self._x, "indices", np.int32)]
        self._values = self._growing(self._x, "data", np.float32)
        self._count_values = self._growing(self._counts, "data", np.int32) if with_counts else None
        if zarr and with_counts:
            self._indices.append(self._growing(self._counts, "indices", np.int32))
        self._lengths = array("q")  # one buffer that grows, of all rows

    def add(self, x: Block, counts: Block | None) -> None:
        """Append rows; `counts` has its values at the places of those of `x`, shape `(n_rows, n_vars)` both.

        Raises
        ------
        OSError
            If the disk is full.
        """
        if not self._zarr:
            hdf5.refuse_full(self._file)
        for column in self._indices:
            column.append(x.indices)
        self._values.append(x.data)
        if self._count_values is not None and counts is not None:
            self._count_values.append(counts.data)
        self._lengths.frombytes(np.diff(x.indptr).astype(np.int64).tobytes())

    def finish(self, obs: pd.DataFrame, var: pd.DataFrame, contents: dict[str, Any]) -> None:
        """Write names, labels and `uns`, and close the file."""
        for column in (*self._indices, self._values, *([self._count_values] if self._count_values else [])):
            column.finish()
        indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.frombuffer(self._lengths, np.int64))])
        self._finish_matrices(indptr, np.array([len(indptr) - 1, self._n_vars], dtype=np.int64))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # anndata announces how its next release will write zarr
            ad.io.write_elem(self._file, "obs", obs)
            ad.io.write_elem(self._file, "var", var)
            ad.io.write_elem(self._file["uns"], UNS, contents)
        self.close()

    def close(self) -> None:
        """Close the file, finished or not.

        Raises
        ------
        OSError
            If the disk is full.
        """
        self._pool.shutdown(cancel_futures=True)
        self._open.close()

    def _finish_matrices(self, indptr: npt.NDArray[np.int64], shape: npt.NDArray[np.int64]) -> None:
        if indptr[-1] < 2**31:  # scipy's routines expect one type of index, and columns are int32
            indptr = indptr.astype(np.int32)
        for group in (self._x, *([] if self._counts is None else [self._counts])):
            group.attrs.update({**_CSR, "shape": shape.tolist() if self._zarr else shape})
            if self._zarr:
                group.create_array("indptr", data=indptr)
            elif group is self._x:
                group.create_dataset("indptr", data=indptr, compression="gzip", compression_opts=1)
            else:
                for name in ("indices", "indptr"):
                    group[name] = self._x[name]

    def _growing(self, group: Any, name: str, dtype: type) -> _Column:  # noqa: ANN401
        if self._zarr:
            stored = group.create_array(
                name, shape=(0,), chunks=(ZARR_CHUNK_VALUES,), dtype=dtype, **_zarr_options(self._storage)
            )
            return chunks.GrowingArray(stored, ZARR_CHUNK_VALUES, dtype)
        if self._storage == "blosc":
            import hdf5plugin  # noqa: PLC0415 (only who asks for it waits for it)

            codec = hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE)
            size = (chunks.CHUNK_VALUES,)
            stored = group.create_dataset(
                name, shape=(0,), maxshape=(None,), chunks=size, dtype=dtype, compression=codec
            )
            return chunks.GrowingArray(stored, chunks.CHUNK_VALUES, dtype)
        shuffle = np.issubdtype(dtype, np.integer)
        return chunks.GrowingChunks(group, name, dtype, shuffle=shuffle, pool=self._pool)


def _zarr_root(path: Path) -> Any:  # noqa: ANN401 (a zarr group)
    import zarr  # noqa: PLC0415

    return zarr.open_group(path, mode="w", zarr_format=3)


def _zarr_options(storage: Storage) -> dict[str, Any]:
    if storage == "gzip":
        return {}  # zarr's own: zstd
    from zarr.codecs import BloscCodec  # noqa: PLC0415

    return {"compressors": BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")}
