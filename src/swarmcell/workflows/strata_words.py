"""What a study of strata found, as plain values: strata, what marks them, sites, stability, and sentences about it all.

Rules: nothing is measured here; figures follow from the merged state. Intervals are of standardised mean differences
(Hedges' g) between the samples of a stratum and all others, with donors counted as the units.

References
----------
Hedges 1981, J Educ Stat 6:107. Aitchison 1982, J R Stat Soc B 44:139 (the centre of a composition).
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

from swarmcell.model.strata.describe import NUMBER_BITS
from swarmcell.model.strata.judge import P_MAX, STABLE
from swarmcell.model.strata.released import Strata
from swarmcell.model.strata.rounds import n_categories, tested
from swarmcell.model.strata.state import StrataState
from swarmcell.model.strata.table import blocks_of
from swarmcell.model.strata.withheld import LEFT_OUT
from swarmcell.workflows import floor_words

MARKERS_SHOWN = 12
MARKS_OF_CLUSTER, OVER = 3, 0.5  # features named, and standard deviations above the mean from which one is; chosen
UNNAMED = "a site (which one is not told)"
NOT_SHOWN = "left out"
LEVEL = 0.95
_ONE = float(1 << 24)
_SAYS = {"clr": "share of {}", "mean": "mean {}", "sd": "spread of {}"}


def result(strata: Strata, samples: list[dict[str, Any]], *, placed_from: str) -> dict[str, Any]:
    """Return everything that the report and `strata.json` show.

    Parameters
    ----------
    samples
        This site's own samples.
    placed_from
        The file of strata that new samples were placed in; empty where the strata were found with these samples.
    """
    state = strata.state
    groups = [_stratum(strata, i) for i in range(state.k)]
    found: dict[str, Any] = {
        "digest": strata.digest,
        "found": dict(strata.card),
        "placed_from": placed_from,
        "n_samples": state.n_samples,
        "n_donors": state.n_donors,
        "n_cells": state.n_cells,
        "sites": list(state.sites),
        "n_sites": state.n_sites,
        "components": len(state.arrays["spread"]),
        "components_share": _share(state, "held"),
        "site_share": _rounded(state.site_share),
        "site_share_by_chance": (state.n_sites - 1) / max(state.n_samples - 1, 1),
        "tried": _tried(state),
        "overall_p": _share(state, "overall_p"),
        "k": state.k,
        "why_none": state.words,
        "strata": groups,
        "associations": _associations(strata) if state.k else [],
        "samples": samples,
    }
    found["leaves_out"] = _leaves_out(groups, found["associations"])
    found["sentences"] = sentences(found)
    found["caveats"] = caveats(strata, found)
    return found


def _leaves_out(groups: list[dict[str, Any]], associations: list[dict[str, Any]]) -> bool:
    """Say whether counts below the floor, and what would tell them, were left out of any table."""
    rows = [list(one["by_site"].values()) for one in groups]
    rows += [list(row.values()) for one in associations for row in one.get("table", ())]
    rows += [one["means"] for one in associations if "means" in one]
    return any(NOT_SHOWN in row for row in rows)


def feature_names(strata: Strata) -> list[tuple[str, str]]:
    """Return kind and words of each kept feature."""
    study = strata.study
    names = [
        (block.kind, _SAYS.get(block.kind, "{}").format(name) if block.kind in _SAYS else _quantile(block.kind, name))
        for block in blocks_of(study.modality, _types(strata), strata.symbols)
        for name in block.names
    ]
    return [names[i] for i in strata.state.arrays["kept"].tolist()]


def _quantile(kind: str, name: str) -> str:
    return f"{100 * float(kind.removeprefix('q')):g} % quantile of {name}"


def _share(state: StrataState, name: str) -> float:
    return _rounded(state.arrays[name][0])


def _rounded(fixed: int) -> float:
    return round(int(fixed) / _ONE, 6)


def _tried(state: StrataState) -> list[dict[str, Any]]:
    nulls, rows = state.arrays["within_null"], state.arrays["judged"]
    return [
        {"k": int(k), **_figures(row), "within_null": _rounded(null.mean())}
        for k, row, null in zip(state.arrays["tried"], rows, nulls, strict=True)
    ]


def _figures(row: npt.NDArray[np.int64]) -> dict[str, float | None]:
    """Return what was judged of one number of strata; the p value of a split is `None` where none was asked for."""
    *rest, split = map(_rounded, row)
    known = dict(zip(("stability", "agreement", "within", "p_value"), rest, strict=True))
    return {**known, "split_p": None if split < 0 else split}


def _stratum(strata: Strata, i: int) -> dict[str, Any]:
    arrays, sites = strata.state.arrays, strata.state.sites
    site = int(arrays["disguise"][i])
    return {
        "stratum": i + 1,
        "n_samples": int(arrays["stratum_n"][i]),
        "n_donors": int(arrays["stratum_donors"][i]),
        "n_cells": int(arrays["stratum_cells"][i]),
        "stability": _rounded(arrays["stratum_stability"][i]),
        "by_site": {name: _counted(n) for name, n in zip(sites, arrays["by_site"][:, i], strict=True)},
        "site_in_disguise": "" if site < 0 else sites[site] if sites else UNNAMED,
        "composition": _composition(strata, i),
        "markers": _markers(strata, i),
    }


def _counted(n: int) -> int | str:
    return int(n) if n != LEFT_OUT else NOT_SHOWN


def _types(strata: Strata) -> tuple[str, ...]:
    """Return what composition counts; clusters with the features that they have most of, in standard deviations."""
    names, cells = strata.study.counted_types, strata.state.cells
    if not cells:
        return names
    over = (cells["clusters.means"] - cells["mean"]) / cells["scale"]
    symbols = [strata.symbols[i] for i in cells["panel"].tolist()]
    most = [[symbols[i] for i in np.argsort(-row, kind="stable")[:MARKS_OF_CLUSTER] if row[i] > OVER] for row in over]
    return tuple(f"{name} ({', '.join(marks)})" if marks else name for name, marks in zip(names, most, strict=True))


def _composition(strata: Strata, i: int) -> dict[str, float]:
    """Return the centre of the stratum's compositions: shares whose log-ratios are the mean ones."""
    types, state = _types(strata), strata.state
    if not types:
        return {}
    n = max(int(state.arrays["stratum_n"][i]), 1)
    kept = state.arrays["kept"].tolist()
    logs = np.array([state.arrays["stratum_x"][i, kept.index(j)] for j in range(len(types))]) / _ONE / n
    parts = np.exp(logs - logs.max())
    return dict(zip(types, (parts / parts.sum()).round(6).tolist(), strict=True))


def _markers(strata: Strata, i: int) -> list[dict[str, Any]]:
    """Return what differs most between a stratum and all other samples, where the interval leaves out zero."""
    arrays = strata.state.arrays
    inside, rest = int(arrays["stratum_donors"][i]), int(arrays["stratum_rest"][i])
    n, x, xx = arrays["stratum_n"], arrays["stratum_x"] / _ONE, arrays["stratum_xx"] / _ONE
    others = [j for j in range(strata.state.k) if j != i]
    mine = _moments(int(n[i]), x[i], xx[i])
    theirs = _moments(int(n[others].sum()), x[others].sum(axis=0), xx[others].sum(axis=0))
    effect = hedges_g(mine, theirs)
    width = interval(effect, inside, rest)
    named = feature_names(strata)
    found = [
        {"feature": named[f][1], "kind": named[f][0], "effect": float(effect[f])}
        | {"low": float(effect[f] - width[f]), "high": float(effect[f] + width[f])}
        for f in np.argsort(-np.abs(effect), kind="stable").tolist()
        if abs(effect[f]) > width[f]
    ]
    return found[:MARKERS_SHOWN]


Floats = npt.NDArray[np.float64]
Moments = tuple[int, Floats, Floats]


def _moments(n: int, x: Floats, xx: Floats) -> Moments:
    mean = x / max(n, 1)
    return n, mean, np.maximum(xx - n * mean * mean, 0)


def hedges_g(first: Moments, second: Moments) -> Floats:
    """Return standardised mean differences, corrected for small samples: of `(n, mean, squares about it)` each."""
    (n1, m1, s1), (n2, m2, s2) = first, second
    freedom = max(n1 + n2 - 2, 1)
    spread = np.sqrt((s1 + s2) / freedom)
    difference = np.divide(m1 - m2, spread, out=np.zeros_like(m1), where=spread > 1e-6)
    return np.asarray(difference * (1 - 3 / (4 * freedom - 1)))


def interval(effect: Floats, n_first: int, n_second: int, level: float = LEVEL) -> Floats:
    """Return the half widths of intervals of Hedges' g for so many donors (infinite for fewer than two a side)."""
    if min(n_first, n_second) < 2:
        return np.full(len(effect), np.inf)
    n = n_first + n_second
    error = np.sqrt(n / (n_first * n_second) + effect * effect / (2 * n))
    return np.asarray(error * float(student_t.ppf(0.5 + level / 2, n - 2)))


def _associations(strata: Strata) -> list[dict[str, Any]]:
    study, rule, arrays = strata.study, strata.rule, strata.state.arrays
    found = []
    for i, name in enumerate(tested(study, rule)):
        effect, p_value = (_rounded(v) for v in arrays["tests"][i])
        n = int(arrays[f"tested_{i}"][0])
        one: dict[str, Any] = {"name": name, "n_samples": n, "effect": effect, "p_value": p_value}
        table = arrays[f"test_{i}"]
        if n_categories(study, rule, name):
            categories = study.conditions if name == "condition" else rule.covariates[name]
            one |= {"measure": "Cramér's V"}
            one["table"] = [
                {category: _counted(n) for category, n in zip(categories, row, strict=True)} for row in table
            ]
        else:
            one |= {"measure": "eta"}
            one["means"] = [_mean(int(x), int(n)) for x, n in zip(*table, strict=True)]
        found.append(one)
    return found


def _mean(total: int, n: int) -> float | str:
    """Return the mean of a number over a stratum's samples, or why there is none."""
    if n == LEFT_OUT:
        return NOT_SHOWN
    return total / (1 << NUMBER_BITS) / n if n else "unknown"


def sentences(found: dict[str, Any]) -> list[str]:
    """Say in words what was found."""
    where = f"{found['n_samples']} samples of {found['n_donors']} donors at {found['n_sites']} site(s)"
    if not found["k"]:
        said = [f"No stable strata among {where}: {found['why_none']}."]
    else:
        sizes = ", ".join(str(one["n_samples"]) for one in found["strata"])
        worst = min(one["stability"] for one in found["strata"])
        said = [
            f"{found['k']} stable strata among {where} ({sizes} samples). When a fifth of the donors is left out, the "
            f"least stable comes back with a mean Jaccard index of {worst:.2f}; tighter than samples without strata "
            f"(p = {found['overall_p']:.2g})."
        ]
    if found["n_sites"] > 1:
        said.append(
            f"{found['site_share']:.0%} of the variance lies between sites "
            f"({found['site_share_by_chance']:.0%} is what chance gives)."
        )
    said += [
        f"Stratum {one['stratum']} is a site in disguise: nearly all of its samples are from "
        f"{one['site_in_disguise']}, more than chance gives. It may be that hospital's patients, or its "
        "laboratory: these cells cannot tell."
        for one in found["strata"]
        if one["site_in_disguise"]
    ]
    for one in found["associations"]:
        verdict = "goes along with the strata" if one["p_value"] <= P_MAX else "is not told apart from chance"
        said.append(
            f"{one['name']} {verdict}: {one['measure']} {one['effect']:.2f}, p = {one['p_value']:.2g} by exchange "
            "within sites."
        )
    return said


def caveats(strata: Strata, found: dict[str, Any]) -> list[str]:
    """Say what a reader must bear in mind."""
    said = [*filter(None, [floor_words.lowered(strata.study.floors)])] if strata.card.get("found") == "swarm" else []
    if found["k"]:
        said.append(
            "What marks a stratum was looked for on the samples that made it: effects are too large for new samples."
        )
    if found["n_donors"] < 20:
        said.append(f"Only {found['n_donors']} donors: weak structure cannot be told from none.")
    if not strata.study.counted_types:
        said.append(
            "Composition does not count: no model, label or cluster tells the cells' types (--cells, --clusters)."
        )
    if strata.state.cells:
        said.append(
            "Composition counts clusters of cells, not types that somebody has told apart. A cluster's name is "
            "followed by what it has most of."
        )
    if strata.rule.centre_sites:
        said.append("Each site's mean was taken away: true differences between the sites' patients are gone too.")
    if found["n_samples"] > found["n_donors"]:
        said.append("Some donors have several samples: strata are of samples, and a donor may stand in several.")
    return said


def is_stable(one: dict[str, Any]) -> bool:
    """Whether a number of strata that was tried is stable and tighter than chance."""
    return one["stability"] >= STABLE and one["p_value"] <= P_MAX and not math.isnan(one["within"])
