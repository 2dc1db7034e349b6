"""The merges of strata, phase by phase: pure functions of a state and of the sites' sums, the same bits everywhere."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from swarmcell.errors import MergeError, ModelError
from swarmcell.model import components
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import STATISTICS_BITS, Integers
from swarmcell.model.merges import linear
from swarmcell.model.moments import mean_and_scale, variance_numerator
from swarmcell.model.strata import describe, judge, kmeans, withheld
from swarmcell.model.strata.kmeans import Plan
from swarmcell.model.strata.state import StrataState
from swarmcell.model.strata.table import blocks_of
from swarmcell.model.study import StrataRule, Study

ITERATIONS_MAX = 60  # of Lloyd's; what has not settled then is taken as it is
SAMPLES_PER_STRATUM = 3
DONORS_TOTAL_MIN = 3
EFFECT_DIGITS = 2  # of an association some of whose counts are left out; chosen: what reports show
_RIDGE = 1e-6  # of the samples' variance, along every component of a nested twin; chosen
_ONE = 1 << STATISTICS_BITS


@dataclass(frozen=True)
class Sums:
    """A site's sums that passed the screening; or of `n_sites` sites whose own sums are secret, without a name."""

    site: str
    n_cells: int
    n_donors: int
    arrays: Mapping[str, Array]
    n_sites: int = 1


def sites_of(parts: Sequence[Sums]) -> tuple[str, ...]:
    """Return the sites' names; none where their own sums are secret."""
    return tuple(part.site for part in parts if part.site)


def advance(state: StrataState, study: Study, rule: StrataRule, parts: Sequence[Sums]) -> StrataState:
    """Return the next state; with no sums at all the round is done again."""
    onward = replace(state, round=state.round + 1)
    if not parts:
        return onward
    if state.phase == "features":
        return _features(onward, study, rule, parts)
    if state.phase == "products":
        return _products(onward, study, rule, parts)
    if state.phase in ("cluster", "nested"):
        return _cluster(onward, study, rule, parts)
    if state.phase == "agreement":
        return _agreement(onward, study, rule, parts)
    return _describe(onward, study, rule, parts)


def plan_of(rule: StrataRule, state: StrataState) -> Plan:
    """Return the runs of k-means of the running phase: no more strata than the samples allow."""
    k_max = max(2, min(rule.k_max, state.n_samples // SAMPLES_PER_STRATUM))
    if state.phase == "nested":
        ks = state.arrays["splits"].tolist()
        return kmeans.nested_plan(ks, k_max=k_max, nulls=rule.nulls)
    return kmeans.plan(k_max=k_max, starts=rule.starts, resamples=rule.resamples, nulls=rule.nulls)


def donors_min(study: Study) -> int:
    """Return the least donors of a stratum."""
    return max(judge.DONORS_MIN, study.floors.donors)


def _add(parts: Sequence[Sums], name: str) -> Array:
    total = np.zeros(parts[0].arrays[name].shape, object)
    for part in parts:
        total = total + part.arrays[name].astype(object)
    return total


def _whole(total: Array, what: str) -> Integers:
    if total.size and max(abs(int(total.max())), abs(int(total.min()))) >= 1 << 62:
        msg = f"the sum of {what} over all sites does not fit 64 bits"
        raise MergeError(msg)
    return total.astype(np.int64)


def check_width(study: Study, rule: StrataRule, n_features: int) -> None:
    """Check that products of a sample's features can be summed.

    Raises
    ------
    ModelError
        If too many of its `n_features` are kept.
    """
    n_types = len(study.counted_types)
    wide = n_features - n_types
    kept = n_types + (min(wide, rule.n_genes) if study.modality == "rna" else wide)
    if kept > components.WIDTH_MAX:
        msg = f"{kept} features of a sample; at most {components.WIDTH_MAX}. Take fewer markers, or n_genes."
        raise ModelError(msg)


def failed(state: StrataState, words: str) -> StrataState:
    """Return the state of a study that cannot go on."""
    return replace(state, phase="done", failure=words, arrays={})


def _features(state: StrataState, study: Study, rule: StrataRule, parts: Sequence[Sums]) -> StrataState:
    n = int(_add(parts, "n")[0])
    known = replace(
        state,
        n_samples=n,
        n_donors=sum(part.n_donors for part in parts),
        n_cells=sum(part.n_cells for part in parts),
        n_sites=sum(part.n_sites for part in parts),
        sites=sites_of(parts),
    )
    if n < 2 * SAMPLES_PER_STRATUM or known.n_donors < DONORS_TOTAL_MIN:
        words = (
            f"{n} samples of {known.n_donors} donors in all; strata need at least {2 * SAMPLES_PER_STRATUM} samples of "
            f"{DONORS_TOTAL_MIN} donors. Add donors, or join with other sites."
        )
        return failed(known, words)
    first, second = _add(parts, "x"), _add(parts, "xx")
    spread = [variance_numerator(n, int(a), int(b)) for a, b in zip(first, second, strict=True)]
    kept, scale = _kept(study, rule, spread, n, len(first))
    mean, _ = mean_and_scale(n, first[kept], second[kept])
    arrays: dict[str, Array] = {"kept": kept.astype(np.int32), "mean": mean, "scale": scale}
    share = _site_share(_add(parts, "of_mean"), kept, scale, first, spread, n)
    return replace(known, phase="products", site_share=share, arrays=arrays)


def _kept(study: Study, rule: StrataRule, spread: list[int], n: int, n_features: int) -> tuple[Integers, Integers]:
    """Return the kept features, and of each the standard deviation of its whole block, fixed point 2**-24."""
    wide = n_features - len(study.counted_types)
    n_ids = wide // 7 if study.modality == "cytometry" else wide
    start = 0
    kept: list[int] = []
    scales: list[int] = []
    for block in blocks_of(study.modality, study.counted_types, [""] * n_ids):
        places = list(range(start, start + block.width))
        start += block.width
        if study.modality == "rna" and block.kind == "mean" and block.width > rule.n_genes:
            places = sorted(sorted(places, key=lambda i: (-spread[i], i))[: rule.n_genes])
        total = math.isqrt(sum(spread[i] for i in places) // (n * n))
        kept += places
        scales += [total if total > 1 else _ONE] * len(places)
    return np.array(kept, np.int64), np.array(scales, np.int64)


def _site_share(of_mean: Array, kept: Integers, scale: Integers, first: Array, spread: list[int], n: int) -> int:
    """Return the share of the scaled features' squares that lies between sites, fixed point 2**-24."""
    between, whole = Fraction(0), Fraction(0)
    for place, width in zip(kept.tolist(), scale.tolist(), strict=True):
        unit = width * width
        means = int(of_mean[place]) << STATISTICS_BITS
        between += max(means - Fraction(int(first[place]) ** 2, n), Fraction(0)) / unit
        whole += Fraction(spread[place], n * unit)
    return int(between / whole * _ONE) if whole > 0 else 0


def _products(state: StrataState, study: Study, rule: StrataRule, parts: Sequence[Sums]) -> StrataState:
    width = len(state.arrays["kept"])
    try:
        found = components.decompose(
            _add(parts, "products"), state.n_samples, width, n_max=rule.components_max, share=rule.variance_share
        )
    except MergeError as error:
        return failed(state, f"no strata: {error}.")
    spread = np.maximum(np.rint(np.sqrt(found.variance) * _ONE), 1).astype(np.int64)
    plan = plan_of(rule, state)
    centres = kmeans.first_centres(plan, spread / float(_ONE), study.seed)
    arrays: dict[str, Array] = {
        **state.arrays,
        "vectors": found.vectors,
        "spread": spread,
        "held": np.array([int(math.fsum(found.variance.tolist()) / found.total * _ONE)], np.int64),
        "centres": centres,
        "settled": np.zeros(len(centres), np.int32),
        "total": np.zeros(centres.shape, np.int64),
        "count": np.zeros(centres.shape[:2], np.int64),
    }
    return replace(state, phase="cluster", arrays=arrays)


def _cluster(state: StrataState, study: Study, rule: StrataRule, parts: Sequence[Sums]) -> StrataState:
    arrays = {name: array.copy() for name, array in state.arrays.items()}
    active = np.flatnonzero(arrays["settled"] == 0)
    total, count = _whole(_add(parts, "total"), "coordinates"), _whole(_add(parts, "count"), "samples")
    onward = kmeans.moved(arrays["centres"][active], total, count)
    arrays["settled"][active] = (onward == arrays["centres"][active]).all(axis=(1, 2))
    arrays["centres"][active], arrays["total"][active], arrays["count"][active] = onward, total, count
    if state.iteration == 0:
        arrays |= {name: _whole(_add(parts, name), name) for name in _SQUARES}
    state = replace(state, iteration=state.iteration + 1, arrays=arrays)
    if not arrays["settled"].all() and state.iteration < ITERATIONS_MAX:
        return state
    return _judged(state, study, rule) if state.phase == "nested" else _best(state, rule)


_SQUARES = ("first", "number", "squares_high", "squares_mixed", "squares_low")
_SPACE = ("kept", "mean", "scale", "vectors", "spread", "held")
_FOUND = ("best", "best_n", "resampled", "within", "within_few", "within_null")
_COUNTED = ("tables", "donors")


def _best(state: StrataState, rule: StrataRule) -> StrataState:
    """Keep the tightest start of each run: exact fractions, the first of equals."""
    plan, arrays = plan_of(rule, state), dict(state.arrays)
    places = {("real", 0): 0}
    places |= {("resample", b): 1 + b for b in range(rule.resamples)}
    places |= {("null", b): 1 + rule.resamples + b for b in range(rule.nulls)}
    groups: dict[tuple[str, int, int], list[int]] = {}
    for place, run in enumerate(plan.runs):
        groups.setdefault((run.kind, run.number, run.k), []).append(place)
    n_dims = arrays["centres"].shape[2]
    best = np.zeros((len(plan.ks), plan.k_max, n_dims), np.int64)
    resampled = np.zeros((len(plan.ks) * rule.resamples, plan.k_max, n_dims), np.int64)
    counted = np.zeros((len(plan.ks), plan.k_max), np.int64)
    shares, shares_few = np.zeros(len(plan.ks), np.int64), np.zeros(len(plan.ks), np.int64)
    shares_null = np.zeros((len(plan.ks), rule.nulls), np.int64)
    for (kind, number, k), runs in groups.items():
        rows = places[kind, number]
        found = {run: _within(arrays, rows, run, k) for run in runs}
        chosen = min(runs, key=lambda run: (found[run], run))
        at = plan.ks.index(k)
        if kind == "resample":
            resampled[at * rule.resamples + number] = arrays["centres"][chosen]
        elif kind == "null":
            shares_null[at, number] = _share(arrays, rows, found[chosen])
        else:
            best[at], counted[at] = arrays["centres"][chosen], arrays["count"][chosen]
            shares[at] = _share(arrays, rows, found[chosen])
            # twins have few starts: only what as few find here can be compared with them
            shares_few[at] = _share(arrays, rows, min(found[run] for run in runs[: kmeans.few(rule.starts)]))
    kept = {name: arrays[name] for name in _SPACE}
    kept |= dict(zip(_FOUND, (best, counted, resampled, shares, shares_few, shares_null), strict=True))
    return replace(state, phase="agreement", iteration=0, arrays=kept)


def _all_squares(arrays: dict[str, Array], rows: int) -> int:
    high, mixed, low = (int(arrays[f"squares_{part}"][rows]) for part in ("high", "mixed", "low"))
    return (high << 30) + (mixed << 16) + low


def _within(arrays: dict[str, Array], rows: int, run: int, k: int) -> Fraction:
    return kmeans.within(_all_squares(arrays, rows), arrays["total"][run, :k], arrays["count"][run, :k])


def _share(arrays: dict[str, Array], rows: int, within: Fraction) -> int:
    n = max(int(arrays["number"][rows]), 1)
    whole = _all_squares(arrays, rows) - sum((Fraction(int(v) ** 2, n) for v in arrays["first"][rows]), Fraction(0))
    return int(within / whole * _ONE) if whole > 0 else _ONE


def _agreement(state: StrataState, study: Study, rule: StrataRule, parts: Sequence[Sums]) -> StrataState:
    arrays: dict[str, Array] = {name: state.arrays[name] for name in (*_SPACE, *_FOUND)}
    arrays |= {name: _whole(_add(parts, name), name) for name in _COUNTED}
    counted = replace(state, arrays=arrays)
    found = judge.candidates(_verdicts(counted, rule), donors_min=donors_min(study))
    splits = [k for k in found if k > judge.K_MIN]
    arrays["splits"] = np.array(splits, np.int64)
    return _nested(counted, study, rule) if splits else _chosen(counted, study, rule, {})


def _verdicts(state: StrataState, rule: StrataRule) -> dict[int, judge.Verdict]:
    arrays, n = state.arrays, rule.resamples
    ks = range(judge.K_MIN, judge.K_MIN + len(arrays["within"]))
    return {
        k: judge.verdict(
            k,
            [arrays["tables"][place * n + b, :k, :k] for b in range(n)],
            int(arrays["within_few"][place]) / _ONE,
            [int(v) / _ONE for v in arrays["within_null"][place]],
            arrays["donors"][place, :k].tolist(),
        )
        for place, k in enumerate(ks)
    }


def _nested(state: StrataState, study: Study, rule: StrataRule) -> StrataState:
    """Open the rounds in which twins of k - 1 strata are clustered."""
    state = replace(state, phase="nested")
    plan, arrays = plan_of(rule, state), dict(state.arrays)
    n_dims = len(arrays["spread"])
    ks = arrays["splits"].tolist()
    arrays["roots"] = np.array([_root(state, k - 1) for k in ks], np.int64)
    roots = {k: root / float(_ONE) for k, root in zip(ks, arrays["roots"], strict=True)}
    centres = kmeans.nested_centres(plan, arrays["best"], roots, study.seed)
    arrays |= {
        "centres": centres,
        "settled": np.zeros(len(centres), np.int32),
        "total": np.zeros((len(centres), plan.k_max, n_dims), np.int64),
        "count": np.zeros((len(centres), plan.k_max), np.int64),
    }
    return replace(state, arrays=arrays)


def _root(state: StrataState, k: int) -> Integers:
    """Return the lower triangular root of the covariance within k strata, fixed point 2**-24.

    Along components all samples covary by their variances alone; what lies between the strata is taken away.
    """
    at = k - judge.K_MIN
    counts, centres = state.arrays["best_n"][at, :k], state.arrays["best"][at, :k] / float(_ONE)
    spread = state.arrays["spread"] / float(_ONE)
    within = np.diag(spread * spread)
    for n, centre in zip(counts.tolist(), centres, strict=True):
        within = within - (n / state.n_samples) * (centre[:, None] * centre)
    least = math.fsum((spread * spread).tolist()) * _RIDGE
    for i in range(len(within)):
        within[i, i] = max(float(within[i, i]), 0.0) + least
    return np.rint(linear.cholesky(within) * _ONE).astype(np.int64)


def _judged(state: StrataState, study: Study, rule: StrataRule) -> StrataState:
    """Judge the candidates by how much more they tighten than twins of one stratum less."""
    plan, arrays = plan_of(rule, state), dict(state.arrays)
    places = {kind: at * (rule.nulls + 1) for at, kind in enumerate(f"nested-{k}" for k in arrays["splits"].tolist())}
    found: dict[tuple[str, int, int], Fraction] = {}
    for run, one in enumerate(plan.runs):
        key, squares = (one.kind, one.number, one.k), _within(arrays, places[one.kind] + one.number, run, one.k)
        found[key] = min(found.get(key, squares), squares)
    splits = {}
    for k in arrays["splits"].tolist():
        kind = f"nested-{k}"
        left = [float(found[kind, b, k] / max(found[kind, b, k - 1], Fraction(1))) for b in range(rule.nulls + 1)]
        splits[k] = judge.split_p(left[-1], left[:-1])
    return _chosen(state, study, rule, splits)


def _chosen(state: StrataState, study: Study, rule: StrataRule, splits: Mapping[int, float]) -> StrataState:
    """Take a number of strata, if one passes, and open the last round."""
    arrays, verdicts, n = state.arrays, _verdicts(state, rule), rule.resamples
    k = judge.choose(verdicts, splits, donors_min=donors_min(study))
    tightest = [int(share) / _ONE for share in arrays["within"]]
    judged = [
        (v.least_stable, v.agreement, within, v.p_value, splits.get(v.k, -1.0))
        for v, within in zip(verdicts.values(), tightest, strict=True)
    ]
    kept = {name: arrays[name] for name in (*_SPACE, "within_null")}
    kept |= {"tried": np.array(list(verdicts), np.int64), "judged": np.rint(np.array(judged) * _ONE).astype(np.int64)}
    kept["overall_p"] = np.array([round(judge.overall_p(verdicts) * _ONE)], np.int64)
    if not k:
        words = judge.why_not(verdicts, splits, donors_min=donors_min(study))
        return replace(state, phase="done", words=words, arrays=kept)
    at = k - judge.K_MIN
    tables = arrays["tables"][at * n : (at + 1) * n]
    size = tables[0, :k].sum(axis=1)
    order = sorted(range(k), key=lambda i: (-int(size[i]), i))
    kept["stratum_size"] = size[order]
    kept["stratum_centres"] = arrays["best"][at, order]
    kept["stratum_resampled"] = arrays["resampled"][at * n : (at + 1) * n, :k]
    # the stratum that most samples of a resample's stratum are in
    kept["stratum_matched"] = np.array([table[order, :k].argmax(axis=0) for table in tables], np.int64)
    kept["stratum_stability"] = np.rint(np.array([verdicts[k].stability[i] for i in order]) * _ONE).astype(np.int64)
    return replace(state, phase="describe", k=k, arrays=kept)


def _describe(state: StrataState, study: Study, rule: StrataRule, parts: Sequence[Sums]) -> StrataState:
    arrays, floor = dict(state.arrays), study.floors.donors
    for name in ("n", "donors", "rest", "cells", "x", "xx"):
        arrays[f"stratum_{name}"] = _whole(_add(parts, name), name)
    flags = np.array([part.arrays["disguise"] for part in parts], np.int64)
    arrays["disguise"] = np.where(flags.any(axis=0), flags.argmax(axis=0), -1)
    named = [part for part in parts if part.site]
    by_site, few = (
        np.array([part.arrays[name] for part in named], np.int64).reshape(-1, state.k) for name in ("n", "donors")
    )
    arrays["by_site"] = withheld.table(by_site, few, floor)
    names = (*(("condition",) if len(study.conditions) > 1 else ()), *sorted(rule.covariates))
    results = []
    for i, name in enumerate(names):
        tables, donors = _add(parts, f"test_{i}"), _whole(_add(parts, f"donors_{i}"), name)
        is_number = name != "condition" and not rule.covariates[name]
        if is_number:
            squares = describe.joined_squares(_add(parts, f"squares_{i}").tolist())
            effects = [describe.number_effect(table, squares) for table in tables]
        else:
            effects = [describe.category_effect(table.astype(np.int64)) for table in tables]
        found = _whole(tables[0], name)
        shown = _numbers(found, donors[:, 0], floor) if is_number else withheld.table(found, donors, floor)
        # a table of few follows from its effect in full precision
        effect = effects[0] if (shown == found).all() else round(effects[0], EFFECT_DIGITS)
        results.append((effect, describe.p_value(effects)))
        arrays[f"test_{i}"] = shown
        arrays[f"tested_{i}"] = np.array([(found[1] if is_number else found).sum()], np.int64)
    arrays["tests"] = np.rint(np.array(results).reshape(len(results), 2) * _ONE).astype(np.int64)
    n_sites = sum(part.n_sites for part in parts)
    return replace(state, phase="done", sites=sites_of(parts), n_sites=n_sites, arrays=arrays)


def _numbers(sums: Integers, donors: Integers, floor: int) -> Integers:
    """Return a number's sums by stratum, those that are left out all `withheld.LEFT_OUT`."""
    return np.where(withheld.groups(donors, floor)[None], withheld.LEFT_OUT, sums)
