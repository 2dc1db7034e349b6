"""How well membership in the training data can be told from a score, with intervals over donors.

Rules: scores enter as histograms per donor, so that a million cells cost no more than ten thousand. A larger score
means "more likely a member". Donors are resampled among members and among others apart.

References
----------
Carlini et al. 2022, IEEE S&P, arXiv:2112.03570 (LiRA; why true positives at few false ones are the figure to look at).
"""

from dataclasses import dataclass

import numpy as np

from swarmcell.metrics.arrays import BoolArray, FloatArray, IntArray, ratio
from swarmcell.metrics.estimate import Estimate
from swarmcell.metrics.resampling import Resamples, draw, estimate

N_BINS = 512  # quantiles of the scores; chosen: an AUROC of bins differs from that of scores by less than 0.001
FALSE_SHARE = 0.01  # of others taken for members, at which true positives are counted (Carlini et al. look there too)


@dataclass(frozen=True, kw_only=True)
class Separation:
    """How well members are told from others.

    Attributes
    ----------
    auroc
        Chance that a member scores above another; 0.5 is guessing.
    caught
        Share of members called so while `FALSE_SHARE` of the others are; guessing earns as much.
    n_members, n_others
        Examples on each side.
    """

    auroc: Estimate
    caught: Estimate
    n_members: int
    n_others: int


def separation(
    score: FloatArray,
    is_member: BoolArray,
    donor: IntArray,
    *,
    n_resamples: int,
    rng: np.random.Generator,
) -> Separation:
    """Return how well `score` tells members from others.

    Parameters
    ----------
    score
        Shape `(n_examples,)`, finite.
    is_member
        Whether each example was trained on; all of one donor's are, or none.
    donor
        Index of each example's donor, 0 to `n_donors - 1`, each with at least one example.
    """
    n_donors = int(donor.max()) + 1
    of_donor = np.zeros(n_donors, dtype=np.bool_)
    of_donor[donor] = is_member
    resamples = draw(of_donor.tolist(), n_resamples=n_resamples, rng=rng)
    counts = _histograms(score, donor, n_donors)
    members = (resamples.weights * of_donor) @ counts
    others = (resamples.weights * ~of_donor) @ counts
    return Separation(
        auroc=_estimate(auroc(members, others), resamples),
        caught=_estimate(caught(members, others), resamples),
        n_members=int(is_member.sum()),
        n_others=int((~is_member).sum()),
    )


def _estimate(values: FloatArray, resamples: Resamples) -> Estimate:
    return estimate(values, resamples, reason="there are no members, or no others")


def _histograms(score: FloatArray, donor: IntArray, n_donors: int) -> IntArray:
    edges = np.unique(np.quantile(score, np.linspace(0, 1, N_BINS + 1)[1:-1]))
    place = np.searchsorted(edges, score, side="right")
    flat = np.bincount(donor * (len(edges) + 1) + place, minlength=n_donors * (len(edges) + 1))
    counts: IntArray = flat.reshape(n_donors, -1).astype(np.int64)
    return counts


def auroc(members: IntArray, others: IntArray) -> FloatArray:
    """Return the area under the ROC curve of histograms over ascending scores, shape `(n_batches, n_bins)` each."""
    below = np.cumsum(others, axis=-1) - others
    wins = (members * (below + others / 2)).sum(axis=-1)
    return ratio(wins, members.sum(axis=-1) * others.sum(axis=-1).astype(np.float64))


def caught(members: IntArray, others: IntArray, false_share: float = FALSE_SHARE) -> FloatArray:
    """Return the true positive rate where `false_share` of the others are called members (between bins: linear)."""
    called = ratio(np.cumsum(others[..., ::-1], axis=-1), others.sum(axis=-1, keepdims=True))
    found = ratio(np.cumsum(members[..., ::-1], axis=-1), members.sum(axis=-1, keepdims=True))
    rows = zip(np.atleast_2d(called), np.atleast_2d(found), strict=True)
    return np.array([np.interp(false_share, np.append(0.0, x), np.append(0.0, y)) for x, y in rows])
