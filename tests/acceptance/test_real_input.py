"""The whole path on real input, through the command line: every peer of a swarm is a process of its own.

Each case runs once (`benchmarks/real_cases.py`, which also makes the README's figures); the tests hold facts about it.
"""

import json
from collections.abc import Callable
from functools import cache

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from benchmarks.cli_study import CommandFailedError, Outcome
from benchmarks.real_cases import CASES, DATA
from benchmarks.real_input import alone_models, figure, guessing, value
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")

IN_SWARMS = ["kang3", "wnv12", "aml", "bcrxl"]
PEERS = {"kang3": 2, "wnv12": 3, "aml": 3, "bcrxl": 2}
Outcomes = Callable[[str], list[Outcome]]


@pytest.fixture(scope="session")
def outcomes_of(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    @cache
    def attempt(name: str) -> list[Outcome] | CommandFailedError:
        try:
            return CASES[name].run(DATA, tmp_path_factory.mktemp(name))
        except CommandFailedError as error:  # kept, so that a case that fails is not run again by every test
            return error

    def run(name: str) -> list[Outcome]:
        found = attempt(name)
        if isinstance(found, CommandFailedError):
            raise found
        return found

    return run


def prepared(outcome: Outcome) -> pd.DataFrame:
    """Return obs of all prepared files; beside some lie files as they were measured."""
    files = [path for path in sorted(outcome.folder.glob("*.h5ad")) if not path.stem.endswith("-measured")]
    return pd.concat([ad.read_h5ad(path, backed="r").obs.astype(str) for path in files])


@pytest.mark.parametrize("name", IN_SWARMS)
def test_all_peers_hold_the_same_merged_model_and_it_is_the_one_evaluated(outcomes_of: Outcomes, name: str) -> None:
    for outcome in outcomes_of(name):
        assert len(outcome.digests) == PEERS[name]
        (digest,) = set(outcome.digests.values())
        assert outcome.evaluation["models"][0]["name"] == "swarm"
        assert outcome.evaluation["models"][0]["digest"] == digest


@pytest.mark.parametrize("name", IN_SWARMS)
def test_every_site_had_a_part_in_the_merged_model(outcomes_of: Outcomes, name: str) -> None:
    for outcome in outcomes_of(name):
        card = json.loads((outcome.folder / "runs" / next(iter(outcome.digests)) / "merged.json").read_text())
        assert card["sites"] == sorted(outcome.digests)
        assert all(stage["sites"] == PEERS[name] for stage in card["stages"].values())


@pytest.mark.parametrize("name", [*IN_SWARMS, "pbmc"])
def test_no_donor_is_both_trained_and_held_out(outcomes_of: Outcomes, name: str) -> None:
    for outcome in outcomes_of(name):
        obs = prepared(outcome)
        held = set(obs.loc[obs["split"] == "held_out", "donor"])
        trained = {
            donor.partition("/")[2]
            for run in outcome.folder.glob("runs/*/run.json")
            for donor in json.loads(run.read_text())["train_donors"]
        }
        assert held
        assert trained == set(obs.loc[obs["split"] == "train", "donor"])
        assert not held & trained


@pytest.mark.parametrize("name", IN_SWARMS)
def test_the_report_says_that_the_floors_were_lowered(outcomes_of: Outcomes, name: str) -> None:
    for outcome in outcomes_of(name):
        assert any("lowered the floors" in caveat for caveat in outcome.evaluation["caveats"])
        assert "lowered the floors" in (outcome.folder / "evaluation" / "report.html").read_text()


@pytest.mark.parametrize("name", ["kang3", "pbmc"])
def test_cell_types_of_a_donor_unseen_are_told_better_than_by_guessing(outcomes_of: Outcomes, name: str) -> None:
    for outcome in outcomes_of(name):
        model = outcome.evaluation["cell"]["models"][0]
        for shown in ("accuracy", "balanced_accuracy"):
            assert model["figures"][shown]["value"] > guessing(outcome, "cell", shown)
            assert model["figures"][shown]["interval"] is None  # one donor: none, and the note says why
            assert "one donor" in model["figures"][shown]["note"]
        assert model["chance"]["p_value"] < 0.05


def test_each_patient_of_kang_is_held_out_once(outcomes_of: Outcomes) -> None:
    held = [outcome.evaluation["cohort"]["sites"][0]["site"] for outcome in outcomes_of("kang3")]
    assert sorted(held) == ["site-101", "site-1015", "site-107"]
    assert sum(outcome.evaluation["cohort"]["n_cells"] for outcome in outcomes_of("kang3")) == 9516  # no QC: all


def test_a_swarm_of_cells_is_worth_what_all_cells_in_one_place_are(outcomes_of: Outcomes) -> None:
    for outcome in outcomes_of("kang3"):
        swarm, pooled = (value(outcome, "cell", model, "balanced_accuracy") for model in ("swarm", "pooled"))
        assert swarm == pytest.approx(pooled, abs=0.05)


def test_cells_in_one_place_are_learnt_as_well_as_scikit_learn_learns_them(outcomes_of: Outcomes) -> None:
    for outcome in outcomes_of("kang3"):
        site = outcome.evaluation["cohort"]["sites"][0]["site"]
        held = ad.read_h5ad(outcome.folder / f"{site}.h5ad")
        train = ad.concat([ad.read_h5ad(outcome.folder / f"{peer}.h5ad") for peer in outcome.digests])
        scaler = StandardScaler().fit(train.X.toarray())
        peer = LogisticRegression(class_weight="balanced", max_iter=500)
        peer.fit(scaler.transform(train.X.toarray()), train.obs["cell_type"].astype(str))
        predicted = peer.predict(scaler.transform(held.X.toarray()))
        worth = balanced_accuracy_score(held.obs["cell_type"].astype(str), predicted)
        assert value(outcome, "cell", "pooled", "balanced_accuracy") > worth - 0.04


def test_log_normalised_values_are_taken_as_they_are(outcomes_of: Outcomes) -> None:
    source = ad.read_h5ad(DATA / "rna" / "pbmc_3prime_lognorm.h5ad")
    outcome = outcomes_of("pbmc")[0]
    found = ad.read_h5ad(outcome.folder / "site-3pv1.h5ad")
    mine = source[(source.obs["donor"] == "3pv1").to_numpy(), list(found.var["symbol"])]
    assert found.uns["swarmcell"]["input"] == "lognorm"
    np.testing.assert_allclose(found.X.sum(axis=0), mine.X.sum(axis=0), rtol=1e-4)


def test_each_site_holds_out_one_mouse_of_each_condition(outcomes_of: Outcomes) -> None:
    (outcome,) = outcomes_of("wnv12")
    counts = [site["conditions"] for site in outcome.evaluation["cohort"]["sites"]]
    assert counts == [{"Mock": 1, "WNV": 1}] * 3


def test_infected_mice_are_told_from_mock_ones(outcomes_of: Outcomes) -> None:
    (outcome,) = outcomes_of("wnv12")
    assert value(outcome, "patient", "swarm", "auroc") > 0.8
    alone = [value(outcome, "patient", model, "auroc") for model in alone_models(outcome, "patient")]
    assert value(outcome, "patient", "swarm", "auroc") >= np.mean(alone)


@pytest.mark.parametrize("name", ["wnv12", "aml", "bcrxl"])
def test_figures_on_few_patients_have_wide_intervals_and_say_so(outcomes_of: Outcomes, name: str) -> None:
    (outcome,) = outcomes_of(name)
    assert any("Few held-out donors" in caveat for caveat in outcome.evaluation["caveats"])
    low, high = figure(outcome, "patient", "swarm", "auroc")["interval"]
    assert high - low > 0.3


def test_patients_with_leukaemia_are_prepared_from_their_own_fcs_files(outcomes_of: Outcomes) -> None:
    (outcome,) = outcomes_of("aml")
    obs = prepared(outcome)
    assert obs.groupby("condition")["donor"].nunique().to_dict() == {"aml": 5, "normal": 5}
    trained = obs[obs["split"] == "train"].groupby("site")["condition"].nunique()
    assert trained.to_dict() == {"site-a": 2, "site-b": 2, "site-c": 2}
    assert sorted(outcome.evaluation["patient"]["samples_per_condition"].values()) == [2, 2]


def test_both_samples_of_a_patient_stay_on_one_side(outcomes_of: Outcomes) -> None:
    (outcome,) = outcomes_of("bcrxl")
    sides = prepared(outcome).groupby("donor").agg(samples=("sample", "nunique"), sides=("split", "nunique"))
    assert (sides["samples"] == 2).all()
    assert (sides["sides"] == 1).all()
    assert outcome.evaluation["cohort"]["n_samples"] == 4
