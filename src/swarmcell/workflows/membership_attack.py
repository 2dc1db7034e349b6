"""Attacks on a model with a site's own cells: their scores, and shadow models of random halves of the donors.

Rules: a score is the log-odds of a cell's true label, one to one with its loss. Shadow models are trained by the rules
of the model that is attacked, on cells that never leave this process.

References
----------
Carlini et al. 2022, arXiv:2112.03570 (LiRA).
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from anndata import AnnData

from swarmcell.cells import schema
from swarmcell.cells.batches import encode
from swarmcell.cells.schema import CELL_TYPE, DONOR, SITE, SPLIT
from swarmcell.cells.split import HELD_OUT, TRAIN
from swarmcell.cells.stored import NO_COUNTS
from swarmcell.errors import CellsError
from swarmcell.model import released
from swarmcell.model.learning import Learner
from swarmcell.model.released import TrainedModel
from swarmcell.model.state import from_bytes
from swarmcell.model.study import EXACT, NOISED, Floors, PrivacyRule, Study
from swarmcell.model.training_cells import gather
from swarmcell.privacy.noise import alone
from swarmcell.workflows.evaluation.fit import check_fit
from swarmcell.workflows.stream import BLOCK_ROWS, PreparedFile

Observer = Callable[[str, dict[str, Any]], None]
Floats = npt.NDArray[np.float64]
SD_MIN = 1e-3  # of shadow scores, so that a likelihood stays finite; chosen


@dataclass(frozen=True)
class Cells:
    """Labelled cells, in the order of the files: which side each is on, and whose of `who` it is."""

    is_member: npt.NDArray[np.bool_]
    donor: npt.NDArray[np.int64]
    who: npt.NDArray[np.str_]


@dataclass(frozen=True)
class Effort:
    """How hard the attacks try."""

    n_shadows: int
    n_resamples: int
    rng: np.random.Generator
    observer: Observer


def read(prepared: Sequence[Path]) -> list[tuple[str, AnnData]]:
    """Return the name and cells of each prepared file, in memory."""
    return [(path.name, schema.read_prepared(path)) for path in prepared]


def scored(target: TrainedModel, model: Path, prepared: Sequence[Path]) -> tuple[Floats, Cells]:
    """Return a model's score of each labelled cell, and whose the cells are.

    Raises
    ------
    CellsError
        If either side has no donor with labelled cells.
    """
    parts: list[tuple[Floats, pd.DataFrame]] = []
    for path in prepared:
        with PreparedFile(path) as file:
            check_fit(target, model, file)
            blocks = file.blocks(_labelled(file.obs, target))
            parts += [(_log_odds(target, block.cells), file.obs.iloc[block.rows]) for block in blocks]
    obs: pd.DataFrame = pd.concat([frame for _, frame in parts]) if parts else pd.DataFrame()
    sides = {str(side) for side in obs[SPLIT]} if parts else set()
    if not {TRAIN, HELD_OUT} <= sides:
        msg = (
            f"{', '.join(path.name for path in prepared)}: labelled cells are {'/'.join(sorted(sides)) or 'missing'}; "
            "the audit needs donors that were trained on and donors that were held out."
        )
        raise CellsError(msg)
    who, donor = np.unique(_who(obs), return_inverse=True)
    member = np.asarray(obs[SPLIT].astype(str) == TRAIN, dtype=np.bool_)
    return np.concatenate([score for score, _ in parts]), Cells(member, donor.astype(np.int64), who)


def _who(obs: Any) -> npt.NDArray[np.str_]:  # noqa: ANN401 (a frame)
    return np.asarray(obs[SITE].astype(str) + "\x1f" + obs[DONOR].astype(str), dtype=np.str_)


def _labelled(obs: Any, target: TrainedModel) -> npt.NDArray[np.int64]:  # noqa: ANN401 (a frame)
    if CELL_TYPE not in obs:
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.asarray(obs[CELL_TYPE].astype(object).isin(target.cell_types))).astype(np.int64)


def _log_odds(model: TrainedModel, cells: AnnData) -> Floats:
    """Return the log-odds of each cell's true label, shape `(n_obs,)`: one to one with its loss."""
    logits = np.asarray(model.cell_logits(model.on_panel(cells)), dtype=np.float64)
    codes, _ = encode([str(label) for label in cells.obs[CELL_TYPE]], model.cell_types)
    rows = np.arange(len(codes))
    true = logits[rows, codes]
    logits[rows, codes] = -np.inf
    highest = logits.max(axis=1)
    rest: Floats = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return true - rest


def by_shadows(study: Study, prepared: Sequence[Path], score: Floats, cells: Cells, effort: Effort) -> Floats:
    """Return the evidence of shadow models, each trained on a random half of all donors, for each cell."""
    sources, n = read(prepared), effort.n_shadows
    privacy = replace(study.privacy, secure_aggregation=False)  # as protected as the model, but for one site's noise
    study = replace(alone_study(study), cell=study.cell, privacy=privacy)
    half = np.arange(n) < n // 2
    chosen = np.stack([effort.rng.permutation(half) for _ in range(int(cells.donor.max()) + 1)], axis=1)
    scores = np.empty((n, len(cells.donor)))
    for shadow, donors in enumerate(chosen):
        _assign(sources, cells.who[donors])
        scores[shadow] = scores_of(learnt(study, sources, effort.rng.bytes(32)), sources)
        effort.observer("progress", {"n": 1})
    return likelihood_ratio(score, scores, chosen[:, cells.donor])


def _assign(sources: Sequence[tuple[str, AnnData]], trained: npt.NDArray[np.str_]) -> None:
    for _, adata in sources:
        inside = np.isin(_who(adata.obs), trained)
        adata.obs[SPLIT] = pd.Categorical(np.where(inside, TRAIN, HELD_OUT), categories=[HELD_OUT, TRAIN])


def learnt(study: Study, sources: Sequence[tuple[str, AnnData]], secret: bytes | None = None) -> TrainedModel:
    """Return the model of these training donors, as if they lay at one site.

    Parameters
    ----------
    secret
        Of the noise, where the study is under differential privacy (`privacy.noise.alone`).

    Raises
    ------
    CellsError
        If it cannot be trained.
    """
    counts = _raw_counts(sources) if study.features.needs_counts else ()
    gathered = gather(sources, cell_types=study.cell_types, conditions=(), seed=study.seed, counts=counts)
    universe = study.universe_sha256 or gathered.universe_sha256
    study = replace(study, start_sha256="", universe_sha256=universe)  # from nothing: a start may know donors
    learner, stop = alone(Learner(study, gathered, threads=1), secret), threading.Event()
    raw = learner.start()
    while not (state := from_bytes(raw)).finished:
        made = learner.contribute(raw, stop)
        raw = learner.merge(raw, [made] if made is not None else []).state
    if state.failure:
        msg = f"a shadow model cannot be trained: {state.failure} Give more donors, or --shadows 0."
        raise CellsError(msg)
    return released.assemble(state, study, gathered.feature_ids, {})


def _raw_counts(sources: Sequence[tuple[str, AnnData]]) -> list[Any]:
    for name, adata in sources:
        if schema.COUNTS not in adata.layers:
            msg = f"{name}: {NO_COUNTS}"
            raise CellsError(msg)
    return [adata.layers[schema.COUNTS] for _, adata in sources]


def scores_of(model: TrainedModel, sources: Sequence[tuple[str, AnnData]]) -> Floats:
    """Return a model's score of each labelled cell, in the order of the files."""
    blocks = []
    for _, adata in sources:
        rows = _labelled(adata.obs, model)
        blocks += [_log_odds(model, adata[part]) for part in np.array_split(rows, len(rows) // BLOCK_ROWS + 1)]
    return np.concatenate(blocks)


def likelihood_ratio(score: Floats, shadows: Floats, inside: npt.NDArray[np.bool_]) -> Floats:
    """Return the log-likelihood ratio "trained on" over "not", of normal scores with one variance per side.

    Parameters
    ----------
    score
        Of the attacked model, shape `(n_cells,)`.
    shadows
        Of each shadow model, shape `(n_shadows, n_cells)`.
    inside
        Whether each shadow model was trained on each cell, same shape, both at least once per cell.
    """
    found = np.zeros(len(score))
    for side, sign in ((inside, 1), (~inside, -1)):
        mean = np.average(shadows, axis=0, weights=side)
        sd = max(float(np.sqrt(((shadows - mean)[side] ** 2).mean())), SD_MIN)
        found += sign * (-0.5 * ((score - mean) / sd) ** 2 - np.log(sd))
    return found


def alone_study(study: Study) -> Study:
    """Return the rules by which one site alone would train the study's model of cells, unprotected."""
    cell, bare = study.cell, Floors(donors=1, cells=1)
    if cell.merge == NOISED:
        cell = replace(cell, merge=EXACT if cell.model == "linear" else "fedavg")
    return replace(study, stages=("features", "cell"), conditions=(), cell=cell, floors=bare, privacy=PrivacyRule())
