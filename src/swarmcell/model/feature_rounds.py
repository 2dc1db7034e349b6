"""Statistics rounds: which features form the panel, and how cells (later: sample features) are scaled.

Rules: sites publish exact integer sums of their training cells; panel, mean and scale follow by integer arithmetic,
so they are the same bits for any partition of the cells into sites.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from swarmcell.model import sample_features
from swarmcell.model.contribution import COUNT_MAX, SUM_MAX, Slot, Update, add
from swarmcell.model.encoding import Array
from swarmcell.model.moments import mean_and_scale, sums, variance_numerator, widen
from swarmcell.model.stages import PATIENT, end_stage, fail, n_inputs, start_fit
from swarmcell.model.state import MergedState, StageResult
from swarmcell.model.study import FeatureRule, Study
from swarmcell.model.training_cells import TrainingCells


def cell_statistics(cells: TrainingCells, study: Study) -> dict[str, Array]:
    """Return a site's sums over its training cells."""
    first, second = sums(cells.X)
    return {
        "cells_by_type": _tally(cells.cell_type, len(study.cell_types)),
        "n": np.array([cells.n_cells], np.int64),
        "samples_by_condition": _tally(cells.sample_condition, len(study.conditions)),
        "x": first,
        "xx": second,
    }


def cell_slots(study: Study, n_features: int) -> dict[str, Slot]:
    """Return what a site's sums must look like; `n_features` is the universe's."""
    return {
        "cells_by_type": Slot(bits=64, shape=(len(study.cell_types),), last=COUNT_MAX, signed=False),
        "n": Slot(bits=64, shape=(1,), last=COUNT_MAX, signed=False),
        "samples_by_condition": Slot(bits=64, shape=(len(study.conditions),), last=COUNT_MAX, signed=False),
        "x": Slot(bits=64, shape=(n_features,), last=SUM_MAX),
        "xx": Slot(bits=64, shape=(n_features,), last=SUM_MAX, signed=False),
    }


def merge_cell_statistics(state: MergedState, study: Study, updates: Sequence[Update]) -> MergedState:
    """Return the state after the stage `features`: panel, scaling and class counts."""
    n = int(add(updates, "n")[0])
    if n < 1:
        return fail(state, "stage 'features': no site has a training cell.")
    first, second = add(updates, "x"), add(updates, "xx")
    panel = choose(study.features, n, first, second)
    mean, scale = mean_and_scale(n, first[panel], second[panel])
    arrays: dict[str, Array] = {
        "panel": panel.astype(np.int32),
        "mean": mean,
        "scale": scale,
        "cells_by_type": add(updates, "cells_by_type").astype(np.int64),
        "samples_by_condition": add(updates, "samples_by_condition").astype(np.int64),
    }
    return end_stage(state, study, _result(updates), arrays)


def choose(rule: FeatureRule, n: int, first: Array, second: Array) -> Array:
    """Return the panel's indices in the universe, ascending.

    Parameters
    ----------
    rule
        `all`, or `top_variance`: the `n_top` largest variances of X; the earlier feature wins a tie.
    n
        Cells summed.
    first, second
        Exact sums, Python integers in object arrays of shape `(n_universe,)`.
    """
    if rule.rule == "all" or rule.n_top >= len(first):
        return np.arange(len(first))
    spread = [variance_numerator(n, a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    best = sorted(range(len(spread)), key=lambda i: (-spread[i], i))[: rule.n_top]
    return np.array(sorted(best), np.int64)


def sample_statistics(features: Array, n_samples: int) -> dict[str, Array]:
    """Return a site's sums over its training samples' features."""
    first, second = sums(features)
    return {"n": np.array([n_samples], np.int64), "x": first, "xx": second}


def sample_slots(state: MergedState, study: Study) -> dict[str, Slot]:
    """Return what a site's sums over samples must look like."""
    n = n_inputs(state, study, PATIENT)
    return {
        "n": Slot(bits=64, shape=(1,), last=COUNT_MAX, signed=False),
        "x": Slot(bits=64, shape=(n,), last=SUM_MAX),
        "xx": Slot(bits=64, shape=(n,), last=SUM_MAX, signed=False),
    }


def merge_sample_statistics(state: MergedState, study: Study, updates: Sequence[Update]) -> MergedState:
    """Return the state with the sample features' scaling, ready to fit the stage `patient`."""
    n = int(add(updates, "n")[0])
    if n < 1:
        return fail(state, "stage 'patient': no site has a training sample.")
    mean, scale = mean_and_scale(n, add(updates, "x"), add(updates, "xx"))
    parts = sample_features.blocks(study, [""] * len(state.arrays["panel"]))
    widths = np.concatenate([np.full(block.width, block.width, np.int64) for block in parts])
    scaled = {**state.arrays, "patient.mean": mean, "patient.scale": widen(scale, widths)}
    return start_fit(replace(state, arrays=scaled), study)


def _result(updates: Sequence[Update]) -> StageResult:
    n_cells, n_donors = sum(u.n_cells for u in updates), sum(u.n_donors for u in updates)
    return StageResult(rounds=1, best_round=1, sites=len(updates), n_cells=n_cells, n_donors=n_donors)


def _tally(codes: Array, n_classes: int) -> Array:
    return np.bincount(codes[codes >= 0], minlength=n_classes).astype(np.int64)
