"""Lloyd's k-means over sites: every site sums its own samples by nearest centre, and the sums alone move the centres.

Rules: many runs go side by side (numbers of strata, starts, resampled donors, null twins), so that a whole study
takes as many rounds as its slowest run. Coordinates and centres are multiples of 2**-24; distances are elementwise
float64; sums, counts and the choice of the best start are exact integers. The result is that of Lloyd's algorithm on
the pooled samples, for any partition of them into sites.

References
----------
Lloyd 1982, IEEE Trans Inf Theory 28:129. John et al. 2020, Sci Rep 10:1816 (null twins that keep the components'
variances).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from swarmcell.model.draws import is_drawn, normals
from swarmcell.model.fixed import STATISTICS_BITS, Floats, Integers

DRAWN_SHARE = 0.8  # of the donors in a resample; chosen, as in consensus clustering (Monti et al. 2003)
COORDINATE_MAX = 64.0  # in standard deviations of a block of features
_ONE = float(1 << STATISTICS_BITS)
SPLITS = 2  # of each stratum, along draws of their own; chosen
_SPREAD = (1.0, 1.0, 1.6)  # of the starts, in turn, in standard deviations of the components; chosen


@dataclass(frozen=True)
class Run:
    """One run: which rows it clusters, into how many strata, from which start.

    `kind` is `real`, `resample`, `null` or `nested-K` (twins of K - 1 strata); `number` counts them.
    """

    kind: str
    number: int
    k: int
    start: int


@dataclass(frozen=True)
class Plan:
    """All runs of a study, in order; those of one kind, number and k lie side by side."""

    runs: tuple[Run, ...]
    k_max: int

    @property
    def ks(self) -> tuple[int, ...]:
        """Numbers of strata that are tried, ascending."""
        return tuple(range(2, self.k_max + 1))


def few(starts: int) -> int:
    """Return how many starts resamples and twins have: a twentieth, two at least."""
    return max(2, starts // 20)


def plan(*, k_max: int, starts: int, resamples: int, nulls: int) -> Plan:
    """Return the runs of 2 to `k_max` strata; resamples and null twins have a twentieth of the starts."""
    fewer = few(starts)
    groups = [("real", 0, starts), *(("resample", b, fewer) for b in range(resamples))]
    groups += [("null", b, fewer) for b in range(nulls)]
    ks = range(2, k_max + 1)
    return Plan(tuple(Run(kind, b, k, s) for kind, b, n in groups for k in ks for s in range(n)), k_max)


def nested_plan(ks: Sequence[int], *, k_max: int, nulls: int) -> Plan:
    """Return the runs that tell whether k strata, of `ks`, are more than a chance split of k - 1.

    Twins of k - 1 strata, and last the samples themselves, are clustered into k - 1 from the centres of k - 1, and
    into k from the same centres with one stratum split: each stratum in turn, `SPLITS` times.
    """
    runs = []
    for k, b in ((k, b) for k in ks for b in range(nulls + 1)):
        runs.append(Run(f"nested-{k}", b, k - 1, 0))
        runs += [Run(f"nested-{k}", b, k, start) for start in range((k - 1) * SPLITS)]
    return Plan(tuple(runs), k_max)


def nested_centres(runs: Plan, best: Integers, roots: Mapping[int, Floats], seed: int) -> Integers:
    """Return where every nested run starts, shape `(n_runs, k_max, n_components)`.

    Parameters
    ----------
    best
        Centres of 2, 3, ... strata, shape `(n_ks, k_max, n_components)`.
    roots
        k -> lower triangular root of the covariance within k - 1 strata; a stratum is split along a draw of it.
    """
    n_dims = best.shape[2]
    centres = np.zeros((len(runs.runs), runs.k_max, n_dims), np.int64)
    for place, run in enumerate(runs.runs):
        k = int(run.kind.removeprefix("nested-"))
        centres[place] = best[k - 3]
        if run.k == k:
            drawn = normals(f"split/{seed}/{k}/{run.start}", n_dims)
            step = np.zeros(n_dims)
            for dim in range(n_dims):
                step = step + roots[k][:, dim] * drawn[dim]
            split = run.start % (k - 1)
            away = np.rint(step * _ONE).astype(np.int64)
            centres[place, split], centres[place, k - 1] = best[k - 3, split] + away, best[k - 3, split] - away
    return centres


def first_centres(runs: Plan, spread: Floats, seed: int) -> Integers:
    """Return where every run starts: normal numbers as wide as the components, shape `(n_runs, k_max, n_components)`.

    Parameters
    ----------
    spread
        Standard deviation along each component, the same at every site.
    """
    n_dims = len(spread)
    centres = np.zeros((len(runs.runs), runs.k_max, n_dims), np.int64)
    for place, run in enumerate(runs.runs):
        drawn = normals(f"start/{seed}/{run.kind}/{run.number}/{run.k}/{run.start}", run.k * n_dims)
        wide = drawn.reshape(run.k, n_dims) * spread * _SPREAD[run.start % len(_SPREAD)]
        centres[place, : run.k] = np.rint(wide * _ONE).astype(np.int64)
    return centres


@dataclass(frozen=True)
class Rows:
    """A site's samples in the agreed space, with what keys their draws.

    Attributes
    ----------
    coordinates
        Fixed point 2**-24, shape `(n_samples, n_components)`.
    samples, donors
        A name of each sample and its donor that no other sample or donor bears (`site/donor/sample`, `site/donor`).
    """

    coordinates: Integers
    samples: tuple[str, ...]
    donors: tuple[str, ...]


def rows_of(coordinates: Floats, samples: Sequence[str], donors: Sequence[str]) -> Rows:
    """Return samples in fixed point."""
    cut = np.clip(coordinates, -COORDINATE_MAX, COORDINATE_MAX)
    return Rows(np.rint(cut * _ONE).astype(np.int64), tuple(samples), tuple(donors))


def clustered(rows: Rows, kind: str, number: int, spread: Floats, seed: int) -> Integers:
    """Return the coordinates that runs of a kind cluster: all rows, those of drawn donors, or each row's null twin."""
    if kind == "resample":
        drawn = [is_drawn(f"donor/{seed}/{number}/{donor}", DRAWN_SHARE) for donor in rows.donors]
        return np.asarray(rows.coordinates[np.array(drawn, bool)], np.int64)
    if kind == "null":
        twins = [normals(f"twin/{seed}/{number}/{sample}", len(spread)) for sample in rows.samples]
        wide = np.array(twins).reshape(len(rows.samples), len(spread)) * spread
        return rows_of(wide, rows.samples, rows.donors).coordinates
    return rows.coordinates


def nested(rows: Rows, centres: Integers, root: Integers, key: str) -> Integers:
    """Return the coordinates of each row's nested twin: its own stratum's centre, and a normal spread about it.

    Parameters
    ----------
    centres
        Of the strata, shape `(k, n_components)`.
    root
        Lower triangular root of the covariance within strata, fixed point 2**-24.
    key
        Of the draws.
    """
    n_dims = centres.shape[1]
    middle = centres[nearest(rows.coordinates, centres[None])[0]] / _ONE
    drawn = np.array([normals(f"{key}/{sample}", n_dims) for sample in rows.samples]).reshape(-1, n_dims)
    wide, columns = middle, root / _ONE
    for dim in range(n_dims):  # elementwise, for the same bits in any company
        wide = wide + drawn[:, dim, None] * columns[None, :, dim]
    return rows_of(wide, rows.samples, rows.donors).coordinates


def nearest(coordinates: Integers, centres: Integers) -> npt.NDArray[np.int64]:
    """Return each row's nearest centre, the first of equals, shape `(n_runs, n_rows)`.

    Parameters
    ----------
    centres
        Shape `(n_runs, k, n_components)`: runs of one k.
    """
    n_runs, k, n_dims = centres.shape
    x, c = coordinates.astype(np.float64) / _ONE, centres.reshape(n_runs * k, n_dims).astype(np.float64) / _ONE
    distance = np.zeros((len(x), n_runs * k))
    for dim in range(n_dims):  # elementwise, for the same bits in any company
        step = x[:, dim, None] - c[None, :, dim]
        distance += step * step
    found: npt.NDArray[np.int64] = distance.reshape(len(x), n_runs, k).argmin(axis=2).T
    return found


def sums(coordinates: Integers, labels: npt.NDArray[np.int64], k: int) -> tuple[Integers, Integers]:
    """Return per run and stratum the sum of coordinates and the count.

    Returns
    -------
    total, count
        Shapes `(n_runs, k, n_components)` and `(n_runs, k)`.
    """
    n_runs = len(labels)
    member = (labels[:, None, :] == np.arange(k)[None, :, None]).astype(np.float64).reshape(n_runs * k, -1)
    total = member @ coordinates.astype(np.float64)  # integers below 2**53 all along: exact
    shape = (n_runs, k, coordinates.shape[1])
    count = member.sum(axis=1).reshape(n_runs, k)
    return np.asarray(total.reshape(shape), np.int64), np.asarray(count, np.int64)


def moved(centres: Integers, total: Integers, count: Integers) -> Integers:
    """Return the means, rounded to 2**-24; a centre without a sample stays where it is."""
    n = np.maximum(count, 1)[..., None]
    mean = (2 * total + n) // (2 * n)
    return np.asarray(np.where(count[..., None] > 0, mean, centres), np.int64)


def within(squares: int, total: Integers, count: Integers) -> Fraction:
    """Return the sum of squares within strata, exactly, in 2**-48: all squares less those of the means.

    Parameters
    ----------
    squares
        Sum of all squared coordinates of the rows.
    total, count
        Sums over all sites, shape `(k, n_components)` and `(k,)`.
    """
    between = sum(
        (Fraction(sum(int(v) ** 2 for v in row), int(n)) for row, n in zip(total, count, strict=True) if n), Fraction(0)
    )
    return Fraction(squares) - between
