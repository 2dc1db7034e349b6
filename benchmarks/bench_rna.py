# ruff: noqa: PLC0415 (a job imports what it measures, and no more)
"""Preprocessing RNA counts beside plain scanpy, each in its own process: processor time, wall time and peak memory.

Run: `python -m benchmarks rna`, or `python -m benchmarks.bench_rna [--cells 500000] [--repeats 1] [--jobs ours]` for
one size as JSON. Counts are synthetic, made by a seed (`rna_counts.py`).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import rna_counts
from benchmarks.figures import Figure
from benchmarks.peak import peak_mb

REPEATS = 3
ROOT = Path(__file__).parents[1]
N_CELLS, DOUBLET_CELLS = 100_000, 20_000
GOALS = {"cpu_max": 0.35, "wall_max": 0.5, "memory_max": 0.15, "memory_mb_max": 1000}
Run = dict[str, float]


def _command(source: str, out: str, *options: str) -> None:
    from swarmcell.cli.app import app

    app(["preprocess", source, "--out", out, "--quiet", "--force", *options], standalone_mode=False)


def ours(source: str, out: str) -> None:
    _command(source, out, "--doublets", "off")


def with_doublets(source: str, out: str) -> None:
    _command(source, out)


def plain_scanpy(source: str, out: str) -> None:
    """Do what a notebook after the best-practices book does: metrics, outliers per sample, log1p CP10k, write."""
    import numpy as np
    import scanpy as sc

    adata = sc.read_h5ad(source)
    for name, prefix in (("mt", "MT-"), ("ribo", ("RPS", "RPL")), ("hb", "HB")):
        adata.var[name] = adata.var_names.str.startswith(prefix)
    sc.pp.calculate_qc_metrics(adata, qc_vars=["mt", "ribo", "hb"], percent_top=[20], inplace=True)
    obs = adata.obs
    kept = (obs["n_genes_by_counts"] >= 200) & (obs["total_counts"] >= 500) & (obs["pct_counts_mt"] <= 8)
    for name in ("log1p_total_counts", "log1p_n_genes_by_counts", "pct_counts_in_top_20_genes"):
        centre = obs.groupby("donor", observed=True)[name].transform("median")
        mad = (obs[name] - centre).abs().groupby(obs["donor"], observed=True).transform("median")
        kept &= (obs[name] - centre).abs() <= 5 * mad
    adata = adata[np.asarray(kept)].copy()
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.write_h5ad(out, compression="gzip")


JOBS: dict[str, Callable[[str, str], None]] = {job.__name__: job for job in (ours, plain_scanpy, with_doublets)}


def measured(job: str, source: Path, folder: Path) -> Run:
    """Run one job in a process of its own; what is measured holds Python and its imports."""
    out = folder / "out.h5ad"
    command = [sys.executable, "-m", "benchmarks.bench_rna", "--job", job, str(source), str(out)]
    began = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        said, complaint = child.communicate()
        wall_s = time.perf_counter() - began
    if child.returncode:
        raise RuntimeError(complaint)
    size_mb = out.stat().st_size / 1e6
    out.unlink()
    return {"wall_s": wall_s, "size_mb": size_mb, **json.loads(said)}


def run_job(job: str, source: str, out: str) -> None:
    JOBS[job](source, out)
    print(json.dumps({"cpu_s": sum(os.times()[:4]), "peak_mb": peak_mb()}))


def compared(n_cells: int, repeats: int, jobs: Sequence[str]) -> dict[str, list[Run]]:
    """Return the runs of each job on the same cells, in turn, so that a busy machine hurts all alike."""
    with tempfile.TemporaryDirectory() as scratch:
        source = rna_counts.write(Path(scratch) / "cells.h5ad", n_cells)
        runs: dict[str, list[Run]] = {job: [] for job in jobs}
        for _ in range(repeats):
            for job in jobs:
                runs[job].append(measured(job, source, Path(scratch)))
        return runs


def figures(repeats: int) -> Iterator[Figure]:
    """Yield our time and memory, and their shares of plain scanpy's, run by run."""
    runs = compared(N_CELLS, repeats, ("ours", "plain_scanpy"))
    what = f"{N_CELLS:,} cells x {rna_counts.N_GENES:,} genes"
    for key, name, unit in (("cpu_s", "processor time", "s"), ("wall_s", "wall time", "s"), ("peak_mb", "peak", "MB")):
        for job, who in (("plain_scanpy", "scanpy"), ("ours", "swarmcell")):
            yield Figure(f"{what}: {name}, {who}", unit, tuple(run[key] for run in runs[job]))
    pairs = list(zip(runs["ours"], runs["plain_scanpy"], strict=True))
    for key, name, goal in (
        ("cpu_s", "processor time", "cpu_max"),
        ("wall_s", "wall time", "wall_max"),
        ("peak_mb", "peak memory", "memory_max"),
    ):
        yield Figure(f"{what}: {name} beside scanpy", "x", tuple(a[key] / b[key] for a, b in pairs), GOALS[goal])
    yield from _doublets()


def _doublets() -> Iterator[Figure]:
    """Yield what Scrublet adds, on fewer cells: it takes as long for each sample."""
    runs = compared(DOUBLET_CELLS, 1, ("ours", "with_doublets"))
    what = f"{DOUBLET_CELLS:,} cells, samples of {rna_counts.CELLS_PER_DONOR:,}: doublets"
    added = runs["with_doublets"][0]["cpu_s"] - runs["ours"][0]["cpu_s"]
    yield Figure(f"{what} add, processor time", "s", (added,))
    yield Figure(f"{what} included, peak", "MB", (runs["with_doublets"][0]["peak_mb"],), GOALS["memory_mb_max"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", nargs=3)
    parser.add_argument("--cells", type=int, default=N_CELLS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS))
    options = parser.parse_args()
    if options.job:
        run_job(*options.job)
        return
    print(json.dumps(compared(options.cells, options.repeats, options.jobs), indent=2))


if __name__ == "__main__":
    main()
