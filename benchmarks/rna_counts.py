"""Synthetic counts of any number of cells, written by chunks: what a site's .h5ad as scanpy writes it would hold.

Rules: a block of `BLOCK_CELLS` cells is drawn by a seed and compressed once (gzip, level 4, the chunks that h5py would
choose); the file holds it as many times as it takes. So a million cells take seconds and no memory, and reading them
costs what reading other cells costs: every chunk is decompressed by itself. Only the cells' names, donors and
conditions differ between the repeats.
"""

import zlib
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd

BLOCK_CELLS, N_GENES = 10_000, 20_000
CHUNK_VALUES = 2**17  # about what h5py chooses for 10^8 values
LEVEL = 4  # h5py's own, so that of `write_h5ad(compression="gzip")`
CELLS_PER_DONOR = 5_000
N_MITO, N_RIBO, N_HB = 13, 90, 8


def write(path: Path, n_cells: int, *, seed: int = 0) -> Path:
    """Write `n_cells` (a multiple of `BLOCK_CELLS`) x `N_GENES` counts."""
    values, columns, lengths = _block(seed)
    n_blocks = n_cells // BLOCK_CELLS
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
            file.create_group(name).attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
        stored = file.create_group("X")
        shape = np.array([n_blocks * BLOCK_CELLS, N_GENES])
        stored.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": shape})
        indptr = np.concatenate([[0], np.cumsum(np.tile(lengths, n_blocks))])  # below 2^31 up to a million cells
        stored.create_dataset(
            "indptr", data=indptr.astype(np.int32), compression="gzip"
        )  # scanpy fails on mixed index types
        _repeated(stored, "data", values.astype(np.float32), n_blocks)
        _repeated(stored, "indices", columns, n_blocks)
        ad.io.write_elem(file, "obs", _obs(n_blocks * BLOCK_CELLS))
        ad.io.write_elem(file, "var", pd.DataFrame(index=pd.Index(names(), dtype=object)))
    return path


def names() -> list[str]:
    """Return the genes' symbols, mitochondrial, ribosomal and haemoglobin genes among them."""
    special = [f"MT-CO{n}" for n in range(N_MITO)] + [f"RPL{n}" for n in range(N_RIBO)]
    special += ["HBA1", "HBA2", "HBB", "HBD", "HBE1", "HBG1", "HBG2", "HBM"]
    return special + [f"GENE{n}" for n in range(N_GENES - len(special))]


def _block(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return values, columns and row lengths of one block; its number of values is a multiple of `CHUNK_VALUES`."""
    rng = np.random.default_rng(seed)
    weight = rng.lognormal(0, 2.2, N_GENES)
    weight[:N_MITO] = weight.sum() * 0.04 / N_MITO
    edges = np.cumsum(weight / weight.sum())
    depths = rng.lognormal(8.5, 0.4, BLOCK_CELLS).astype(int)
    rows, columns, values = [], [], []
    for depth in depths:
        genes, counts = np.unique(np.searchsorted(edges, rng.uniform(size=depth)), return_counts=True)
        inside = genes < N_GENES
        columns.append(genes[inside].astype(np.int32))
        values.append(counts[inside].astype(np.int32))
        rows.append(int(inside.sum()))
    lengths = np.array(rows)
    surplus = int(lengths.sum()) % CHUNK_VALUES
    return _trimmed(np.concatenate(values), np.concatenate(columns), lengths, surplus)


def _trimmed(
    values: np.ndarray, columns: np.ndarray, lengths: np.ndarray, surplus: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Drop `surplus` values, a few from the end of each row, so that the block is whole chunks."""
    each = np.full(len(lengths), surplus // len(lengths))
    each[: surplus - int(each.sum())] += 1
    ends = np.cumsum(lengths)
    within = np.arange(len(values)) - np.repeat(ends - lengths, lengths)
    kept = within < np.repeat(lengths - each, lengths)
    return values[kept], columns[kept], lengths - each


def _repeated(group: h5py.Group, name: str, values: np.ndarray, n_blocks: int) -> None:
    stored = group.create_dataset(
        name,
        (len(values) * n_blocks,),
        values.dtype,
        chunks=(CHUNK_VALUES,),
        compression="gzip",
        compression_opts=LEVEL,
    )
    starts = range(0, len(values), CHUNK_VALUES)
    packed = [zlib.compress(values[start : start + CHUNK_VALUES].tobytes(), LEVEL) for start in starts]
    for block in range(n_blocks):
        for start, content in zip(starts, packed, strict=True):
            stored.id.write_direct_chunk((block * len(values) + start,), content)


def _obs(n_cells: int) -> pd.DataFrame:
    donor = np.arange(n_cells) // CELLS_PER_DONOR
    return pd.DataFrame(
        {
            "donor": pd.Categorical([f"p{d:03d}" for d in donor]),
            "condition": pd.Categorical(np.where(donor % 2, "ill", "well")),
        },
        index=pd.Index([f"cell{n:07d}" for n in range(n_cells)], dtype=object),
    )
