"""Attacks on a model: they succeed on one that remembers its cells, and not on one that does not."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from swarmcell.cells import schema
from swarmcell.cli.app import app
from swarmcell.errors import CellsError, ModelError, UsageError
from swarmcell.model import released
from swarmcell.model.study import Floors, Study
from swarmcell.workflows.audit_privacy import LOSS, SHADOWS, audit_privacy, protection
from swarmcell.workflows.membership_attack import learnt, likelihood_ratio


@pytest.fixture
def files(make_cells, fit_model, tmp_path):
    def make(name, *, stages=("features", "cell"), **cells):
        adata = make_cells("site-a", **cells)
        path, model = tmp_path / f"{name}.h5ad", tmp_path / f"{name}.safetensors"
        schema.write_prepared(adata, path)
        released.save(fit_model(adata, stages=stages), model)
        return SimpleNamespace(cells=path, model=model)

    return make


def audited(made, **options):
    found = audit_privacy(made.model, [made.cells], **({"n_shadows": 0, "n_resamples": 500, "seed": 0} | options))
    return {attack.name: attack for attack in found.models[0].attacks}


def test_a_model_that_learnt_labels_by_heart_gives_its_cells_away(files):
    made = files("by-heart", signal=0.0, n_cells=10)  # labels without a pattern: all that is learnt is these cells
    attacks = audited(made, n_shadows=6)
    assert attacks[LOSS].found.auroc.low > 0.55
    assert attacks[SHADOWS].found.auroc.value > 0.6
    assert "can be told" in attacks[LOSS].verdict


def test_a_model_of_many_cells_and_clear_patterns_does_not(files):
    attacks = audited(files("clear", n_cells=400, signal=3.0))
    assert attacks[LOSS].found.auroc.contains(0.5)
    assert "cannot be told" in attacks[LOSS].verdict


# -- with and without protection ---------------------------------------------------------------------------------------

OVERFITTED = {"n_donors": 20, "held_out": 10, "n_cells": 4, "signal": 0.0}  # labels without a pattern, learnt by heart


@pytest.fixture(scope="module")
def by_heart(make_cells, tmp_path_factory):
    """A site's file, its own model, and the model of the sums over 30 such sites."""
    folder = tmp_path_factory.mktemp("by-heart")
    cohort = [(f"site-{i}", make_cells(f"site-{i}", **OVERFITTED)) for i in range(30)]
    study = Study(
        name="by heart",
        modality="rna",
        stages=("features", "cell"),
        cell_types=("B", "NK", "T"),
        floors=Floors(donors=1, cells=1),
    )
    path = folder / "site-0.h5ad"
    schema.write_prepared(cohort[0][1], path)
    made = SimpleNamespace(cells=path, own=folder / "own.safetensors", merged=folder / "merged.safetensors")
    released.save(learnt(study, cohort[:1]), made.own)
    released.save(learnt(study, cohort), made.merged)
    return made


def auroc_of(found, name):
    return next(m for m in found.models if m.name == name).attacks[0].found.auroc


def test_an_attack_that_succeeds_on_a_sites_own_update_falls_to_chance_on_the_sum_of_all(by_heart):
    found = audit_privacy(
        by_heart.merged, [by_heart.cells], n_shadows=0, n_resamples=500, seed=0, against={"own": by_heart.own}
    )
    assert auroc_of(found, "own").low > 0.55
    merged = auroc_of(found, "this model")
    assert merged.contains(0.5)
    assert merged.high < auroc_of(found, "own").value


def test_a_protection_is_measured_and_not_promised(by_heart):
    found = audit_privacy(
        by_heart.merged, [by_heart.cells], n_shadows=0, n_resamples=500, seed=0, protections=[protection("l2=10")]
    )
    assert [model.name for model in found.models] == ["this model", "unprotected", "l2=10"]
    assert auroc_of(found, "unprotected").low > 0.55
    assert auroc_of(found, "l2=10").value < auroc_of(found, "unprotected").value
    assert auroc_of(found, "l2=10").contains(0.5)


def test_under_differential_privacy_the_attack_falls_to_chance_on_the_very_labels_that_were_learnt_by_heart(by_heart):
    noised = []
    for seed in range(3):  # three draws of noise: one alone scatters by 0.1
        found = audit_privacy(
            by_heart.merged,
            [by_heart.cells],
            n_shadows=0,
            n_resamples=500,
            seed=seed,
            protections=[protection("epsilon=1")],
        )
        assert auroc_of(found, "unprotected").low > 0.55
        noised.append(auroc_of(found, "epsilon=1").value)
    assert sum(noised) / len(noised) < 0.7, "0.79 without noise; the mean of three draws scatters by 0.05 around 0.55"


def test_the_report_holds_every_figure_and_needs_no_network(by_heart, tmp_path):
    page = tmp_path / "audit.html"
    given = ["audit", "privacy", str(by_heart.merged), str(by_heart.cells), "--shadows", "0", "--bootstrap", "200"]
    told = CliRunner().invoke(app, [*given, "--against", f"own={by_heart.own}", "--report", str(page), "--json"])
    assert told.exit_code == 0, told.output
    text = page.read_text()
    for model in json.loads(told.stdout)["models"]:
        assert f"{model['attacks'][0]['auroc']['value']:.3f}" in text
        assert model["digest"][:16] in text
    assert "http" not in text.replace("http://www.w3.org", "")


@pytest.mark.parametrize("text", ["l2", "l2=0", "l2=nan", "hope=1"])
def test_what_is_no_protection_is_refused(text):
    with pytest.raises(UsageError, match="such as l2=1"):
        protection(text)


def test_both_kinds_of_donors_are_needed(files):
    made = files("all-trained", held_out=0)
    with pytest.raises(CellsError, match=r"labelled cells are train; the audit needs donors"):
        audited(made)


def test_a_model_without_a_cell_task_is_refused(files):
    with pytest.raises(ModelError, match="no cell task"):
        audited(files("patients", stages=("features", "patient")))


def test_the_likelihood_ratio_is_that_of_two_normals():
    rng = np.random.default_rng(0)
    shadows, inside = rng.normal(size=(6, 3)), np.tile([[True], [False]], (3, 3))
    shadows[inside] += 2
    found = likelihood_ratio(np.array([2.0, 0.0, 1.0]), shadows, inside)
    assert found[0] > found[2] > found[1]


def test_the_command_prints_json_and_writes_the_same(files, tmp_path):
    made = files("told")
    out = tmp_path / "audit.json"
    told = CliRunner().invoke(
        app, ["audit", "privacy", str(made.model), str(made.cells), "--shadows", "2", "--out", str(out), "--json"]
    )
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout) == json.loads(out.read_text())
    assert "next: swarmcell evaluate" in told.stderr
    (model,) = json.loads(told.stdout)["models"]
    assert {attack["attack"] for attack in model["attacks"]} == {LOSS, SHADOWS}
    again = CliRunner().invoke(app, ["audit", "privacy", str(made.model), str(made.cells), "--shadows", "1"])
    assert again.exit_code == 2 or "Give 2 or more" in str(again.exception)
