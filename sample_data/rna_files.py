"""Write simulated RNA as the files that hospitals have: 10x folders, one 10x h5 file, one h5ad file."""

import gzip
import io
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
from cohort import Specimen
from rna import CELL_TYPES, SiteCells, genes
from scipy import sparse

BASES = np.array(list("ACGT"))
GENOME = "simulated"


def write_site_a(folder: Path, cells: SiteCells, donors: list[Specimen], rng: np.random.Generator) -> None:
    """Write a 10x v3 folder per sample, with a sheet of samples and one of cells."""
    barcodes = _barcodes(len(cells.cell_type), rng)
    features = "".join(f"{i}\t{symbol}\tGene Expression\n" for i, symbol in genes())
    for number, one in enumerate(donors):
        rows = cells.specimen == number
        (folder / one.name).mkdir(parents=True)
        _write_gzip(folder / one.name / "features.tsv.gz", features)
        _write_gzip(folder / one.name / "barcodes.tsv.gz", "".join(f"{b}-1\n" for b in barcodes[rows]))
        _write_gzip(folder / one.name / "matrix.mtx.gz", _matrix_market(cells.counts[rows]))
    _write_samples(folder, donors, [one.name for one in donors])
    _write_cells(folder, cells, donors, [f"{b}-1" for b in barcodes])


def write_site_b(folder: Path, cells: SiteCells, donors: list[Specimen], rng: np.random.Generator) -> None:
    """Write one 10x h5 file of all samples, as `cellranger aggr` does, with a sheet of samples and one of cells."""
    folder.mkdir(parents=True)
    plain = _barcodes(len(cells.cell_type), rng)
    barcodes = [f"{b}-{number + 1}" for b, number in zip(plain, cells.specimen, strict=True)]
    matrix = sparse.csr_matrix(cells.counts)
    name = "filtered_feature_bc_matrix.h5"
    with h5py.File(folder / name, "w") as file:
        group = file.create_group("matrix")
        group.create_dataset("barcodes", data=np.array(barcodes, "S"), compression="gzip")
        group.create_dataset("data", data=matrix.data.astype(np.int32), compression="gzip", shuffle=True)
        group.create_dataset("indices", data=matrix.indices.astype(np.int64), compression="gzip", shuffle=True)
        group.create_dataset("indptr", data=matrix.indptr.astype(np.int64), compression="gzip")
        group.create_dataset("shape", data=np.array(matrix.shape[::-1], np.int32))
        _write_h5_features(group.create_group("features"))
    _write_samples(folder, donors, [name] * len(donors))
    _write_cells(folder, cells, donors, barcodes)


def write_site_c(folder: Path, cells: SiteCells, donors: list[Specimen], rng: np.random.Generator) -> None:
    """Write one h5ad file that carries its labels in `obs`."""
    folder.mkdir(parents=True)
    chosen = [donors[number] for number in cells.specimen]
    names = [f"{one.name}_{b}" for one, b in zip(chosen, _barcodes(len(chosen), rng), strict=True)]
    obs = pd.DataFrame(
        {
            "donor": [one.donor for one in chosen],
            "sample": [one.name for one in chosen],
            "condition": [one.condition for one in chosen],
            "cell_type": [CELL_TYPES[t] for t in cells.cell_type],
        },
        index=pd.Index(np.array(names, dtype=object), dtype=object),
    ).astype("category")
    ids, symbols = (np.array(column, dtype=object) for column in zip(*genes(), strict=True))
    index = pd.Index(ids, dtype=object)  # pandas 3 would take them for its own strings, which older readers do not know
    var = pd.DataFrame({"symbol": pd.Series(symbols, index=index, dtype=object)}, index=index)
    counts = sparse.csr_matrix(cells.counts)
    anndata.AnnData(counts, obs=obs, var=var).write_h5ad(folder / "cells.h5ad", compression="gzip")


def _barcodes(n_cells: int, rng: np.random.Generator) -> np.ndarray:
    letters = BASES[rng.integers(0, 4, (n_cells, 16))]
    return np.array(["".join(row) for row in letters], dtype=object)


def _matrix_market(counts: np.ndarray) -> str:
    matrix = sparse.coo_matrix(counts)
    text = io.StringIO()
    text.write("%%MatrixMarket matrix coordinate integer general\n%simulated\n")
    text.write(f"{counts.shape[1]} {counts.shape[0]} {matrix.nnz}\n")
    columns = zip(matrix.col + 1, matrix.row + 1, matrix.data, strict=True)
    text.writelines(f"{gene} {cell} {count}\n" for gene, cell, count in columns)
    return text.getvalue()


def _write_h5_features(group: h5py.Group) -> None:
    ids, symbols = zip(*genes(), strict=True)
    group.create_dataset("id", data=np.array(ids, "S"), compression="gzip")
    group.create_dataset("name", data=np.array(symbols, "S"), compression="gzip")
    group.create_dataset("feature_type", data=np.array([b"Gene Expression"] * len(ids)), compression="gzip")
    group.create_dataset("genome", data=np.array([GENOME.encode()] * len(ids)), compression="gzip")
    group.create_dataset("_all_tag_keys", data=np.array([b"genome"]))


def _write_samples(folder: Path, donors: list[Specimen], files: list[str]) -> None:
    rows = [f"{f},{one.donor},{one.name},{one.condition}\n" for f, one in zip(files, donors, strict=True)]
    (folder / "samples.csv").write_text("file,donor,sample,condition\n" + "".join(rows))


def _write_cells(folder: Path, cells: SiteCells, donors: list[Specimen], barcodes: list[str]) -> None:
    of_cell = zip(barcodes, cells.specimen, cells.cell_type, strict=True)
    rows = [f"{b},{donors[number].name},{CELL_TYPES[t]}\n" for b, number, t in of_cell]
    _write_gzip(folder / "cells.csv.gz", "barcode,sample,cell_type\n" + "".join(rows))


def _write_gzip(path: Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))
