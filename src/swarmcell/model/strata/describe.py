"""What strata are: sums per stratum for what marks them, sites in disguise, and what they go along with.

Rules: a site publishes exact sums per stratum. Labels and covariates are exchanged between the donors of one site (and
within donors who have several), never across sites, so that a difference between hospitals is no association.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from math import comb

import numpy as np
import numpy.typing as npt

from swarmcell.model.fixed import Floats, Integers
from swarmcell.model.strata.table import UNKNOWN, SampleTable

NUMBER_BITS = 16  # of a covariate that is a number
NUMBER_MAX = 1_000_000  # of one; its 36 bits are squared in two parts, whose sums fit 63 bits
_PART_BITS = 18
DISGUISE_SHARE = 0.8  # of a stratum's samples from one site, from which it may be the site in disguise; chosen
DISGUISE_P = 0.01
_TOLERANCE = 1e-12

Labels = npt.NDArray[np.int64]


def donors_of(table: SampleTable, labels: Labels, k: int) -> tuple[Integers, Integers]:
    """Return per stratum the donors with a sample in it, and those with a sample outside it."""
    pairs = set(zip(table.donor_keys, labels.tolist(), strict=True))
    inside = Counter(stratum for _, stratum in pairs)
    by_donor: dict[str, set[int]] = {}
    for donor, stratum in pairs:
        by_donor.setdefault(donor, set()).add(stratum)
    rest = [sum(bool(found - {stratum}) for found in by_donor.values()) for stratum in range(k)]
    return np.array([inside[i] for i in range(k)], np.int64), np.array(rest, np.int64)


def donors_of_values(values: Floats, table: SampleTable, labels: Labels, k: int, n_categories: int) -> Integers:
    """Return donors by stratum and category, shape `(k, n_categories)`; of a number those with a value, `(k, 1)`."""
    known = np.flatnonzero(~np.isnan(values)).tolist()
    codes = np.nan_to_num(values).astype(np.int64) if n_categories else np.zeros(len(values), np.int64)
    found = np.zeros((k, max(n_categories, 1)), np.int64)
    for stratum, code, _ in {(int(labels[row]), int(codes[row]), table.donor_keys[row]) for row in known}:
        found[stratum, code] += 1
    return found


def is_disguise(n_here: Integers, size: Integers, n_samples: int) -> Integers:
    """Say of each stratum whether it is this site in disguise (1) or not (0).

    It is if the site has at least 80 % of its samples and would have so many by chance, given how many samples the
    site and the stratum have, in less than 1 % of cases.

    Parameters
    ----------
    n_here, size
        Samples of each stratum, of this site and of all.
    n_samples
        Samples of all sites.
    """
    mine, found = int(n_here.sum()), []
    if mine == n_samples:  # one site: there is nothing to be told apart from
        return np.zeros(len(n_here), np.int64)
    for most, of_stratum in zip(n_here.tolist(), size.tolist(), strict=True):
        ways = sum(
            comb(mine, i) * comb(n_samples - mine, of_stratum - i) for i in range(most, min(mine, of_stratum) + 1)
        )
        likely = Fraction(ways, comb(n_samples, of_stratum)) >= Fraction(DISGUISE_P)
        found.append(int(most >= DISGUISE_SHARE * of_stratum and not likely))
    return np.array(found, np.int64)


def exchanged(values: Floats, donors: Sequence[str], n: int, key: str) -> Floats:
    """Return a covariate as measured and `n` times exchanged within this site, shape `(n + 1, n_samples)`.

    Donors with one value exchange it among each other; the samples of a donor with several exchange theirs. Samples
    without a value keep out of it.
    """
    rng = np.random.default_rng(np.frombuffer(hashlib.sha256(key.encode()).digest(), np.uint32))
    known = np.flatnonzero(~np.isnan(values))
    members: dict[str, list[int]] = {}
    for row in known.tolist():
        members.setdefault(donors[row], []).append(row)
    single = [rows for rows in members.values() if len({values[row] for row in rows}) == 1]
    several = [np.array(rows) for rows in members.values() if len({values[row] for row in rows}) > 1]
    owner = np.array([i for i, rows in enumerate(single) for _ in rows], np.int64)
    flat = np.array([row for rows in single for row in rows], np.int64)
    first = np.array([values[rows[0]] for rows in single])
    found = np.repeat(values[None], n + 1, axis=0)
    for i in range(1, n + 1):
        if single:
            found[i, flat] = first[rng.permutation(len(single))][owner]
        for rows in several:
            found[i, rows] = values[rng.permutation(rows)]
    return found


def category_tables(values: Floats, labels: Labels, k: int, n_categories: int) -> Integers:
    """Return counts by stratum and category for each arrangement, shape `(n + 1, k, n_categories)`."""
    known = ~np.isnan(values[0])
    codes = labels[known] * n_categories + values[:, known].astype(np.int64)
    tables = [np.bincount(row, minlength=k * n_categories) for row in codes]
    return np.array(tables, np.int64).reshape(len(values), k, n_categories)


def number_tables(values: Floats, labels: Labels, k: int) -> Integers:
    """Return sums and counts of a number per stratum for each arrangement, shape `(n + 1, 2, k)`, in 2**-16."""
    known = ~np.isnan(values[0])
    member = (labels[known][:, None] == np.arange(k)).astype(np.int64)
    counts = np.repeat(member.sum(axis=0)[None], len(values), axis=0)
    return np.stack([_whole(values[:, known]) @ member, counts], axis=1)


def number_squares(values: Floats) -> Integers:
    """Return the sum of a number's squares, which no exchange changes, in three parts (`joined_squares`).

    Parameters
    ----------
    values
        As measured, below `NUMBER_MAX`, shape `(n_samples,)`; `nan` where it is not known.
    """
    whole = _whole(values[~np.isnan(values)])
    high, low = whole >> _PART_BITS, whole & ((1 << _PART_BITS) - 1)
    return np.array([(high * high).sum(), (high * low).sum(), (low * low).sum()], np.int64)


def joined_squares(parts: Sequence[int]) -> int:
    """Return the sum of squares of its parts, in 2**-32."""
    high, mixed, low = map(int, parts)
    return (high << 2 * _PART_BITS) + (mixed << _PART_BITS + 1) + low


def _whole(values: Floats) -> Integers:
    return np.rint(values * (1 << NUMBER_BITS)).astype(np.int64)


def category_effect(table: npt.NDArray[np.int64]) -> float:
    """Return Cramer's V of a table of counts: 0 where strata and categories have nothing to do with each other."""
    kept = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    n = int(kept.sum())
    if n == 0 or min(kept.shape) < 2:
        return 0.0
    rows, columns = kept.sum(axis=1).tolist(), kept.sum(axis=0).tolist()
    share = sum(
        (Fraction(int(kept[i, j]) ** 2, rows[i] * columns[j]) for i in range(len(rows)) for j in range(len(columns))),
        Fraction(0),
    )
    return float(np.sqrt(float((share - 1) / (min(kept.shape) - 1))))


def number_effect(table: npt.NDArray[np.object_], squares: int) -> float:
    """Return eta: the square root of the share of a number's variance that lies between strata.

    Parameters
    ----------
    table
        Sums and counts per stratum, shape `(2, k)`.
    squares
        Sum of squares over all.
    """
    sums, counts = ([int(v) for v in row] for row in table)
    n = sum(counts)
    if n == 0:
        return 0.0
    middle = Fraction(sum(sums) ** 2, n)
    whole = squares - middle
    between = sum((Fraction(s * s, c) for s, c in zip(sums, counts, strict=True) if c), Fraction(0)) - middle
    return float(np.sqrt(float(between / whole))) if whole > 0 else 0.0


def p_value(effects: Sequence[float]) -> float:
    """Return the share of arrangements with at least the effect of the first, which is the one measured."""
    return sum(effect >= effects[0] - _TOLERANCE for effect in effects) / len(effects)


def values_of(table: SampleTable, name: str) -> Floats:
    """Return a covariate, or the condition, of each sample; `nan` where it is not known."""
    if name == "condition":
        return np.where(table.condition == UNKNOWN, np.nan, table.condition.astype(np.float64))
    return np.asarray(table.covariates[name], np.float64)
