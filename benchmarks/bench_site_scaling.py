"""What it costs to standardise each site's cells by the site's own mean and SD, by how types are dealt to sites.

Held-out cells are dealt to sites as the training cells are, and standardised by their site's training cells.
"""

import statistics
from collections.abc import Iterator

import numpy as np
from sklearn.metrics import f1_score

from benchmarks.figures import Figure
from benchmarks.merge_cases import L2, SETS, SPLITS, Cells, drawn, learn, one_site
from swarmcell.cells.site_scaling import SiteScaled, own_moments
from swarmcell.model.classifier import Scaling, logits, to_floats
from swarmcell.model.learning import Learner
from swarmcell.model.stages import parameters_of
from swarmcell.model.study import FeatureRule, FitRule, Study

REPEATS = 3
SCALINGS = ("swarm", "site")
RULE = FitRule(l2=L2, tolerance=1e-5)  # labels stand still long before probabilities do


def figures(repeats: int) -> Iterator[Figure]:
    """Print a table and yield the medians."""
    print("\n| set | split | scaling of the swarm | scaling by site |\n|---|---|---|---|")
    for name in SETS:
        for split, deal in SPLITS.items():
            scores: dict[str, list[float]] = {scaling: [] for scaling in SCALINGS}
            for repeat in range(repeats):
                cells = drawn(name, repeat)
                of = deal(cells.y, np.random.default_rng([repeat, 1]))
                for scaling in SCALINGS:
                    scores[scaling].append(macro_f1(cells, of, scaling))
            print(f"| {name} | {split} | {' | '.join(map(_told, scores.values()))} |", flush=True)
            for scaling, values in scores.items():
                yield Figure(f"{name}, {split}: macro-F1, scaling = {scaling}", "", tuple(values))


def macro_f1(cells: Cells, of: np.ndarray, scaling: str) -> float:
    """Return the macro-F1 of the swarm's exact fit on all held-out cells; `of` is the site of each cell."""
    types = tuple(f"type {i:02d}" for i in range(int(cells.y.max()) + 1))
    study = Study(
        name="scaling",
        modality="rna",
        stages=("features", "cell"),
        cell_types=types,
        cell=RULE,
        features=FeatureRule(scaling=scaling),
    )
    sites, site = np.unique(of, return_inverse=True)
    train = [np.flatnonzero((site == k) & ~cells.held_out) for k in range(len(sites))]
    present = [k for k, rows in enumerate(train) if len(rows)]
    state = learn([Learner(study, one_site(cells.X[train[k]], cells.y[train[k]]), threads=1) for k in present])
    swarm = Scaling.from_fixed(state.arrays["mean"], state.arrays["scale"])
    called, truth = [], []
    for k in present:
        rows = np.flatnonzero((site == k) & cells.held_out)
        X = cells.X[rows]
        if scaling == "site" and len(rows):
            none = np.zeros(len(train[k]), np.int64)
            own = own_moments(cells.X[train[k]], none, ("",))
            X = SiteScaled.of(X, np.zeros(len(rows), np.int64), own, mean=swarm.mean, scale=swarm.scale)[:]
        called.append(logits(to_floats(parameters_of(state, "cell")), X, swarm).argmax(axis=1))
        truth.append(cells.y[rows])
    return float(f1_score(np.concatenate(truth), np.concatenate(called), average="macro", zero_division=0))


def _told(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"
