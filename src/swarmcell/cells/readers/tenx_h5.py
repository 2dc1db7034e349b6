"""10x Genomics HDF5: Cell Ranger 3 and later (`/matrix`), and before (one group per genome).

Rules: of several genomes one is named by the user; features that are no genes are kept out, and the summary says so.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from swarmcell.cells import hdf5
from swarmcell.cells.readers.source import Block, CountSource, Names, ReadOptions, compressed_blocks, refuse_empty
from swarmcell.cells.readers.tenx_mtx import gene_expression
from swarmcell.errors import InputError, UsageError

_LEGACY = {"barcodes", "data", "genes", "indices", "indptr", "shape"}


def is_tenx(file: Any) -> bool:  # noqa: ANN401 (an open HDF5 file)
    """Tell whether an open HDF5 file is a 10x matrix."""
    return ("matrix" in file and "barcodes" in file["matrix"]) or bool(_genomes(file))


def open_h5(path: Path, options: ReadOptions) -> CountSource:
    """Open a 10x HDF5 file.

    Raises
    ------
    InputError
        If it is truncated, or a matrix of probes.
    UsageError
        If it holds several genomes and none was named.
    """
    with hdf5.open_file(path) as file, hdf5.reading(path):
        name = "matrix" if "matrix" in file else _choose(_genomes(file), options.genome, path)
        stored = file[name]
        indptr = np.asarray(stored["indptr"][()]).astype(np.int64)
        n_features = int(stored["shape"][0])
        cells = hdf5.strings(stored["barcodes"])
        ids, symbols, kept, notes = _features(stored, options, path)
    refuse_empty(len(cells), n_features, path)
    if len(indptr) != len(cells) + 1 or len(ids) != n_features:
        msg = f"{path}: {len(cells)} barcodes and {len(ids)} features do not fit its matrix. Copy the file again."
        raise InputError(msg)
    return CountSource(
        path=path,
        format="10x h5 v3" if name == "matrix" else "10x h5 v2",
        obs=pd.DataFrame(index=pd.Index(cells, dtype=object)),
        ids=ids[kept],
        symbols=symbols[kept],
        read=partial(_blocks, path, name, indptr, n_features, kept),
        kind=options.kind,
        notes=notes,
    )


def _genomes(file: Any) -> list[str]:  # noqa: ANN401
    return sorted(name for name in file if isinstance(file[name], hdf5.Group) and set(file[name]) >= _LEGACY)


def _choose(genomes: list[str], wanted: str | None, path: Path) -> str:
    if wanted is None and len(genomes) > 1:
        msg = f"{path}: holds several genomes ({', '.join(genomes)}). Choose one with --genome {genomes[0]}."
        raise UsageError(msg)
    if wanted is not None and wanted not in genomes:
        msg = f"{path}: has no genome {wanted!r}; it holds {', '.join(genomes)}. Choose one with --genome."
        raise UsageError(msg)
    return wanted or genomes[0]


def _features(
    stored: Any,  # noqa: ANN401
    options: ReadOptions,
    path: Path,
) -> tuple[Names, Names, npt.NDArray[np.intp], tuple[str, ...]]:
    if "features" not in stored:
        ids, symbols = hdf5.strings(stored["genes"]), hdf5.strings(stored["gene_names"])
        return ids, symbols, np.arange(len(ids)), ()
    features = stored["features"]
    if "filtered_probes" in features:
        msg = f"{path}: counts of probes, not of genes. Give filtered_feature_bc_matrix.h5 of the same run."
        raise InputError(msg)
    symbols = hdf5.strings(features["name"])
    ids = hdf5.strings(features["id"]) if "id" in features else symbols
    kept, notes = np.arange(len(ids)), tuple[str, ...]()
    if "feature_type" in features:
        kept, notes = gene_expression(hdf5.strings(features["feature_type"]), path)
    if "genome" in features:
        genomes = hdf5.strings(features["genome"])
        chosen = _choose(sorted(set(genomes[kept])), options.genome, path)
        kept = kept[genomes[kept] == chosen]
    return ids, symbols, kept, notes


def _blocks(
    path: Path, name: str, indptr: npt.NDArray[np.int64], n_features: int, kept: npt.NDArray[np.intp]
) -> Iterator[Block]:
    with hdf5.open_file(path) as file, hdf5.reading(path):
        for block in compressed_blocks(file[name], indptr, n_features):
            yield block if len(kept) == n_features else block[:, kept]
