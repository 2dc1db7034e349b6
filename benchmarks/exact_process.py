"""One fit of one process, so that its memory is its own: `python -m benchmarks.exact_process WHO FOLDER [LOSS]`.

WHO is `swarmcell`, `sklearn-sparse` (scaled, not centred: the intercept makes up for it) or `sklearn-dense`
(standardised). Prints JSON: seconds to the fit (for swarmcell: until its loss is at most LOSS), loss, rounds, MB of
peak memory beyond the loaded cells.
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from benchmarks.merge_cases import one_site
from benchmarks.peak import peak_mb
from swarmcell.model.learning import Learner
from swarmcell.model.state import from_bytes
from swarmcell.model.study import FitRule, Study

L2 = 1e-3


def load(folder: Path) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Return the cells and their types."""
    return sparse.load_npz(folder / "X.npz").tocsr(), np.load(folder / "y.npy")


def swarmcell(X: sparse.csr_matrix, y: np.ndarray, enough: float) -> dict[str, Any]:
    """Fit by the loop of `swarmcell train`, without its files."""
    types = tuple(f"type {i:02d}" for i in range(int(y.max()) + 1))
    study = Study(name="x", modality="rna", stages=("features", "cell"), cell_types=types, cell=FitRule(l2=L2))
    learner, stop = Learner(study, one_site(X, y)), threading.Event()
    began_s = time.perf_counter()
    raw, found = learner.start(), {}
    while not (state := from_bytes(raw)).finished:
        raw = learner.merge(raw, [learner.contribute(raw, stop)]).state
        line = from_bytes(raw).arrays.get("memory.line")
        loss = float(line[0]) / 2**40 if line is not None else 0.0
        if 0 < loss <= enough and not found:
            found = {"seconds": time.perf_counter() - began_s, "loss": loss, "rounds": state.stage_round + 1}
            if "--whole" not in sys.argv:
                return found
    return found | {"whole_seconds": time.perf_counter() - began_s, "whole_rounds": state.results["cell"].rounds}


def sklearn(X: sparse.csr_matrix, y: np.ndarray, *, centred: bool) -> dict[str, Any]:
    """Scale and fit with scikit-learn's defaults, but for the weight of classes and enough iterations."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    began_s = time.perf_counter()
    mean = np.asarray(X.mean(axis=0), np.float64).ravel()
    spread = np.sqrt(np.maximum(np.asarray(X.multiply(X).mean(axis=0)).ravel() - mean**2, 1e-12))
    scaled: Any = (X @ sparse.diags_array(1 / spread)).tocsr()
    if centred:
        scaled = ((X.toarray() - mean.astype(np.float32)) / spread.astype(np.float32)).astype(np.float32)
    fit = LogisticRegression(C=1 / (L2 * len(y)), class_weight="balanced", max_iter=2000).fit(scaled, y)
    seconds = time.perf_counter() - began_s
    return {"seconds": seconds, "loss": _loss(fit, scaled, y), "rounds": int(fit.n_iter_[0])}


def _loss(fit: Any, X: Any, y: np.ndarray) -> float:
    weight = len(y) / (len(fit.classes_) * np.bincount(y))
    total = 0.0
    for start in range(0, len(y), 5000):
        logs, own = fit.predict_log_proba(X[start : start + 5000]), y[start : start + 5000]
        total -= float((weight[own] * logs[np.arange(len(own)), own]).sum())
    return total / len(y) + L2 / 2 * float((fit.coef_**2).sum())


def main() -> None:
    """Fit, and print what it took."""
    who, folder = sys.argv[1], Path(sys.argv[2])
    X, y = load(folder)
    before_mb = peak_mb()
    own = who == "swarmcell"
    found = swarmcell(X, y, float(sys.argv[3])) if own else sklearn(X, y, centred=who == "sklearn-dense")
    print(json.dumps(found | {"memory_mb": peak_mb() - before_mb}))


if __name__ == "__main__":
    main()
