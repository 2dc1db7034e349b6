"""Which rules a run follows: a config's study, made whole by what the prepared files hold.

Rules: a swarm's study is taken as it stands; only a run of one site alone may infer labels or leave a stage out.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from swarmcell.cells.schema import CELL_TYPE, CONDITION, UNS
from swarmcell.config import swarm_file
from swarmcell.config.base import read_toml
from swarmcell.errors import CellsError, PanelError
from swarmcell.model.released import TrainedModel
from swarmcell.model.stages import CELL, CLUSTERS, FEATURES, labels
from swarmcell.model.study import Floors, StageName, Study
from swarmcell.model.training_cells import TrainingCells, vocabulary

if TYPE_CHECKING:
    from anndata import AnnData


def read_study(path: Path) -> Study:
    """Read the study of a swarm's configuration, or of a swarm file.

    Raises
    ------
    ConfigError, TamperedError, PanelError
        If a value is missing, unknown or impossible, or the file was changed after it was made.
    """
    if "founders" in read_toml(path):
        return swarm_file.load(path).study
    return swarm_file.load_config(path).study


def study_alone(
    study: Study | None, sources: Sequence[tuple[str, "AnnData"]], *, seed: int, start: TrainedModel | None = None
) -> Study:
    """Return the study of a run without a swarm: labels that it does not name are those of the training cells.

    With a model to start from, its rules are the default, and its labels come first.

    Raises
    ------
    PanelError
        If the study names another universe than the files have.
    """
    given, stored = study is not None, sources[0][1].uns[UNS]
    universe = str(stored["universe_sha256"])
    if start is not None:
        study = _from_start(start, study, seed)
    if study is None:
        study = Study(name="local", modality=stored["modality"], seed=seed, floors=Floors(donors=1, cells=1))
    elif study.universe_sha256 and study.universe_sha256 != universe:
        msg = (
            f"{sources[0][0]}: prepared with universe {universe[:12]}, the study has {study.universe_sha256[:12]}. "
            "Prepare it with the study's universe file."
        )
        raise PanelError(msg)
    known = (study.cell_types, study.conditions) if start is None or given else ((), ())
    first = ((), ()) if start is None else (start.cell_types, start.conditions)
    return replace(
        study,
        universe_sha256=universe,
        cell_types=known[0] or _union(first[0], vocabulary(sources, CELL_TYPE)),
        conditions=known[1] or _union(first[1], vocabulary(sources, CONDITION)),
    )


def _from_start(start: TrainedModel, study: Study | None, seed: int) -> Study:
    if study is not None:
        return replace(study, start_sha256=study.start_sha256 or start.digest)
    alone = Floors(donors=1, cells=1)
    return replace(start.study, seed=seed, start_sha256=start.digest, floors=alone)


def _union(first: tuple[str, ...], later: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *later)))


def learnable(study: Study, cells: TrainingCells) -> tuple[Study, list[str]]:
    """Return the study without the stages that these cells alone cannot teach, and a note on each.

    Nothing of such a run leaves the site, so no sum is hidden, and no floor of a sum over sites binds.

    Raises
    ------
    CellsError
        If no stage is left.
    """
    kept: list[StageName] = ["features"]
    notes: list[str] = []
    for stage in study.stages[1:]:
        if stage == CLUSTERS:
            kept.append(stage)
            continue
        codes = cells.cell_type if stage == CELL else cells.sample_condition
        column = "cell_type" if stage == CELL else "condition"
        found = [labels(study, stage)[i] for i in np.unique(codes[codes >= 0])]
        if len(found) >= 2:
            kept.append(stage)
        else:
            said = f"only {found[0]!r}" if found else "no label"
            notes.append(f"no model of the {stage} task: the training donors have {said} in obs[{column!r}].")
    if kept == [FEATURES]:
        msg = f"nothing to learn: {' '.join(notes)} A classifier needs at least two classes."
        raise CellsError(msg)
    return replace(study, stages=tuple(kept), privacy=replace(study.privacy, secure_aggregation=False)), notes
