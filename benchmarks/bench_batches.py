# ruff: noqa: PLC0415 (a job imports what it measures, and no more)
"""Batches of 1,024 cells x 2,000 genes: in memory beside anndata's AnnLoader, and from h5ad and zarr on disk.

Run: `python -m benchmarks batches`. The cells are drawn by a seed: a tenth of the values are not zero. Rates are
medians of passes over all cells, ours and the peer's in turns; the files on disk are compressed, as `preprocess` and
anndata write them, and lie in the system's cache.
"""

import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from benchmarks.figures import Figure

REPEATS = 5
N_CELLS, N_GENES, ROWS, FILLED = 120_000, 2_000, 1_024, 0.1
PEER_CELLS = 30_000  # AnnLoader is slower: fewer cells give its rate as well


def cells() -> Any:
    """Return log-normal values as CSR, float32."""
    rng = np.random.default_rng(0)
    n_values = int(N_GENES * FILLED)
    indices = np.concatenate([np.sort(rng.choice(N_GENES, n_values, replace=False)) for _ in range(2_000)])
    indices = np.tile(indices, N_CELLS // 2_000)
    values = rng.lognormal(0, 0.5, len(indices)).astype(np.float32)
    pointers = np.arange(N_CELLS + 1) * n_values
    return sparse.csr_matrix((values, indices, pointers), shape=(N_CELLS, N_GENES))


def rate(passes: Iterator[Any]) -> float:
    """Return the number of cells per second that come out of an iterator of batches."""
    began_s, n = time.perf_counter(), 0
    for batch in passes:
        n += batch.X.shape[0]
    return n / (time.perf_counter() - began_s)


def ours(X: Any, seed: int) -> float:
    from swarmcell.cells.batches import batches

    return rate(batches(X, np.arange(X.shape[0]), n_rows=ROWS, rng=np.random.default_rng(seed)))


def annloader(X: Any) -> float:
    import anndata as ad

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from anndata.experimental.pytorch import AnnLoader

        return rate(iter(AnnLoader(ad.AnnData(X[:PEER_CELLS]), batch_size=ROWS, shuffle=True)))


def on_disk(X: Any, path: Path) -> Any:
    """Write X as `preprocess` does (h5ad), or as anndata does (zarr), and return it as rows on disk."""
    import anndata as ad
    import pandas as pd

    from swarmcell.cells.stored import StoredRows, open_store
    from swarmcell.cells.writer import PreparedWriter

    if path.suffix == ".h5ad":
        writer = PreparedWriter(path, N_GENES, with_counts=False)
        writer.add(X, None)
        names = {"index": [str(i) for i in range(N_CELLS)]}
        writer.finish(pd.DataFrame(names).set_index("index"), pd.DataFrame(index=list(map(str, range(N_GENES)))), {})
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ad.AnnData(X).write_zarr(path)
    return StoredRows.of(open_store(path)["X"], np.arange(N_CELLS), source=path.name)


def figures(repeats: int) -> Iterator[Figure]:
    X = cells()
    with tempfile.TemporaryDirectory() as folder:
        h5ad, zarr = (on_disk(X, Path(folder, f"cells.{suffix}")) for suffix in ("h5ad", "zarr"))
        jobs: dict[str, tuple[Callable[[int], float], float | None]] = {
            "in memory (CSR)": (lambda seed: ours(X, seed), 300_000),
            "in memory, AnnLoader": (lambda _: annloader(X), None),
            "from disk, h5ad": (lambda seed: ours(h5ad, seed), 60_000),
            "from disk, zarr": (lambda seed: ours(zarr, seed), 60_000),
        }
        rates: dict[str, list[float]] = {what: [] for what in jobs}
        for seed in range(repeats):
            for what, (job, _) in jobs.items():
                rates[what].append(job(seed))
        for what, (_, goal_min) in jobs.items():
            yield Figure(f"batches {what}", "cells/s", tuple(rates[what]), goal_min=goal_min)


if __name__ == "__main__":
    sys.exit("Run: python -m benchmarks batches")
