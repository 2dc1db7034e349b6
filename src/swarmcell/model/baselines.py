"""What any model must beat, from sums that the swarm has added up anyway: nothing is trained for it.

Rules: `majority` always says the commonest class. `lda` takes the nearest type (one round, equal priors). A patient's
baselines are diagonal discriminants (equal priors) on proportions only and on pseudobulk only. `site_only` knows
nothing but where a sample was taken: if that predicts the condition, a model may have learnt hospitals, not disease.

References
----------
Dudoit et al. 2002, doi 10.1198/016214502753479248 (diagonal discriminants do well on expression). Tusher et al.
2001, doi 10.1073/pnas.091062498 (a constant added to each deviation).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc

from swarmcell.cells.batches import generator
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import STATISTICS_BITS, Floats, to_float

N_PERMUTATIONS = 2000  # chosen
ALARM_LEVEL, ALARM_ASSOCIATION = 0.05, 0.3  # chosen: of the permutation test, and Cramer's V
PROPORTIONS, PSEUDOBULK = ("clr",), ("mean", "type")


def majority(n_by_class: Array) -> int:
    """Return the commonest class of the training rows; the first of equals."""
    return int(np.argmax(n_by_class))


def diagonal_discriminant(sums: dict[str, Array], columns: npt.NDArray[np.bool_], rows: Floats) -> Floats:
    """Return scores of each condition, shape `(n_samples, n_conditions)`; the largest is the call.

    Parameters
    ----------
    sums
        `n_by_site`, `x_by_condition` and `xx` of the merged state's group `baseline`.
    columns
        Which features are used, shape `(n_features,)`.
    rows
        Samples' features, unscaled, shape `(n_samples, n_features)`.
    """
    n = sums["n_by_site"].sum(axis=0).astype(np.float64)
    present = n > 0
    totals = to_float(sums["x_by_condition"], STATISTICS_BITS)[:, columns]
    means = totals / np.maximum(n, 1)[:, None]
    squares = to_float(sums["xx"], STATISTICS_BITS)[columns]
    within = np.maximum(squares - (n[:, None] * means**2).sum(axis=0), 0) / max(n.sum() - present.sum(), 1)
    deviation = np.sqrt(within)
    steady = deviation + (np.median(deviation[deviation > 0]) if (deviation > 0).any() else 1.0)
    scores = np.full((len(rows), len(n)), -np.inf)
    for k in np.flatnonzero(present):
        scores[:, k] = -(((rows[:, columns] - means[k]) / steady) ** 2).mean(axis=1) / 2
    return scores


@dataclass(frozen=True, kw_only=True)
class SiteOnly:
    """How well the site alone predicts a sample's condition.

    Attributes
    ----------
    n_sites, n_samples
        Of the table.
    association
        Cramer's V of site and condition, 0 to 1.
    balanced_accuracy, chance
        Of calling each sample by the other samples of its site, and of calling all alike; the first is `None` where
        only sums over sites are known.
    p
        Of a permutation test of the association; of the chi-squared test where only sums are known.
    """

    n_sites: int
    n_samples: int
    association: float
    balanced_accuracy: float | None
    chance: float
    p: float

    @property
    def is_alarm(self) -> bool:
        """Whether the site predicts the condition better than chance would."""
        return self.p <= ALARM_LEVEL and self.association >= ALARM_ASSOCIATION

    def sentence(self) -> str:
        """Say it in words."""
        accuracy = ""
        if self.balanced_accuracy is not None:
            accuracy = f"balanced accuracy of the site alone {self.balanced_accuracy:.2f} against {self.chance:.2f}"
            accuracy += " by chance, "
        facts = (
            f"Cramer's V {self.association:.2f}, {accuracy}p = {self.p:.3g}, {self.n_samples} samples of "
            f"{self.n_sites} sites"
        )
        if self.is_alarm:
            return (
                f"ALARM, confounded: the site alone predicts the condition ({facts}). A model can look good by telling "
                "hospitals apart; judge it within sites, or on a site that it has never seen."
            )
        return f"The site does not predict the condition ({facts})."


def site_only(n_by_site: Array | Sequence[Sequence[int]], *, seed: int = 0) -> SiteOnly | None:
    """Return how well the site predicts the condition; `None` below two sites or two conditions.

    Parameters
    ----------
    n_by_site
        Samples of each condition at each site, shape `(n_sites, n_conditions)`.
    seed
        Of the permutations.
    """
    table = np.asarray(n_by_site, np.int64)
    if table.ndim == 2:
        table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0]
    if table.ndim != 2 or min(table.shape) < 2:
        return None
    site, condition = (np.repeat(index.ravel(), table.ravel()) for index in np.indices(table.shape))
    observed, rng = _chi2(table), generator("site-only", seed)
    reached = sum(
        _chi2(_table(site, rng.permutation(condition), table.shape)) >= observed for _ in range(N_PERMUTATIONS)
    )
    return SiteOnly(
        n_sites=len(table),
        n_samples=len(site),
        association=float(np.sqrt(observed / (len(site) * (min(table.shape) - 1)))),
        balanced_accuracy=_left_one_out(table),
        chance=1 / table.shape[1],
        p=(1 + reached) / (1 + N_PERMUTATIONS),
    )


def same_site(site: Array, condition: Array, n_conditions: int) -> tuple[Array, Array]:
    """Return what sites add up so that their association with the condition is known and no site's own table.

    Parameters
    ----------
    site, condition
        Codes of each sample; condition -1 is unlabelled.

    Returns
    -------
    Of each condition the sum over sites of `n_of_condition**2 / n` (fixed point 2**-24), and the number of sites.
    """
    known = condition >= 0
    table = np.zeros((int(site.max(initial=-1)) + 1, n_conditions), np.int64)
    np.add.at(table, (site[known], condition[known]), 1)
    table = table[table.sum(axis=1) > 0]
    shares = (table * table << STATISTICS_BITS) // np.maximum(table.sum(axis=1), 1)[:, None]
    return shares.sum(axis=0), np.array([len(table)], np.int64)


def site_only_of(arrays: Mapping[str, Array]) -> SiteOnly | None:
    """Return how well the site predicts the condition, by a merged state's arrays: by its table, or by its sums."""
    table = np.asarray(arrays.get("baseline.n_by_site", np.zeros((0, 0))), np.int64)
    if len(table) != 1 or "baseline.same_site" not in arrays:
        return site_only(table)
    n, n_sites = table[0].astype(np.float64), int(arrays["baseline.n_sites"][0])
    present = n > 0
    if n_sites < 2 or present.sum() < 2:
        return None
    same = to_float(arrays["baseline.same_site"], STATISTICS_BITS)[present]
    observed = max(float(n.sum() * ((same / n[present]).sum() - 1)), 0.0)
    smaller = min(n_sites, int(present.sum())) - 1
    return SiteOnly(
        n_sites=n_sites,
        n_samples=int(n.sum()),
        association=float(np.sqrt(min(observed / (n.sum() * smaller), 1.0))),
        balanced_accuracy=None,
        chance=1 / int(present.sum()),
        p=float(chdtrc((n_sites - 1) * (int(present.sum()) - 1), observed)),
    )


def _table(site: Array, condition: Array, shape: tuple[int, ...]) -> Array:
    return np.bincount(site * shape[1] + condition, minlength=shape[0] * shape[1]).reshape(shape)


def _chi2(table: Array) -> float:
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    return float(((table - expected) ** 2 / expected).sum())


def _left_one_out(table: Array) -> float:
    """Return the balanced accuracy of calling each sample by the others: its site's rates against the swarm's."""
    hits = np.zeros(table.shape[1])
    for site, condition in np.argwhere(table > 0):
        rest = table.astype(np.float64)
        rest[site, condition] -= 1
        rates = (rest[site] + 1 / table.shape[1]) / (rest[site].sum() + 1) / np.maximum(rest.sum(axis=0), 1)
        best = np.flatnonzero(np.isclose(rates, rates.max()))
        hits[condition] += table[site, condition] * (condition in best) / len(best)
    return float((hits / table.sum(axis=0)).mean())
