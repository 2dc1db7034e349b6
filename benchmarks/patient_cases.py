# ruff: noqa: PLC0415 (a job imports what it measures, and no more)
"""Swarms of three sites that classify patients by cytometry: real samples, how they are dealt, and what is learnt.

Rules: two public sets of ten and twelve donors, both easy: they show that the path works and what a merge costs there,
not how well patients can be told apart. A merge runs as in a swarm, through `Learner.contribute` and `Learner.merge`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import anndata as ad
import numpy as np

from benchmarks.merge_cases import DATA, RULES, learn
from swarmcell.model import released
from swarmcell.model.learning import Learner
from swarmcell.model.study import FitRule, Study
from swarmcell.model.training_cells import TrainingCells

CELLS_OF_SAMPLE, SITES, N_FOLDS = 400, 3, 4
CYTOMETRY = DATA.parent / "cytometry"


@dataclass(frozen=True)
class Patients:
    """Arcsinh values of some cells of each donor, and who is ill (1) or well (0)."""

    samples: tuple[np.ndarray, ...]
    y: np.ndarray
    markers: tuple[str, ...]

    def some(self, which: Sequence[int]) -> "Patients":
        """Return some of the donors."""
        return Patients(tuple(self.samples[i] for i in which), self.y[list(which)], self.markers)


def wnv12() -> Patients:
    """Twelve mice's bone marrow, half of them infected."""
    adata = ad.read_h5ad(CYTOMETRY / "wnv12_mouse_bm_flow.h5ad")
    mice = adata.obs["donor"].astype(str).to_numpy()
    infected = adata.obs["condition"].astype(str) != "Mock"
    rows = [np.flatnonzero(mice == mouse) for mouse in np.unique(mice)]
    y = np.array([bool(infected.iloc[mine[0]]) for mine in rows], np.int64)
    samples = tuple(_some(np.asarray(adata.X[mine], np.float32)) for mine in rows)
    return Patients(samples, y, tuple(adata.var_names))


def aml_flow() -> Patients:
    """Ten people's events, half of them with leukaemia."""
    import pandas as pd

    from swarmcell.cells.fcs import only_data_set, read_events

    folder = CYTOMETRY / "aml_flow"
    sheet = pd.read_csv(folder / "samples.csv")
    files = [next(folder.rglob(str(name))) for name in sheet.iloc[:, 0]]
    samples = tuple(_some(np.asarray(read_events(only_data_set(file)), np.float32)) for file in files)
    y = (sheet["condition"] == "aml").to_numpy().astype(np.int64)
    return Patients(samples, y, tuple(f"channel {i + 1}" for i in range(samples[0].shape[1])))


SETS: Mapping[str, Callable[[], Patients]] = {"wnv12": wnv12, "aml_flow": aml_flow}


def _some(values: np.ndarray) -> np.ndarray:
    rows = np.random.default_rng(0).permutation(len(values))[:CELLS_OF_SAMPLE]
    return np.arcsinh(values[np.sort(rows)] / 150).astype(np.float32)


def rule_of(merge: str) -> FitRule:
    """Return how the linear classifier of samples is merged here."""
    if merge == "exact-sum":
        return FitRule(l2=1e-2, tolerance=1e-5)
    shared = {"l2": 1e-2, "steps_per_round": 10, "rounds_max": 10, "batch_rows": 64}
    return FitRule(merge=RULES[merge].merge, proximal=RULES[merge].proximal, **shared)


def iid(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deal each condition's donors to all sites, in turn."""
    return _by_condition(y, lambda rows: (np.arange(len(rows)) + rng.integers(SITES)) % SITES, rng)


def dirichlet(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deal each condition's donors by shares drawn from Dirichlet(0.3)."""
    return _by_condition(y, lambda rows: rng.choice(SITES, len(rows), p=rng.dirichlet(np.full(SITES, 0.3))), rng)


def two_sites(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deal the well to two sites and the ill to two: one site has both, two have one."""
    return np.where(y == 0, 0, 1) + _by_condition(y, lambda rows: np.arange(len(rows)) % 2, rng)


SPLITS = {"iid": iid, "Dirichlet(0.3)": dirichlet, "two sites per condition": two_sites}


def _by_condition(y: np.ndarray, deal: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator) -> np.ndarray:
    of = np.zeros(len(y), np.int64)
    for kind in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == kind))
        of[rows] = deal(rows)
    return of


def fold_of(y: np.ndarray, seed: int) -> np.ndarray:
    """Return each donor's fold, each of which has both conditions."""
    rng, fold = np.random.default_rng(seed), np.zeros(len(y), np.int64)
    for k in (0, 1):
        mine = rng.permutation(np.flatnonzero(y == k))
        fold[mine] = np.arange(len(mine)) % N_FOLDS
    return fold


def taught(
    patients: Patients, of: np.ndarray, rule: FitRule, *, stages: tuple[str, ...] = ("features", "patient")
) -> released.TrainedModel | None:
    """Return the model of a swarm whose sites have the donors `of` says; `None` where nothing can be learnt."""
    study = Study(name="m", modality="cytometry", stages=stages, conditions=("well", "ill"), patient=rule)
    sites = [patients.some(np.flatnonzero(of == site)) for site in sorted(set(of.tolist()))]
    learners = [Learner(study, _site(site), threads=1) for site in sites]
    state = learn(learners)
    if state.failure:
        return None
    return released.assemble(state, study, _site(sites[0]).feature_ids, {})


def probability(model: released.TrainedModel | None, patients: Patients) -> np.ndarray:
    """Return how probably each donor is ill; a half where there is no model."""
    if model is None:
        return np.full(len(patients.y), 0.5)
    sample = np.repeat([f"{i:03d}" for i in range(len(patients.y))], [len(s) for s in patients.samples])
    adata = ad.AnnData(np.vstack(patients.samples))
    adata.obs["sample"], adata.var_names = sample, list(model.panel_ids)
    return model.predict_samples(adata)[1][:, 1]


def _site(patients: Patients) -> TrainingCells:
    n = len(patients.y)
    sample = np.repeat(np.arange(n), [len(s) for s in patients.samples])
    return TrainingCells(
        X=np.vstack(patients.samples),
        feature_ids=tuple(f"g{i}" for i in range(patients.samples[0].shape[1])),
        universe_sha256="",
        modality="cytometry",
        cell_type=np.full(len(sample), -1),
        sample=sample,
        validation=np.zeros(len(sample), bool),
        sample_condition=patients.y.astype(np.int64),
        sample_validation=np.zeros(n, bool),
        donors=tuple(f"d{i}" for i in range(n)),
    )
