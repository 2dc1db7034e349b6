"""Writing a prepared RNA file block by block: memory does not grow with the number of cells.

Rules: the file is AnnData as `anndata` itself writes it. `X` and `layers["counts"]` have the same places of their
values, so their `indices` and `indptr` are one HDF5 dataset with two names.
"""

import contextlib
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import numpy.typing as npt
import pandas as pd

from swarmcell.cells import hdf5
from swarmcell.cells.readers.source import Block
from swarmcell.cells.schema import COUNTS, UNS

CHUNK_VALUES = 2**17  # values per HDF5 chunk: 512 KiB, within HDF5's cache; chosen
GZIP_LEVEL = 1  # chosen: level 4 takes three times as long for a tenth of the size
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
        self._indices = _growing(self._x, "indices", np.int32)
        self._values = _growing(self._x, "data", np.float32)
        self._count_values = _growing(self._counts, "data", np.int32) if with_counts else None
        self._lengths: list[npt.NDArray[np.int64]] = []

    def add(self, x: Block, counts: Block | None) -> None:
        """Append rows; `counts` has its values at the places of those of `x`, shape `(n_rows, n_vars)` both."""
        _append(self._indices, x.indices)
        _append(self._values, x.data)
        if self._count_values is not None and counts is not None:
            _append(self._count_values, counts.data)
        self._lengths.append(np.diff(x.indptr).astype(np.int64))

    def finish(self, obs: pd.DataFrame, var: pd.DataFrame, contents: dict[str, Any]) -> None:
        """Write names, labels and `uns`, and close the file."""
        lengths = np.concatenate([np.zeros(1, np.int64), *self._lengths])
        self._x.create_dataset("indptr", data=np.cumsum(lengths), compression="gzip", compression_opts=GZIP_LEVEL)
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
        self._open.close()


def _as_dict(group: Any) -> None:  # noqa: ANN401 (an HDF5 group)
    group.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})


def _growing(group: Any, name: str, dtype: type) -> Any:  # noqa: ANN401
    return group.create_dataset(
        name,
        shape=(0,),
        maxshape=(None,),
        chunks=(CHUNK_VALUES,),
        dtype=dtype,
        compression="gzip",
        compression_opts=GZIP_LEVEL,
        shuffle=True,
    )


def _append(dataset: Any, values: npt.NDArray[Any]) -> None:  # noqa: ANN401
    start = dataset.shape[0]
    dataset.resize((start + len(values),))
    dataset[start:] = values
