"""What any model must beat, on the same held-out donors: baselines that need no training of their own.

Rules: they are made of sums that the study has added up (`model.baselines`), but for `site only`, which is made of the
training samples in the files given. They are always computed, and shown beside the model whatever they say.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from swarmcell.cells.split import TRAIN
from swarmcell.model import baselines, sample_features
from swarmcell.model.baselines import SiteOnly
from swarmcell.model.classifier import softmax
from swarmcell.model.released import TrainedModel
from swarmcell.workflows.evaluation.cell_figures import cell_task
from swarmcell.workflows.evaluation.cohort import UNLABELLED, Cohort
from swarmcell.workflows.evaluation.patient_figures import patient_task
from swarmcell.workflows.evaluation.scores import CellScores, SampleScores, in_vocabulary, score_cells
from swarmcell.workflows.evaluation.values import Baseline, CellTask, PatientTask, Settings
from swarmcell.workflows.stream import PreparedFile

if TYPE_CHECKING:
    from anndata import AnnData

Floats = npt.NDArray[np.float64]
Progress = Callable[[int], None]
WHAT = {
    "majority": "always says the commonest class of the training donors",
    "one-round LDA": "the nearest cell type on 30 components, from sums of one round",
    "one-round ridge": "ridge regression of the cell types on 30 components, from sums of one round",
    "proportions only": "discriminant of the cell-type proportions, from sums of one round",
    "pseudobulk only": "discriminant of the pseudobulk, from sums of one round",
    "site only": "knows the hospital of a sample and nothing else: high figures here mean confounding",
}
CELL_FIGURES, PATIENT_FIGURES = ("balanced_accuracy", "macro_f1"), ("auroc", "balanced_accuracy")


@dataclass(frozen=True, eq=False)
class _Caller:
    """What `score_cells` asks of a model."""

    cell_types: tuple[str, ...]
    predict_cells: Callable[["AnnData"], Floats]


def cell_baselines(model: TrainedModel, cohort: Cohort, settings: Settings, progress: Progress) -> tuple[Baseline, ...]:
    """Return the baselines of the cell task: majority; one-round LDA and ridge where the swarm described its cells."""
    n_types = len(model.cell_types)
    counted = model.state.arrays.get("cells_by_type")
    scores: dict[str, CellScores] = {}
    if counted is not None:
        commonest = np.eye(n_types)[baselines.majority(counted)]
        scores["majority"] = _scored(model, cohort, lambda adata: np.tile(commonest, (adata.n_obs, 1)), progress)
    if model.density is not None:
        scores["one-round LDA"] = _scored(model, cohort, model.nearest_types, progress)
        scores["one-round ridge"] = _scored(model, cohort, _calls(model.ridge_types), progress)
    return _named("cell", cell_task(cohort, scores, _quick(settings)), CELL_FIGURES) if scores else ()


def _scored(model: TrainedModel, cohort: Cohort, call: Callable[["AnnData"], Floats], progress: Progress) -> CellScores:
    return score_cells(_Caller(model.cell_types, call), cohort, progress)


def _calls(scores: Callable[["AnnData"], Floats]) -> Callable[["AnnData"], Floats]:
    """Return a caller whose probability is 1 for the type of the largest score."""

    def call(adata: "AnnData") -> Floats:
        found = scores(adata)
        return np.asarray(np.eye(found.shape[1])[found.argmax(axis=1)], np.float64)

    return call


def patient_baselines(
    model: TrainedModel, cohort: Cohort, files: Sequence[PreparedFile], settings: Settings, progress: Progress
) -> tuple[Baseline, ...]:
    """Return the baselines of the patient task: majority, one kind of feature only, and the site alone."""
    sums = model.state.group("baseline")
    scores: dict[str, Floats] = {}
    if sums:
        commonest = np.eye(len(model.conditions))[baselines.majority(sums["n_by_site"].sum(axis=0))]
        scores["majority"] = np.tile(commonest, (len(cohort.samples), 1))
        rows = _features(model, cohort, progress)
        kinds = _kinds(model)
        for name, wanted in (("proportions only", baselines.PROPORTIONS), ("pseudobulk only", baselines.PSEUDOBULK)):
            columns = np.isin(kinds, wanted)
            if columns.any():
                scores[name] = softmax(baselines.diagonal_discriminant(sums, columns, rows))
    scores = {name: in_vocabulary(p, model.conditions, cohort.conditions) for name, p in scores.items()}
    scores["site only"] = _by_site(cohort, files)
    called = {name: SampleScores(p) for name, p in scores.items()}
    return _named("patient", patient_task(cohort, called, _quick(settings)), PATIENT_FIGURES)


def site_alarm(cohort: Cohort, files: Sequence[PreparedFile], model: TrainedModel) -> SiteOnly | None:
    """Return how well the site predicts the condition: over the files' donors, or else as the swarm counted them."""
    table = _table(cohort, files)
    for sample in cohort.samples:
        if sample.condition != UNLABELLED:
            row = table.setdefault(cohort.donors[sample.donor].site, np.zeros(len(cohort.conditions), np.int64))
            row[sample.condition] += 1
    found = baselines.site_only([row.tolist() for row in table.values()])
    return found or baselines.site_only_of(model.state.arrays)


def _quick(settings: Settings) -> Settings:
    return replace(settings, n_permutations=1)  # a baseline is compared with, not tested


def _named(task: str, found: CellTask | PatientTask, figures: Sequence[str]) -> tuple[Baseline, ...]:
    return tuple(
        Baseline(task=task, name=one.model, what=WHAT[one.model], figures={key: one.figures[key] for key in figures})
        for one in found.models
    )


def _kinds(model: TrainedModel) -> npt.NDArray[np.str_]:
    parts = sample_features.blocks(model.study, model.panel_ids)
    return np.concatenate([np.full(block.width, block.kind) for block in parts])


def _features(model: TrainedModel, cohort: Cohort, progress: Progress) -> Floats:
    rows = np.zeros((len(cohort.samples), len(_kinds(model))))
    for part in cohort.parts:
        code = {cohort.samples[i].name: i for i in np.unique(part.sample)}
        for block in part.file.groups(part.rows, part.sample):
            names, found = model.sample_features(block.cells)
            rows[[code[name] for name in names]] = found
            progress(len(block.rows))
    return rows


def _table(cohort: Cohort, files: Sequence[PreparedFile]) -> dict[str, npt.NDArray[np.int64]]:
    """Return the training samples of each condition at each site."""
    table: dict[str, npt.NDArray[np.int64]] = {}
    for file in files:
        if "condition" not in file.obs:
            continue
        known = file.obs[["site", "sample", "condition", "split"]].dropna().astype(str).drop_duplicates()
        for site, condition in known.loc[known["split"] == TRAIN, ["site", "condition"]].itertuples(index=False):
            if condition in cohort.conditions:
                row = table.setdefault(site, np.zeros(len(cohort.conditions), np.int64))
                row[cohort.conditions.index(condition)] += 1
    return table


def _by_site(cohort: Cohort, files: Sequence[PreparedFile]) -> Floats:
    """Return each held-out sample's conditions as its site's training samples have them, against all sites'."""
    table: Mapping[str, npt.NDArray[np.int64]] = _table(cohort, files)
    total = sum(table.values(), np.zeros(len(cohort.conditions), np.int64))
    rates = {site: (row + 1 / len(row)) / np.maximum(total, 1) for site, row in table.items()}
    even = np.ones(len(cohort.conditions))
    found = np.array([rates.get(cohort.donors[sample.donor].site, even) for sample in cohort.samples])
    return np.asarray(found / found.sum(axis=1, keepdims=True), np.float64)
