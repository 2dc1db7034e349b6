"""The accountant agrees with closed forms and with published values; a budget is kept, and an exceeded one refused."""

import math
from dataclasses import replace

import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from swarmcell.errors import ConfigError
from swarmcell.model.study import NOISED, DifferentialPrivacy, FitRule, PrivacyRule, Study
from swarmcell.privacy import accountant

GROWING = (0, 1, 2, 20, 21)
RULE = DifferentialPrivacy(unit="cell", epsilon=8.0, delta=1e-5)
STUDY = Study(
    name="noised",
    modality="rna",
    stages=("features", "cell"),
    cell_types=("a", "b"),
    universe_sha256="00",
    cell=FitRule(merge=NOISED, rounds_max=20),
    privacy=PrivacyRule(differential_privacy=RULE),
)


def exact(queries, delta):
    """Return epsilon of whole-batch Gaussian sums (Balle and Wang 2018, arXiv:1805.06530, theorem 8)."""
    mu = sum(times / multiplier**2 for multiplier, _, times in queries) ** 0.5

    def excess(epsilon):
        tail = norm.logcdf(-epsilon / mu - mu / 2)
        return norm.cdf(-epsilon / mu + mu / 2) - math.exp(epsilon + tail) - delta

    return brentq(excess, 0, 100)


@pytest.mark.parametrize("queries", [[(1.0, 1.0, 1)], [(5.0, 1.0, 30)], [(6.0, 1.0, 1), (4.0, 1.0, 30)]])
@pytest.mark.parametrize("delta", [1e-5, 1e-3])
def test_it_is_the_closed_form_where_there_is_one(queries, delta):
    found = accountant.epsilon(queries, delta)
    assert 0 <= found - exact(queries, delta) < 0.02, "an upper bound, and a tight one"


@pytest.mark.parametrize(
    ("multiplier", "sampling", "times", "published"),
    [
        (4.0, 0.01, 10_000, 1.26),  # Abadi et al. 2016, section 3.2: moments accountant
        (1.1, 256 / 60_000, 14_063, 2.92),  # the tutorial of TensorFlow Privacy: Renyi accountant
    ],
)
def test_it_is_a_little_below_published_values_of_looser_accountants(multiplier, sampling, times, published):
    found = accountant.epsilon([(multiplier, sampling, times)], 1e-5)
    assert 0.7 * published < found < published


@pytest.mark.parametrize(
    "rule",
    [replace(RULE, epsilon=1.0), replace(RULE, unit="donor", statistics_share=0.5)],
)
def test_a_created_study_spends_its_budget_and_no_more(rule):
    study = accountant.resolved(replace(STUDY, privacy=PrivacyRule(differential_privacy=rule)))
    terms = accountant.terms_of(study)
    assert 0.98 * rule.epsilon < terms.epsilon <= rule.epsilon
    assert (terms.sums, terms.unit, terms.delta) == (21, rule.unit, rule.delta)


@pytest.fixture(scope="module")
def study():
    return accountant.resolved(STUDY)


def test_what_is_spent_grows_with_every_sum_to_the_whole(study):
    spent = [accountant.terms_of(study, n).epsilon for n in GROWING]
    assert spent[0] == 0
    assert spent == sorted(spent)
    assert spent[-1] == accountant.terms_of(study).epsilon
    assert spent[1] == pytest.approx(
        exact([(study.privacy.differential_privacy.statistics_multiplier, 1, 1)], 1e-5), abs=0.02
    )


@pytest.mark.parametrize("stated", [{"noise_multiplier": 1.0}, {"noise_multiplier": 1.0, "statistics_multiplier": 9.0}])
def test_too_little_noise_and_half_a_statement_are_refused(stated):
    rule = replace(RULE, **stated)
    study = replace(STUDY, privacy=PrivacyRule(differential_privacy=rule))
    with pytest.raises(ConfigError, match=r"the budget is 8|states one noise multiplier"):
        accountant.resolved(study)


def test_next_to_no_noise_is_no_privacy():
    assert accountant.epsilon([(0.01, 1.0, 1)], 1e-5) == float("inf")


def test_the_terms_say_the_unit_and_what_it_does_not_protect(study):
    text = accountant.terms_of(study).sentence()
    assert "every single cell" in text
    assert "a donor as a whole is not protected" in text
    assert "not protected" not in replace(accountant.terms_of(study), unit="donor").sentence()
