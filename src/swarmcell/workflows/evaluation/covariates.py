"""Covariates of held-out samples by condition: what else differs between the groups that a model tells apart.

Rules: a covariate is a text column of a prepared file's labels beyond the contract's own (`[columns] covariates` of the
preprocess configuration); one that reads as numbers is compared by mean and spread, others by shares. A sample has one
value: where its cells differ, the commonest.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from swarmcell.cells.schema import LABELS
from swarmcell.workflows.evaluation.cohort import UNLABELLED, Cohort, Part
from swarmcell.workflows.evaluation.portrait_values import Covariate

UNEVEN = 0.25  # of a standardised difference: Stuart 2010, Stat Sci 25:1, section 4.1
LEVELS_MAX = 12  # chosen: a column with more values is a name, no group
COVARIATES_MAX = 20  # chosen
PREDICTED = "predicted_"


def covariates(cohort: Cohort) -> tuple[Covariate, ...]:
    """Return the covariates that the held-out samples of known condition have."""
    names = dict.fromkeys(name for part in cohort.parts for name in part.file.obs if _may_be(part.file.obs, str(name)))
    found = []
    for name in list(names)[:COVARIATES_MAX]:
        values = _by_condition(cohort, str(name))
        if any(values.values()) and (made := _one(str(name), values)) is not None:
            found.append(made)
    return tuple(found)


def _may_be(obs: pd.DataFrame, name: str) -> bool:
    is_text = isinstance(obs[name].dtype, pd.CategoricalDtype | pd.StringDtype) or obs[name].dtype == object
    return is_text and name not in LABELS and not name.startswith(PREDICTED)


def _by_condition(cohort: Cohort, name: str) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {condition: [] for condition in cohort.conditions}
    for part in cohort.parts:
        if name in part.file.obs:
            for sample, value in _commonest(part, name).items():
                condition = cohort.samples[sample].condition
                if condition != UNLABELLED:
                    values[cohort.conditions[condition]].append(value)
    return values


def _commonest(part: Part, name: str) -> dict[int, str]:
    column = part.file.obs[name].iloc[part.rows]
    known = column.notna().to_numpy()
    counts = Counter(zip(part.sample[known].tolist(), column[known].astype(str), strict=True))
    best: dict[int, str] = {}
    for (sample, value), _ in sorted(counts.items(), key=lambda item: (item[1], item[0])):
        best[sample] = value
    return best


def _one(name: str, values: dict[str, list[str]]) -> Covariate | None:
    numbers = {condition: _numbers(given) for condition, given in values.items()}
    if all(found is not None for found in numbers.values()):
        filled = {condition: np.array(found or []) for condition, found in numbers.items()}
        words = {condition: _spread(found) for condition, found in filled.items()}
        return _made(name, words, [_mean_difference(a, b) for a, b in combinations(filled.values(), 2)])
    levels = sorted({value for given in values.values() for value in given})
    if len(levels) > LEVELS_MAX:
        return None
    counts = {condition: Counter(given) for condition, given in values.items()}
    words = {c: ", ".join(f"{v} {n[v]}" for v in levels if n[v]) or "unknown" for c, n in counts.items()}
    return _made(name, words, [_share_difference(a, b, levels) for a, b in combinations(counts.values(), 2)])


def _made(name: str, words: dict[str, str], differences: Sequence[float | None]) -> Covariate:
    known = [d for d in differences if d is not None]
    largest = max(known) if known else None
    return Covariate(
        name=name, by_condition=words, difference=largest, is_uneven=largest is not None and largest > UNEVEN
    )


def _numbers(given: list[str]) -> list[float] | None:
    try:
        return [float(value) for value in given]
    except ValueError:
        return None


def _spread(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> str:
    if not len(values):
        return "unknown"
    return f"median {np.median(values):g} ({values.min():g} to {values.max():g}), n = {len(values)}"


def _mean_difference(
    a: np.ndarray[tuple[int], np.dtype[np.float64]], b: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> float | None:
    if len(a) < 2 or len(b) < 2:
        return None
    gap, spread = abs(float(a.mean() - b.mean())), float(np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2))
    return gap / spread if spread > 0 else None if gap else 0.0


def _share_difference(a: Counter[str], b: Counter[str], levels: Sequence[str]) -> float | None:
    n, m = a.total(), b.total()
    if n < 2 or m < 2:
        return None
    gaps = []
    for level in levels:
        p, q = a[level] / n, b[level] / m
        spread = np.sqrt((p * (1 - p) + q * (1 - q)) / 2)
        gaps.append(float(abs(p - q) / spread) if spread > 0 else float("inf") if p != q else 0.0)
    finite = [gap for gap in gaps if np.isfinite(gap)]
    return max(finite) if len(finite) == len(gaps) else 10.0  # one group has all, the other none: as uneven as can be
