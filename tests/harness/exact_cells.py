"""Cells for the facts about exact fits: a small pool, any partition of it into sites, scikit-learn as the oracle."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from swarmcell.model.classifier import Scaling, logits, softmax, to_floats
from swarmcell.model.learning import Learner
from swarmcell.model.state import MergedState, from_bytes
from swarmcell.model.study import FitRule, Study
from swarmcell.model.training_cells import TrainingCells

N_CELLS, N_GENES, N_TYPES = 240, 15, 4
RULE = FitRule(l2=1e-3)
STUDY = Study(
    name="exact",
    modality="rna",
    stages=("features", "cell"),
    cell_types=tuple(f"type {i}" for i in range(N_TYPES)),
    cell=RULE,
)


def pool(seed: int = 0) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Return cells of four unequal types that overlap, and their types."""
    rng = np.random.default_rng(seed)
    y = rng.choice(N_TYPES, N_CELLS, p=(0.5, 0.3, 0.15, 0.05))
    level = rng.gamma(1.0, 1.0, (N_TYPES, N_GENES))
    return sparse.csr_matrix(np.log1p(rng.poisson(level[y])).astype(np.float32)), y.astype(np.int64)


def site(X: sparse.csr_matrix, y: np.ndarray) -> TrainingCells:
    """Return these cells as one site's, without inner validation."""
    n = len(y)
    return TrainingCells(
        X=X,
        feature_ids=tuple(f"g{i}" for i in range(X.shape[1])),
        universe_sha256="",
        modality="rna",
        cell_type=y,
        sample=np.zeros(n, np.int64),
        validation=np.zeros(n, bool),
        sample_condition=np.full(1, -1, np.int64),
        sample_validation=np.zeros(1, bool),
        donors=("d",),
    )


def learn(study: Study, learners: dict[str, Learner], *, away: dict[int, set[str]] | None = None) -> MergedState:
    """Run rounds until the study ends; `away` names, by round, the sites that do not contribute to it."""
    merging = next(iter(learners.values()))
    raw, stop = merging.start(), threading.Event()
    while not (state := from_bytes(raw)).finished:
        there = [name for name in learners if name not in (away or {}).get(state.round, set())]
        parts = [replace(learners[name].contribute(raw, stop), author=name) for name in there]
        outcome = merging.merge(raw, parts)
        assert outcome.left_out == {}
        raw = outcome.state
    return state


def split(X: sparse.csr_matrix, y: np.ndarray, sites: Sequence[int], study: Study = STUDY) -> dict[str, Learner]:
    """Return a learner per site; `sites[i]` is the site of cell i."""
    of = np.asarray(sites)
    return {f"site-{k}": Learner(study, site(X[of == k], y[of == k])) for k in sorted(set(sites))}


def probabilities(state: MergedState, X: sparse.csr_matrix) -> np.ndarray:
    """Return the finished cell model's probabilities."""
    scaling = Scaling.from_fixed(state.arrays["mean"], state.arrays["scale"])
    return softmax(logits(to_floats({n: state.arrays[f"cell.{n}"] for n in ("bias", "weight")}), X, scaling))


def oracle(X: sparse.csr_matrix, y: np.ndarray, l2: float) -> np.ndarray:
    """Return the probabilities of scikit-learn's class-balanced fit to all cells."""
    dense = X.toarray().astype(np.float64)
    spread = dense.std(axis=0)
    scaled = (dense - dense.mean(axis=0)) / np.where(spread > 0, spread, 1)
    fit = LogisticRegression(C=1 / (l2 * len(y)), class_weight="balanced", tol=1e-10, max_iter=20_000)
    return fit.fit(scaled, y).predict_proba(scaled)
