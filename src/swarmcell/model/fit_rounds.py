"""Rounds of fitting: merge the sites' parameters, judge them swarm-wide, and stop by the rule.

Rules: a contribution to round r brings new parameters and the validation of the parameters that it started from, so
the swarm-wide score of a merge is known one round later; after `rounds_max` a last round only validates. The result of
a stage is its best block by swarm-wide validation, or the last where no site has inner-validation donors.
"""

from collections.abc import Sequence
from dataclasses import replace

from swarmcell.model.classifier import shapes
from swarmcell.model.contribution import Slot, Update, n_sites, total_score
from swarmcell.model.exact_rounds import exact_slots, merge_exact
from swarmcell.model.merges import rules
from swarmcell.model.merges.averages import Merged
from swarmcell.model.stages import end_stage, labels, n_inputs, rule_of
from swarmcell.model.state import MergedState, Score, StageResult
from swarmcell.model.study import EXACT, Study


def fit_slots(state: MergedState, study: Study) -> dict[str, Slot]:
    """Return what a site's update must look like; a validation round has no arrays."""
    if state.phase == "validate":
        return {}
    rule = rule_of(study, state.stage)
    if rule.merge == EXACT:
        return exact_slots(state, study)
    n_classes = len(labels(study, state.stage))
    wanted = shapes(rule, n_inputs(state, study, state.stage), n_classes)
    return rules.slots(rule, wanted, weighted=study.privacy.secure_aggregation)


def merge_fit(state: MergedState, study: Study, updates: Sequence[Update]) -> MergedState:
    """Return the state after a round of fitting or validation."""
    rule = rule_of(study, state.stage)
    if rule.merge == EXACT:
        return merge_exact(state, study, updates)
    score = total_score(updates)
    judged = _keep_best(state, score)
    if judged.best is not None and (state.phase == "validate" or judged.bad_rounds >= rule.patience_rounds):
        return _end(judged, study, updates)
    if state.phase == "validate":
        return _end(judged, study, updates)
    before, weighted = Merged(state.group("now"), state.group("memory")), study.privacy.secure_aggregation
    combined = rules.combine(rule, before, updates, weighted=weighted)
    merged = replace(judged, stage_round=state.stage_round + 1).with_group("now", combined.now)
    merged = merged.with_group("memory", combined.memory)
    if merged.stage_round < rule.rounds_limit:
        return merged
    return replace(merged, phase="validate") if score.n else _end(merged, study, updates)


def _keep_best(state: MergedState, score: Score) -> MergedState:
    if not score.n:
        return replace(state, last=None)
    state = replace(state, last=score)
    if state.best is None or score.better_than(state.best):
        kept = replace(state, best=score, best_round=state.stage_round, bad_rounds=0)
        return kept.with_group("best", state.group("now"))
    return replace(state, bad_rounds=state.bad_rounds + 1)


def _end(state: MergedState, study: Study, updates: Sequence[Update]) -> MergedState:
    best = state.best is not None
    result = StageResult(
        rounds=state.stage_round,
        best_round=state.best_round if best else state.stage_round,
        sites=n_sites(updates),
        n_cells=sum(u.n_cells for u in updates),
        n_donors=sum(u.n_donors for u in updates),
        score=state.best,
    )
    return end_stage(state, study, result, state.group("best" if best else "now"))
