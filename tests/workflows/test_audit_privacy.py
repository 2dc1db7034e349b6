"""Attacks on a model: they succeed on one that remembers its cells, and not on one that does not."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from swarmcell.cells import schema
from swarmcell.cli.app import app
from swarmcell.errors import CellsError, ModelError
from swarmcell.model import released
from swarmcell.workflows.audit_privacy import LOSS, SHADOWS, audit_privacy, likelihood_ratio


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
    return {attack.name: attack for attack in found.attacks}


def test_a_model_that_learnt_labels_by_heart_gives_its_cells_away(files):
    made = files("by-heart", signal=0.0, n_cells=10)  # labels without a pattern: all that is learnt is these cells
    attacks = audited(made, n_shadows=6)
    assert attacks[LOSS].found.auroc.low > 0.6
    assert attacks[SHADOWS].found.auroc.value > 0.6
    assert "can be told" in attacks[LOSS].verdict


def test_a_model_of_many_cells_and_clear_patterns_does_not(files):
    attacks = audited(files("clear", n_cells=400, signal=3.0))
    assert attacks[LOSS].found.auroc.contains(0.5)
    assert "cannot be told" in attacks[LOSS].verdict


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
    assert {attack["attack"] for attack in json.loads(told.stdout)["attacks"]} == {LOSS, SHADOWS}
    again = CliRunner().invoke(app, ["audit", "privacy", str(made.model), str(made.cells), "--shadows", "1"])
    assert again.exit_code == 2 or "Give 2 or more" in str(again.exception)
