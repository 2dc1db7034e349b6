"""Facts about what any model must beat, and about the alarm where the site predicts the condition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from swarmcell.model import baselines
from swarmcell.model.baselines import diagonal_discriminant, same_site, site_only, site_only_of
from swarmcell.model.fixed import to_int64
from swarmcell.model.learning import Learner
from swarmcell.model.summary import summary

TABLES = st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=5)


def test_a_site_for_each_condition_is_an_alarm_that_says_so_loudly():
    found = site_only([[9, 0], [0, 9], [8, 1]])
    assert found.is_alarm
    assert found.balanced_accuracy > 0.9
    assert found.sentence().startswith("ALARM, confounded")


def test_conditions_spread_evenly_are_no_alarm():
    found = site_only([[6, 6], [5, 5], [9, 9]])
    assert not found.is_alarm
    assert found.association == 0
    assert found.balanced_accuracy <= 0.5
    assert found.p == 1


@settings(max_examples=15, deadline=None)
@given(table=st.lists(st.lists(st.integers(1, 9), min_size=3, max_size=3), min_size=2, max_size=5))
def test_the_association_is_that_of_scipy(table):
    found = site_only(table)
    chi2 = chi2_contingency(table, correction=False).statistic
    assert found.association == pytest.approx((chi2 / np.sum(table) / (min(np.shape(table)) - 1)) ** 0.5, abs=1e-9)


def test_the_alarm_is_rare_where_there_is_nothing_to_find():
    rng = np.random.default_rng(0)
    tables = [rng.multinomial(24, np.ones(6) / 6).reshape(3, 2) for _ in range(60)]
    found = [site_only(table) for table in tables]
    assert sum(one is not None and one.is_alarm for one in found) <= 8  # 3 expected


@settings(max_examples=30, deadline=None)
@given(
    table=st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=5), cut=st.integers(0, 5)
)
def test_the_sums_of_sites_give_the_association_of_their_table(table, cut):
    table = np.array(table)
    site, condition = (np.repeat(index.ravel(), table.ravel()) for index in np.indices(table.shape))
    parts = [same_site(site[mine], condition[mine], 3) for mine in (site < cut, site >= cut)]
    arrays = {"baseline.n_by_site": table.sum(axis=0, keepdims=True)}
    arrays |= {"baseline.same_site": parts[0][0] + parts[1][0], "baseline.n_sites": parts[0][1] + parts[1][1]}
    found, expected = site_only_of(arrays), site_only(table)
    if expected is None:
        assert found is None
        return
    assert found.association == pytest.approx(expected.association, abs=1e-3)
    assert (found.n_sites, found.n_samples, found.chance) == (expected.n_sites, expected.n_samples, expected.chance)
    if (table.sum(axis=1) > 0).all() and (table.sum(axis=0) > 0).all():
        assert found.p == pytest.approx(chi2_contingency(table, correction=False).pvalue, abs=1e-3)
    assert "Cramer's V" in found.sentence()


def test_a_pooled_run_and_a_secret_sum_raise_the_alarm_of_the_swarm(lab, make):
    sites = [make("site-a", conditions=("control",), n_donors=7), make("site-b", conditions=("disease",), n_donors=7)]
    study = lab.study(stages=("features", "patient"))
    swarm = summary(lab.learnt(lab.learners(*sites, study=study)), study)["site_only"]
    pooled = summary(lab.learnt([Learner(study, lab.cells(*sites, study=study))]), study)["site_only"]
    for found in (swarm, pooled):
        assert found["sentence"].startswith("ALARM")
        assert found["n_sites"] == 2
        assert found["association"] == pytest.approx(1)


@pytest.mark.parametrize("table", [[[3, 4]], [[3, 0], [5, 0]], [], [[0, 0], [3, 4]]])
def test_one_site_or_one_condition_has_nothing_to_say(table):
    assert site_only(table) is None


def test_the_discriminant_takes_the_nearer_condition_and_knows_no_absent_one():
    rng = np.random.default_rng(0)
    rows, condition = rng.normal(size=(60, 5)), np.repeat([0, 1], 30)
    rows[condition == 1, 2] += 3
    sums = {
        "n_by_site": np.array([[30, 30, 0]]),
        "x_by_condition": to_int64([rows[condition == k].sum(axis=0) for k in range(3)], 24, what="x"),
        "xx": to_int64((rows**2).sum(axis=0), 24, what="xx"),
    }
    every, without = np.ones(5, bool), np.arange(5) != 2
    called = diagonal_discriminant(sums, every, rows).argmax(axis=1)
    assert (called == condition).mean() > 0.85
    assert (diagonal_discriminant(sums, without, rows).argmax(axis=1) == condition).mean() < 0.75
    assert set(called) == {0, 1}


def test_a_swarm_keeps_the_table_of_sites_without_their_names_in_any_order(lab, make):
    sites = [make("site-a", n_donors=8), make("site-b", n_donors=7)]
    study = lab.study()
    state = lab.learnt(lab.learners(*sites, study=study))
    again = lab.learnt(lab.learners(*sites[::-1], study=study))
    table = state.arrays["baseline.n_by_site"]
    np.testing.assert_array_equal(table, again.arrays["baseline.n_by_site"])
    expected = sorted(np.bincount(lab.cells(site).sample_condition, minlength=2).tolist() for site in sites)
    assert table.tolist() == expected
    assert baselines.majority(state.arrays["cells_by_type"]) in range(3)
