"""What is not about merges: baselines, patients by several models and features, CellTypist on the same folds.

Run: `python -m benchmarks models`; CellTypist runs where CELLTYPIST_PYTHON names the python of an environment that has
it (with scikit-learn 1.7). The sets are small and public: what is compared is methods, not how a model travels.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import torch
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score

from benchmarks import patient_cases
from benchmarks.figures import Figure
from benchmarks.merge_cases import SETS, Cells, drawn, learn, macro_f1, one_site
from benchmarks.patient_cases import Patients
from swarmcell.model import released, sample_features
from swarmcell.model.learning import Learner
from swarmcell.model.study import FitRule, Study

REPEATS = 3
CELLS_OF_MODEL = FitRule(l2=1e-3, tolerance=1e-5)
OF_BAGS = {"merge": "fedavg", "hidden": 16, "batch_rows": 4, "epochs_per_round": 4, "rounds_max": 6}
CLUSTERED = ("features", "clusters", "patient")
PATIENT_RULES = {
    "linear, exact": FitRule(l2=1e-2, tolerance=1e-5),
    "linear, exact, with clusters": FitRule(l2=1e-2, tolerance=1e-5),
    "attention": FitRule(model="attention", l2=1e-2, **OF_BAGS),
    "top_k": FitRule(model="top_k", l2=3e-2, **OF_BAGS),
}
N_CLUSTERS = 10
QUANTILES = tuple(f"q{q:g}" for q in sample_features.QUANTILES)
KINDS: Mapping[str, tuple[str, ...]] = {
    "means": ("mean",),
    "means and SDs": ("mean", "sd"),
    "means, SDs and quantiles": ("mean", "sd", *QUANTILES),
    "proportions of 10 clusters": ("clusters",),
    "proportions, means, SDs and quantiles": ("clusters", "mean", "sd", *QUANTILES),
}
CELLTYPIST = """
import sys, time, warnings; warnings.simplefilter("ignore")
import anndata as ad, celltypist
train, test, out = sys.argv[1:]
adata = ad.read_h5ad(train); began = time.process_time()
model = celltypist.train(adata, labels="y", check_expression=False, n_jobs=1)
seconds = time.process_time() - began
labels = celltypist.annotate(ad.read_h5ad(test), model=model).predicted_labels["predicted_labels"]
open(out, "w").write("\\n".join([str(seconds), *map(str, labels)]))
"""


def figures(repeats: int) -> Iterator[Figure]:
    """Yield macro-F1 of cells, and AUROC of patients, by what is learnt."""
    torch.set_num_threads(1)
    for name in SETS:
        yield from of_cells(name, [drawn(name, seed) for seed in range(repeats)])
    for name, read in patient_cases.SETS.items():
        yield from of_features(name)
        for what, rule in PATIENT_RULES.items():
            stages = CLUSTERED if what.endswith("clusters") else ("features", "patient")
            scores = [_of_patients(read(), rule, seed, stages) for seed in range(repeats)]
            yield Figure(f"{name}: AUROC, {what}", "", tuple(scores))


def _of_patients(patients: Patients, rule: FitRule, seed: int, stages: tuple[str, ...]) -> float:
    """Return the AUROC over held-out donors of four folds."""
    fold, score = patient_cases.fold_of(patients.y, seed), np.zeros(len(patients.y))
    for one in np.unique(fold):
        train, test = np.flatnonzero(fold != one), np.flatnonzero(fold == one)
        model = patient_cases.taught(patients.some(train), np.zeros(len(train), np.int64), rule, stages=stages)
        score[test] = patient_cases.probability(model, patients.some(test))
    return float(roc_auc_score(patients.y, score))


def of_cells(name: str, folds: list[Cells]) -> Iterator[Figure]:
    """Yield macro-F1 of the exact fit, the baselines and CellTypist on the same folds."""
    ours, lda, majority, theirs, seconds = [], [], [], [], {"ours": [], "CellTypist": []}
    for cells in folds:
        rows, truth = np.flatnonzero(~cells.held_out), cells.y[cells.held_out]
        began_s = time.process_time()
        model = _taught(cells.X[rows], cells.y[rows], int(cells.y.max()) + 1)
        seconds["ours"].append(time.process_time() - began_s)
        ours.append(macro_f1(cells, model.state))
        nearest = model.novelty.density.distances(cells.X[cells.held_out]).argmin(axis=1)
        present = np.flatnonzero(model.state.arrays["novelty.count"])
        lda.append(_f1(truth, present[nearest]))
        majority.append(_f1(truth, np.full(len(truth), np.bincount(cells.y[rows]).argmax())))
        if python := os.environ.get("CELLTYPIST_PYTHON"):
            labels, taken_s = _celltypist(python, cells)
            theirs.append(_f1(truth, labels))
            seconds["CellTypist"].append(taken_s)
    yield Figure(f"{name}: macro-F1, exact fit", "", tuple(ours))
    yield Figure(f"{name}: macro-F1, one-round LDA", "", tuple(lda))
    yield Figure(f"{name}: macro-F1, majority", "", tuple(majority))
    if theirs:
        yield Figure(f"{name}: macro-F1, CellTypist", "", tuple(theirs))
        yield Figure(f"{name}: processor time, ours with calibration", "s", tuple(seconds["ours"]))
        yield Figure(f"{name}: processor time, CellTypist's training", "s", tuple(seconds["CellTypist"]))


def _f1(truth: np.ndarray, called: np.ndarray) -> float:
    return float(f1_score(truth, called, average="macro", zero_division=0))


def _taught(X: sparse.csr_matrix, y: np.ndarray, n_types: int) -> released.TrainedModel:
    types = tuple(f"type {i:02d}" for i in range(n_types))
    study = Study(name="models", modality="rna", stages=("features", "cell"), cell_types=types, cell=CELLS_OF_MODEL)
    validation = np.random.default_rng(0).random(len(y)) < 0.2
    cells = replace(one_site(X, y), validation=validation)
    return released.assemble(learn([Learner(study, cells, threads=1)]), study, cells.feature_ids, {})


def of_features(name: str) -> Iterator[Figure]:
    """Yield the AUROC of what is read of a sample: by all markers, and by each marker alone (mean over markers).

    Four folds of donors, scikit-learn's logistic regression of the blocks, each block counting the same.
    """
    patients = patient_cases.SETS[name]()
    fold = patient_cases.fold_of(patients.y, 0)
    for what, kinds in KINDS.items():
        single = [_auroc_of(patients, fold, kinds, [marker]) for marker in range(len(patients.markers))]
        whole = _auroc_of(patients, fold, kinds, range(len(patients.markers)))
        yield Figure(f"{name}: AUROC of {what}, all markers", "", (whole,))
        if kinds != ("clusters",):
            yield Figure(f"{name}: AUROC of {what}, one marker (over {len(single)} markers)", "", tuple(single))


def _auroc_of(patients: Patients, fold: np.ndarray, kinds: Sequence[str], markers: Sequence[int]) -> float:
    score = np.zeros(len(patients.y))
    for one in np.unique(fold):
        train = fold != one
        rows = np.hstack([_block(patients, kind, list(markers), train) for kind in kinds])
        spread = rows[train].std(axis=0)
        scaled = (rows - rows[train].mean(axis=0)) / np.where(spread > 0, spread, 1) / np.sqrt(rows.shape[1])
        score[~train] = (
            LogisticRegression(C=10.0).fit(scaled[train], patients.y[train]).decision_function(scaled)[~train]
        )
    return float(roc_auc_score(patients.y, score))


def _block(patients: Patients, kind: str, markers: list[int], train: np.ndarray) -> np.ndarray:
    """Return one block of the samples' features; clusters are found among the training donors' cells."""
    n, cells = len(patients.y), np.vstack(patients.samples)[:, markers]
    sample = np.repeat(np.arange(n), [len(one) for one in patients.samples])
    if kind != "clusters":
        return sample_features.compute(cells, sample, n, kinds=[kind], cell_type=None, n_types=0)
    known = cells[train[sample]]
    found = KMeans(N_CLUSTERS, n_init=1, random_state=0).fit((known - known.mean(0)) / known.std(0))
    cluster = found.predict((cells - known.mean(0)) / known.std(0))
    counts = np.array([np.bincount(cluster[sample == one], minlength=N_CLUSTERS) for one in range(n)])
    return np.vstack([sample_features.centred_log_ratio(one) for one in counts])


def _celltypist(python: str, cells: Cells) -> tuple[np.ndarray, float]:
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("train.h5ad", "test.h5ad", "out.txt")]
        for path, rows in zip(paths, (~cells.held_out, cells.held_out), strict=False):
            adata = ad.AnnData(cells.X[rows])
            adata.obs["y"] = cells.y[rows].astype(str)
            adata.var_names = [f"g{i}" for i in range(adata.n_vars)]
            adata.write_h5ad(path)
        subprocess.run([python, "-c", CELLTYPIST, *paths], check=True, capture_output=True)
        seconds, *labels = Path(paths[2]).read_text().splitlines()
    return np.array(labels).astype(np.int64), float(seconds)
