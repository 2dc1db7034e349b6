"""`swarmcell doctor` shows every check, and its exit code says whether one failed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from swarmcell.cli.app import app


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


def test_a_failed_check_ends_with_exit_code_1_and_names_the_remedy() -> None:
    result = CliRunner().invoke(app, ["doctor", "none.h5ad"])
    assert result.exit_code == 1
    assert "none.h5ad" in result.stderr


def test_json_lists_every_check() -> None:
    result = CliRunner().invoke(app, ["doctor", "--json"])
    checks = json.loads(result.stdout)
    assert result.exit_code == 0
    assert {"python", "packages", "disk", "identity"} <= {check["name"] for check in checks}


def test_a_healthy_site_is_told_the_next_command() -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert "next: swarmcell preprocess" in result.stderr
