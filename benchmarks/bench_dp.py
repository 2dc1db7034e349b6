"""What differential privacy costs: macro-F1 by epsilon on three real sets, of cells; of simulated donors; and attacks.

Rules: three sites in one process, through `Learner` and `SecureSum` as in a swarm. A model is judged on what it never
saw: a patient (`kang3`), a batch (`mixology`), a third of each type (`pbmc68k_reduced`, of one donor). Panels are made
without the training cells: all genes of the published set, or for `mixology` the 200 that differ most between the lines
of a fourth batch, which is used for nothing else. The attack's labels are drawn at random, so whatever a model tells of
them it learnt by heart.
"""

import statistics
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import sparse
from sklearn.metrics import f1_score, roc_auc_score

from benchmarks.figures import Figure
from benchmarks.merge_cases import kang3, mixology, pbmc68k
from swarmcell.model.classifier import Scaling, logits, to_floats
from swarmcell.model.learning import Learner
from swarmcell.model.state import MergedState, from_bytes
from swarmcell.model.study import EXACT, NOISED, DifferentialPrivacy, FitRule, PrivacyRule, Study
from swarmcell.model.training_cells import TrainingCells
from swarmcell.privacy import accountant
from swarmcell.privacy.noise import Noised
from swarmcell.privacy.secure_sum import SecureSum

REPEATS = 3
EPSILONS = (1.0, 2.0, 4.0, 8.0)
SITES, N_PANEL = 3, 200
GOAL = 0.9  # of macro-F1 without noise, at epsilon 8
N_DONORS, N_CELLS_OF_DONOR, N_GENES, N_TYPES = 600, 40, 100, 6  # of the simulated cohort, over all sites


@dataclass(frozen=True)
class Fold:
    """Training cells with their donors, and cells to judge by."""

    X: sparse.csr_matrix
    y: np.ndarray
    donor: np.ndarray
    held_out: sparse.csr_matrix
    held_out_y: np.ndarray


def figures(repeats: int) -> Iterator[Figure]:
    """Print a table of macro-F1 by epsilon; yield the shares of it that are kept at epsilon 8, and the attacks."""
    torch.set_num_threads(1)
    rows: dict[str, dict[str, tuple[float, ...]]] = {}
    for name, folds, unit in _cases():
        plain = (statistics.mean(_f1(fold, unit, None) for fold in folds),)
        rows[name] = {"none": plain}
        for epsilon in EPSILONS:
            rows[name][f"{epsilon:g}"] = _repeated(folds, unit, epsilon, repeats, secure=True)
        rows[name]["8, no secure sums"] = _repeated(folds, unit, 8.0, repeats, secure=False)
        kept = tuple(value / plain[0] for value in rows[name]["8"])
        yield Figure(f"{name}: macro-F1 at epsilon 8 by that without", "x", kept, goal_min=GOAL)
    print(f"\nmacro-F1 by epsilon (median of {repeats} draws of noise), delta 1e-5\n\n{_table(rows)}", flush=True)
    yield from _attacks(repeats)


def _cases() -> Iterator[tuple[str, list[Fold], str]]:
    yield "kang3 (unit: cell)", _by_unit(kang3(), range(3)), "cell"
    yield "mixology (unit: cell)", _by_batch(), "cell"
    yield "pbmc68k_reduced (unit: cell)", _thirds(), "cell"
    yield f"simulated, {N_DONORS} donors (unit: donor)", [_simulated()], "donor"


def _repeated(folds: Sequence[Fold], unit: str, epsilon: float, repeats: int, *, secure: bool) -> tuple[float, ...]:
    return tuple(
        statistics.mean(_f1(fold, unit, epsilon, seed=seed, secure=secure) for fold in folds) for seed in range(repeats)
    )


def _f1(fold: Fold, unit: str, epsilon: float | None, *, seed: int = 0, secure: bool = True) -> float:
    found = _scores(_learnt(fold, unit, epsilon, seed=seed, secure=secure), fold.held_out).argmax(axis=1)
    return float(f1_score(fold.held_out_y, found, average="macro", labels=np.unique(fold.held_out_y)))


# -- sets --------------------------------------------------------------------------------------------------------------


def _fold(X: sparse.csr_matrix, y: np.ndarray, donor: np.ndarray, held_out: np.ndarray) -> Fold:
    train = ~held_out
    return Fold(X[train], y[train], donor[train], X[held_out], y[held_out])


def _by_unit(whole: object, units: Sequence[int]) -> list[Fold]:
    y = np.unique(whole.labels, return_inverse=True)[1]
    return [_fold(whole.X, y, whole.unit, whole.unit == unit) for unit in units]


def _by_batch() -> list[Fold]:
    """Hold each batch of five lines out; the batch of three lines only chooses the panel."""
    whole = mixology()
    y = np.unique(whole.labels, return_inverse=True)[1]
    few = [unit for unit in range(4) if len(np.unique(y[whole.unit == unit])) == 3]
    reference = np.isin(whole.unit, few)
    panel = _telling(whole.X[reference].toarray(), y[reference])
    rest = replace(whole, X=whole.X[~reference][:, panel], labels=whole.labels[~reference], unit=whole.unit[~reference])
    return _by_unit(rest, sorted(set(rest.unit.tolist())))


def _telling(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the genes whose means differ most between types, by their spread within."""
    groups = [X[y == kind] for kind in np.unique(y)]
    between = np.array([group.mean(axis=0) for group in groups]).var(axis=0)
    within = np.array([group.var(axis=0) for group in groups]).mean(axis=0)
    return np.sort(np.argsort(-between / (within + 0.05), kind="stable")[:N_PANEL])


def _thirds() -> list[Fold]:
    whole, rng = pbmc68k(), np.random.default_rng(0)
    y = np.unique(whole.labels, return_inverse=True)[1]
    of = np.zeros(len(y), np.int64)
    for kind in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == kind))
        of[rows] = np.arange(len(rows)) % 3
    return [_fold(whole.X, y, whole.unit, of == part) for part in range(3)]


def _simulated() -> Fold:
    """Donors who differ in what their types express and in the mix of their types; a fifth is held out."""
    rng = np.random.default_rng(1)
    donor = np.repeat(np.arange(N_DONORS), N_CELLS_OF_DONOR)
    level = rng.gamma(0.5, 1.0, (N_TYPES, N_GENES))
    mix = rng.dirichlet(np.full(N_TYPES, 2.0), N_DONORS)
    y = np.array([rng.choice(N_TYPES, p=mix[d]) for d in donor])
    own = rng.lognormal(0.0, 0.4, (N_DONORS, N_GENES))
    X = np.log1p(rng.poisson(level[y] * own[donor])).astype(np.float32)
    return _fold(sparse.csr_matrix(X), y, donor, donor >= 0.8 * N_DONORS)


# -- learning ----------------------------------------------------------------------------------------------------------


def _learnt(fold: Fold, unit: str, epsilon: float | None, *, seed: int, secure: bool, l2: float = 1e-3) -> MergedState:
    study = _study(fold, unit, epsilon, secure=secure, l2=l2)
    of = (fold.donor if unit == "donor" else np.arange(len(fold.y))) % SITES
    sites = [_peer(study, _cells(fold, np.flatnonzero(of == i)), i, seed) for i in range(SITES)]
    raw, stop = sites[0].start(), threading.Event()
    while True:
        parts = [replace(site.contribute(raw, stop), author=f"s{i}") for i, site in enumerate(sites)]
        outcome = sites[0].merge(raw, parts)
        raw = outcome.state
        if outcome.finished:
            return from_bytes(raw)


def _study(fold: Fold, unit: str, epsilon: float | None, *, secure: bool, l2: float) -> Study:
    types = tuple(f"type {i:02d}" for i in range(int(max(fold.y.max(), fold.held_out_y.max())) + 1))
    private = None if epsilon is None else DifferentialPrivacy(unit=unit, epsilon=epsilon)
    made = Study(
        name="dp",
        modality="rna",
        stages=("features", "cell"),
        cell_types=types,
        universe_sha256="00",
        cell=FitRule(merge=EXACT if epsilon is None else NOISED, l2=l2, tolerance=1e-5),
        privacy=PrivacyRule(secure_aggregation=secure, differential_privacy=private),
    )
    return accountant.resolved(made)


def _peer(study: Study, cells: TrainingCells, i: int, seed: int) -> SecureSum | Noised | Learner:
    learner, secret = Learner(study, cells, threads=1), bytes([i, seed]) * 16
    noised = study.privacy.differential_privacy is not None
    if study.privacy.secure_aggregation:
        n_cells, n_donors = (20, 5) if noised else (cells.n_cells, cells.n_donors)
        made = {"n_cells": n_cells, "n_donors": n_donors, "me": f"s{i}", "secret": secret}
        return SecureSum(learner, **made, f=0, noised=learner if noised else None)
    return Noised(learner, secret) if noised else learner


def _cells(fold: Fold, rows: np.ndarray) -> TrainingCells:
    names, donor = np.unique(fold.donor[rows], return_inverse=True)
    return TrainingCells(
        X=fold.X[rows],
        feature_ids=tuple(map(str, range(fold.X.shape[1]))),
        universe_sha256="00",
        modality="rna",
        cell_type=fold.y[rows],
        sample=donor,
        validation=np.zeros(len(rows), bool),
        sample_condition=np.full(len(names), -1),
        sample_validation=np.zeros(len(names), bool),
        donors=tuple(f"site/{name}" for name in names),
        donor=donor,
    )


def _scores(state: MergedState, X: sparse.csr_matrix) -> np.ndarray:
    parameters = to_floats({name: state.arrays[f"cell.{name}"] for name in ("bias", "weight")})
    return logits(parameters, X, Scaling.from_fixed(state.arrays["mean"], state.arrays["scale"]))


# -- attacks -----------------------------------------------------------------------------------------------------------


def _attacks(repeats: int) -> Iterator[Figure]:
    """Attack models of half of the cells by the log-odds of each cell's label: the true ones, and random ones.

    What a model tells of random labels it learnt by heart, so these are the worst case for it.
    """
    whole = pbmc68k()
    true = np.unique(whole.labels, return_inverse=True)[1]
    for what in ("true", "random"):
        found: Mapping[str, list[float]] = {name: [] for name in ("none", "8", "1")}
        for seed in range(repeats):
            rng = np.random.default_rng(seed)
            y = true if what == "true" else rng.integers(0, 3, len(true))
            fold = _fold(whole.X, y, np.arange(len(y)), rng.permutation(len(y)) % 2 == 1)
            for name, values in found.items():
                state = _learnt(fold, "cell", None if name == "none" else float(name), seed=seed, secure=True)
                values.append(_told_apart(state, fold))
        for name, values in found.items():
            bound = {"1": {"goal_max": 0.55}, "none": {"goal_min": 0.6} if what == "random" else {}}.get(name, {})
            yield Figure(f"AUROC of the attack, {what} labels, epsilon {name}", "", tuple(values), **bound)


def _told_apart(state: MergedState, fold: Fold) -> float:
    scores = [_odds(_scores(state, X), y) for X, y in ((fold.X, fold.y), (fold.held_out, fold.held_out_y))]
    return float(roc_auc_score(np.repeat([1, 0], list(map(len, scores))), np.concatenate(scores)))


def _odds(outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
    rows = np.arange(len(y))
    true, rest = outputs[rows, y], outputs.copy()
    rest[rows, y] = -np.inf
    return true - np.logaddexp.reduce(rest, axis=1)


def _table(rows: Mapping[str, Mapping[str, tuple[float, ...]]]) -> str:
    heads = list(next(iter(rows.values())))
    lines = [f"| set | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, row in rows.items():
        cells = [f"{statistics.median(row[head]):.3f}" for head in heads]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
