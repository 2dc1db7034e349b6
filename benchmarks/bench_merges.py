"""What each merge makes of five sites beside local and pooled fits, and of one hostile site among five."""

import statistics
import sys
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch

from benchmarks.figures import Figure
from benchmarks.merge_cases import (
    ATTACKS,
    FAMILY,
    L2,
    ROBUST,
    RULES,
    SETS,
    SITES,
    SPLITS,
    Cells,
    iid,
    learn,
    learners,
    macro_f1,
    oracle,
    probabilities,
)
from swarmcell.model.classifier import initial
from swarmcell.model.encoding import Named, encode
from swarmcell.model.study import FitRule

REPEATS = 3
Scores = dict[str, list[float]]


def figures(repeats: int) -> Iterator[Figure]:
    """Print a table per set and one of hostile sites; yield how far each goal is off."""
    torch.set_num_threads(1)
    yield update_size()
    for name, take in SETS.items():
        yield from exactness(name)
        tables = {split: _told(name, split, compared(take, split, repeats)) for split in SPLITS}
        print(f"\n{name}: macro-F1 on held-out cells, median of {repeats} splits (lowest to highest)\n")
        print(_table(tables), flush=True)
        yield _short(f"{name}, two sites per type: pooled minus best average", tables["two sites per type"], FAMILY)
    attacked = {"no attack": compared(SETS["pbmc68k_reduced"], "iid", repeats)}
    attacked |= {attack: under(attack, repeats) for attack in ATTACKS}
    print(f"\npbmc68k_reduced, iid, one hostile site of {SITES}\n")
    print(_table(attacked), flush=True)
    clean = attacked["no attack"]["fedavg"]
    for attack in ATTACKS:
        found = attacked[attack] | {"pooled": clean}
        yield _short(f"{attack}: fedavg without a liar minus best robust merge", found, ROBUST, goal=0.05)


def update_size() -> Figure:
    """Return the size of one site's update of the largest usual network."""
    rule = FitRule(model="mlp", hidden=256, merge="fedavg")
    size = len(encode(Named({}, initial(rule, 2000, 20, seed=0))))
    return Figure("update of a 2,000 x 256 x 20 network, fedavg", "MB", (size / 1e6,), 2.2)


def exactness(name: str) -> Iterator[Figure]:
    """Yield how far an exact fit of five sites, two per type, is from scikit-learn's of all cells, and its rounds."""
    cells = SETS[name](np.random.default_rng(0))
    of = SPLITS["two sites per type"](cells.y[~cells.held_out], np.random.default_rng([0, 1]))
    state = learn(learners(cells, of, FitRule(l2=L2)))
    apart = float(np.abs(probabilities(cells, state) - oracle(cells)).max())
    yield Figure(f"{name}, exact-sum: largest difference of a probability from scikit-learn's", "", (apart,), 1e-6)
    yield Figure(f"{name}, exact-sum: rounds to that", "", (float(state.results["cell"].rounds),))


def compared(take: Callable[[np.random.Generator], Cells], split: str, repeats: int) -> Scores:
    """Return the macro-F1 of each merge, of the mean local fit and of the pooled fit, per repeat."""
    scores: Scores = {}
    for repeat in range(repeats):
        cells = take(np.random.default_rng(repeat))
        of = SPLITS[split](cells.y[~cells.held_out], np.random.default_rng([repeat, 1]))
        alone = [macro_f1(cells, state) for state in _alone(cells, of)]
        scores.setdefault("local", []).append(statistics.fmean(alone))
        for name, rule in RULES.items():
            scores.setdefault(name, []).append(macro_f1(cells, learn(learners(cells, of, rule))))
        pooled = learn(learners(cells, np.zeros_like(of), RULES["exact-sum"]))
        scores.setdefault("pooled", []).append(macro_f1(cells, pooled))
    return scores


def _alone(cells: Cells, of: np.ndarray) -> Iterator[object]:
    for site in learners(cells, of, RULES["exact-sum"]):
        state = learn([site])
        if not state.failure:  # a site with one type only learns nothing
            yield state


def under(attack: str, repeats: int) -> Scores:
    """Return the macro-F1 of each merge when the first site lies."""
    scores: Scores = {}
    for repeat in range(repeats):
        cells = SETS["pbmc68k_reduced"](np.random.default_rng(repeat))
        of = iid(cells.y[~cells.held_out], np.random.default_rng([repeat, 1]))
        for name, rule in RULES.items():
            sites = learners(cells, of, rule, flipped=0 if attack == "labels reversed" else -1)
            scores.setdefault(name, []).append(macro_f1(cells, learn(sites, ATTACKS[attack])))
    return scores


def _told(name: str, split: str, scores: Scores) -> Scores:
    """Say that a column is measured; the table follows when all are."""
    print(f"{name}, {split}: measured", file=sys.stderr, flush=True)
    return scores


def _short(what: str, scores: Scores, names: tuple[str, ...], *, goal: float = 0.01) -> Figure:
    best = max(names, key=lambda name: statistics.median(scores[name]))
    missing = tuple(a - b for a, b in zip(scores["pooled"], scores[best], strict=True))
    return Figure(f"{what} ({best})", "macro-F1", missing, goal)


def _table(columns: Mapping[str, Scores]) -> str:
    names = dict.fromkeys(name for scores in columns.values() for name in scores)
    rows = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        shown = [_shown(scores[name]) if name in scores else "" for scores in columns.values()]
        rows.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(rows)


def _shown(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"
