"""`audit privacy`: whether the cells that a model was trained on can be told from cells that it never saw.

Rules: the attacker has the model, and a cell with its label; members are this site's training donors, the others its
held-out donors. Shadow models are trained here, by the study's own rules, on random halves of all these donors.

References
----------
Yeom et al. 2018, CSF, arXiv:1709.01604 (loss threshold); Carlini et al. 2022, arXiv:2112.03570 (LiRA).
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
from swarmcell.errors import CellsError, ModelError
from swarmcell.metrics.membership import FALSE_SHARE, Separation, separation
from swarmcell.model import released
from swarmcell.model.learning import Learner
from swarmcell.model.panel_cells import on_panel
from swarmcell.model.released import TrainedModel
from swarmcell.model.state import from_bytes
from swarmcell.model.study import Floors, Study
from swarmcell.model.training_cells import gather
from swarmcell.workflows.evaluate import check_fit, silent
from swarmcell.workflows.stream import BLOCK_ROWS, PreparedFile

Observer = Callable[[str, dict[str, Any]], None]
Floats = npt.NDArray[np.float64]
LOSS, SHADOWS = "loss threshold", "shadow models"
SD_MIN = 1e-3  # of shadow scores, so that a likelihood stays finite; chosen


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What one attack achieved."""

    name: str
    found: Separation
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "attack": self.name,
            "auroc": self.found.auroc.to_json(),
            "caught": self.found.caught.to_json(),
            "false_share": FALSE_SHARE,
            "n_members": self.found.n_members,
            "n_others": self.found.n_others,
            "verdict": self.verdict,
        }


@dataclass(frozen=True, kw_only=True)
class PrivacyAudit:
    """What the attacks on one model achieved, each on the same cells."""

    model_digest: str
    study: str
    n_train_donors: int
    n_held_out_donors: int
    attacks: tuple[Attack, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "model_digest": self.model_digest,
            "study": self.study,
            "n_train_donors": self.n_train_donors,
            "n_held_out_donors": self.n_held_out_donors,
            "attacks": [attack.to_json() for attack in self.attacks],
        }


@dataclass(frozen=True)
class _Cells:
    """Scores of labelled cells: the log-odds of the true label, which side each is on, and whose of `who` it is."""

    log_odds: Floats
    is_member: npt.NDArray[np.bool_]
    donor: npt.NDArray[np.int64]
    who: npt.NDArray[np.str_]


def audit_privacy(
    model: Path,
    prepared: Sequence[Path],
    *,
    n_shadows: int,
    n_resamples: int,
    seed: int,
    observer: Observer = silent,
) -> PrivacyAudit:
    """Attack a model with this site's own cells.

    Parameters
    ----------
    model
        Model file with a cell task.
    prepared
        Prepared files that hold training and held-out donors.
    n_shadows
        Models to train on random halves of the donors; 0 leaves that attack out.
    n_resamples
        Resamples of donors for the intervals.
    observer
        Called with `("total", {"n": n})` and `("progress", {"n": n})`: models to run, models done.

    Raises
    ------
    ModelError
        If the model has no cell task, is corrupt, or does not fit the cells.
    CellsError
        If either side has no donor with labelled cells.
    """
    target = released.load(model)
    if not target.has_cell_task:
        msg = f"{model}: has no cell task, and the attacks ask about single cells. Audit a model of cell types."
        raise ModelError(msg)
    observer("total", {"n": 1 + n_shadows})
    cells = _scored(target, model, prepared)
    observer("progress", {"n": 1})
    rng = np.random.default_rng(seed)
    scores = {LOSS: cells.log_odds}
    if n_shadows:
        scores[SHADOWS] = _by_shadows(target, prepared, cells, n_shadows, rng, observer)
    attacks = [_attack(name, score, cells, n_resamples, rng) for name, score in scores.items()]
    return PrivacyAudit(
        model_digest=target.digest,
        study=target.study.name,
        n_train_donors=len(np.unique(cells.donor[cells.is_member])),
        n_held_out_donors=len(np.unique(cells.donor[~cells.is_member])),
        attacks=tuple(attacks),
    )


def _attack(name: str, score: Floats, cells: _Cells, n_resamples: int, rng: np.random.Generator) -> Attack:
    found = separation(score, cells.is_member, cells.donor, n_resamples=n_resamples, rng=rng)
    return Attack(name=name, found=found, verdict=_verdict(found))


def _verdict(found: Separation) -> str:
    auroc = found.auroc
    if not auroc.has_interval or auroc.low is None:
        return f"cannot be judged: {auroc.note}"
    if auroc.low > 0.5 or (found.caught.low or 0.0) > FALSE_SHARE:
        return "trained cells can be told from others better than by guessing"
    return "trained cells cannot be told from others better than by guessing"


def _scored(target: TrainedModel, model: Path, prepared: Sequence[Path]) -> _Cells:
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
    return _Cells(np.concatenate([score for score, _ in parts]), member, donor.astype(np.int64), who)


def _who(obs: Any) -> npt.NDArray[np.str_]:  # noqa: ANN401 (a frame)
    return np.asarray(obs[SITE].astype(str) + "\x1f" + obs[DONOR].astype(str), dtype=np.str_)


def _labelled(obs: Any, target: TrainedModel) -> npt.NDArray[np.int64]:  # noqa: ANN401 (a frame)
    if CELL_TYPE not in obs:
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.asarray(obs[CELL_TYPE].astype(object).isin(target.cell_types))).astype(np.int64)


def _log_odds(model: TrainedModel, cells: AnnData) -> Floats:
    """Return the log-odds of each cell's true label, shape `(n_obs,)`: one to one with its loss."""
    logits = np.asarray(model.cell_logits(on_panel(cells, model.panel_ids)), dtype=np.float64)
    codes, _ = encode([str(label) for label in cells.obs[CELL_TYPE]], model.cell_types)
    rows = np.arange(len(codes))
    true = logits[rows, codes]
    logits[rows, codes] = -np.inf
    highest = logits.max(axis=1)
    rest: Floats = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return true - rest


def _by_shadows(
    target: TrainedModel,
    prepared: Sequence[Path],
    cells: _Cells,
    n_shadows: int,
    rng: np.random.Generator,
    observer: Observer,
) -> Floats:
    """Return the evidence of shadow models, each trained on a random half of all donors, for each cell."""
    sources = [(path.name, schema.read_prepared(path)) for path in prepared]
    study = replace(target.study, stages=("features", "cell"), conditions=(), floors=Floors(donors=1, cells=1))
    n_donors = int(cells.donor.max()) + 1
    half = np.arange(n_shadows) < n_shadows // 2
    chosen = np.stack([rng.permutation(half) for _ in range(n_donors)], axis=1)
    scores = np.empty((n_shadows, len(cells.donor)))
    for shadow, donors in enumerate(chosen):
        _assign(sources, cells.who[donors])
        scores[shadow] = _scores_of(_learnt(study, sources), sources)
        observer("progress", {"n": 1})
    return likelihood_ratio(cells.log_odds, scores, chosen[:, cells.donor])


def _assign(sources: Sequence[tuple[str, AnnData]], trained: npt.NDArray[np.str_]) -> None:
    for _, adata in sources:
        inside = np.isin(_who(adata.obs), trained)
        adata.obs[SPLIT] = pd.Categorical(np.where(inside, TRAIN, HELD_OUT), categories=[HELD_OUT, TRAIN])


def _learnt(study: Study, sources: Sequence[tuple[str, AnnData]]) -> TrainedModel:
    counts = _raw_counts(sources) if study.features.needs_counts else ()
    gathered = gather(sources, cell_types=study.cell_types, conditions=(), seed=study.seed, counts=counts)
    study = replace(study, start_sha256="")  # a shadow of a fine-tuned model starts from nothing: it may know no donor
    learner, stop = Learner(study, gathered, threads=1), threading.Event()
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


def _scores_of(model: TrainedModel, sources: Sequence[tuple[str, AnnData]]) -> Floats:
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
