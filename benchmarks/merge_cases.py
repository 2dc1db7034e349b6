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
LEAST_CELLS = 10  # a type with fewer is left out of the folds
N_FOLDS: Mapping[str, int] = {"pbmc68k_reduced": 3, "kang3": 3, "mixology": 2, "pbmc_3prime": 2}
L2 = 1e-3
LOCAL = {
    "l2": L2,
    "steps_per_round": 10,
    "rounds_max": 40,
}  # all sites hold fewer cells than a batch: an epoch would be one step
AVERAGES: Mapping[str, FitRule] = {
    "fedavg": FitRule(merge="fedavg", **LOCAL),
    "fedprox": FitRule(merge="fedprox", proximal=0.1, **LOCAL),
    "scaffold": FitRule(merge="scaffold", **LOCAL),
    "fednova": FitRule(merge="fednova", **LOCAL),
    "fedadam": FitRule(merge="fedadam", **LOCAL),
    "median": FitRule(merge="median", **LOCAL),
    "trimmed-mean": FitRule(merge="trimmed-mean", **LOCAL),
    "multi-krum": FitRule(merge="multi-krum", **LOCAL),
    "geometric-median": FitRule(merge="geometric-median", **LOCAL),
}
RULES: Mapping[str, FitRule] = {
    "exact-sum": FitRule(l2=L2, tolerance=1e-8),  # labels stand still long before probabilities do
    **AVERAGES,
}
ROBUST = ("median", "trimmed-mean", "multi-krum", "geometric-median")
FAMILY = ("fedavg", "fedprox", "scaffold", "fednova", "fedadam")


@dataclass(frozen=True)
class Cells:
    """Log-normalised cells of one set and their types, some of them held out; `batch` says who measured them."""

    X: sparse.csr_matrix
    y: np.ndarray
    held_out: np.ndarray
    batch: np.ndarray


@dataclass(frozen=True)
class Measured:
    """A published set: log-normalised cells, their types, and the donors or batches that they are of."""

    X: sparse.csr_matrix
    labels: np.ndarray
    unit: np.ndarray


def pbmc68k() -> Measured:
    """700 PBMC of one donor, 10 types, which scanpy ships."""
    adata = sc.datasets.pbmc68k_reduced()
    return _measured(adata.raw.X, adata.obs["bulk_labels"], np.zeros(adata.n_obs))


def kang3() -> Measured:
    """9,516 PBMC of three lupus patients, 8 types, 100 genes."""
    return normalised("kang3_100genes", "donor")


def mixology() -> Measured:
    """811 cells of five lung cancer lines, CEL-seq2, four batches."""
    return normalised("mixology_celseq2_singlets", "study")


def pbmc_3prime() -> Measured:
    """770 PBMC by two chemistries of 10x, log-normalised by whoever published them."""
    adata = ad.read_h5ad(DATA / "pbmc_3prime_lognorm.h5ad")
    return _measured(adata.X, adata.obs["cell_type"], adata.obs["study"])


SETS: Mapping[str, Callable[[], Measured]] = {
    "pbmc68k_reduced": pbmc68k,
    "kang3": kang3,
    "mixology": mixology,
    "pbmc_3prime": pbmc_3prime,
}


def normalised(name: str, unit: str) -> Measured:
    """Return a set of raw counts as log1p of counts per 10,000; `unit` is the column of donors or batches."""
    adata = ad.read_h5ad(DATA / f"{name}.h5ad")
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return _measured(adata.X, adata.obs["cell_type"], adata.obs[unit])


def _measured(X: object, labels: Sequence[str], unit: Sequence[object]) -> Measured:
    coded = np.unique(np.asarray(unit, str), return_inverse=True)[1]
    return Measured(sparse.csr_matrix(X, dtype=np.float32), np.asarray(labels, str), coded)


def drawn(name: str, seed: int) -> Cells:
    """Return up to 1,000 cells of a set, 30 % of each type held out."""
    rng, whole = np.random.default_rng(seed), SETS[name]()
    rows = np.sort(rng.permutation(len(whole.labels))[:N_CELLS])
    held_out = np.zeros(len(rows), bool)
    for kind in np.unique(whole.labels[rows]):
        of_kind = rng.permutation(np.flatnonzero(whole.labels[rows] == kind))
        held_out[of_kind[: max(1, round(0.3 * len(of_kind)))]] = True
    return _cells(whole, rows, held_out)


def folds(name: str) -> list[Cells]:
    """Return a set in its folds: of `kang3` each holds one patient out; of the others as many cells of each type.

    So each cell is judged once by models that never saw it (of `kang3`, up to 1,000 of each patient).
    """
    rng, whole = np.random.default_rng(0), SETS[name]()
    of = np.zeros(len(whole.labels), np.int64) - 1
    for kind in np.unique(whole.labels):
        rows = rng.permutation(np.flatnonzero(whole.labels == kind))
        if len(rows) >= LEAST_CELLS:
            of[rows] = np.arange(len(rows)) % N_FOLDS[name]
    if name == "kang3":
        of = whole.unit
    return [_fold(whole, of, fold, rng) for fold in range(N_FOLDS[name])]


def _fold(whole: Measured, of: np.ndarray, fold: int, rng: np.random.Generator) -> Cells:
    train, test = (rng.permutation(np.flatnonzero(mask))[:N_CELLS] for mask in ((of >= 0) & (of != fold), of == fold))
    rows = np.sort(np.concatenate([train, test]))
    return _cells(whole, rows, np.isin(rows, test))


def _cells(whole: Measured, rows: np.ndarray, held_out: np.ndarray) -> Cells:
    """Return some cells on the genes that vary most among those of training."""
    known, X = np.unique(whole.labels), whole.X[rows]
    genes = most_variable(X[~held_out], N_GENES)
    return Cells(X[:, genes].tocsr(), np.searchsorted(known, whole.labels[rows]), held_out, whole.unit[rows])


def most_variable(X: sparse.csr_matrix, n: int) -> np.ndarray:
    """Return the places of the `n` genes of the largest variance, in order."""
    spread = np.asarray(X.multiply(X).mean(axis=0)).ravel() - np.asarray(X.mean(axis=0)).ravel() ** 2
    return np.sort(np.argsort(-spread, kind="stable")[:n])


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
BY_BATCH = "one batch per site"


def dealt(cells: Cells, split: str, seed: Sequence[int]) -> np.ndarray:
    """Return the site of each training cell."""
    train = ~cells.held_out
    return cells.batch[train] if split == BY_BATCH else SPLITS[split](cells.y[train], np.random.default_rng(seed))


def learners(cells: Cells, of: np.ndarray, rule: FitRule, *, flipped: int = -1) -> list[Learner]:
    """Return a learner per site that has cells; `flipped` is the site whose labels are reversed."""
    types = tuple(f"type {i:02d}" for i in range(int(cells.y.max()) + 1))
    study = Study(name="merges", modality="rna", stages=("features", "cell"), cell_types=types, cell=rule)
    train, X = np.flatnonzero(~cells.held_out), cells.X.toarray()  # dense: small batches of a CSR are mostly overhead
    made = []
    for site in sorted(set(of.tolist())):
        rows = train[of == site]
        y = len(types) - 1 - cells.y[rows] if site == flipped else cells.y[rows]
        made.append(Learner(study, one_site(X[rows], y), threads=1))
    return made


def one_site(X: sparse.csr_matrix | np.ndarray, y: np.ndarray) -> TrainingCells:
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


def oracle(cells: Cells, rows: np.ndarray | None = None, *, tol: float = 1e-10) -> np.ndarray:
    """Return the probabilities of all cells by scikit-learn's class-balanced fit to some training cells, or to all.

    Shape `(n_cells, n_types)`: a type that is not among these cells has none.
    """
    rows = np.flatnonzero(~cells.held_out) if rows is None else rows
    dense, found = cells.X.toarray().astype(np.float64), np.zeros((len(cells.y), int(cells.y.max()) + 1))
    present = np.unique(cells.y[rows])
    if len(present) == 1:
        found[:, present] = 1.0
        return found
    spread = dense[rows].std(axis=0)
    scaled = (dense - dense[rows].mean(axis=0)) / np.where(spread > 0, spread, 1)
    fit = LogisticRegression(
        C=1 / (L2 * len(rows)), class_weight="balanced", tol=tol, max_iter=20_000, solver="newton-cg"
    )
    found[:, present] = fit.fit(scaled[rows], cells.y[rows]).predict_proba(scaled)
    return found


def called(cells: Cells, state: MergedState) -> np.ndarray:
    """Return the types that a finished study's cell model gives the held-out cells."""
    scaling = Scaling.from_fixed(state.arrays["mean"], state.arrays["scale"])
    return logits(to_floats(parameters_of(state, "cell")), cells.X[cells.held_out], scaling).argmax(axis=1)


def macro_f1(cells: Cells, state: MergedState) -> float:
    """Return the macro-F1 of a finished study's cell model on the held-out cells."""
    return float(f1_score(cells.y[cells.held_out], called(cells, state), average="macro", zero_division=0))
