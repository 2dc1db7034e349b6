"""Loom files: HDF5 with `/matrix` of features x cells, and attributes of both."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from swarmcell.cells import hdf5
from swarmcell.cells.readers.source import (
    BLOCK_ROWS,
    BLOCK_VALUES,
    Block,
    CountSource,
    Names,
    ReadOptions,
    refuse_empty,
)
from swarmcell.errors import InputError

_CELL_IDS = ("CellID", "obs_names", "cell_id", "barcode", "barcodes")
_FEATURE_IDS = ("Accession", "gene_ids", "EnsemblID", "ensembl_id", "var_names", "Gene")
_SYMBOLS = ("Gene", "var_names", "gene_symbols", "symbol")


def is_loom(file: Any) -> bool:  # noqa: ANN401 (an open HDF5 file)
    """Tell whether an open HDF5 file is loom."""
    return "row_attrs" in file and "col_attrs" in file and "matrix" in file


def open_loom(path: Path, options: ReadOptions) -> CountSource:
    """Open a loom file.

    Raises
    ------
    InputError
        If it is truncated, transposed, or names neither its cells nor its features.
    """
    with hdf5.open_file(path) as file, hdf5.reading(path):
        n_features, n_obs = (int(n) for n in file["matrix"].shape)
        refuse_empty(n_obs, n_features, path)
        columns = {name: _column(file["col_attrs"][name], n_obs) for name in file["col_attrs"]}
        cells = _first(file["col_attrs"], _CELL_IDS, path, "col_attrs")
        ids = _first(file["row_attrs"], _FEATURE_IDS, path, "row_attrs")
        symbols = _first(file["row_attrs"], _SYMBOLS, path, "row_attrs")
    if (len(cells), len(ids)) != (n_obs, n_features):
        msg = (
            f"{path}: its matrix is {n_features} x {n_obs}, but it names {len(ids)} features and {len(cells)} cells. "
            "Loom holds features x cells: if it is transposed, write it the other way round."
        )
        raise InputError(msg)
    obs = pd.DataFrame({k: v for k, v in columns.items() if v is not None}, index=pd.Index(cells, dtype=object))
    read = partial(_blocks, path, n_obs, n_features)
    return CountSource(path, "loom", obs, ids, symbols, read, options.kind)


def _first(attributes: Any, names: tuple[str, ...], path: Path, where: str) -> Names:  # noqa: ANN401
    found = next((name for name in names if name in attributes), None)
    if found is None:
        msg = f"{path}: {where} holds none of {', '.join(names)}. Write it with one of them."
        raise InputError(msg)
    return hdf5.strings(attributes[found])


def _column(stored: Any, n_obs: int) -> Any:  # noqa: ANN401
    if stored.shape != (n_obs,):
        return None
    return hdf5.strings(stored) if stored.dtype.kind in "SO" else np.asarray(stored[()])


def _blocks(path: Path, n_obs: int, n_features: int) -> Iterator[Block]:
    n_rows = max(64, min(BLOCK_ROWS, 2 * BLOCK_VALUES // n_features))  # whole chunks of 64, loompy's size
    with hdf5.open_file(path) as file, hdf5.reading(path):
        for start in range(0, n_obs, n_rows):
            yield sparse.csr_matrix(np.asarray(file["matrix"][:, start : start + n_rows]).T)
