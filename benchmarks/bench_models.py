# ruff: noqa: PLC0415 (a job imports what it measures, and no more)
"""What is not about merges: unknown cells, baselines, patients by several models, CellTypist on the same folds.

Run: `python -m benchmarks models`; CellTypist runs where CELLTYPIST_PYTHON names the python of an environment that has
it (with scikit-learn 1.7). The sets are small and public: what is compared is methods, not how a model travels.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import torch
from scipy import sparse
from sklearn.metrics import f1_score, roc_auc_score

from benchmarks.figures import Figure
from benchmarks.merge_cases import DATA, SETS, Cells, learn, macro_f1
from swarmcell.model import released
from swarmcell.model.learning import Learner
from swarmcell.model.state import MergedState
from swarmcell.model.study import FitRule, Study
from swarmcell.model.training_cells import TrainingCells

REPEATS = 3
CELLS_OF_MODEL = FitRule(l2=1e-3, tolerance=1e-5)
OF_BAGS = {"merge": "fedavg", "hidden": 16, "batch_rows": 4, "epochs_per_round": 4, "rounds_max": 6}
PATIENT_RULES = {
    "linear, exact": FitRule(l2=1e-2, tolerance=1e-5),
    "attention": FitRule(model="attention", l2=1e-2, **OF_BAGS),
    "top_k": FitRule(model="top_k", l2=3e-2, **OF_BAGS),
}
CELLS_OF_SAMPLE, LEAST_CELLS = 400, 30
CELLTYPIST = """
import sys, time, warnings; warnings.simplefilter("ignore")
import anndata as ad, celltypist
train, test, out = sys.argv[1:]
adata = ad.read_h5ad(train); began = time.perf_counter()
model = celltypist.train(adata, labels="y", check_expression=False, n_jobs=1)
seconds = time.perf_counter() - began
labels = celltypist.annotate(ad.read_h5ad(test), model=model).predicted_labels["predicted_labels"]
open(out, "w").write("\\n".join([str(seconds), *map(str, labels)]))
"""


def figures(repeats: int) -> Iterator[Figure]:
    """Print a table of left-out types and yield the medians."""
    torch.set_num_threads(1)
    for name, take in SETS.items():
        cells = take(np.random.default_rng(0))
        print(f"\n{name}, a type left out: AUROC of novelty and of one minus the largest probability\n")
        found = np.array(list(left_out(cells)))
        yield Figure(f"{name}: AUROC of novelty, types left out", "", tuple(found[:, 0]))
        yield Figure(f"{name}: AUROC of 1 - largest probability", "", tuple(found[:, 1]))
        yield from of_cells(name, [take(np.random.default_rng(seed)) for seed in range(repeats)])
    for name, read in (("wnv12 (12 mice)", wnv12), ("aml_flow (10 people)", aml_flow)):
        samples, y = read()
        for what, rule in PATIENT_RULES.items():
            scores = [_patients(samples, y, rule, seed) for seed in range(repeats)]
            yield Figure(f"{name}: AUROC, {what}", "", tuple(scores))


def left_out(cells: Cells) -> Iterator[tuple[float, float]]:
    """Yield, per type that is left out of training, how well it is told from the known among held-out cells."""
    for kind in np.unique(cells.y):
        if (cells.y == kind).sum() < LEAST_CELLS:
            continue
        rows = np.flatnonzero(~cells.held_out & (cells.y != kind))
        known = np.setdiff1d(np.unique(cells.y), [kind])
        model = _taught(cells.X[rows], np.searchsorted(known, cells.y[rows]), len(known))
        outputs = model.cell_logits(cells.X[cells.held_out])
        score = model.novelty.score(cells.X[cells.held_out], outputs)
        is_new = cells.y[cells.held_out] == kind
        shifted = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        doubt = -1 / shifted.sum(axis=1)
        found = float(roc_auc_score(is_new, score)), float(roc_auc_score(is_new, doubt))
        print(f"- type {kind}: {found[0]:.2f}, {found[1]:.2f}", flush=True)
        yield found


def of_cells(name: str, folds: list[Cells]) -> Iterator[Figure]:
    """Yield macro-F1 of the exact fit, the baselines and CellTypist on the same folds."""
    ours, lda, majority, theirs, seconds = [], [], [], [], {"ours": [], "CellTypist": []}
    for cells in folds:
        rows, truth = np.flatnonzero(~cells.held_out), cells.y[cells.held_out]
        began_s = time.perf_counter()
        model = _taught(cells.X[rows], cells.y[rows], int(cells.y.max()) + 1)
        seconds["ours"].append(time.perf_counter() - began_s)
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
        yield Figure(f"{name}: time, ours with calibration", "s", tuple(seconds["ours"]))
        yield Figure(f"{name}: time, CellTypist's training", "s", tuple(seconds["CellTypist"]))


def _f1(truth: np.ndarray, called: np.ndarray) -> float:
    return float(f1_score(truth, called, average="macro", zero_division=0))


def _taught(X: sparse.csr_matrix, y: np.ndarray, n_types: int) -> released.TrainedModel:
    types = tuple(f"type {i:02d}" for i in range(n_types))
    study = Study(name="models", modality="rna", stages=("features", "cell"), cell_types=types, cell=CELLS_OF_MODEL)
    validation = np.random.default_rng(0).random(len(y)) < 0.2
    cells = _site(X, y, np.zeros(len(y), np.int64), np.full(1, -1), validation=validation)
    return released.assemble(learn([Learner(study, cells, threads=1)]), study, cells.feature_ids, {})


def _site(
    X: object,
    y: np.ndarray,
    sample: np.ndarray,
    condition: np.ndarray,
    *,
    validation: np.ndarray,
    modality: str = "rna",
) -> TrainingCells:
    of_samples = np.array([validation[sample == s].all() for s in range(len(condition))])
    return TrainingCells(
        X=X,
        feature_ids=tuple(f"g{i}" for i in range(X.shape[1])),
        universe_sha256="",
        modality=modality,
        cell_type=y,
        sample=sample,
        validation=validation,
        sample_condition=condition.astype(np.int64),
        sample_validation=of_samples,
        donors=tuple(f"d{i}" for i in range(len(condition))),
    )


def wnv12() -> tuple[list[np.ndarray], np.ndarray]:
    """Return arcsinh values of some cells of each mouse, and who was infected."""
    adata = ad.read_h5ad(DATA.parent / "cytometry" / "wnv12_mouse_bm_flow.h5ad")
    mice = adata.obs["donor"].astype(str).to_numpy()
    infected = adata.obs["condition"].astype(str) != "Mock"
    rows = [np.flatnonzero(mice == mouse) for mouse in np.unique(mice)]
    y = np.array([bool(infected.iloc[mine[0]]) for mine in rows], np.int64)
    return [_some(np.asarray(adata.X[mine], np.float32)) for mine in rows], y


def aml_flow() -> tuple[list[np.ndarray], np.ndarray]:
    """Return arcsinh values of each person's events, and who has leukaemia."""
    import pandas as pd

    from swarmcell.cells.fcs import only_data_set, read_events

    folder = DATA.parent / "cytometry" / "aml_flow"
    sheet = pd.read_csv(folder / "samples.csv")
    files = [next(folder.rglob(str(name))) for name in sheet.iloc[:, 0]]
    values = [_some(np.asarray(read_events(only_data_set(file)), np.float32)) for file in files]
    return values, (sheet["condition"] == "aml").to_numpy().astype(np.int64)


def _some(values: np.ndarray) -> np.ndarray:
    rows = np.random.default_rng(0).permutation(len(values))[:CELLS_OF_SAMPLE]
    return np.arcsinh(values[np.sort(rows)] / 150).astype(np.float32)


def _patients(samples: list[np.ndarray], y: np.ndarray, rule: FitRule, seed: int) -> float:
    """Return the AUROC over held-out samples of four folds, each of which has both conditions."""
    rng, fold = np.random.default_rng(seed), np.zeros(len(y), np.int64)
    for k in (0, 1):
        mine = rng.permutation(np.flatnonzero(y == k))
        fold[mine] = np.arange(len(mine)) % 4
    score = np.zeros(len(y))
    for f in range(4):
        train, test = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        model = _of_patients([samples[i] for i in train], y[train], rule)
        score[test] = _probability(model, [samples[i] for i in test])
    return float(roc_auc_score(y, score))


def _of_patients(samples: list[np.ndarray], y: np.ndarray, rule: FitRule) -> released.TrainedModel:
    sample = np.repeat(np.arange(len(samples)), [len(s) for s in samples])
    study = Study(
        name="m", modality="cytometry", stages=("features", "patient"), conditions=("well", "ill"), patient=rule
    )
    X, none = np.vstack(samples), np.full(len(sample), -1)
    cells = _site(X, none, sample, y, validation=np.zeros(len(sample), bool), modality="cytometry")
    state: MergedState = learn([Learner(study, cells, threads=1)])
    return released.assemble(state, study, cells.feature_ids, {})


def _probability(model: released.TrainedModel, samples: list[np.ndarray]) -> np.ndarray:
    sample = np.repeat([f"{i:03d}" for i in range(len(samples))], [len(s) for s in samples])
    adata = ad.AnnData(np.vstack(samples))
    adata.obs["sample"], adata.var_names = sample, list(model.panel_ids)
    return model.predict_samples(adata)[1][:, 1]


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
