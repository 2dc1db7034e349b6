"""Cells of a type that nobody taught: how well novelty tells them from cells of the known types, type by type.

Rules: a type is left out of training, and its held-out cells are told from those of the known types; each cell is
judged once, in one of the folds. Brackets hold 95 % bootstrap intervals over held-out cells within their types: they
are of the donors that were trained on, so nothing follows for new patients. The panel is what the training cells'
variance chooses: 500 genes, and as many as a study takes by default. With `--cache FOLDER` a run cut off goes on.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from scipy import sparse
from sklearn.model_selection import StratifiedKFold

from benchmarks import merge_cases
from benchmarks.figures import Figure
from benchmarks.kept import kept
from benchmarks.merge_cases import L2, LEAST_CELLS, N_CELLS, N_GENES, Measured, learn, most_variable, one_site
from swarmcell.metrics.patient import auroc
from swarmcell.metrics.resampling import draw
from swarmcell.model import released
from swarmcell.model.learning import Learner
from swarmcell.model.study import FeatureRule, FitRule, Study

REPEATS = 3  # folds
LEAST_LEFT_OUT = 30  # cells of a type that is left out
N_RESAMPLES = 1000
PANELS = (N_GENES, FeatureRule().n_top)
RULE = FitRule(l2=L2, tolerance=1e-5)  # labels stand still long before probabilities do
RATE = 0.05  # of known cells that may be called unknown: the default of `predict`
MEASURED = (
    "AUROC of novelty",
    "AUROC of 1 - largest probability",
    "share called unknown",
    "share of known types called unknown",
)
Values = np.ndarray  # shape (n_measured, 1 + N_RESAMPLES): each figure as measured, then on each resample


def kang2() -> Measured:
    """1,556 PBMC of two lupus patients, 5 types, 1,267 genes."""
    return merge_cases.normalised("kang2_muscat", "donor")


SETS: Mapping[str, Callable[[], Measured]] = {**merge_cases.SETS, "kang2": kang2}


def figures(repeats: int) -> Iterator[Figure]:
    """Print a table of left-out types per set, and yield the means over types, one per fold."""
    for name in SETS:
        X, labels = _cells(name)
        folds = list(StratifiedKFold(max(repeats, 2), shuffle=True, random_state=0).split(X, labels))
        for n_genes in dict.fromkeys(min(n, X.shape[1]) for n in PANELS):
            made_from = (RULE, n_genes, len(folds))
            found = [
                _left_out(f"{name} {n_genes} genes, fold {fold}", made_from, X, labels, test)
                for fold, (_, test) in enumerate(folds)
            ]
            print(f"\n{name}, {n_genes} genes\n\n{_table(found)}", flush=True)
            for i, what in enumerate(MEASURED):
                values = tuple(float(np.mean([of_type[i, 0] for of_type in one.values()])) for one in found)
                yield Figure(f"{name}, {n_genes} genes: {what}, mean over types", "", values)


def _cells(name: str) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Return up to 1,000 cells of a set (all of the smaller ones), of types with enough of them, and their types."""
    whole = SETS[name]()
    rows = np.arange(len(whole.labels))
    if name == "kang3":
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:N_CELLS])
    kinds, n = np.unique(whole.labels[rows], return_counts=True)
    rows = rows[np.isin(whole.labels[rows], kinds[n >= LEAST_CELLS])]
    return whole.X[rows], whole.labels[rows]


def _left_out(
    name: str, made_from: tuple[FitRule, int, int], X: sparse.csr_matrix, labels: np.ndarray, test: np.ndarray
) -> dict[str, Values]:
    """Return, for each type with enough cells, how well its cells among `test` are told by a model without it."""
    kinds, n = np.unique(labels, return_counts=True)
    weights = draw(labels[test].tolist(), n_resamples=N_RESAMPLES, rng=np.random.default_rng(0)).drawn
    found = {}
    for kind in kinds[n >= LEAST_LEFT_OUT].tolist():
        judged = partial(_judged, X, labels, test, kind, made_from[1])
        novelty, doubt, edge = kept(f"{name} without {kind}", made_from, judged)
        is_new, called = labels[test] == kind, np.array(novelty) >= edge
        scores = [auroc(is_new, np.array(score), weights) for score in (novelty, doubt)]
        shares = [weights[:, rows] @ called[rows] / weights[:, rows].sum(axis=1) for rows in (is_new, ~is_new)]
        found[kind] = np.array([*scores, *shares])
        print(f"{name} without {kind}: {found[kind][0, 0]:.3f}", file=sys.stderr, flush=True)
    return found


def _judged(
    X: sparse.csr_matrix, labels: np.ndarray, test: np.ndarray, kind: str, n_genes: int
) -> tuple[list[float], list[float], float]:
    """Return the novelty and one minus the largest probability of each of the `test` cells; where "unknown" begins."""
    train = np.setdiff1d(np.flatnonzero(labels != kind), test)
    genes = most_variable(X[train], n_genes)
    X = X[:, genes].tocsr()
    known, y = np.unique(labels[train], return_inverse=True)
    model = _taught(X[train], y, len(known))
    outputs = model.cell_logits(X[test])
    doubt = -1 / np.exp(outputs - outputs.max(axis=1, keepdims=True)).sum(axis=1)
    return model.novelty.score(X[test], outputs).tolist(), doubt.tolist(), model.unknown_from(RATE)


def _taught(X: sparse.csr_matrix, y: np.ndarray, n_types: int) -> released.TrainedModel:
    types = tuple(f"type {i:02d}" for i in range(n_types))
    study = Study(name="unknown", modality="rna", stages=("features", "cell"), cell_types=types, cell=RULE)
    cells = replace(one_site(X, y), validation=np.random.default_rng(0).random(len(y)) < 0.2)
    return released.assemble(learn([Learner(study, cells, threads=1)]), study, cells.feature_ids, {})


def _table(found: Sequence[Mapping[str, Values]]) -> str:
    """Return the mean over folds of each type, the best told first, and of all types."""
    of_type = {kind: np.mean([one[kind] for one in found], axis=0) for kind in found[0]}
    rows = sorted(of_type.items(), key=lambda item: -item[1][0, 0])
    rows.append(("mean over types", np.mean(list(of_type.values()), axis=0)))
    lines = [f"| {kind} | {' | '.join(map(_shown, values))} |" for kind, values in rows]
    return "\n".join([f"| left out | {' | '.join(MEASURED)} |", "|---" * (len(MEASURED) + 1) + "|", *lines])


def _shown(values: np.ndarray) -> str:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return f"{values[0]:.2f} ({low:.2f} to {high:.2f})"
