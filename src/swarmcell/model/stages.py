"""How a study moves from stage to stage: `features`, then `cell` and `patient` where it has labels for them.

Rules: everything here is part of the merge: pure, exact integers, equal at every peer.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from swarmcell.errors import ConfigError
from swarmcell.model import bag_models, components, sample_features
from swarmcell.model.classifier import initial
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import EXACT_BITS, PARAMETER_BITS, STATISTICS_BITS, to_exact
from swarmcell.model.merges import rules
from swarmcell.model.state import DONE, MergedState, StageResult
from swarmcell.model.strata_rules import check_least, check_strata
from swarmcell.model.study import EXACT, NOISED, DifferentialPrivacy, FitRule, Study

FEATURES, CELL, CLUSTERS, PATIENT = "features", "cell", "clusters", "patient"
_RUNNING = ("now", "best", "memory", "genes")
_FIRST = ("panel", "mean", "scale")  # the first layer
DENSITY, SPREAD, THRESHOLD, CALIBRATION = "density", "spread", "threshold", "calibration"
CLOSING = ("sketch-1", "sketch-2", "sketch-3", DENSITY, SPREAD, THRESHOLD)  # the rounds that end the stage `cell`


def check_study(study: Study) -> None:
    """Check that the study can be learnt.

    Raises
    ------
    ConfigError
        If its stages do not start with `features`, repeat, or lack their labels, or a number is impossible.
    """
    check_numbers(study)
    if not study.stages or study.stages[0] != FEATURES or len(set(study.stages)) != len(study.stages):
        msg = f"[study] stages = {list(study.stages)}; expected 'features' first, then 'cell', 'patient' or both."
        raise ConfigError(msg)
    if study.strata is not None:
        msg = f"study {study.name!r} is one of strata, not of classifiers. Join it with swarmcell stratify --join."
        raise ConfigError(msg)
    if len(study.stages) == 1:
        msg = "[study] stages = ['features']: nothing to learn. Add 'cell' or 'patient'."
        raise ConfigError(msg)
    if study.stages[1:] not in _ORDERS:
        msg = (
            f"[study] stages = {list(study.stages)}; 'patient' comes last, after 'cell' or 'clusters', whose types of "
            "cells it reads; clusters stand in for labels, so there is one of the two."
        )
        raise ConfigError(msg)
    for stage in study.stages[1:]:
        if stage == CLUSTERS:
            continue
        if len(labels(study, stage)) < 2:
            key = "cell_types" if stage == CELL else "conditions"
            msg = f"[study] {key} = {list(labels(study, stage))}; stage {stage!r} needs at least two."
            raise ConfigError(msg)


_ORDERS = ((CELL,), (PATIENT,), (CELL, PATIENT), (CLUSTERS,), (CLUSTERS, PATIENT))  # clusters alone: for strata


def check_numbers(study: Study) -> None:
    """Check the study's numbers and vocabularies, without asking whether they suffice to learn.

    Raises
    ------
    ConfigError
        If a number is below its least value or not finite, a label stands twice, or a rule does not fit the modality.
    """
    for key in ("cell_types", "conditions"):
        names = getattr(study, key)
        if len(set(names)) < len(names):
            msg = f"[study] {key} = {list(names)}: a label stands there twice. Name each once."
            raise ConfigError(msg)
    _check_ids(study)
    check_least("[study.features]", study.features, n_top=1)
    if study.features.needs_counts and study.modality != "rna":
        msg = (
            f"[study.features] rule = {study.features.rule!r} reads raw counts, and {study.modality} has none; "
            "expected 'all' or 'top_variance'."
        )
        raise ConfigError(msg)
    check_least("[study.floors]", study.floors, donors=1, cells=1)
    check_least("[study.clusters]", study.clusters, n=2, cells_per_sample=1, n_features=1, components=1, starts=1)
    check_least("[study.clusters]", study.clusters, rounds_max=1)
    if study.clusters.n_features > components.WIDTH_MAX:
        msg = f"[study.clusters] n_features = {study.clusters.n_features}; at most {components.WIDTH_MAX}."
        raise ConfigError(msg)
    for stage in (CELL, PATIENT):
        rule = rule_of(study, stage)
        check_least(f"[study.{stage}]", rule, hidden=1, epochs_per_round=1, batch_rows=1)
        check_least(f"[study.{stage}]", rule, rounds_max=0, patience_rounds=1, learning_rate=0, momentum=0, l2=0)
        check_least(f"[study.{stage}]", rule, steps_per_round=0)
        check_least(f"[study.{stage}]", rule, proximal=0, server_rate=1e-9, noised_rate=1e-9, hostile=0)
        if not rule.momentum < 1:
            msg = f"[study.{stage}] momentum = {rule.momentum}; expected a number from 0 to below 1."
            raise ConfigError(msg)
        _check_exact(f"[study.{stage}]", rule)
    if study.cell.model in bag_models.MODELS:
        msg = f'[study.cell] model = "{study.cell.model}" reads samples, not cells. It is for [study.patient].'
        raise ConfigError(msg)
    check_secure(study)
    check_private(study)
    if study.strata is not None:
        check_strata(study, study.strata)


def _check_ids(study: Study) -> None:
    """Check the Cell Ontology identifiers: one per type, each once."""
    ids, given = study.cell_type_ids, [one for one in study.cell_type_ids if one]
    if ids and len(ids) != len(study.cell_types):
        msg = f"[study] cell_type_ids has {len(ids)} entries for {len(study.cell_types)} cell_types. Give one each."
        raise ConfigError(msg)
    if len(set(given)) < len(given) or not all(re.fullmatch(r"CL:\d{7}", one) for one in given):
        msg = (
            f"[study] cell_type_ids = {list(ids)}: expected Cell Ontology identifiers such as 'CL:0000236', each once."
        )
        raise ConfigError(msg)


def check_secure(study: Study) -> None:
    """Check that what is merged are sums, where single sites' parts are to stay secret.

    Raises
    ------
    ConfigError
        If a stage's merge needs each site's own update.
    """
    if not study.privacy.secure_aggregation:
        return
    if study.strata is not None:
        return  # they learn from sums alone
    for stage in (one for one in study.stages[1:] if one != CLUSTERS):
        merge = rule_of(study, stage).merge
        if merge in rules.SINGLE:
            msg = (
                f'[study.{stage}] merge = "{merge}" needs each site\'s own update, and [study.privacy] '
                f'secure_aggregation shows sums only. Set merge = "{EXACT}" or an average '
                f"({', '.join(rules.AVERAGES)}), or secure_aggregation = false."
            )
            raise ConfigError(msg)


def check_private(study: Study) -> None:
    """Check that all that a study publishes can be noised, where it is under differential privacy.

    Raises
    ------
    ConfigError
        If a stage publishes what has no noise, or a number is impossible.
    """
    rule = study.privacy.differential_privacy
    for stage in (one for one in study.stages[1:] if one != CLUSTERS):
        if (merge := rule_of(study, stage).merge) != NOISED and rule is not None:
            msg = (
                f'[study.{stage}] merge = "{merge}" publishes sums without noise, and [study.privacy] asks for '
                f'differential_privacy. Set merge = "{NOISED}", or leave differential_privacy out.'
            )
            raise ConfigError(msg)
        if merge == NOISED and rule is None:
            msg = (
                f'[study.{stage}] merge = "{NOISED}" needs differential_privacy = {{unit = "cell", epsilon = 8.0}} '
                f'in [study.privacy], say. For sums without noise set merge = "{EXACT}".'
            )
            raise ConfigError(msg)
    if rule is None:
        return
    _check_noise(rule)
    if study.strata is not None or CLUSTERS in study.stages:
        msg = "[study.privacy] differential_privacy: strata and clusters of cells have none yet. Leave it out."
        raise ConfigError(msg)
    if PATIENT in study.stages and rule.unit != "donor":
        msg = (
            f"[study.privacy] unit = {rule.unit!r}: the stage 'patient' learns from whole donors. Set unit = 'donor', "
            "or stages = ['features', 'cell']."
        )
        raise ConfigError(msg)
    _check_private_features(study)
    if study.privacy.cell_digests:
        msg = "[study.privacy] cell_digests show single cells to members, and no noise hides a digest. Set it to false."
        raise ConfigError(msg)
    if study.start_sha256:
        msg = "[study.privacy] differential_privacy does not start from a released model yet. Leave out [study] start."
        raise ConfigError(msg)


def _check_private_features(study: Study) -> None:
    """Check that neither the panel nor a site's own scaling hangs on single cells."""
    if study.features.rule != "all" or not study.universe_sha256:
        msg = (
            "[study.privacy] differential_privacy: a choice of genes from all cells is not noised. Give a panel that "
            'was made without these cells as [study] universe, and [study.features] rule = "all".'
        )
        raise ConfigError(msg)
    if study.features.scaling == "site":
        msg = (
            '[study.features] scaling = "site": one cell moves the mean and SD that all cells of its site are scaled '
            'by, and no noise accounts for that. Set scaling = "swarm", or leave differential_privacy out.'
        )
        raise ConfigError(msg)


def _check_noise(rule: DifferentialPrivacy) -> None:
    table = "[study.privacy] differential_privacy:"
    check_least(table, rule, epsilon=1e-3, clip=1e-3, sampling=1e-6, bound=1e-3, delta=1e-15, statistics_share=1e-3)
    check_least(table, rule, noise_multiplier=0, statistics_multiplier=0)
    for key, most in (("epsilon", 50.0), ("delta", 0.1), ("sampling", 1.0), ("statistics_share", 0.9)):
        if getattr(rule, key) > most:
            msg = f"{table} {key} = {getattr(rule, key)}; expected at most {most:g}."
            raise ConfigError(msg)


def _check_exact(table: str, rule: FitRule) -> None:
    if rule.merge != EXACT:
        return
    if rule.model != "linear":
        msg = f'{table} model = "{rule.model}" has no exact fit: only "linear" has one. Set merge = "fedavg".'
        raise ConfigError(msg)
    check_least(table, rule, l2=1e-9, tolerance=1e-11)


def labels(study: Study, stage: str) -> tuple[str, ...]:
    """Return the classes of a stage, in order."""
    return study.cell_types if stage == CELL else study.conditions


def parameters_of(state: MergedState, stage: str) -> dict[str, Array]:
    """Return a finished stage's classifier parameters (without the scaling)."""
    return {name: array for name, array in state.group(stage).items() if name not in ("mean", "scale")}


def rule_of(study: Study, stage: str) -> FitRule:
    """Return how a stage is fitted."""
    return study.cell if stage == CELL else study.patient


def rounds_limit(study: Study, stage: str) -> int:
    """Return the number of rounds after which a stage ends in any case, its closing rounds left aside."""
    if stage == FEATURES:
        return 2 if study.features.rule == "seurat_v3" else 1
    return study.clusters.rounds_max if stage == CLUSTERS else rule_of(study, stage).rounds_limit


def counts(state: MergedState, stage: str) -> Array:
    """Return the swarm-wide number of training cells (or samples) of each class."""
    return state.arrays["cells_by_type" if stage == CELL else "samples_by_condition"]


def n_inputs(state: MergedState, study: Study, stage: str) -> int:
    """Return the number of features that a stage's classifier reads: of a cell, or of a sample."""
    if stage == CELL or study.patient.model in bag_models.MODELS:
        return len(state.arrays["panel"])
    return n_sample_features(state, study)


def n_sample_features(state: MergedState, study: Study) -> int:
    """Return the number of features of a sample (`sample_features`)."""
    return sum(block.width for block in sample_features.blocks(study, [""] * len(state.arrays["panel"])))


def end_stage(state: MergedState, study: Study, result: StageResult, arrays: Mapping[str, Array]) -> MergedState:
    """Keep a stage's `arrays` as its result, and open what is next: its closing rounds, a stage, or the end.

    Closing rounds describe the cells of each type, and calibrate the stage's classifier where there are
    inner-validation donors. Sums with noise have none: each would have to be paid for.
    """
    ended = replace(state, results={**state.results, state.stage: result}, pinned=())
    for prefix in _RUNNING:
        ended = ended.with_group(prefix, {})
    if state.stage == FEATURES:
        arrays = {
            **arrays,
            **{name: state.arrays[f"start.{name}"] for name in _FIRST if f"start.{name}" in state.arrays},
        }
    prefix = "" if state.stage == FEATURES else state.stage + "."
    ended = replace(ended, arrays={**ended.arrays, **{prefix + name: array for name, array in arrays.items()}})
    if state.stage == CELL and study.cell.merge != NOISED:
        return replace(ended, phase=CLOSING[0], bad_rounds=0, best_round=0, best=None, last=None)
    if state.stage == PATIENT and is_judged(ended, PATIENT):
        return replace(ended, phase=CALIBRATION, bad_rounds=0, best_round=0, best=None, last=None)
    return open_later(ended, study)


def is_judged(state: MergedState, stage: str) -> bool:
    """Say whether a finished stage's classifier was judged on inner-validation rows."""
    score = state.results[stage].score
    return score is not None and score.n > 0


def open_later(state: MergedState, study: Study) -> MergedState:
    """Return the state at the start of the stage after the running one, or at the end of the study."""
    later = study.stages[study.stages.index(state.stage) + 1 :]
    if later:
        return open_stage(state, study, later[0])
    ended = replace(state, stage=DONE, phase=DONE, stage_round=0, bad_rounds=0, best_round=0, best=None, last=None)
    return ended.with_group("start", {})


def open_stage(state: MergedState, study: Study, stage: str) -> MergedState:
    """Return the state at the start of a stage; a failure if the swarm has one class only."""
    if stage == CLUSTERS:
        return _open_clusters(state, study)
    present = [name for name, n in zip(labels(study, stage), counts(state, stage), strict=True) if n > 0]
    if len(present) < 2:
        what = "cell type" if stage == CELL else "condition"
        text = (
            f"stage {stage!r}: the training donors of the whole swarm have {len(present)} {what}(s) "
            f"({', '.join(present) or 'none'}), expected at least 2 of {', '.join(labels(study, stage))}."
        )
        return fail(state, text)
    fresh = replace(state, stage=stage, stage_round=0, bad_rounds=0, best_round=0, best=None, last=None)
    if stage == PATIENT:
        return replace(fresh, phase="statistics")
    return start_fit(fresh, study)


def _open_clusters(state: MergedState, study: Study) -> MergedState:
    """Return the state at the start of the stage `clusters`: which features of the panel tell the cells apart.

    They are those of the largest standard deviation; a constant one (scale 1 exactly) is none of them.
    """
    scale = state.arrays["scale"].tolist()
    varies = [i for i, one in enumerate(scale) if one != 1 << STATISTICS_BITS] or list(range(len(scale)))
    best = sorted(varies, key=lambda i: (-scale[i], i))[: study.clusters.n_features]
    fresh = replace(state, stage=CLUSTERS, phase="products", stage_round=0, bad_rounds=0, best_round=0)
    chosen = {"chosen": np.array(sorted(best), np.int32)}
    return replace(fresh, best=None, last=None).with_group(CLUSTERS, chosen)


def start_fit(state: MergedState, study: Study) -> MergedState:
    """Return the state with a stage's initial parameters."""
    rule = rule_of(study, state.stage)
    n_classes = len(labels(study, state.stage))
    seed = study.seed if rule.model != "linear" else 0
    start = initial(rule, n_inputs(state, study, state.stage), n_classes, seed=seed)
    if rule.merge == EXACT:
        start = {name: to_exact(array) for name, array in start.items()}
    known = state.group(f"start.{state.stage}")
    start = {name: _same_kind(known[name], array) if name in known else array for name, array in start.items()}
    scaling = {f"{state.stage}.{name}": known[name] for name in ("mean", "scale") if name in known}
    return replace(state, phase="fit", arrays={**state.arrays, **scaling}).with_group("now", start)


def _same_kind(start: Array, array: Array) -> Array:
    """Return parameters to start from in the fixed point of `array` (int32: 2**-22, int64: 2**-40)."""
    if start.dtype == array.dtype:
        return start
    if array.dtype.itemsize == 8:
        return to_exact(start)
    shift = EXACT_BITS - PARAMETER_BITS
    return np.asarray((start + (1 << (shift - 1))) >> shift).astype(np.int32)


def fail(state: MergedState, text: str) -> MergedState:
    """Return the state of a study that cannot go on."""
    ended = replace(state, stage=DONE, phase=DONE, best=None, last=None, pinned=(), failure=text)
    for prefix in (*_RUNNING, "start"):
        ended = ended.with_group(prefix, {})
    return ended


def class_weights(n_by_class: Array) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return balanced class weights `n / (n_present * n_class)`, 0 for a class that nobody has."""
    n = n_by_class.astype(np.float64)
    present = n > 0
    weights = np.zeros(len(n))
    weights[present] = n.sum() / (present.sum() * n[present])
    return weights
