"""One small matrix of counts, and how to write it in every format."""

import gzip
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import io, sparse

GENES = ["ENSG00000000003", "ENSG00000000005", "ENSG00000000419", "ENSG00000000457", "ENSG00000000460"]
SYMBOLS = ["TSPAN6", "TNMD", "DPM1", "SCYL3", "MT-CO1"]


@dataclass(frozen=True)
class Table:
    counts: sparse.csr_matrix
    barcodes: list[str]

    @property
    def adata(self) -> ad.AnnData:
        obs = pd.DataFrame({"donor": [f"d{i % 3}" for i in range(len(self.barcodes))]}, index=self.barcodes)
        var = pd.DataFrame({"gene_ids": GENES}, index=SYMBOLS)
        return ad.AnnData(self.counts.astype(np.float32), obs, var)


@pytest.fixture
def table() -> Table:
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(1.0, (23, 5)).astype(np.int32))
    return Table(counts, [f"{''.join(rng.choice(list('ACGT'), 16))}-1" for _ in range(23)])


def write_mtx(table: Table, folder: Path, *, version: int = 3, zipped: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    features = [
        f"{i}\t{s}" + ("\tGene Expression" if version == 3 else "") for i, s in zip(GENES, SYMBOLS, strict=True)
    ]
    names = {"barcodes.tsv": table.barcodes, ("features.tsv" if version == 3 else "genes.tsv"): features}
    io.mmwrite(folder / "matrix.mtx", table.counts.T.tocoo(), field="integer")
    text = {name: "\n".join(lines) + "\n" for name, lines in names.items()}
    header, *values = [line for line in (folder / "matrix.mtx").read_text().splitlines() if line != "%"]
    ordered = sorted(values[1:], key=lambda line: [int(word) for word in line.split()[1::-1]])
    text["matrix.mtx"] = "\n".join([header, "%", values[0], *ordered]) + "\n"
    for name, content in text.items():
        if zipped:
            (folder / name).unlink(missing_ok=True)
            (folder / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
        else:
            (folder / name).write_text(content)
    return folder


def write_tenx(table: Table, path: Path, *, genomes: tuple[str, ...] = (), types: list[str] | None = None) -> Path:
    """Write Cell Ranger 3 (no genomes named) or a group per genome as before."""
    with h5py.File(path, "w") as file:
        for name in genomes or ("matrix",):
            group = file.create_group(name)
            group["barcodes"] = np.array(table.barcodes, dtype="S")
            group["shape"] = np.array(table.counts.shape[::-1])
            for part in ("data", "indices", "indptr"):
                group[part] = getattr(table.counts, part)
            if genomes:
                group["genes"], group["gene_names"] = np.array(GENES, dtype="S"), np.array(SYMBOLS, dtype="S")
            else:
                features = group.create_group("features")
                features["id"], features["name"] = np.array(GENES, dtype="S"), np.array(SYMBOLS, dtype="S")
                features["feature_type"] = np.array(types or ["Gene Expression"] * 5, dtype="S")
                features["genome"] = np.array(["GRCh38"] * 5, dtype="S")
    return path


def write_loom(table: Table, path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["matrix"] = table.counts.toarray().T
        file["row_attrs/Gene"], file["row_attrs/Accession"] = np.array(SYMBOLS, "S"), np.array(GENES, "S")
        file["col_attrs/CellID"] = np.array(table.barcodes, "S")
    return path


def write_table(table: Table, path: Path, *, cells_in: str = "rows") -> Path:
    frame = pd.DataFrame(table.counts.toarray(), table.barcodes, GENES)
    frame = frame if cells_in == "rows" else frame.T
    frame.to_csv(path, sep="\t" if ".tsv" in path.name else ",")
    return path


def write_h5ad(table: Table, path: Path, *, layout: str = "csr", slot: str = "X") -> Path:
    adata = table.adata
    values = {"csr": adata.X, "csc": adata.X.tocsc(), "dense": adata.X.toarray()}[layout]
    if slot == "counts":
        adata.layers["counts"], adata.X = values, adata.X.log1p()
    elif slot == "raw":
        adata.X = values
        adata.raw = adata.copy()
        adata.X = table.adata.X.log1p()
    else:
        adata.X = values
    adata.write_h5ad(path, compression="gzip")
    return path


def write_zarr(table: Table, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what anndata announces of its next release
        table.adata.write_zarr(path)
    return path


Writer = Callable[[Table, Path], Path]
WRITERS: dict[str, Writer] = {
    "10x mtx v3 gz": lambda t, p: write_mtx(t, p / "m"),
    "10x mtx v2": lambda t, p: write_mtx(t, p / "m", version=2, zipped=False),
    "10x h5 v3": lambda t, p: write_tenx(t, p / "m.h5"),
    "10x h5 v2": lambda t, p: write_tenx(t, p / "m.h5", genomes=("GRCh38",)),
    "h5ad csr": lambda t, p: write_h5ad(t, p / "m.h5ad"),
    "h5ad csc": lambda t, p: write_h5ad(t, p / "m.h5ad", layout="csc"),
    "h5ad dense": lambda t, p: write_h5ad(t, p / "m.h5ad", layout="dense"),
    "h5ad layer": lambda t, p: write_h5ad(t, p / "m.h5ad", slot="counts"),
    "h5ad raw": lambda t, p: write_h5ad(t, p / "m.h5ad", slot="raw"),
    "loom": lambda t, p: write_loom(t, p / "m.loom"),
    "csv of cells": lambda t, p: write_table(t, p / "m.csv"),
    "tsv of genes": lambda t, p: write_table(t, p / "m.tsv.gz", cells_in="columns"),
    "zarr": lambda t, p: write_zarr(t, p / "m.zarr"),
}


@pytest.fixture(params=list(WRITERS), ids=list(WRITERS))
def written(request: pytest.FixtureRequest, table: Table, tmp_path: Path) -> Path:
    """The table, in each of the formats."""
    return WRITERS[request.param](table, tmp_path)


@pytest.fixture
def writers() -> dict[str, Callable[..., Path]]:
    return {
        "mtx": write_mtx,
        "tenx": write_tenx,
        "loom": write_loom,
        "table": write_table,
        "h5ad": write_h5ad,
        "zarr": write_zarr,
    }
