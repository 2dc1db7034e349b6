"""Strata by two calls, in a swarm or alone: `contribute(state)` and `merge(state, contributions)`; see the package.

Rules: `merge` is pure, the same bits on any machine and in any order. A contribution that cannot be merged is left out
with a reason that depends on its bytes only.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from swarmcell.errors import MergeError, ModelError
from swarmcell.model import components
from swarmcell.model.contribution import (
    COUNT_MAX,
    SUM_MAX,
    Contribution,
    Kind,
    MergeOutcome,
    Slot,
    check_arrays,
    check_counts,
)
from swarmcell.model.encoding import Array, Named, decode, encode
from swarmcell.model.fixed import STATISTICS_BITS, Floats, Integers
from swarmcell.model.moments import sums as column_sums
from swarmcell.model.strata import describe, kmeans
from swarmcell.model.strata.judge import K_MIN
from swarmcell.model.strata.merges import Sums, advance, check_width, failed, plan_of
from swarmcell.model.strata.state import StrataState, from_bytes, to_bytes
from swarmcell.model.strata.table import SampleTable
from swarmcell.model.study import StrataRule, Study, rules_digest

_NAME_MAX = 64


class Stratifier:
    """A study of strata with one site's samples.

    Parameters
    ----------
    study
        The rules, with `strata` set.
    table
        The site's samples; `None` for one who only merges.
    n_features
        Features of a sample, where the table is `None`.

    Raises
    ------
    ModelError
        If the study is one of classifiers, or a sample has more features than products are summed of.
    """

    def __init__(self, study: Study, table: SampleTable | None, *, n_features: int | None = None) -> None:
        if study.strata is None:
            msg = "[study] has no [study.strata]: it is a study of classifiers. Train it with swarmcell train --join."
            raise ModelError(msg)
        self.study, self.table, self.rule = study, table, study.strata
        self._n_features = n_features if table is None else table.features.shape[1]
        check_width(study, self.rule, self._n_features or 0)
        self._sets: tuple[bytes, dict[tuple[str, int], Integers]] = (b"", {})

    def start(self, cells: Mapping[str, Array] | None = None) -> bytes:
        """Return the state before round 1, equal at every site; `cells` tells the cells' clusters, if there are any."""
        return to_bytes(StrataState(rules=rules_digest(self.study), cells=cells or {}))

    def contribute(self, state: bytes, stop: threading.Event) -> Contribution | None:
        """Return this site's sums for the round after `state`; `None` if `stop` was set meanwhile.

        Raises
        ------
        ModelError
            If the study has ended, or this site has no samples.
        """
        now = from_bytes(state)
        if self.table is None or now.finished:
            msg = "nothing to contribute: the study has ended, or this site has no samples."
            raise ModelError(msg)
        arrays = _ARRAYS[now.phase](self, now)
        _, header = self.envelope(state, weight=0)
        if stop.is_set():
            return None
        return Contribution(
            kind="statistics",
            parameters=encode(Named(header, arrays)),
            n_cells=int(self.table.n_cells.sum()),
            n_donors=self.table.n_donors,
        )

    def merge(self, state: bytes, contributions: Sequence[Contribution]) -> MergeOutcome:
        """Merge contributions, in any order, into the next state. Pure.

        Raises
        ------
        MergeError
            If `state` is not a state of this study; never for what a contribution holds.
        """
        now = from_bytes(state)
        if now.rules != rules_digest(self.study):
            msg = "the merged state was made by another study's rules."
            raise MergeError(msg)
        parts, left_out = self._screened(now, contributions)
        merged = advance(now, self.study, self.rule, sorted(parts, key=lambda part: part.site))
        return MergeOutcome(state=to_bytes(merged), left_out=left_out, finished=merged.finished, failure=merged.failure)

    def slots(self, state: bytes) -> dict[str, Slot]:
        """Return what a site's arrays must look like in the round after `state`."""
        return self._slots(from_bytes(state))

    def envelope(self, state: bytes, *, weight: int) -> tuple[Kind, dict[str, Any]]:
        """Return kind and header of a contribution; it names the site, but where its sums are secret."""
        del weight  # every sample counts alike
        now, secret = from_bytes(state), self.study.privacy.secure_aggregation
        site = "" if secret or self.table is None else self.table.sites[0]
        return "statistics", {"phase": now.phase, "round": now.round, "site": site}

    def failed(self, state: bytes, text: str) -> bytes:
        """Return the state of a study that cannot go on after `state`."""
        return to_bytes(failed(from_bytes(state), text))

    def describe(self, state: bytes) -> dict[str, str | int]:
        """Say what `state` is, for the ledger's readers: counts above the floor only."""
        now = from_bytes(state)
        said: dict[str, str | int] = {"stage": "strata", "phase": now.phase, "round": now.round}
        if now.finished:
            said["strata"] = now.k
            for i in range(now.k):
                said[f"donors_{i + 1}"] = int(now.arrays["stratum_donors"][i])
                said[f"samples_{i + 1}"] = int(now.arrays["stratum_n"][i])
        return said

    def scaled(self, state: StrataState) -> Integers:
        """Return the samples' features, centred and scaled, in fixed point."""
        return scaled(self._samples(), state, self.rule)

    def rows(self, state: StrataState) -> kmeans.Rows:
        """Return the samples in the agreed space."""
        return rows(self._samples(), state, self.rule)

    def clustered(self, state: StrataState, kind: str, number: int) -> Integers:
        """Return the coordinates that runs of a kind cluster; drawn once, for all rounds in one space."""
        space = state.phase.encode() + state.arrays["vectors"].tobytes()
        if self._sets[0] != space:
            own = self.rows(state)
            self._sets = (space, {one: self._drawn(state, own, *one) for one in row_sets(self.rule, state)})
        return self._sets[1][kind, number]

    def _drawn(self, state: StrataState, own: kmeans.Rows, kind: str, number: int) -> Integers:
        if state.phase != "nested":
            return kmeans.clustered(own, kind, number, spread_of(state), self.study.seed)
        if number == self.rule.nulls:  # the samples themselves
            return own.coordinates
        place = row_sets(self.rule, state).index((kind, number)) // (self.rule.nulls + 1)
        k = int(state.arrays["splits"][place])
        centres = state.arrays["best"][k - 1 - K_MIN, : k - 1]
        return kmeans.nested(own, centres, state.arrays["roots"][place], f"{kind}/{self.study.seed}/{number}")

    def _samples(self) -> SampleTable:
        if self.table is None:
            msg = "this site has no samples."
            raise ModelError(msg)
        return self.table

    def _screened(self, state: StrataState, contributions: Sequence[Contribution]) -> tuple[list[Sums], dict[int, str]]:
        slots = self._slots(state)
        parts: list[Sums] = []
        reasons: dict[int, str] = {}
        for index, contribution in enumerate(contributions):
            try:
                taken = {part.site for part in parts}
                parts.append(_opened(state, slots, contribution, taken, secret=self.study.privacy.secure_aggregation))
            except MergeError as error:
                reasons[index] = str(error)
        return parts, reasons

    def _slots(self, state: StrataState) -> dict[str, Slot]:
        if self._n_features is None:
            msg = "the number of features of a sample is not known; give the universe."
            raise MergeError(msg)
        return slots_of(state, self.study, self.rule, self._n_features)


def scaled(table: SampleTable, state: StrataState, rule: StrataRule) -> Integers:
    """Return samples' kept features, centred and scaled, in fixed point."""
    one = float(1 << STATISTICS_BITS)
    kept = table.features[:, state.arrays["kept"]]
    middle = _site_means(table.sites, kept) if rule.centre_sites else state.arrays["mean"] / one
    return components.fixed((kept - middle) / (state.arrays["scale"] / one))


def _site_means(sites: Sequence[str], features: Floats) -> Floats:
    _, code, n = np.unique(np.array(sites), return_inverse=True, return_counts=True)
    means = np.zeros((len(n), features.shape[1]))
    np.add.at(means, code, features)
    return np.asarray((means / n[:, None])[code])


def rows(table: SampleTable, state: StrataState, rule: StrataRule) -> kmeans.Rows:
    """Return samples in the agreed space."""
    coordinates = components.project(scaled(table, state, rule), state.arrays["vectors"])
    return kmeans.rows_of(coordinates, table.sample_keys, table.donor_keys)


def spread_of(state: StrataState) -> Floats:
    """Return the standard deviation of the samples along each component."""
    return np.asarray(state.arrays["spread"] / float(1 << STATISTICS_BITS))


def _features(site: Stratifier, state: StrataState) -> dict[str, Array]:
    del state
    table = site._samples()
    first, second = column_sums(table.features)
    n = len(table.samples)
    own = [int(x) * int(x) // (n << STATISTICS_BITS) for x in first]  # what the site's mean alone makes of the squares
    return {"n": np.array([n], np.int64), "x": first, "xx": second, "of_mean": np.array(own, np.int64)}


def _products(site: Stratifier, state: StrataState) -> dict[str, Array]:
    whole = site.scaled(state)
    if len(whole) > components.ROWS_MAX:
        msg = f"{len(whole)} samples at one site; at most {components.ROWS_MAX} fit exact sums. Split the site in two."
        raise ModelError(msg)
    return {"products": components.products(whole)}


def _cluster(site: Stratifier, state: StrataState) -> dict[str, Array]:
    plan = plan_of(site.rule, state)
    active = np.flatnonzero(state.arrays["settled"] == 0)
    centres = state.arrays["centres"][active]
    total, count = np.zeros(centres.shape, np.int64), np.zeros(centres.shape[:2], np.int64)
    groups: dict[tuple[str, int], dict[int, list[int]]] = {}
    for place, run in enumerate(active.tolist()):
        one = plan.runs[run]
        groups.setdefault((one.kind, one.number), {}).setdefault(one.k, []).append(place)
    for (kind, number), by_k in groups.items():
        x = site.clustered(state, kind, number)
        for k, places in by_k.items():
            labels = kmeans.nearest(x, centres[places, :k])
            total[places, :k], count[places, :k] = kmeans.sums(x, labels, k)
    arrays: dict[str, Array] = {"total": total, "count": count}
    return arrays | _squares(site, state) if state.iteration == 0 else arrays


def _squares(site: Stratifier, state: StrataState) -> dict[str, Array]:
    """Return sums and squares of each set of rows, all that the sum of squares within strata needs beside the sums."""
    sets = [site.clustered(state, kind, number) for kind, number in row_sets(site.rule, state)]
    # coordinates have 30 bits at most: their squares, halved to 2**-40, stay in 63 bits for 4,096 samples
    return {
        "first": np.array([x.sum(axis=0) for x in sets], np.int64),
        "number": np.array([len(x) for x in sets], np.int64),
        "squares_high": np.array([int(((x >> 15) ** 2).sum()) for x in sets], np.int64),
        "squares_mixed": np.array([int(((x >> 15) * (x & 32767)).sum()) for x in sets], np.int64),
        "squares_low": np.array([int(((x & 32767) ** 2).sum()) for x in sets], np.int64),
    }


def row_sets(rule: StrataRule, state: StrataState) -> list[tuple[str, int]]:
    """Return the sets of rows that are clustered: all, the resamples, the null twins; later the nested twins."""
    if state.phase == "nested":
        return [(f"nested-{k}", b) for k in state.arrays["splits"].tolist() for b in range(rule.nulls + 1)]
    resamples = [("resample", b) for b in range(rule.resamples)]
    return [("real", 0), *resamples, *(("null", b) for b in range(rule.nulls))]


def _agreement(site: Stratifier, state: StrataState) -> dict[str, Array]:
    own, table, plan = site.rows(state), site._samples(), plan_of(site.rule, state)
    n = site.rule.resamples
    tables = np.zeros((len(plan.ks) * n, plan.k_max, plan.k_max), np.int64)
    donors = np.zeros((len(plan.ks), plan.k_max), np.int64)
    for place, k in enumerate(plan.ks):
        labels = kmeans.nearest(own.coordinates, state.arrays["best"][place : place + 1, :k])[0]
        donors[place, :k] = describe.donors_of(table, labels, k)[0]
        others = kmeans.nearest(own.coordinates, state.arrays["resampled"][place * n : (place + 1) * n, :k])
        for b, other in enumerate(others):
            np.add.at(tables[place * n + b], (labels, other), 1)
    return {"tables": tables, "donors": donors}


def _describe(site: Stratifier, state: StrataState) -> dict[str, Array]:
    table, k = site._samples(), state.k
    labels = kmeans.nearest(site.rows(state).coordinates, state.arrays["stratum_centres"][None])[0]
    kept = table.features[:, state.arrays["kept"]]
    member = labels[:, None] == np.arange(k)
    moments = [column_sums(kept[member[:, i]]) for i in range(k)]
    inside, rest = describe.donors_of(table, labels, k)
    arrays: dict[str, Array] = {
        "n": member.sum(axis=0).astype(np.int64),
        "donors": inside,
        "rest": rest,
        "cells": (table.n_cells @ member).astype(np.int64),
        "disguise": describe.is_disguise(member.sum(axis=0), state.arrays["stratum_size"], state.n_samples),
        "x": np.array([first for first, _ in moments], np.int64),
        "xx": np.array([second for _, second in moments], np.int64),
    }
    for i, name in enumerate(tested(site.study, site.rule)):
        n, values = n_categories(site.study, site.rule, name), describe.values_of(table, name)
        arrays[f"test_{i}"] = _test(site, table, labels, k, name)
        arrays[f"donors_{i}"] = describe.donors_of_values(values, table, labels, k, n)
        if not n:
            arrays[f"squares_{i}"] = describe.number_squares(values)
    return arrays


def _test(site: Stratifier, table: SampleTable, labels: Integers, k: int, name: str) -> Array:
    key = f"exchange/{site.study.seed}/{table.sites[0]}/{name}"
    values = describe.exchanged(describe.values_of(table, name), table.donor_keys, site.rule.permutations, key)
    n = n_categories(site.study, site.rule, name)
    return describe.category_tables(values, labels, k, n) if n else describe.number_tables(values, labels, k)


def tested(study: Study, rule: StrataRule) -> tuple[str, ...]:
    """Return what strata are tested against: the condition, if the study names any, and the covariates."""
    return (*(("condition",) if len(study.conditions) > 1 else ()), *sorted(rule.covariates))


def n_categories(study: Study, rule: StrataRule, name: str) -> int:
    """Return the number of categories of a covariate; 0 for a number."""
    return len(study.conditions) if name == "condition" else len(rule.covariates[name])


_ARRAYS = {
    "features": _features,
    "products": _products,
    "cluster": _cluster,
    "agreement": _agreement,
    "nested": _cluster,
    "describe": _describe,
}


def slots_of(state: StrataState, study: Study, rule: StrataRule, n_features: int) -> dict[str, Slot]:
    """Return what a site's arrays must look like in the round after `state`."""

    def sums_of(*shape: int, signed: bool = True) -> Slot:
        return Slot(bits=64, shape=shape, last=1 << 62, signed=signed)

    def counts_of(*shape: int) -> Slot:
        return Slot(bits=64, shape=shape, last=COUNT_MAX, signed=False)

    if state.phase == "features":
        x = Slot(bits=64, shape=(n_features,), last=SUM_MAX)
        return {"n": counts_of(1), "x": x, "xx": replace(x, signed=False), "of_mean": replace(x, signed=False)}
    if state.phase == "products":
        return {"products": sums_of(components.n_products(len(state.arrays["kept"])))}
    plan = plan_of(rule, state)
    if state.phase in ("cluster", "nested"):
        n_active, n_dims = int((state.arrays["settled"] == 0).sum()), len(state.arrays["spread"])
        slots = {"total": sums_of(n_active, plan.k_max, n_dims), "count": counts_of(n_active, plan.k_max)}
        if state.iteration == 0:
            n = len(row_sets(rule, state))
            slots |= {"first": sums_of(n, n_dims), "number": counts_of(n), "squares_mixed": sums_of(n)}
            slots |= {f"squares_{part}": sums_of(n, signed=False) for part in ("high", "low")}
        return slots
    if state.phase == "agreement":
        n = len(plan.ks)
        return {"tables": counts_of(n * rule.resamples, plan.k_max, plan.k_max), "donors": counts_of(n, plan.k_max)}
    k, p = state.k, len(state.arrays["kept"])
    slots = {name: counts_of(k) for name in ("n", "donors", "rest", "cells", "disguise")}
    slots |= {"x": sums_of(k, p), "xx": sums_of(k, p, signed=False)}
    for i, name in enumerate(tested(study, rule)):
        n = n_categories(study, rule, name)
        arrangements = rule.permutations + 1
        slots[f"test_{i}"] = counts_of(arrangements, k, n) if n else sums_of(arrangements, 2, k)
        slots[f"donors_{i}"] = counts_of(k, max(n, 1))
        if not n:
            slots[f"squares_{i}"] = sums_of(3)
    return slots


def _opened(
    state: StrataState, slots: dict[str, Slot], contribution: Contribution, taken: set[str], *, secret: bool
) -> Sums:
    if contribution.kind != "statistics" or contribution.figures:
        msg = f"is of kind {contribution.kind}; strata take statistics without figures"
        raise MergeError(msg)
    check_counts(contribution)
    named = decode(contribution.parameters)
    site = named.header.get("site")
    if not isinstance(site, str) or not int(not secret) <= len(site) <= _NAME_MAX * (not secret) or site in taken:
        msg = "states no site, or one that another contribution states"
        raise MergeError(msg)
    if dict(named.header) != {"phase": state.phase, "round": state.round, "site": site}:
        msg = "belongs to another round"
        raise MergeError(msg)
    check_arrays(named, slots)
    n_sites = max(len(contribution.author.split()), 1)
    return Sums(site, contribution.n_cells, contribution.n_donors, dict(named.arrays), n_sites)
