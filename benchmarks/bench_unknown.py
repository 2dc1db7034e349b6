"""Cells of a type that nobody taught: how well novelty tells them from cells of the known types, type by type.

A type is left out of training; AUROC over held-out cells of the same donors. The sets are small and public.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import sparse
from sklearn.metrics import roc_auc_score

from benchmarks.figures import Figure
from benchmarks.merge_cases import DATA, L2, N_CELLS, N_GENES, learn, one_site
from swarmcell.model import released
from swarmcell.model.learning import Learner
from swarmcell.model.study import FitRule, Study

REPEATS = 2
CELLS_OF_TYPE = 10  # types with fewer cells are not used at all
LEAST_CELLS = 30  # of a type that is left out
RULE = FitRule(l2=L2, tolerance=1e-5)  # labels stand still long before probabilities do
Labelled = tuple[sparse.csr_matrix, np.ndarray]


def pbmc68k() -> Labelled:
    """700 PBMC of one donor, 10 types, which scanpy ships."""
    adata = sc.datasets.pbmc68k_reduced()
    return sparse.csr_matrix(adata.raw.X), np.asarray(adata.obs["bulk_labels"], str)


def counted(name: str, n_cells: int) -> Labelled:
    """Return some cells of a set of raw counts, log1p of counts per 10,000."""
    adata = ad.read_h5ad(DATA / f"{name}.h5ad")
    adata = adata[np.sort(np.random.default_rng(0).permutation(adata.n_obs)[:n_cells])].copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    return sparse.csr_matrix(adata.X), np.asarray(adata.obs["cell_type"].astype(str), str)


def normalised() -> Labelled:
    """770 PBMC of two chemistries, already log-normalised."""
    adata = ad.read_h5ad(DATA / "pbmc_3prime_lognorm.h5ad")
    return sparse.csr_matrix(adata.X), np.asarray(adata.obs["cell_type"].astype(str), str)


SETS: Mapping[str, Callable[[], Labelled]] = {
    "pbmc68k_reduced": pbmc68k,
    "kang3": lambda: counted("kang3_100genes", N_CELLS),
    "kang2": lambda: counted("kang2_muscat", 10_000),
    "pbmc_3prime": normalised,
    "mixology": lambda: counted("mixology_celseq2_singlets", N_CELLS),
}


def figures(repeats: int) -> Iterator[Figure]:
    """Print a table of left-out types and yield the means over types, one per repeat."""
    for name, read in SETS.items():
        X, labels = read()
        enough = pd.Series(labels).map(pd.Series(labels).value_counts()).to_numpy() >= CELLS_OF_TYPE
        X, labels = X[np.flatnonzero(enough)], labels[enough]
        found = [_left_out(X, labels, np.random.default_rng(repeat)) for repeat in range(repeats)]
        print(f"\n{name}: AUROC of novelty, and of one minus the largest probability (mean of {repeats} splits)\n")
        for kind in found[0]:
            novel, doubt = np.mean([one[kind] for one in found], axis=0)
            print(f"| {kind} | {novel:.2f} | {doubt:.2f} |", flush=True)
        for i, what in enumerate(("novelty", "1 - largest probability")):
            values = tuple(float(np.mean([scores[i] for scores in one.values()])) for one in found)
            yield Figure(f"{name}: AUROC of {what}, mean over types", "", values)


def _left_out(X: sparse.csr_matrix, labels: np.ndarray, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    names, y = np.unique(labels, return_inverse=True)
    held_out = np.zeros(len(y), bool)
    for kind in range(len(names)):
        rows = rng.permutation(np.flatnonzero(y == kind))
        held_out[rows[: max(1, round(0.3 * len(rows)))]] = True
    spread = np.asarray(X.multiply(X).mean(axis=0)).ravel() - np.asarray(X.mean(axis=0)).ravel() ** 2
    genes = np.sort(np.argsort(-spread, kind="stable")[:N_GENES])
    X = X[:, genes].astype(np.float32).tocsr()
    kinds = [kind for kind in range(len(names)) if (y == kind).sum() >= LEAST_CELLS]
    return {str(names[kind]): _told(X, y, held_out, kind) for kind in kinds}


def _told(X: sparse.csr_matrix, y: np.ndarray, held_out: np.ndarray, kind: int) -> tuple[float, float]:
    """Return how well a type that was left out of training is told from the known among held-out cells."""
    rows = np.flatnonzero(~held_out & (y != kind))
    known = np.setdiff1d(np.unique(y), [kind])
    model = _taught(X[rows], np.searchsorted(known, y[rows]), len(known))
    X, is_new = X[np.flatnonzero(held_out)], y[held_out] == kind
    outputs = model.cell_logits(X)
    doubt = -1 / np.exp(outputs - outputs.max(axis=1, keepdims=True)).sum(axis=1)
    return float(roc_auc_score(is_new, model.novelty.score(X, outputs))), float(roc_auc_score(is_new, doubt))


def _taught(X: sparse.csr_matrix, y: np.ndarray, n_types: int) -> released.TrainedModel:
    types = tuple(f"type {i:02d}" for i in range(n_types))
    study = Study(name="unknown", modality="rna", stages=("features", "cell"), cell_types=types, cell=RULE)
    cells = replace(one_site(X, y), validation=np.random.default_rng(0).random(len(y)) < 0.2)
    return released.assemble(learn([Learner(study, cells, threads=1)]), study, cells.feature_ids, {})
