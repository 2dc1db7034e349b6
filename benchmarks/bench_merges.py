"""Each site alone, a swarm by each merge, and all cells pooled: six real sets, three ways to deal them, hostile sites.

Rules: each cell is judged by models that never saw it, in two or three folds, whose predictions are put together; the
brackets hold 95 % bootstrap intervals over donors (patients), or over cells within their types where a set has fewer
than five donors: they then say nothing about new patients. `local` and `pooled` are scikit-learn's fits of the same
model. With `--cache FOLDER` a run that is cut off goes on where it was.
"""

import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from scipy import sparse
from sklearn.metrics import f1_score

from benchmarks import patient_cases
from benchmarks.figures import Figure
from benchmarks.kept import kept
from benchmarks.merge_cases import (
    ATTACKS,
    BY_BATCH,
    FAMILY,
    L2,
    ROBUST,
    RULES,
    SETS,
    SITES,
    SPLITS,
    Cells,
    called,
    dealt,
    drawn,
    folds,
    learn,
    learners,
    macro_f1,
    oracle,
    probabilities,
)
from swarmcell.metrics.cell import macro_f1 as macro_f1_of
from swarmcell.metrics.patient import auroc
from swarmcell.metrics.resampling import draw
from swarmcell.metrics.score_intervals import newcombe_auroc
from swarmcell.model.classifier import initial
from swarmcell.model.encoding import Named, encode
from swarmcell.model.study import FitRule

REPEATS = 10  # splits of the comparison with pooling
N_RESAMPLES = 1000
LOCAL, POOLED = "local", "pooled"
TWO = "two sites per type"
HOSTILE_ROUNDS = 100  # of an exact fit under attack, which would never end
Values = np.ndarray  # shape (1 + N_RESAMPLES,): the figure as measured, then on each resample


def figures(repeats: int) -> Iterator[Figure]:
    """Print a table per set and one of hostile sites; yield how far each goal is off."""
    torch.set_num_threads(1)
    yield update_size()
    short = {}
    for name in SETS:
        yield exactness(name)
        tables = {split: compared(name, split) for split in splits_of(name)}
        print(f"\n{name}: macro-F1\n\n{_table(tables)}", flush=True)
        short[name] = tables[TWO]
        yield _short(f"{name}, {TWO}: pooled minus best average", tables[TWO], FAMILY, tables[TWO][POOLED])
    yield from beside_pooling("pbmc68k_reduced", repeats)
    attacked = {"no attack": compared("pbmc68k_reduced", "iid")}
    attacked |= {attack: under("pbmc68k_reduced", attack) for attack in ATTACKS}
    print(f"\npbmc68k_reduced, iid, one hostile site of {SITES}: macro-F1\n\n{_table(attacked)}", flush=True)
    for attack in ATTACKS:
        clean = attacked["no attack"]["fedavg"]
        yield _short(f"{attack}: fedavg without a liar minus best robust merge", attacked[attack], ROBUST, clean, 0.05)
    for name in patient_cases.SETS:
        tables = {split: of_patients(name, split) for split in patient_cases.SPLITS}
        print(f"\n{name}: AUROC of patients\n\n{_table(tables, name)}", flush=True)
        short[name] = tables["two sites per condition"]
    print(f"\nIn short: each class at two sites\n\n{_in_short(short)}", flush=True)


def splits_of(name: str) -> tuple[str, ...]:
    """Return the ways a set is dealt to sites: of `mixology` also as its batches were measured."""
    return (*SPLITS, BY_BATCH) if name == "mixology" else tuple(SPLITS)


def update_size() -> Figure:
    """Return the size of one site's update of the largest usual network."""
    rule = FitRule(model="mlp", hidden=256, merge="fedavg")
    size = len(encode(Named({}, initial(rule, 2000, 20, seed=0))))
    return Figure("update of a 2,000 x 256 x 20 network, fedavg", "MB", (size / 1e6,), 2.2)


def exactness(name: str) -> Figure:
    """Return how far an exact fit of five sites, two per type, is from scikit-learn's of all cells."""

    def measured() -> tuple[float, int]:
        cells = drawn(name, 0)
        state = learn(learners(cells, dealt(cells, TWO, [0, 1]), FitRule(l2=L2)))
        return float(np.abs(probabilities(cells, state) - oracle(cells)).max()), state.results["cell"].rounds

    apart, rounds = kept(f"{name} exactness", FitRule(l2=L2), measured)
    return Figure(f"{name}, exact-sum: largest difference of a probability, {rounds} rounds", "", (apart,), 1e-6)


def compared(name: str, split: str) -> dict[str, Values]:
    """Return the macro-F1 of each merge, of the sites' own fits (their mean) and of the pooled fit."""
    cases = folds(name)
    truth = np.concatenate([cells.y[cells.held_out] for cells in cases])
    of = [dealt(cells, split, [fold, 1]) for fold, cells in enumerate(cases)]
    alone = [
        np.concatenate(
            [
                _alone(cells, np.flatnonzero(~cells.held_out)[sites == one])
                for cells, sites in zip(cases, of, strict=True)
            ]
        )
        for one in range(int(max(sites.max() for sites in of)) + 1)
    ]
    found = {LOCAL: np.mean([_macro_f1(truth, one) for one in alone], axis=0)}
    for merge, rule in RULES.items():
        parts = [
            kept(
                f"{name} {split} {merge} {fold}",
                rule,
                lambda c=cells, s=sites, r=rule: _listed(called(c, learn(learners(c, s, r)))),
            )
            for fold, (cells, sites) in enumerate(zip(cases, of, strict=True))
        ]
        found[merge] = _macro_f1(truth, np.concatenate(parts))
        _tell(f"{name}, {split}, {merge}: {found[merge][0]:.3f}")
    pooled = [
        kept(f"{name} pooled {fold}", "newton-cg to 1e-10", lambda c=cells: _listed(_pooled(c)))
        for fold, cells in enumerate(cases)
    ]
    return found | {POOLED: _macro_f1(truth, np.concatenate(pooled))}


def under(name: str, attack: str) -> dict[str, Values]:
    """Return the macro-F1 of each merge when the first site of five lies; cells are dealt alike."""
    cases = folds(name)
    truth = np.concatenate([cells.y[cells.held_out] for cells in cases])
    found = {}
    for merge, rule in RULES.items():
        rule = replace(rule, rounds_max=HOSTILE_ROUNDS) if merge == "exact-sum" else rule  # noqa: PLW2901
        parts = [
            kept(
                f"{name} {attack} {merge} {fold}",
                rule,
                lambda c=cells, f=fold, r=rule: _listed(_attacked(c, f, r, attack)),
            )
            for fold, cells in enumerate(cases)
        ]
        found[merge] = _macro_f1(truth, np.concatenate(parts))
        _tell(f"{attack}, {merge}: {found[merge][0]:.3f}")
    return found


def beside_pooling(name: str, repeats: int) -> Iterator[Figure]:
    """Yield, over several splits, by how much two averages fall short of pooling where each type is at two sites."""
    for merge in ("fedavg", "fednova"):
        rule = replace(RULES[merge], rounds_max=0)
        short = []
        for seed in range(repeats):
            ours, pooled = kept(f"{name} split {seed} {merge}", rule, partial(_beside_pooling, name, seed, rule))
            short.append(pooled - ours)
        mean, half = statistics.fmean(short), 1.96 * statistics.stdev(short) / repeats**0.5 if repeats > 1 else 0.0
        print(f"\n{name}, {merge}: falls short by {mean:.3f} ({mean - half:.3f} to {mean + half:.3f}) in the mean")
        yield Figure(f"{name}, {TWO}: pooled minus {merge}, {rule.rounds_limit} rounds", "macro-F1", tuple(short), 0.01)


def of_patients(name: str, split: str) -> dict[str, Values]:
    """Return the AUROC of each merge over held-out donors of four folds, of local fits (their mean) and of pooling."""
    patients = patient_cases.SETS[name]()
    fold = patient_cases.fold_of(patients.y, 0)

    def scored(merge: str, site: int | None = None) -> np.ndarray:
        score = np.zeros(len(patients.y))
        for one in range(patient_cases.N_FOLDS):
            train, test = np.flatnonzero(fold != one), np.flatnonzero(fold == one)
            of = patient_cases.SPLITS[split](patients.y[train], np.random.default_rng([one, 1]))
            of, train = (np.zeros_like(of), train) if merge == POOLED else (of, train)
            mine = np.ones(len(of), bool) if site is None else of == site
            rule = patient_cases.rule_of("exact-sum" if merge in (LOCAL, POOLED) else merge)
            model = patient_cases.taught(patients.some(train[mine]), of[mine], rule) if mine.any() else None
            score[test] = patient_cases.probability(model, patients.some(test))
        return score

    def result(merge: str, site: int | None = None) -> Values:
        key, made_from = (
            f"{name} {split} {merge} {site}",
            patient_cases.rule_of("exact-sum" if merge in (LOCAL, POOLED) else merge),
        )
        return _auroc(patients.y, np.array(kept(key, made_from, lambda: scored(merge, site).tolist())))

    alone = [result(LOCAL, site) for site in range(patient_cases.SITES)]
    found = {LOCAL: np.mean(alone, axis=0)} | {merge: result(merge) for merge in (*RULES, POOLED)}
    _tell(f"{name}, {split}: measured")
    return found


def _beside_pooling(name: str, seed: int, rule: FitRule) -> tuple[float, float]:
    cells = drawn(name, seed)
    state = learn(learners(cells, dealt(cells, TWO, [seed, 1]), rule))
    pooled = float(f1_score(cells.y[cells.held_out], _pooled(cells), average="macro", zero_division=0))
    return macro_f1(cells, state), pooled


def _pooled(cells: Cells) -> np.ndarray:
    return oracle(cells)[cells.held_out].argmax(axis=1)


def _alone(cells: Cells, rows: np.ndarray) -> np.ndarray:
    """Return what a site by itself calls the held-out cells."""
    if not len(rows):
        return np.zeros(int(cells.held_out.sum()), np.int64)
    return oracle(cells, rows, tol=1e-6)[cells.held_out].argmax(axis=1)


def _attacked(cells: Cells, fold: int, rule: FitRule, attack: str) -> np.ndarray:
    flipped = 0 if attack == "labels reversed" else -1
    sites = learners(cells, dealt(cells, "iid", [fold, 1]), rule, flipped=flipped)
    return called(cells, learn(sites, ATTACKS[attack]))


def _macro_f1(truth: np.ndarray, predicted: np.ndarray) -> Values:
    """Return the macro-F1, and that of cells drawn with replacement within their types."""
    n_types = int(max(truth.max(), predicted.max())) + 1
    weights = draw(truth.tolist(), n_resamples=N_RESAMPLES, rng=np.random.default_rng(0)).drawn
    pairs = sparse.csr_matrix(
        (np.ones(len(truth)), (np.arange(len(truth)), truth * n_types + predicted)), (len(truth), n_types**2)
    )
    counts = np.asarray((pairs.T @ weights.T.astype(np.float64)).T).reshape(-1, n_types, n_types)
    return macro_f1_of(counts.astype(np.int64))


def _auroc(truth: np.ndarray, score: np.ndarray) -> Values:
    resamples = draw(truth.tolist(), n_resamples=N_RESAMPLES, rng=np.random.default_rng(0))
    return auroc(truth == 1, score, resamples.drawn)


def _listed(labels: np.ndarray) -> list[int]:
    return [int(one) for one in labels]


def _tell(what: str) -> None:
    """Say on the standard error what is measured: tables follow when they are whole."""
    print(what, file=sys.stderr, flush=True)


def _short(what: str, found: Mapping[str, Values], names: Sequence[str], beside: Values, goal: float = 0.01) -> Figure:
    best = max(names, key=lambda name: found[name][0])
    apart = beside - found[best]
    low, high = np.quantile(apart[1:], [0.025, 0.975])
    return Figure(f"{what} ({best}; {low:.3f} to {high:.3f})", "macro-F1", (float(apart[0]),), goal)


def _table(columns: Mapping[str, Mapping[str, Values]], set_name: str = "") -> str:
    names = dict.fromkeys(name for found in columns.values() for name in found)
    rows = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        shown = [_shown(found[name], set_name) if name in found else "" for found in columns.values()]
        rows.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(rows)


def _in_short(found: Mapping[str, Mapping[str, Values]]) -> str:
    rows = ["| set | each site alone | swarm, exact-sum | best average | best robust | pooled |", "|---" * 6 + "|"]
    for name, by_merge in found.items():
        best = {names: max(names, key=lambda one: by_merge[one][0]) for names in (FAMILY, ROBUST)}
        cells = [_shown(by_merge[one], name) for one in (LOCAL, "exact-sum")]
        cells += [f"{_shown(by_merge[one], name)} {one}" for one in best.values()]
        rows.append(f"| {name} | " + " | ".join([*cells, _shown(by_merge[POOLED], name)]) + " |")
    return "\n".join(rows)


def _shown(values: Values, name: str = "") -> str:
    """Return a figure with its interval; that of patients is closed where all resamples agree, as at an area of 1."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    if name in patient_cases.SETS and high - low < 1e-12:
        ill = patient_cases.SETS[name]().y
        low, high = newcombe_auroc(float(values[0]), float(ill.sum()), float(len(ill) - ill.sum()))
    return f"{values[0]:.3f} ({low:.3f} to {high:.3f})"
