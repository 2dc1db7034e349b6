"""Strata from sums whose parts nobody sees: those of open sums, but for what only single sites' sums can tell."""

import threading
from dataclasses import replace

import numpy as np
from planted_strata import simulated, solved, study_of

from swarmcell.model.strata.rounds import Stratifier
from swarmcell.model.strata.state import StrataState, from_bytes
from swarmcell.model.strata.table import SampleTable
from swarmcell.model.study import PrivacyRule, Study
from swarmcell.privacy.secure_sum import SecureSum

SMALL = {"k_max": 3, "starts": 12, "resamples": 6, "nulls": 19}


def solved_in_secret(study: Study, tables: list[SampleTable]) -> StrataState:
    sites = [
        SecureSum(
            Stratifier(study, table),
            n_cells=int(table.n_cells.sum()),
            n_donors=table.n_donors,
            me=f"s{i}",
            secret=bytes([i]) * 32,
            f=0,
        )
        for i, table in enumerate(tables)
    ]
    onlooker = SecureSum(Stratifier(study, None, n_features=tables[0].features.shape[1]), f=0)
    state, stop = sites[0].start(), threading.Event()
    for _ in range(200):
        said = [replace(site.contribute(state, stop), author=f"s{i}") for i, site in enumerate(sites)]
        outcome = onlooker.merge(state, said)
        assert not outcome.left_out
        state = outcome.state
        if outcome.finished:
            return from_bytes(state)
    raise AssertionError


def test_strata_in_secret_are_those_of_open_sums_and_name_no_site() -> None:
    tables = simulated(3, strata=2, batch=3.0, shares=(0.4, 0.3, 0.3)).table.by_site()
    study = study_of(**SMALL)
    secret = solved_in_secret(replace(study, privacy=PrivacyRule(secure_aggregation=True)), tables)
    open_ = solved(study, tables)
    same = ("vectors", "judged", "within_null", "stratum_centres", "stratum_n", "stratum_x", "test_0", "tests")
    for name in same:
        np.testing.assert_array_equal(secret.arrays[name], open_.arrays[name], err_msg=name)
    assert (secret.k, secret.site_share, secret.n_sites) == (open_.k, open_.site_share, 3)
    assert (secret.sites, secret.arrays["by_site"].shape) == ((), (0, secret.k))
    # that a stratum is a site in disguise is said; which site is not
    np.testing.assert_array_equal(secret.arrays["disguise"] >= 0, open_.arrays["disguise"] >= 0)
    assert (open_.arrays["disguise"] >= 0).any()
    assert set(secret.arrays["disguise"].tolist()) <= {0, -1}


def test_a_failed_secret_study_says_why() -> None:
    tables = [one.at(np.arange(1)) for one in simulated(3).table.by_site()]
    study = replace(study_of(**SMALL), privacy=PrivacyRule(secure_aggregation=True))
    assert "3 samples of 3 donors in all" in solved_in_secret(study, tables).failure
