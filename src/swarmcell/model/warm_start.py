"""Fine-tuning: a study that starts from a released model, whose digest stands in its rules.

Rules: the model's panel and scaling are taken over, so its coefficients mean what they meant. Classes are matched by
name: a new one starts at zero, one that the study no longer has is left out. The initial state holds all of it, so
every peer begins with the same bits, and a peer with another file is refused before it joins.
"""

from collections.abc import Sequence

import numpy as np

from swarmcell.errors import ConfigError, ModelError, PanelError
from swarmcell.model import bag_models
from swarmcell.model.classifier import shapes
from swarmcell.model.encoding import Array
from swarmcell.model.released import TrainedModel
from swarmcell.model.stages import CELL, PATIENT, labels, parameters_of, rule_of
from swarmcell.model.study import Study

_OF_CLASSES = ("bias", "weight", "instance_bias", "instance_weight")  # rows of these are classes, in every classifier


def check_start(study: Study, start: TrainedModel | None) -> None:
    """Refuse another start than the one that stands in the study's rules.

    Raises
    ------
    ConfigError
        If the start is missing, superfluous or another one.
    """
    wanted, given = study.start_sha256, "" if start is None else start.digest
    if wanted == given:
        return
    if not given:
        msg = f"study {study.name!r} starts from the model {wanted[:16]}…. Give that file with --from."
    elif not wanted:
        msg = f"study {study.name!r} starts from nothing. Leave --from out, or name the model in [study] start."
    else:
        msg = f"study {study.name!r} starts from the model {wanted[:16]}…, and --from is {given[:16]}…. Give that one."
    raise ConfigError(msg)


def arrays_of(start: TrainedModel, study: Study, feature_ids: Sequence[str]) -> dict[str, Array]:
    """Return what the initial state holds of a released model, named `start.*`.

    Parameters
    ----------
    feature_ids
        Features of the universe, in order.

    Raises
    ------
    PanelError
        If a feature of the model's panel is not in the universe.
    ModelError
        If the model has another kind of classifier than the study, or no stage in common.
    """
    place = {name: i for i, name in enumerate(feature_ids)}
    if missing := [name for name in start.panel_ids if name not in place]:
        msg = (
            f"the model to start from reads {len(missing)} feature(s) that the universe lacks, such as {missing[0]}. "
            "Prepare the cells with the universe that the model was trained with."
        )
        raise PanelError(msg)
    if start.study.features.scaling != study.features.scaling:
        msg = (
            f"the model to start from was trained with scaling = {start.study.features.scaling!r}, the study has "
            f"{study.features.scaling!r}. Set [study.features] scaling as in the model."
        )
        raise ModelError(msg)
    arrays: dict[str, Array] = {"panel": np.array([place[name] for name in start.panel_ids], np.int32)}
    arrays |= {name: start.state.arrays[name] for name in ("mean", "scale")}
    for stage in (CELL, PATIENT):
        if stage in study.stages and stage in start.state.results:
            arrays |= {f"{stage}.{name}": a for name, a in _parameters(start, study, stage).items()}
    if len(arrays) == 3:
        msg = f"the model to start from has none of the study's stages {', '.join(study.stages[1:])}."
        raise ModelError(msg)
    order = np.argsort(arrays["panel"], kind="stable")
    if not np.array_equal(order, np.arange(len(order))):
        msg = "the model's panel is in another order than the universe. Prepare with the model's own universe."
        raise PanelError(msg)
    return {f"start.{name}": array for name, array in arrays.items()}


def _parameters(start: TrainedModel, study: Study, stage: str) -> dict[str, Array]:
    known, wanted = labels(start.study, stage), labels(study, stage)
    found = parameters_of(start.state, stage)
    arrays = {name: _by_name(a, known, wanted) if name in _OF_CLASSES else a for name, a in found.items()}
    rule, of_bags = rule_of(study, stage), bag_models.is_of_bags(found)
    if stage == PATIENT and not of_bags:
        if labels(start.study, CELL) != labels(study, CELL):
            return {}  # proportions and pseudobulk by type are other features then: the stage starts anew
        arrays |= {name: start.state.arrays[f"{PATIENT}.{name}"] for name in ("mean", "scale")}
    n_features = len(start.panel_ids) if stage == CELL or of_bags else len(arrays["mean"])
    expected = shapes(rule, n_features, len(wanted))
    got = {name: a.shape for name, a in arrays.items() if name not in ("mean", "scale")}
    if got != expected:
        msg = (
            f"stage {stage!r}: the model to start from has {sorted(got)} of other shapes than the study's "
            f"model = {rule.model!r}. Set [study.{stage}] model (and hidden) as in the model, or start from none."
        )
        raise ModelError(msg)
    return arrays


def _by_name(array: Array, known: Sequence[str], wanted: Sequence[str]) -> Array:
    moved = np.zeros((len(wanted), *array.shape[1:]), array.dtype)
    for i, name in enumerate(wanted):
        if name in known:
            moved[i] = array[list(known).index(name)]
    return moved
