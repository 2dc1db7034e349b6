"""Strata from sums of sites: those of the pooled samples, found where planted, and none where there are none."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from planted_strata import Cohort, simulated, solved, study_of
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from swarmcell.errors import ModelError
from swarmcell.model.contribution import Contribution
from swarmcell.model.strata import kmeans
from swarmcell.model.strata.rounds import Stratifier, rows
from swarmcell.model.strata.state import StrataState, from_bytes, to_bytes
from swarmcell.model.study import StrataRule, Study

RULE = StrataRule()


def labels(cohort: Cohort, state: StrataState, rule: StrataRule = RULE) -> np.ndarray:
    own = rows(cohort.table, state, rule)
    return np.asarray(kmeans.nearest(own.coordinates, state.arrays["stratum_centres"][None])[0])


def test_strata_are_those_of_scikit_learn_on_pooled_features(cohort: Cohort, state: StrataState) -> None:
    assert state.k == 3
    coordinates = rows(cohort.table, state, RULE).coordinates / 2.0**24
    peer = KMeans(3, n_init=50, random_state=0, tol=0).fit(coordinates)
    assert adjusted_rand_score(peer.labels_, labels(cohort, state)) == 1
    mine = state.arrays["stratum_centres"] / 2.0**24
    apart = np.abs(mine[:, None] - peer.cluster_centers_[None]).max(axis=2)
    assert apart.min(axis=1).max() <= 1e-6


@pytest.mark.parametrize("seed", [1, 2])
def test_any_partition_of_the_donors_gives_the_same_centres_and_verdicts(
    cohort: Cohort, state: StrataState, seed: int
) -> None:
    places = np.random.default_rng(seed).permutation(len(cohort.table.samples))
    tables = [cohort.table.at(part) for part in np.array_split(places, 1 + 2 * seed)]
    parts = [replace(t, sites=(f"p{i}",) * len(t.samples)) for i, t in enumerate(tables)]
    keyed = [_with_keys(part, table) for part, table in zip(parts, tables, strict=True)]
    other = solved(study_of(), keyed)
    for name in ("mean", "scale", "vectors", "spread", "judged", "within_null", "stratum_centres", "stratum_matched"):
        np.testing.assert_array_equal(state.arrays[name], other.arrays[name], err_msg=name)
    assert (state.k, state.n_samples, state.n_donors) == (other.k, other.n_samples, other.n_donors)


def _with_keys(part, table):  # type: ignore[no-untyped-def]
    """Give samples of another partition the keys that they had, so that their draws are the same."""

    class Keyed(type(part)):  # type: ignore[misc]
        donor_keys = property(lambda _: table.donor_keys)
        sample_keys = property(lambda _: table.sample_keys)

    return Keyed(**vars(part))


@pytest.mark.parametrize(("strata", "batch"), [(2, 0.0), (4, 0.0), (3, 0.15)])
def test_planted_strata_are_found_under_batch_effects_and_unequal_sites(strata: int, batch: float) -> None:
    cohort = simulated(strata, n=60, strata=strata, batch=batch)
    found = solved(study_of(k_max=5), cohort.table.by_site())
    assert found.k == strata
    assert adjusted_rand_score(cohort.planted, labels(cohort, found)) >= 0.9


def test_samples_without_structure_have_no_strata_in_nearly_all_seeds() -> None:
    study = study_of(k_max=3, starts=8, resamples=6)
    tables = [replace(simulated(seed, n=30, separation=0).table, sites=("a",) * 30) for seed in range(20)]
    assert sum(solved(study, [table]).k == 0 for table in tables) >= 19


def test_strata_across_shifted_sites_are_found_once_the_sites_means_are_removed() -> None:
    cohort = simulated(5, n=60, strata=2, batch=2.0, shares=(0.5, 0.5))
    found = solved(study_of(k_max=3, centre_sites=True), cohort.table.by_site())
    assert found.k == 2
    assert adjusted_rand_score(cohort.planted, labels(cohort, found, StrataRule(centre_sites=True))) >= 0.9
    assert found.site_share / 2**24 > 0.5  # still shown
    assert found.arrays["disguise"].tolist() == [-1, -1]


def test_a_site_that_shifts_everything_is_called_so() -> None:
    cohort = simulated(3, strata=1, batch=3.0, shares=(0.5, 0.5))
    found = solved(study_of(), cohort.table.by_site())
    assert found.k == 2
    assert sorted(found.arrays["disguise"].tolist()) == [0, 1]
    assert found.site_share / 2**24 > 0.8


def test_what_goes_along_with_strata_is_found_and_what_does_not_is_not(state: StrataState) -> None:
    (condition, p_condition), (age, p_age) = (state.arrays["tests"] / 2**24).tolist()
    assert condition == pytest.approx(1)  # the condition is one of the planted strata
    assert p_condition == pytest.approx(0.001, abs=1e-6)
    assert age < 0.4
    assert p_age > 0.05


@pytest.mark.parametrize(("level", "spread"), [(60.0, 10.0), (0.0, 1e-3), (250_000.0, 90_000.0), (-900_000.0, 1.0)])
def test_eta_is_that_of_the_pooled_values_for_numbers_of_any_size(cohort: Cohort, level: float, spread: float) -> None:
    age = level + spread * (cohort.planted + np.random.default_rng(0).normal(size=len(cohort.planted)))
    found = solved(study_of(permutations=19), replace(cohort.table, covariates={"age": age}).by_site())
    own = labels(cohort, found)
    means = np.array([age[own == stratum].mean() for stratum in range(found.k)])[own]
    assert found.arrays["tests"][1, 0] / 2**24 == pytest.approx(np.sqrt(means.var() / age.var()), abs=2e-3)


def test_counts_below_the_floor_are_not_in_the_state(cohort: Cohort) -> None:
    study = replace(study_of(), floors=replace(study_of().floors, donors=5))
    found = solved(study, cohort.table.by_site())
    shown = found.arrays["by_site"]
    assert (shown == -1).any()
    assert not ((shown > 0) & (shown < 5)).any()


def test_too_few_samples_or_donors_are_refused_in_words(cohort: Cohort) -> None:
    few = cohort.table.at(np.arange(5))
    failed = solved(study_of(), [few])
    assert "5 samples of 5 donors" in failed.failure
    one = replace(cohort.table.at(np.arange(8)), donors=("d",) * 8, sites=("a",) * 8)
    assert "of 1 donors" in solved(study_of(), [one]).failure


def test_a_contribution_that_does_not_fit_is_left_out_with_a_reason(cohort: Cohort) -> None:
    site = Stratifier(study_of(), cohort.table)
    start = site.start()
    good = site.contribute(start, threading.Event())
    other = Stratifier(study_of(), replace(cohort.table, features=cohort.table.features[:, :9]))
    bad = [
        replace(good, kind="update"),
        replace(good, parameters=good.parameters[:-1]),
        replace(good, n_donors=0),
        other.contribute(start, threading.Event()),
        good,  # the same site again
    ]
    merged = site.merge(start, [good, *bad])
    assert sorted(merged.left_out) == [1, 2, 3, 4, 5]
    assert from_bytes(merged.state).phase == "products"
    again = site.merge(merged.state, [good])
    assert "another round" in again.left_out[0] or "arrays" in again.left_out[0]


def test_a_state_has_one_encoding(state: StrataState) -> None:
    assert to_bytes(from_bytes(to_bytes(state))) == to_bytes(state)


def test_samples_of_too_many_features_are_refused_before_any_round() -> None:
    with pytest.raises(ModelError, match="1055 features of a sample; at most 1000"):
        Stratifier(replace(study_of(), modality="cytometry"), None, n_features=5 + 7 * 150)
    with pytest.raises(ModelError, match="1005 features"):
        Stratifier(study_of(n_genes=1000), None, n_features=20_000)
    Stratifier(study_of(), None, n_features=20_000)


def test_a_study_of_classifiers_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no \[study.strata\]"):
        Stratifier(Study(name="x", modality="rna"), None)


def test_a_stopped_site_contributes_nothing(cohort: Cohort) -> None:
    stop = threading.Event()
    stop.set()
    site = Stratifier(study_of(), cohort.table)
    assert site.contribute(site.start(), stop) is None
    assert isinstance(site.contribute(site.start(), threading.Event()), Contribution)
