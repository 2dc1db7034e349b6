"""A study that lowered the floors says so wherever its terms or results are shown."""

from dataclasses import asdict, replace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from swarmcell.cells import schema
from swarmcell.cli.app import app
from swarmcell.model import released
from swarmcell.model.study import Floors, PrivacyRule, Study, rules_digest
from swarmcell.report.card_table import card_table
from swarmcell.workflows.audit_privacy import audit_privacy
from swarmcell.workflows.evaluate import evaluate
from swarmcell.workflows.evaluation.model_card import model_card
from swarmcell.workflows.floor_words import are_lower, lowered, terms

STUDY = Study(name="trial", modality="rna", floors=Floors(donors=2, cells=20))


def test_lower_floors_of_either_kind_are_named_and_higher_ones_are_not():
    assert [are_lower(Floors(donors=d, cells=c)) for d, c in ((5, 20), (9, 99), (4, 20), (5, 19))] == [0, 0, 1, 1]
    assert lowered(Floors()) == ""
    assert "sums of 2 donor(s) and 20 cells (by default 5 and 20)" in lowered(STUDY.floors)


def test_the_terms_say_what_holds_for_a_class_and_where():
    assert "of a class below 20 cells of 3 donors" in terms(replace(STUDY, floors=Floors()))
    secret = replace(STUDY, privacy=PrivacyRule(secure_aggregation=True))
    assert "over all sites is left out; sums need three sites" in terms(secret)
    assert "lowered the floors" in terms(secret)


@pytest.mark.parametrize(("trained", "n"), [("swarm", 1), ("local", 0)])
def test_the_table_that_ends_a_training_says_it(trained, n):
    card = {"digest": "0" * 64, "stages": {}, "trained": trained, "floors": asdict(STUDY.floors)}
    console = Console(width=120, record=True)
    console.print(card_table("merged", card))
    assert console.export_text().count("LOWERED to 2 donor(s)") == n


def test_report_model_card_and_audit_say_it(make_cells, fit_model, tmp_path):
    cells, path = make_cells("site-a"), tmp_path / "merged.safetensors"
    model = fit_model(cells, stages=("features", "cell"))
    study = replace(model.study, floors=STUDY.floors)
    state = replace(model.state, rules=rules_digest(study))
    card = {"trained": "swarm", "floors": asdict(study.floors)}
    released.save(released.assemble(state, study, tuple(cells.var_names), card), path)
    schema.write_prepared(cells, tmp_path / "a.h5ad")
    made = model_card(evaluate(path, [tmp_path / "a.h5ad"], n_bootstrap=20))
    assert "lowered the floors" in made["privacy"]["floors_lowered"]
    assert any("lowered the floors" in limit for limit in made["limits"])
    audited = audit_privacy(path, [tmp_path / "a.h5ad"], n_shadows=0, n_resamples=20, seed=0)
    assert "lowered the floors" in audited.to_json()["terms"]


def test_whoever_founds_a_swarm_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text('[study]\nname = "trial"\nmodality = "rna"\n[study.floors]\ndonors = 1\n')
    assert CliRunner().invoke(app, ["identity", "create", "site-a"]).exit_code == 0
    told = CliRunner().invoke(app, ["swarm", "create", "study.toml", "--founder", "site-a"])
    assert "lowered the floors" in " ".join(told.output.split())
