"""Swarms of five sites in one process: how cells are dealt to sites, how one lies, and what a merge makes of it.

Rules: the sets are small and public, and the held-out cells are of the donors that were trained on: what is compared
is merges with each other and with the pooled fit, not how a model travels to new patients. A merge runs as in a swarm,
through `Learner.contribute` and `Learner.merge`.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import anndata as ad
import numpy as np
import scanpy as sc
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from swarmcell.model.classifier import Scaling, logits, softmax, to_floats
from swarmcell.model.contribution import Contribution
from swarmcell.model.encoding import Array, Named, decode, encode
from swarmcell.model.learning import Learner
from swarmcell.model.released import parameters_of
from swarmcell.model.state import MergedState, from_bytes
from swarmcell.model.study import FitRule, Study
from swarmcell.model.training_cells import TrainingCells

DATA = Path(__file__).parents[2] / "shared" / "data" / "rna"
SITES, N_GENES, N_CELLS = 5, 500, 1000
L2 = 1e-3
ROUNDS = 40
ADAM = {"l2": L2, "rounds_max": ROUNDS, "learning_rate": 0.003}
DESCENT = {"l2": L2, "rounds_max": 60, "learning_rate": 0.05, "epochs_per_round": 10}
RULES: Mapping[str, FitRule] = {
    "exact-sum": FitRule(l2=L2, tolerance=1e-5),  # labels stand still long before probabilities do
    "fedavg": FitRule(merge="fedavg", **ADAM),
    "fedprox": FitRule(merge="fedprox", proximal=0.1, **ADAM),
    "scaffold": FitRule(merge="scaffold", **DESCENT),
    "fednova": FitRule(merge="fednova", **DESCENT),
    "fedadam": FitRule(merge="fedadam", **ADAM),
    "median": FitRule(merge="median", **ADAM),
    "trimmed-mean": FitRule(merge="trimmed-mean", **ADAM),
    "multi-krum": FitRule(merge="multi-krum", **ADAM),
    "geometric-median": FitRule(merge="geometric-median", **ADAM),
}
ROBUST = ("median", "trimmed-mean", "multi-krum", "geometric-median")
FAMILY = ("fedavg", "fedprox", "scaffold", "fednova", "fedadam")


@dataclass(frozen=True)
class Cells:
    """Log-normalised cells of one set and their types, some of them held out."""

    X: sparse.csr_matrix
    y: np.ndarray
    held_out: np.ndarray


def pbmc68k(rng: np.random.Generator) -> Cells:
    """700 PBMC of one donor, 10 types, which scanpy ships."""
    adata = sc.datasets.pbmc68k_reduced()
    return _cells(sparse.csr_matrix(adata.raw.X), adata.obs["bulk_labels"], rng)


def kang3(rng: np.random.Generator) -> Cells:
    """1,000 of 9,516 PBMC of three lupus patients, 8 types, 100 genes."""
    return _normalised("kang3_100genes", rng)


def mixology(rng: np.random.Generator) -> Cells:
    """811 cells of five lung cancer lines, CEL-seq2."""
    return _normalised("mixology_celseq2_singlets", rng)


SETS: Mapping[str, Callable[[np.random.Generator], Cells]] = {
    "pbmc68k_reduced": pbmc68k,
    "kang3": kang3,
    "mixology": mixology,
}


def _normalised(name: str, rng: np.random.Generator) -> Cells:
    adata = ad.read_h5ad(DATA / f"{name}.h5ad")
    adata = adata[np.sort(rng.permutation(adata.n_obs)[:N_CELLS])].copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return _cells(sparse.csr_matrix(adata.X), adata.obs["cell_type"], rng)


def _cells(X: sparse.csr_matrix, labels: Sequence[str], rng: np.random.Generator) -> Cells:
    y = np.unique(np.asarray(labels, str), return_inverse=True)[1].astype(np.int64)
    spread = np.asarray(X.multiply(X).mean(axis=0)).ravel() - np.asarray(X.mean(axis=0)).ravel() ** 2
    genes = np.sort(np.argsort(-spread, kind="stable")[:N_GENES])
    held_out = np.zeros(len(y), bool)
    for kind in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == kind))
        held_out[rows[: max(1, round(0.3 * len(rows)))]] = True
    return Cells(X[:, genes].astype(np.float32).tocsr(), y, held_out)


def iid(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deal each cell to any site."""
    return rng.integers(0, SITES, len(y))


def dirichlet(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deal each type's cells by shares drawn from Dirichlet(0.3)."""
    of = np.zeros(len(y), np.int64)
    for kind in np.unique(y):
        rows = np.flatnonzero(y == kind)
        of[rows] = rng.choice(SITES, len(rows), p=rng.dirichlet(np.full(SITES, 0.3)))
    return of


def two_sites(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deal each type's cells to two sites only."""
    of = np.zeros(len(y), np.int64)
    for kind in np.unique(y):
        rows = np.flatnonzero(y == kind)
        of[rows] = rng.choice(rng.permutation(SITES)[:2], len(rows))
    return of


SPLITS = {"iid": iid, "Dirichlet(0.3)": dirichlet, "two sites per type": two_sites}


def learners(cells: Cells, of: np.ndarray, rule: FitRule, *, flipped: int = -1) -> list[Learner]:
    """Return a learner per site that has cells; `flipped` is the site whose labels are reversed."""
    types = tuple(f"type {i:02d}" for i in range(int(cells.y.max()) + 1))
    study = Study(name="merges", modality="rna", stages=("features", "cell"), cell_types=types, cell=rule)
    train = np.flatnonzero(~cells.held_out)
    made = []
    for site in sorted(set(of.tolist())):
        rows = train[of == site]
        y = len(types) - 1 - cells.y[rows] if site == flipped else cells.y[rows]
        made.append(Learner(study, one_site(cells.X[rows], y), threads=1))
    return made


def one_site(X: sparse.csr_matrix, y: np.ndarray) -> TrainingCells:
    """Return cells as one site's, all for training."""
    return TrainingCells(
        X=X,
        feature_ids=tuple(f"g{i}" for i in range(X.shape[1])),
        universe_sha256="",
        modality="rna",
        cell_type=y,
        sample=np.zeros(len(y), np.int64),
        validation=np.zeros(len(y), bool),
        sample_condition=np.full(1, -1, np.int64),
        sample_validation=np.zeros(1, bool),
        donors=("d",),
    )


Lie = Callable[[MergedState, Contribution], Contribution]


def learn(sites: Sequence[Learner], lie: Lie | None = None) -> MergedState:
    """Run a study to its end; the first site lies from the first round of fitting on."""
    raw, stop = sites[0].start(), threading.Event()
    while not (state := from_bytes(raw)).finished:
        parts = [replace(site.contribute(raw, stop), author=f"site {i}") for i, site in enumerate(sites)]
        if lie and state.phase == "fit":
            parts[0] = lie(state, parts[0])
        raw = sites[0].merge(raw, parts).state
    return state


def changed(contribution: Contribution, change: Callable[[str, Array], Array]) -> Contribution:
    """Return a contribution with its learnt arrays changed."""
    named = decode(contribution.parameters)
    kept = ("by_class", "steps")
    arrays = {name: a if name in kept else change(name, a).astype(a.dtype) for name, a in named.arrays.items()}
    return replace(contribution, parameters=encode(Named(named.header, arrays)))


def noise(state: MergedState, part: Contribution) -> Contribution:
    """Send normal noise of unit variance (of a fixed seed per round) instead of parameters or sums."""
    rng = np.random.default_rng(state.round)
    return changed(part, lambda n, a: np.abs(a) if n == "loss" else rng.normal(size=a.shape) * _unit(a))


def flipped_sign(state: MergedState, part: Contribution) -> Contribution:
    """Send the update with its sign flipped, four times as long."""
    now = state.group("now")

    def flip(name: str, array: Array) -> Array:
        if name == "loss":
            return array
        start = now[name] if name in now and now[name].dtype == array.dtype and array.dtype.itemsize == 4 else 0
        return np.clip(start - 4.0 * (array - start), -_last(array), _last(array))

    return changed(part, flip)


def _unit(array: Array) -> float:
    return float(1 << (22 if array.dtype.itemsize == 4 else 40))


def _last(array: Array) -> float:
    return float((1 << 31) - 1 if array.dtype.itemsize == 4 else 1 << 50)


ATTACKS: Mapping[str, Lie | None] = {"noise": noise, "sign flipped": flipped_sign, "labels reversed": None}


def probabilities(cells: Cells, state: MergedState) -> np.ndarray:
    """Return the cell model's probabilities of all cells."""
    scaling = Scaling.from_fixed(state.arrays["mean"], state.arrays["scale"])
    return softmax(logits(to_floats(parameters_of(state, "cell")), cells.X, scaling))


def oracle(cells: Cells) -> np.ndarray:
    """Return the same of scikit-learn's class-balanced fit to all training cells."""
    dense, train = cells.X.toarray().astype(np.float64), ~cells.held_out
    spread = dense[train].std(axis=0)
    scaled = (dense - dense[train].mean(axis=0)) / np.where(spread > 0, spread, 1)
    fit = LogisticRegression(
        C=1 / (L2 * train.sum()), class_weight="balanced", tol=1e-10, max_iter=20_000, solver="newton-cg"
    )
    return fit.fit(scaled[train], cells.y[train]).predict_proba(scaled)


def macro_f1(cells: Cells, state: MergedState) -> float:
    """Return the macro-F1 of a finished study's cell model on the held-out cells."""
    scaling = Scaling.from_fixed(state.arrays["mean"], state.arrays["scale"])
    outputs = logits(to_floats(parameters_of(state, "cell")), cells.X[cells.held_out], scaling)
    return float(f1_score(cells.y[cells.held_out], outputs.argmax(axis=1), average="macro", zero_division=0))
