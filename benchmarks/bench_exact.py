"""The exact logistic regression beside scikit-learn's: time to an equal loss at one site, memory beyond the cells."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from benchmarks.figures import Figure

REPEATS = 1  # minutes each
N_CELLS = int(os.environ.get("SWARMCELL_BENCH_CELLS", "100000"))
N_GENES, N_TYPES = 2000, 20


def figures(repeats: int) -> Iterator[Figure]:
    """Fit in turn with scikit-learn and with ours, each in a process of its own, on simulated cells."""
    size = f"{N_CELLS:,} cells x {N_GENES:,} genes x {N_TYPES} types"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        density = write_cells(folder)
        pairs = []
        for _ in range(repeats):
            peer = fitted("sklearn-sparse", folder)
            pairs.append((peer, fitted("swarmcell", folder, str(peer["loss"] * (1 + 1e-6)))))
    peers, ours = zip(*pairs, strict=True)
    yield Figure(f"share of non-zero values, {size}", "%", (100 * density,))
    yield Figure("scikit-learn, scaled CSR", "s", _each(peers, "seconds"))
    yield Figure("scikit-learn, iterations", "", _each(peers, "rounds"))
    yield Figure("swarmcell, to the same loss", "s", _each(ours, "seconds"))
    yield Figure("swarmcell, rounds to the same loss", "", _each(ours, "rounds"))
    ratios = tuple(own["seconds"] / peer["seconds"] for peer, own in pairs)
    yield Figure("time beside scikit-learn", "x", ratios, 0.5)
    yield Figure("swarmcell, memory beyond the cells", "MB", _each(ours, "memory_mb"), 1000)
    yield Figure("scikit-learn, memory beyond the cells", "MB", _each(peers, "memory_mb"))


def write_cells(folder: Path) -> float:
    """Write simulated cells of 20 types, and return the share of their values that is not zero."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, N_TYPES, N_CELLS)
    level = 0.3 * rng.gamma(0.3, 1.0, N_GENES)
    marked = rng.random((N_TYPES, N_GENES)) < 0.1
    rates = level * np.exp(rng.normal(0, 0.6, (N_TYPES, N_GENES)) * marked)
    parts = []
    for start in range(0, N_CELLS, 5000):
        own = y[start : start + 5000]
        counts = rng.poisson(rates[own] * rng.gamma(4, 0.25, (len(own), 1)))
        parts.append(sparse.csr_matrix(np.log1p(4.0 * counts).astype(np.float32)))
    X = sparse.vstack(parts, format="csr")
    sparse.save_npz(folder / "X.npz", X, compressed=False)
    np.save(folder / "y.npy", y)
    return float(X.nnz / np.prod(X.shape))


def fitted(*arguments: str | Path) -> dict[str, Any]:
    """Run one fit in a process of its own."""
    who, folder, *rest = map(str, arguments)
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.exact_process", who, folder, *rest]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout))


def _each(found: tuple[dict[str, Any], ...], key: str) -> tuple[float, ...]:
    return tuple(float(one[key]) for one in found)
