"""Rounds under differential privacy: what a site's noised sums look like, and what the merge makes of them.

Rules: a study takes one noised sum of statistics, then one of gradients per round, and publishes nothing else about a
cell: no count, no validation, no calibration. Whatever a merge does with noised sums needs no more noise. A round is
spent when its sums could be seen, even if nothing came of it, so the rounds of the rules are the budget; the last
round's parameters are the result.

Sums are in fixed point 2**-20, a grid on which noise of standard deviation 1 hides the steps of its own float64.
Arrays of the merged state: those of any study, `units` (noised number of cells or donors), `memory.*` (momenta).

References
----------
Abadi et al. 2016, arXiv:1607.00133, Algorithm 1. McMahan et al. 2018, arXiv:1710.06963 (clipped per person).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from swarmcell.model import sample_features
from swarmcell.model.classifier import shapes
from swarmcell.model.contribution import Slot, Update, add_below, n_sites
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import EXACT_BITS, PARAMETER_BITS, STATISTICS_BITS, Floats, Integers, to_float
from swarmcell.model.merges.averages import clipped, rounded
from swarmcell.model.merges.elementwise import total
from swarmcell.model.moments import widen
from swarmcell.model.stages import (
    CELL,
    FEATURES,
    PATIENT,
    counts,
    end_stage,
    fail,
    labels,
    n_inputs,
    rule_of,
    start_fit,
)
from swarmcell.model.state import MergedState, StageResult
from swarmcell.model.study import DifferentialPrivacy, FitRule, Study

GRID_BITS = 20
MOMENTUM = 0.9  # Abadi et al. use plain steps; measured: as many steps do more with it
WEIGHT_MAX = 5.0  # of a rare class; chosen: its cells are clipped beyond
SUM_LAST = 1 << 50  # of one site's sum
_LEAST_SPREAD = 0.1  # of the mean variance: a feature that noise says is flatter is scaled as if by this; chosen
_GRID = float(1 << GRID_BITS)
_VELOCITY_LAST = 1024.0


def private(study: Study) -> DifferentialPrivacy:
    """Return the study's rule of differential privacy, which it has."""
    rule = study.privacy.differential_privacy
    assert rule is not None, "only called for a study under differential privacy"  # noqa: S101 (our own bug)
    return rule


def statistics_bounds(study: Study, n_features: int) -> tuple[float, float]:
    """Return the largest norms of a cell's features and of their squares that the means count in full."""
    first = private(study).bound * math.sqrt(n_features)
    return first, first * private(study).bound


def statistics_slots(study: Study, n_features: int) -> dict[str, Slot]:
    """Return what a site's noised statistics must look like: blocks of which a unit adds at most 1 each (L2)."""
    wide = {"n": 1, "x": n_features, "xx": n_features}
    if CELL in study.stages:
        wide["cells_by_type"] = len(study.cell_types)
    if PATIENT in study.stages:
        wide["samples_by_condition"] = len(study.conditions)
    return {name: Slot(bits=64, shape=(n,), last=SUM_LAST) for name, n in wide.items()}


def gradient_slots(state: MergedState, study: Study) -> dict[str, Slot]:
    """Return what a site's noised gradient must look like."""
    n_classes = len(labels(study, state.stage))
    wanted = shapes(rule_of(study, state.stage), n_inputs(state, study, state.stage), n_classes)
    return {name: Slot(bits=64, shape=shape, last=SUM_LAST) for name, shape in wanted.items()}


def slots(state: MergedState, study: Study, n_features: int) -> dict[str, Slot]:
    """Return what a site's part of the round after `state` must look like."""
    return statistics_slots(study, n_features) if state.stage == FEATURES else gradient_slots(state, study)


def deviation(state: MergedState, study: Study, n_features: int) -> float:
    """Return the standard deviation of the whole noise of the round after `state`, in steps of the grid.

    It is the multiplier times the most that one unit can move the sum (L2), the rounding to the grid included.
    """
    wanted = slots(state, study, n_features)
    rounding = math.sqrt(sum(math.prod(slot.shape) for slot in wanted.values()))
    if state.stage == FEATURES:
        return private(study).statistics_multiplier * (math.sqrt(len(wanted)) * _GRID + rounding)
    return private(study).noise_multiplier * (private(study).clip * _GRID + rounding)


def n_spent(state: MergedState, study: Study) -> int:
    """Return how many noised sums each site has published at most."""
    spent = 0
    for stage in study.stages:
        if stage in state.results:
            spent += state.results[stage].rounds
        elif stage == state.stage:
            spent += state.stage_round
    return spent


def class_weights(state: MergedState, study: Study) -> Floats:
    """Return the weight of each class in the loss: balanced by the noised numbers, none over `WEIGHT_MAX`."""
    n = counts(state, state.stage).astype(np.float64)
    return np.minimum(total(n) / (len(n) * n), WEIGHT_MAX)


def advance(state: MergedState, study: Study, updates: Sequence[Update]) -> MergedState:
    """Return the state after a round, also after one from which nothing came."""
    if state.stage == FEATURES:
        merged = _described(state, study, updates) if updates else _lost(state)
    else:
        merged = _stepped(state, study, updates)
    if merged.stage == PATIENT and merged.phase == "statistics":
        return _unscaled(merged, study)
    return merged


def _lost(state: MergedState) -> MergedState:
    text = (
        "stage 'features': the sites' noised statistics could not be merged, and a second time would spend their share "
        "of the budget twice. Create the swarm anew; what this one published counts against the same cells."
    )
    return fail(state, text)


def _described(state: MergedState, study: Study, updates: Sequence[Update]) -> MergedState:
    """Return the state with scaling and class counts made of noised sums."""
    found = {name: to_float(add_below(updates, name, SUM_LAST), GRID_BITS) for name in updates[0].arrays}
    n_features = len(found["x"])
    first, second = statistics_bounds(study, n_features)
    n = max(float(found["n"][0]), 1.0)
    mean = found["x"] * first / n
    variance = np.maximum(found["xx"] * second / n - mean * mean, 0.0)
    unsure = 2.0 * deviation(state, study, n_features) / _GRID * second / n
    least = max(_LEAST_SPREAD * total(variance) / n_features, unsure, 1e-6)
    spread = np.sqrt(np.maximum(variance, least) * float(n_features))
    arrays: dict[str, Array] = {
        "panel": np.arange(n_features, dtype=np.int32),
        "mean": rounded(np.clip(mean, -1e6, 1e6), STATISTICS_BITS),
        "scale": np.maximum(rounded(np.minimum(spread, 1e6), STATISTICS_BITS), 1),
        "cells_by_type": _counted(found.get("cells_by_type"), len(study.cell_types)),
        "samples_by_condition": _counted(found.get("samples_by_condition"), len(study.conditions)),
        "units": np.array([round(n)], np.int64),
    }
    return end_stage(state, study, _result(updates, rounds=1), arrays)


def _counted(noised: Floats | None, n_classes: int) -> Integers:
    """Return noised numbers as whole ones, none below 1: that a class is absent would be a fact about its one cell."""
    if noised is None:
        return np.zeros(n_classes, np.int64)
    return np.maximum(np.rint(noised), 1.0).astype(np.int64)


def _unscaled(state: MergedState, study: Study) -> MergedState:
    """Return the state at the start of `patient`, whose features are scaled by their number and not by their sums."""
    parts = sample_features.blocks(study, [""] * len(state.arrays["panel"]))
    widths = np.concatenate([np.full(block.width, block.width * len(parts), np.int64) for block in parts])
    scale = widen(np.full(len(widths), 1 << STATISTICS_BITS, np.int64), widths)
    arrays = {"patient.mean": np.zeros(len(widths), np.int64), "patient.scale": scale}
    return start_fit(replace(state, arrays={**state.arrays, **arrays}), study)


def _stepped(state: MergedState, study: Study, updates: Sequence[Update]) -> MergedState:
    """Return the state after a step along the momentum of the noised gradients, or the end of the stage."""
    after = replace(state, stage_round=state.stage_round + 1)
    if updates:
        after = _moved(after, study, updates)
    if after.stage_round < rule_of(study, state.stage).rounds_limit:
        return after
    return end_stage(after, study, _result(updates, rounds=after.stage_round), after.group("now"))


def _moved(state: MergedState, study: Study, updates: Sequence[Update]) -> MergedState:
    rule, before, memory = rule_of(study, state.stage), state.group("now"), state.group("memory")
    n = float(state.arrays["units"][0]) * private(study).sampling
    now: dict[str, Array] = {}
    velocities: dict[str, Array] = {}
    for name, start in before.items():
        slope = to_float(add_below(updates, name, SUM_LAST), GRID_BITS) / n
        if name.endswith("weight") and name != "norm_weight":
            slope = slope + _penalty(rule, name, before) * to_float(start, PARAMETER_BITS)
        kept = to_float(memory.get(name, np.zeros(start.shape, np.int64)), EXACT_BITS)
        velocity = np.clip(MOMENTUM * kept + slope, -_VELOCITY_LAST, _VELOCITY_LAST)
        velocities[name] = rounded(velocity, EXACT_BITS)
        moved = np.clip(rule.noised_rate * velocity, -_VELOCITY_LAST, _VELOCITY_LAST)
        now[name] = clipped(start.astype(np.int64) - rounded(moved, PARAMETER_BITS))
    return state.with_group("now", now).with_group("memory", velocities)


def _penalty(rule: FitRule, name: str, parameters: Mapping[str, Array]) -> float:
    """Return the weight decay of an array: per feature where it reads inputs, whose scale holds their number."""
    first = next((one for one in ("hidden_weight", "embed_weight") if one in parameters), "weight")
    return rule.l2 / parameters[name].shape[1] if name == first else rule.l2


def _result(updates: Sequence[Update], *, rounds: int) -> StageResult:
    n_cells, n_donors = sum(u.n_cells for u in updates), sum(u.n_donors for u in updates)
    return StageResult(rounds=rounds, best_round=rounds, sites=n_sites(updates), n_cells=n_cells, n_donors=n_donors)
