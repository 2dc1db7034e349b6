"""Rounds of an exact fit: the sites' sums of loss and gradient, and the next L-BFGS step.

Rules: the fit runs over a pinned set of sites. Whoever contributes to a round is compared with it, by label and by
class counts; where they differ, the round pins its own contributors, drops the history and restarts the line search
from the last accepted iterate. So the result is that of the pinned sites' cells in one place, and names them. A class
that no pinned site has keeps its weight at zero and its intercept at `ABSENT`: its probability is nil.

Arrays of the merged state: `now.*` (where sites evaluate), `memory.by_class` (training rows of the pinned sites),
`memory.at`, `memory.gradient`, `memory.line` (loss, step, tries), all in fixed point 2**-40, and the history
`memory.s`, `memory.y`, `memory.shifts`; vectors as intercepts, then coefficients.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from swarmcell.model.class_floors import too_few
from swarmcell.model.contribution import COUNT_MAX, Slot, Update, add_below, n_sites, total_score
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import EXACT_BITS, Integers, to_float
from swarmcell.model.merges import lbfgs
from swarmcell.model.merges.elementwise import total
from swarmcell.model.merges.lbfgs import Evaluated, Progress
from swarmcell.model.stages import CELL, end_stage, labels, n_inputs, rule_of
from swarmcell.model.state import MergedState, StageResult
from swarmcell.model.study import FitRule, Study

SUM_LAST = 1 << 50  # of one site's sum: 1,024 per unit; the mean of a scaled feature is far below, and sums fit 62 bits
ABSENT = -64 << EXACT_BITS  # a probability of 1e-28: no sum in fixed point sees it; chosen
_UNIT = 1 << EXACT_BITS
_VECTORS = ("at", "gradient", "s", "y", "shifts")
_LOSS_LAST = 1 << 61


def exact_slots(state: MergedState, study: Study) -> dict[str, Slot]:
    """Return what a site's part of an exact round must look like: class counts only, until sites are pinned."""
    n_classes = len(labels(study, state.stage))
    by_class = {"by_class": Slot(bits=64, shape=(n_classes,), last=COUNT_MAX, signed=False)}
    if not state.pinned:
        return by_class
    weight = Slot(bits=64, shape=(n_classes, n_inputs(state, study, state.stage)), last=SUM_LAST)
    bias = Slot(bits=64, shape=(n_classes,), last=SUM_LAST)
    return by_class | {"bias": bias, "loss": Slot(bits=64, shape=(1,), last=SUM_LAST, signed=False), "weight": weight}


def merge_exact(state: MergedState, study: Study, updates: Sequence[Update]) -> MergedState:
    """Return the state after a round of an exact fit."""
    rule = rule_of(study, state.stage)
    score = total_score(updates)
    now = replace(state, last=score if score.n else None, stage_round=state.stage_round + 1)
    taking_part = [update for update in updates if update.arrays["by_class"].any()]
    if not taking_part:
        return now if now.stage_round < rule.rounds_limit else _end(now, study, updates, ())
    sites = tuple(sorted(author for update in taking_part for author in update.authors))
    least = study.floors.cells if state.stage == CELL else study.floors.donors
    by_class = too_few(add_below(taking_part, "by_class", COUNT_MAX), study, least)
    if sites != state.pinned or not np.array_equal(by_class, state.arrays["memory.by_class"]):
        pinned = pin(now, sites, by_class)
        return pinned if now.stage_round < rule.rounds_limit else _end(pinned, study, updates, ())
    return _step(now, study, updates, evaluated(state, rule, taking_part))


def pin(state: MergedState, sites: tuple[str, ...], by_class: Integers) -> MergedState:
    """Return the state with its sites pinned anew, at the last accepted iterate, without a history."""
    if np.count_nonzero(by_class) < 2:  # nothing can be told apart: the next round tries again
        return replace(state, pinned=())
    known = "memory.at" in state.arrays
    at = state.arrays["memory.at"] if known else flat(state.arrays["now.bias"], state.arrays["now.weight"])
    n_classes = len(by_class)
    bias = np.where(by_class == 0, ABSENT, np.where(at[:n_classes] == ABSENT, 0, at[:n_classes]))
    at = np.concatenate([bias, np.where(np.repeat(by_class == 0, len(at) // n_classes - 1), 0, at[n_classes:])])
    fresh = replace(state, pinned=sites, best=None, best_round=0)
    return _remember(fresh, lbfgs.begin(at), by_class)


def evaluated(state: MergedState, rule: FitRule, updates: Sequence[Update]) -> Evaluated:
    """Return loss and gradient of all pinned sites, the penalty of the coefficients included."""
    bias, weight = state.arrays["now.bias"], to_float(state.arrays["now.weight"], EXACT_BITS)
    penalty = np.rint(rule.l2 * weight * float(_UNIT)).astype(np.int64)
    loss = int(add_below(updates, "loss", SUM_LAST)[0]) + int(rule.l2 / 2 * total(weight * weight) * _UNIT)
    slope = add_below(updates, "bias", SUM_LAST)
    slope = np.where(bias == ABSENT, 0, slope)
    return Evaluated(min(loss, _LOSS_LAST), flat(slope, add_below(updates, "weight", SUM_LAST) + penalty))


def flat(bias: Array, weight: Array) -> Integers:
    """Return intercepts and coefficients as one vector."""
    return np.concatenate([np.ravel(bias), np.ravel(weight)]).astype(np.int64)


def unflat(vector: Array, n_classes: int) -> dict[str, Array]:
    """Return a vector's intercepts and coefficients."""
    return {"bias": vector[:n_classes], "weight": vector[n_classes:].reshape(n_classes, -1)}


def _step(state: MergedState, study: Study, updates: Sequence[Update], found: Evaluated) -> MergedState:
    rule = rule_of(study, state.stage)
    by_class = state.arrays["memory.by_class"]
    if int(np.abs(found.gradient).max()) <= rule.tolerance * _UNIT:  # a flat place of a convex loss is its minimum
        there = replace(state, best=state.last, best_round=state.stage_round)
        there = there.with_group("memory", {"at": _progress(state).trial})
        return _end(there, study, updates, state.pinned)
    fitted, taken = lbfgs.advance(_progress(state), found)
    after = _remember(state, fitted, by_class)
    if taken:
        after = replace(after, best=state.last, best_round=state.stage_round)
    if state.stage_round >= rule.rounds_limit or lbfgs.has_stalled(fitted):
        return _end(after, study, updates, ())
    return after


def _progress(state: MergedState) -> Progress:
    memory, (loss, step, tries) = state.group("memory"), state.arrays["memory.line"].tolist()
    trial = flat(state.arrays["now.bias"], state.arrays["now.weight"])
    arrays = {name: memory[name] for name in _VECTORS}
    return Progress(**arrays, loss=loss, trial=trial, step=step, tries=tries)


def _remember(state: MergedState, fitted: Progress, by_class: Integers) -> MergedState:
    line = np.array([fitted.loss, fitted.step, fitted.tries], np.int64)
    memory = {name: getattr(fitted, name) for name in _VECTORS}
    kept = state.with_group("memory", memory | {"by_class": by_class, "line": line})
    return kept.with_group("now", unflat(fitted.trial, len(by_class)))


def _end(state: MergedState, study: Study, updates: Sequence[Update], exact: tuple[str, ...]) -> MergedState:
    """End the stage at the last accepted iterate; `exact` names the pinned sites if the fit reached its tolerance."""
    known = "memory.at" in state.arrays
    at = state.arrays["memory.at"] if known else flat(state.arrays["now.bias"], state.arrays["now.weight"])
    result = StageResult(
        rounds=state.stage_round,
        best_round=state.best_round,
        sites=n_sites(updates),
        n_cells=sum(u.n_cells for u in updates),
        n_donors=sum(u.n_donors for u in updates),
        score=state.best,
        exact=exact,
    )
    return end_stage(state, study, result, unflat(at, len(labels(study, state.stage))))
