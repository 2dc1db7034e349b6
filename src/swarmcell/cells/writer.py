"""Writing a prepared RNA file block by block: memory does not grow with the number of cells.

Rules: the file is AnnData as `anndata` itself writes it. `X` and `layers["counts"]` have the same places of their
values, so their `indices` and `indptr` are one HDF5 dataset with two names.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import numpy.typing as npt
import pandas as pd

from swarmcell.cells import hdf5
from swarmcell.cells.chunks import GrowingChunks
from swarmcell.cells.readers.source import Block
from swarmcell.cells.schema import COUNTS, UNS

THREADS = 2  # that compress; chosen: with the thread that reads and the main one they fill four cores
_CSR = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0"}


class PreparedWriter:
    """Writes one prepared file: `add` blocks of rows in order, then `finish`.

    Parameters
    ----------
    path
        A file that may be overwritten (`files.writing` gives one).
    n_vars
        Features of the universe.
    with_counts
        Whether there is a layer of counts beside X.
    """

    def __init__(self, path: Path, n_vars: int, *, with_counts: bool) -> None:
        self._open = contextlib.ExitStack()
        self._file = self._open.enter_context(hdf5.output(path))
        self._n_vars, self._with_counts = n_vars, with_counts
        self._file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
            _as_dict(self._file.create_group(name))
        self._x = self._file.create_group("X")
        self._counts = self._file["layers"].create_group(COUNTS) if with_counts else None
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="compress")
        self._indices = self._growing(self._x, "indices", np.int32, shuffle=True)
        self._values = self._growing(self._x, "data", np.float32, shuffle=False)
        self._count_values = self._growing(self._counts, "data", np.int32, shuffle=True) if with_counts else None
        self._lengths: list[npt.NDArray[np.int64]] = []

    def add(self, x: Block, counts: Block | None) -> None:
        """Append rows; `counts` has its values at the places of those of `x`, shape `(n_rows, n_vars)` both."""
        self._indices.append(x.indices)
        self._values.append(x.data)
        if self._count_values is not None and counts is not None:
            self._count_values.append(counts.data)
        self._lengths.append(np.diff(x.indptr).astype(np.int64))

    def finish(self, obs: pd.DataFrame, var: pd.DataFrame, contents: dict[str, Any]) -> None:
        """Write names, labels and `uns`, and close the file."""
        for column in (self._indices, self._values, self._count_values):
            if column is not None:
                column.finish()
        lengths = np.concatenate([np.zeros(1, np.int64), *self._lengths])
        indptr = np.cumsum(lengths)
        if indptr[-1] < 2**31:  # scipy's routines expect one type of index, and columns are int32
            indptr = indptr.astype(np.int32)
        self._x.create_dataset("indptr", data=indptr, compression="gzip", compression_opts=1)
        shape = np.array([len(lengths) - 1, self._n_vars], dtype=np.int64)
        self._x.attrs.update({**_CSR, "shape": shape})
        if self._counts is not None:
            self._counts.attrs.update({**_CSR, "shape": shape})
            for name in ("indices", "indptr"):
                self._counts[name] = self._x[name]
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

    def _growing(self, group: Any, name: str, dtype: type, *, shuffle: bool) -> GrowingChunks:  # noqa: ANN401
        return GrowingChunks(group, name, dtype, shuffle=shuffle, pool=self._pool)


def _as_dict(group: Any) -> None:  # noqa: ANN401 (an HDF5 group)
    group.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
