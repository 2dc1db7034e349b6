# ruff: noqa: PLC0415 (a job imports what it measures, and no more)
"""Time and memory of `evaluate` and `predict` on a large prepared file, half of its donors held out.

Run: `python -m benchmarks evaluate`; SWARMCELL_BENCH_CELLS sets the number of cells (default 200,000). The cells are
drawn by a seed: 500 genes, a tenth of the values are not zero. Each command is a process of its own, and its memory is
the most that it ever held.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from benchmarks.figures import Figure

REPEATS = 1
N_CELLS = int(os.environ.get("SWARMCELL_BENCH_CELLS", "200000"))
N_GENES, N_VALUES, N_DONORS = 500, 50, 40
MEMORY_GOAL_MB = 2000
TYPES = ("B cell", "NK cell", "T cell", "monocyte")


def prepared(n_cells: int, path: Path) -> Path:
    """Write a prepared file: 40 donors, every second one held out and every second one ill."""
    import anndata as ad

    from swarmcell.cells import panel, schema

    rng = np.random.default_rng(0)
    pattern = np.concatenate([np.sort(rng.choice(N_GENES, N_VALUES, replace=False)) for _ in range(2000)])
    indices = np.resize(pattern, n_cells * N_VALUES).astype(np.int32)
    values = rng.lognormal(0, 0.5, len(indices)).astype(np.float32)
    code = rng.integers(0, len(TYPES), n_cells)
    values[indices % len(TYPES) == np.repeat(code, N_VALUES)] += 1.0
    X = sparse.csr_matrix((values, indices, np.arange(n_cells + 1) * N_VALUES), shape=(n_cells, N_GENES))
    donor = np.arange(n_cells) * N_DONORS // n_cells
    name = np.array([f"donor-{d}" for d in range(N_DONORS)])
    labels = {
        "donor": name[donor],
        "sample": name[donor],
        "site": np.full(n_cells, "site-a"),
        "condition": np.where(donor // 2 % 2, "ill", "healthy"),
        "cell_type": np.array(TYPES)[code],
        "split": np.where(donor % 2, "held_out", "train"),
    }
    universe = panel.from_ids([f"ENSG{i:011d}" for i in range(N_GENES)], [f"G{i}" for i in range(N_GENES)], name="b")
    var = pd.DataFrame({"symbol": list(universe.symbols), "present": True}, index=pd.Index(universe.ids, dtype=object))
    obs = pd.DataFrame(labels, index=pd.Index([f"c{i}" for i in range(n_cells)], dtype=object))
    adata = ad.AnnData(X, obs, var)
    adata.uns[schema.UNS] = schema.contents(
        modality="rna", source_kind="lognorm", universe=universe, qc={}, provenance={}
    )
    schema.write_prepared(schema.plain(adata), path)
    return path


def run(folder: Path, *arguments: str) -> tuple[float, float]:
    """Run a command; return its seconds and the most memory (MB) that it held."""
    began_s = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "swarmcell", *arguments, "--quiet"],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        msg = f"exit code {process.returncode}: {' '.join(arguments)}"
        raise RuntimeError(msg)
    return time.perf_counter() - began_s, usage.ru_maxrss / 1000


def figures(repeats: int) -> Iterator[Figure]:
    """Yield seconds and memory of each command."""
    with tempfile.TemporaryDirectory(prefix="swarmcell-") as name:
        folder = Path(name)
        prepared(8000, folder / "small.h5ad")
        run(folder, "train", "small.h5ad", "--threads", "1")
        prepared(N_CELLS, folder / "large.h5ad")
        model = str(next((folder / "runs").glob("*/local.safetensors")))
        (Path(model).parent / "run.json").unlink()  # the large file's donors have the names of the small one's
        commands: dict[str, Any] = {
            "evaluate": ("evaluate", model, "large.h5ad", "--out", "evaluation", "--force"),
            "predict": ("predict", model, "large.h5ad", "--out", "predicted.h5ad", "--force"),
            "predict --explain": ("predict", model, "large.h5ad", "--out", "p.h5ad", "--force", "--explain"),
        }
        for what, arguments in commands.items():
            taken = [run(folder, *arguments) for _ in range(repeats)]
            yield Figure(f"`{what}`, {N_CELLS:,} cells", "s", tuple(s for s, _ in taken))
            yield Figure(f"`{what}`, {N_CELLS:,} cells", "MB", tuple(mb for _, mb in taken), MEMORY_GOAL_MB)
