"""`swarmcell runs` lists and compares."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from swarmcell.cli.app import app


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a", "b")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text(json.dumps({"seed": seed}))
        stage = {"validation_accuracy": 0.5, "validation_n": 10}
        card = {"digest": f"{seed}" * 64, "rounds": 4, "stages": {"cell": stage}}
        (tmp_path / "runs" / name / "local.json").write_text(json.dumps(card))
    return tmp_path / "runs"


def test_runs_are_listed_with_their_validation(folder: Path) -> None:
    result = CliRunner().invoke(app, ["runs"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "accuracy 0.500 of 10" in result.stderr
    assert "next: swarmcell runs a b" in result.stderr


def test_named_runs_are_compared(folder: Path) -> None:
    result = CliRunner().invoke(app, ["runs", "a", "b", "--json"])
    assert json.loads(result.stdout)["differences"]["run.seed"] == [0, 1]


def test_no_runs_leads_to_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "next: swarmcell train" in CliRunner().invoke(app, ["runs"]).stderr
