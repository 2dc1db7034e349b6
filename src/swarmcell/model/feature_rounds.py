"""Statistics rounds: which features form the panel, and how cells (later: sample features) are scaled.

Rules: sites publish exact integer sums of their training cells; panel, mean and scale follow by arithmetic that has the
same bits at every peer, so they are the same for any partition of the cells into sites.

By `seurat_v3` the stage takes two rounds: sums of the counts, from which everybody makes the trend and the clipping,
and then sums of what is clipped and what is not. Both rounds carry the sums of the counts. If they differ, the sites
(or their cells) were not the same in both, and the later sums begin the first pass anew.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from swarmcell.errors import CellsError, ModelError
from swarmcell.model import class_floors, sample_features, variable_genes
from swarmcell.model.baselines import same_site
from swarmcell.model.contribution import COUNT_MAX, SUM_MAX, Slot, Update, add, n_sites
from swarmcell.model.encoding import Array
from swarmcell.model.moments import mean_and_scale, sums, variance_numerator, widen
from swarmcell.model.stages import end_stage, fail, n_sample_features, start_fit
from swarmcell.model.state import MergedState, StageResult
from swarmcell.model.study import FeatureRule, Study
from swarmcell.model.training_cells import TrainingCells

GENES = "genes"
BY_COUNTS, BY_SITE = "seurat_v3", "seurat_v3_by_site"
_SUMS, _CLIPPED = ("n", "counts", "counts_squared"), ("n_clipped", "kept", "kept_squared")
PASSES_MAX = 12  # chosen: sites that come and go between two rounds are few; for ever is too long


def cell_statistics(cells: TrainingCells, study: Study, state: MergedState) -> dict[str, Array]:
    """Return a site's sums over its training cells.

    Raises
    ------
    CellsError
        If the rule needs raw counts and the cells have none.
    """
    rule, now = study.features.rule, state.group(GENES)
    arrays: dict[str, Array] = {
        "cells_by_type": _tally(cells.cell_type, len(study.cell_types)),
        "n": np.array([cells.n_cells], np.int64),
        "samples_by_condition": _tally(cells.sample_condition, len(study.conditions)),
    }
    if study.features.needs_counts and cells.counts is None:
        msg = (
            f'the cells have no raw counts, which rule = "{rule}" reads. Prepare them from counts, or use top_variance.'
        )
        raise CellsError(msg)
    if rule == BY_COUNTS:
        if not now:
            return arrays | dict(zip(_SUMS[1:], variable_genes.count_sums(cells.counts), strict=True))
        found = variable_genes.clipped_sums(cells.counts, now["kept_last"])
        arrays |= dict(zip((*_SUMS[1:], *_CLIPPED), found, strict=True))
    if rule == BY_SITE:
        arrays["ranks"], arrays["votes"] = _ranks_by_site(cells, study.features.n_top)
    arrays["x"], arrays["xx"] = sums(cells.X)
    return arrays


def _ranks_by_site(cells: TrainingCells, n_top: int) -> tuple[Array, Array]:
    """Return, summed over the sites of these cells, each gene's rank (at most `n_top`) and whether it is below."""
    ranks, votes = (np.zeros(len(cells.feature_ids), np.int64) for _ in range(2))
    for code, site in enumerate(cells.sites):
        try:
            found = variable_genes.scores_of_cells(cells.counts, np.flatnonzero(cells.site == code))
        except ModelError as error:
            msg = f"{site}: {error}, so its genes cannot be ranked. Agree on another rule, such as top_variance."
            raise CellsError(msg) from error
        best = variable_genes.top(found, n_top)
        mine = np.full(len(found), n_top, np.int64)
        mine[best] = np.arange(len(best))
        ranks += mine
        votes[best] += 1
    return ranks, votes


def cell_slots(study: Study, n_features: int, state: MergedState) -> dict[str, Slot]:
    """Return what a site's sums must look like; `n_features` is the universe's."""
    rule = study.features.rule
    amount = Slot(bits=64, shape=(n_features,), last=SUM_MAX, signed=False)
    number = Slot(bits=64, shape=(n_features,), last=COUNT_MAX, signed=False)
    slots = {
        "cells_by_type": Slot(bits=64, shape=(len(study.cell_types),), last=COUNT_MAX, signed=False),
        "n": Slot(bits=64, shape=(1,), last=COUNT_MAX, signed=False),
        "samples_by_condition": Slot(bits=64, shape=(len(study.conditions),), last=COUNT_MAX, signed=False),
    }
    if rule == BY_COUNTS:
        slots |= {"counts": amount, "counts_squared": amount}
        if not state.group(GENES):
            return slots
        slots |= {"n_clipped": number, "kept": amount, "kept_squared": amount}
    if rule == BY_SITE:
        slots |= {"ranks": number, "votes": number}
    return slots | {"x": Slot(bits=64, shape=(n_features,), last=SUM_MAX), "xx": amount}


def merge_cell_statistics(state: MergedState, study: Study, updates: Sequence[Update]) -> MergedState:
    """Return the state after a round of the stage `features`: panel, scaling and class counts, or the next pass."""
    n = int(add(updates, "n")[0])
    if n < 1:
        return fail(state, "stage 'features': no site has a training cell.")
    if study.features.rule != BY_COUNTS:
        return _end(state, study, updates, _chosen(study.features, n, updates))
    if not _same_sums(state, updates):
        return _next_pass(state, updates)
    genes = state.group(GENES)
    n_clipped, kept, squares = (add(updates, name) for name in _CLIPPED)
    found = variable_genes.scores(n, add(updates, "counts"), genes["trend"], (n_clipped, kept, squares))
    return _end(state, study, updates, np.sort(variable_genes.top(found, study.features.n_top)))


def _same_sums(state: MergedState, updates: Sequence[Update]) -> bool:
    """Say whether these are the sums that the first pass was made of."""
    genes = state.group(GENES)
    return bool(genes) and all(np.array_equal(add(updates, name), genes[name]) for name in _SUMS)


def _next_pass(state: MergedState, updates: Sequence[Update]) -> MergedState:
    """Return the state with the trend and the clipping of these sums."""
    if state.stage_round >= PASSES_MAX:
        text = (
            f"stage 'features': the sites' sums changed in each of {PASSES_MAX} rounds: sites came and went. "
            "Begin again when all are up."
        )
        return fail(state, text)
    n, first, second = (add(updates, name) for name in _SUMS)
    try:
        logs = variable_genes.trend(int(n[0]), first, second)
    except ModelError as error:
        text = f"stage 'features': {error}. Agree on rule = \"top_variance\" in [study.features], in a new swarm."
        return fail(state, text)
    genes = {name: add(updates, name).astype(np.int64) for name in _SUMS}
    genes |= {"trend": logs, "kept_last": variable_genes.kept_last(int(n[0]), first, logs)}
    return replace(state, stage_round=state.stage_round + 1).with_group(GENES, genes)


def _chosen(rule: FeatureRule, n: int, updates: Sequence[Update]) -> Array:
    if rule.rule == BY_SITE:
        votes, ranks = add(updates, "votes").tolist(), add(updates, "ranks").tolist()
        best = sorted(range(len(votes)), key=lambda i: (-votes[i], ranks[i], i))[: rule.n_top]
        return np.array(sorted(best), np.int64)
    return choose(rule, n, add(updates, "x"), add(updates, "xx"))


def _end(state: MergedState, study: Study, updates: Sequence[Update], panel: Array) -> MergedState:
    first, second = add(updates, "x"), add(updates, "xx")
    mean, scale = mean_and_scale(int(add(updates, "n")[0]), first[panel], second[panel])
    arrays: dict[str, Array] = {
        "panel": panel.astype(np.int32),
        "mean": mean,
        "scale": scale,
        "cells_by_type": _counted(updates, "cells_by_type", study, study.floors.cells),
        "samples_by_condition": _counted(updates, "samples_by_condition", study, study.floors.donors),
    }
    return end_stage(state, study, _result(updates, rounds=state.stage_round + 1), arrays)


def _counted(updates: Sequence[Update], name: str, study: Study, least: int) -> Array:
    return class_floors.too_few(add(updates, name).astype(np.int64), study, least)


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


def sample_statistics(features: Array, condition: Array, n_conditions: int, site: Array) -> dict[str, Array]:
    """Return a site's sums over its training samples' features: of all, and of those of each condition.

    `site` tells a pooled run's samples apart: each sum of `baselines.same_site` is over sites.
    """
    shares, n_sites_here = same_site(site, condition, n_conditions)
    first, second = sums(features)
    by_condition = [sums(features[condition == k])[0] for k in range(n_conditions)]
    return {
        "n": np.array([len(features)], np.int64),
        "x": first,
        "xx": second,
        "n_by_condition": _tally(condition, n_conditions),
        "x_by_condition": np.array(by_condition),
        "xx_labelled": sums(features[condition >= 0])[1],
        "same_site": shares,
        "n_sites": n_sites_here,
    }


def sample_slots(state: MergedState, study: Study) -> dict[str, Slot]:
    """Return what a site's sums over samples must look like."""
    n, n_conditions = n_sample_features(state, study), len(study.conditions)
    return {
        "n": Slot(bits=64, shape=(1,), last=COUNT_MAX, signed=False),
        "x": Slot(bits=64, shape=(n,), last=SUM_MAX),
        "xx": Slot(bits=64, shape=(n,), last=SUM_MAX, signed=False),
        "n_by_condition": Slot(bits=64, shape=(n_conditions,), last=COUNT_MAX, signed=False),
        "x_by_condition": Slot(bits=64, shape=(n_conditions, n), last=SUM_MAX),
        "xx_labelled": Slot(bits=64, shape=(n,), last=SUM_MAX, signed=False),
        "same_site": Slot(bits=64, shape=(n_conditions,), last=SUM_MAX, signed=False),
        "n_sites": Slot(bits=64, shape=(1,), last=COUNT_MAX, signed=False),
    }


def merge_sample_statistics(state: MergedState, study: Study, updates: Sequence[Update]) -> MergedState:
    """Return the state with the sample features' scaling, ready to fit the stage `patient`."""
    n = int(add(updates, "n")[0])
    if n < 1:
        return fail(state, "stage 'patient': no site has a training sample.")
    mean, scale = mean_and_scale(n, add(updates, "x"), add(updates, "xx"))
    parts = sample_features.blocks(study, [""] * len(state.arrays["panel"]))
    widths = np.concatenate([np.full(block.width, block.width, np.int64) for block in parts])
    scaled = {**state.arrays, "patient.mean": mean, "patient.scale": widen(scale, widths), **_for_baselines(updates)}
    return start_fit(replace(state, arrays=scaled), study)


def _for_baselines(updates: Sequence[Update]) -> dict[str, Array]:
    """Return what the baselines of `model.baselines` are made of; the table of sites is sorted and names none.

    Where sums over sites are all that is seen, and in a pooled run, the table has one row; the sums then tell.
    """
    by_site = sorted(update.arrays["n_by_condition"].tolist() for update in updates)
    last = (1 << 63) - 1
    first, second = (np.clip(add(updates, name), -last, last) for name in ("x_by_condition", "xx_labelled"))
    return {
        "baseline.n_by_site": np.array(by_site, np.int64),
        "baseline.x_by_condition": first.astype(np.int64),
        "baseline.xx": second.astype(np.int64),
        "baseline.same_site": np.clip(add(updates, "same_site"), 0, last).astype(np.int64),
        "baseline.n_sites": np.clip(add(updates, "n_sites"), 0, last).astype(np.int64),
    }


def _result(updates: Sequence[Update], *, rounds: int) -> StageResult:
    n_cells, n_donors = sum(u.n_cells for u in updates), sum(u.n_donors for u in updates)
    return StageResult(rounds=rounds, best_round=rounds, sites=n_sites(updates), n_cells=n_cells, n_donors=n_donors)


def _tally(codes: Array, n_classes: int) -> Array:
    return np.bincount(codes[codes >= 0], minlength=n_classes).astype(np.int64)
