"""How much differential privacy a study costs: epsilon at its delta, from the noise and the number of noised sums.

Rules: the accountant is Opacus's (numerical composition of privacy loss, an upper bound), loaded when it is asked.
Multipliers are found once, when a swarm is created, and stand in its file; every site computes by itself what they
cost before it joins, and refuses more than the file's budget.

References
----------
Gopi, Lee, Wutschitz 2021, arXiv:2106.02848.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from swarmcell.errors import ConfigError
from swarmcell.model.stages import rule_of
from swarmcell.model.study import DifferentialPrivacy, Study

Query = tuple[float, float, int]  # noise multiplier, chance that a unit takes part, times
_LEAST_NOISE = 100.0  # squared influence by the noise, over all sums: epsilon is then above 80
_SLACK = 1.002  # of epsilon: the accountant's own error and the multiplier's last digit


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a site agrees to when it joins a study under differential privacy.

    Attributes
    ----------
    unit
        `donor` or `cell`.
    epsilon, delta
        What all noised sums together cost every unit of every site.
    sums
        Noised sums: of statistics, then of gradients.
    clip, noise_multiplier, statistics_multiplier, sampling
        As in the rules.
    secure
        Whether the noise is split among the sites, so that only sums over sites are that noisy; else each adds all.
    """

    unit: str
    epsilon: float
    delta: float
    sums: int
    clip: float
    noise_multiplier: float
    statistics_multiplier: float
    sampling: float
    secure: bool

    def sentence(self) -> str:
        """Return the terms in words."""
        who = "every donor, with all cells of that person at a site" if self.unit == "donor" else "every single cell"
        text = (
            "differential privacy: all that the study publishes of training cells costs "
            f"epsilon = {self.epsilon:.2f} at delta = {self.delta:g} for {who}, over {self.sums} noised sums"
        )
        if self.unit == "cell":
            text += "; a donor as a whole is not protected by this figure"
        whose = "split among the sites, and nobody sees a sum without it" if self.secure else "the whole at each site"
        return f"{text}. Noise: {whose}."

    def plain(self) -> dict[str, str | float | int | bool]:
        """Return the terms for a card."""
        return asdict(self) | {"sentence": self.sentence()}


def resolved(study: Study) -> Study:
    """Return the study with the multipliers that keep its budget; as it is, where it states them or has none.

    Raises
    ------
    ConfigError
        If the multipliers that it states cost more than its budget.
    """
    rule = study.privacy.differential_privacy
    if rule is None:
        return study
    if rule.noise_multiplier or rule.statistics_multiplier:
        terms_of(study)
        return study
    high = _guess(study, rule)
    while _cost(study, _with(rule, study, high)) > rule.epsilon:
        high *= 2
    low = high / 2
    while _cost(study, _with(rule, study, low)) <= rule.epsilon:
        low, high = low / 2, low
    for _ in range(8):  # to a third of a percent
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _cost(study, _with(rule, study, middle)) > rule.epsilon else (low, middle)
    found = _with(rule, study, math.ceil(high * 1e4) / 1e4)
    return replace(study, privacy=replace(study.privacy, differential_privacy=found))


def terms_of(study: Study, n_sums: int | None = None) -> Terms | None:
    """Return what a study costs, whole or after its first `n_sums`; `None` where it has no differential privacy.

    Raises
    ------
    ConfigError
        If it costs more than its budget, or states no noise.
    """
    rule = study.privacy.differential_privacy
    if rule is None:
        return None
    if not (rule.noise_multiplier > 0 and rule.statistics_multiplier > 0):
        msg = (
            "[study.privacy] differential_privacy states one noise multiplier or none. Leave out both, and "
            "swarm create finds them, or state both."
        )
        raise ConfigError(msg)
    whole = _cost(study, rule)
    if whole > rule.epsilon * _SLACK:
        msg = (
            f"[study.privacy] differential_privacy: the noise that is stated costs epsilon = {whole:.2f} at delta = "
            f"{rule.delta:g} over all rounds, and the budget is {rule.epsilon:g}. Leave out the multipliers, and "
            "swarm create finds them, or lower rounds_max."
        )
        raise ConfigError(msg)
    queries = _first(_queries(study, rule), n_sums)
    spent = min(whole if n_sums is None else epsilon(queries, rule.delta), rule.epsilon)
    return Terms(
        unit=rule.unit,
        epsilon=round(spent, 4),
        delta=rule.delta,
        sums=sum(times for *_, times in queries),
        clip=rule.clip,
        noise_multiplier=rule.noise_multiplier,
        statistics_multiplier=rule.statistics_multiplier,
        sampling=rule.sampling,
        secure=study.privacy.secure_aggregation,
    )


def epsilon(queries: Sequence[Query], delta: float) -> float:
    """Return an upper bound of epsilon at `delta` for Gaussian sums of sampled units, one after the other.

    Parameters
    ----------
    queries
        Noise multiplier (standard deviation by the most that one unit moves the sum), chance that a unit takes part,
        and how often; a unit is there or not.
    """
    import numpy as np  # noqa: PLC0415 (with what follows)

    if sum(times * (sampling / multiplier) ** 2 for multiplier, sampling, times in queries) > _LEAST_NOISE:
        return math.inf  # no privacy to speak of, and the accountant would fill any memory
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # its logarithm of 1 - sampling, where that is 0
        warnings.simplefilter("ignore")
        from opacus.accountants import PRVAccountant  # noqa: PLC0415 (seconds, and only such studies need it)

        accountant = PRVAccountant()
        accountant.history = [query for query in queries if query[2]]
        return float(accountant.get_epsilon(delta)) if accountant.history else 0.0


def _queries(study: Study, rule: DifferentialPrivacy) -> list[Query]:
    rounds = [rule_of(study, stage).rounds_limit for stage in study.stages[1:]]
    return [(rule.statistics_multiplier, 1.0, 1), *((rule.noise_multiplier, rule.sampling, n) for n in rounds)]


def _first(queries: Sequence[Query], n_sums: int | None) -> list[Query]:
    left, found = sum(times for *_, times in queries) if n_sums is None else n_sums, []
    for multiplier, sampling, times in queries:
        found.append((multiplier, sampling, min(times, left)))
        left -= found[-1][2]
    return found


def _guess(study: Study, rule: DifferentialPrivacy) -> float:
    """Return a noise multiplier near the right one: that of the textbook's Gaussian mechanism."""
    rounds = sum(rule_of(study, stage).rounds_limit for stage in study.stages[1:])
    return rule.sampling * math.sqrt(2 * math.log(1.25 / rule.delta) * rounds) / rule.epsilon


def _cost(study: Study, rule: DifferentialPrivacy) -> float:
    return epsilon(_queries(study, rule), rule.delta)


def _with(rule: DifferentialPrivacy, study: Study, multiplier: float) -> DifferentialPrivacy:
    """Return the rule with this noise per round, and noise of the statistics by their share of the budget."""
    rounds = sum(rule_of(study, stage).rounds_limit for stage in study.stages[1:])
    odds = rule.statistics_share / (1 - rule.statistics_share)
    statistics = multiplier / (rule.sampling * math.sqrt(rounds * odds))
    return replace(rule, noise_multiplier=multiplier, statistics_multiplier=math.ceil(statistics * 1e4) / 1e4)
