"""Merges that withstand hostile or broken sites: no single one can move the result at will.

Rules: sites count alike, whatever number of cells they state: a liar states many. The order of updates is that of their
digests, so that float64 sums over sites have the same bits at every peer. Where sites truly differ (each class at a
few of them), these rules take the honest minority for liars: docs/merges.md shows by how much.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from swarmcell.model.contribution import Update
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import divide
from swarmcell.model.merges.averages import Merged, Named, clipped
from swarmcell.model.merges.elementwise import total, totals
from swarmcell.model.study import FitRule

ITERATIONS = 32  # of Weiszfeld: far more than the 3 that Pillutla et al. use; chosen
NEAREST = 1.0  # units of 2**-22: sites nearer to the median than that weigh alike

_Vectors = npt.NDArray[np.int64]


def median(_: FitRule, before: Merged, updates: Sequence[Update]) -> Merged:
    """Return the median of each coordinate; between the two middle ones where sites are even in number.

    References
    ----------
    Yin et al. 2018, arXiv:1803.01498, Algorithm 1, option I.
    """
    return Merged(_apart(_middle(_vectors(before, updates), (len(updates) - 1) // 2), before.now))


def trimmed_mean(rule: FitRule, before: Merged, updates: Sequence[Update]) -> Merged:
    """Return the mean of each coordinate without its `hostile` largest and smallest.

    References
    ----------
    Yin et al. 2018, arXiv:1803.01498, Algorithm 1, option II.
    """
    trimmed = min(rule.hostile, (len(updates) - 1) // 2)
    return Merged(_apart(_middle(_vectors(before, updates), trimmed), before.now))


def multi_krum(rule: FitRule, before: Merged, updates: Sequence[Update]) -> Merged:
    """Return the mean of the sites that lie nearest to their neighbours, all but `hostile` of them.

    A site's score is the sum of its squared distances to its `n - hostile - 2` nearest neighbours (at least one). With
    fewer than `2 * hostile + 3` sites nothing is proven.

    References
    ----------
    Blanchard et al. 2017, Machine Learning with Adversaries (NeurIPS), section 4.
    """
    vectors = _vectors(before, updates)
    n = len(vectors)
    hostile = min(rule.hostile, n - 1)
    scores = _krum_scores(vectors.astype(np.float64), max(1, n - hostile - 2))
    kept = sorted(range(n), key=lambda i: (scores[i], i))[: n - hostile]
    return Merged(_apart(divide(vectors[sorted(kept)].sum(axis=0), len(kept)), before.now))


def geometric_median(_: FitRule, before: Merged, updates: Sequence[Update]) -> Merged:
    """Return the point with the least sum of distances to the sites, by Weiszfeld's iteration from the median.

    References
    ----------
    Pillutla et al. 2022, arXiv:1912.13445, Algorithm 2 (here with equal weights).
    """
    vectors = _vectors(before, updates).astype(np.float64)
    at = totals(vectors) / len(vectors)
    for _step in range(ITERATIONS):
        apart = [float(np.sqrt(total((one - at) * (one - at)))) for one in vectors]
        weights = np.array([1.0 / max(NEAREST, distance) for distance in apart])
        at = totals(weights[:, None] * vectors) / total(weights)
    return Merged(_apart(np.rint(at).astype(np.int64), before.now))


def _krum_scores(vectors: npt.NDArray[np.float64], n_near: int) -> list[float]:
    squares = [[total((a - b) * (a - b)) for b in vectors] for a in vectors]
    return [sum(sorted(row[:i] + row[i + 1 :])[:n_near]) for i, row in enumerate(squares)]


def _middle(vectors: _Vectors, trimmed: int) -> _Vectors:
    """Return the mean of what is left of each coordinate when the extremes are cut off, rounded half to even."""
    kept = np.sort(vectors, axis=0)[trimmed : len(vectors) - trimmed]
    return np.asarray(divide(kept.sum(axis=0), len(kept)), np.int64)


def _vectors(before: Merged, updates: Sequence[Update]) -> _Vectors:
    """Return each site's parameters as one row."""
    names = sorted(before.now)
    return np.stack([np.concatenate([np.ravel(u.arrays[n]) for n in names]) for u in updates]).astype(np.int64)


def _apart(vector: _Vectors, like: Named) -> dict[str, Array]:
    """Return a row as parameters again."""
    arrays: dict[str, Array] = {}
    start = 0
    for name in sorted(like):
        size = like[name].size
        arrays[name] = clipped(vector[start : start + size]).reshape(like[name].shape)
        start += size
    return arrays
