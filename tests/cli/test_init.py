"""Facts about `swarmcell init` and `swarmcell identity`."""

import json
import stat

import pytest
from typer.testing import CliRunner

from swarmcell.cli.app import app
from swarmcell.errors import OutputError, UsageError

runner = CliRunner()


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


def test_init_never_overwrites_without_force(tmp_path):
    (tmp_path / "site.toml").write_text("mine")
    result = runner.invoke(app, ["init"])
    assert isinstance(result.exception, OutputError)
    assert (tmp_path / "site.toml").read_text() == "mine"


def test_init_with_a_bad_name_writes_nothing(tmp_path):
    result = runner.invoke(app, ["init", "--name", "Site A"])
    assert isinstance(result.exception, UsageError)
    assert not (tmp_path / "site.toml").exists()


def test_init_with_force_keeps_the_identity(tmp_path):
    assert runner.invoke(app, ["init", "--name", "site-a"]).exit_code == 0
    before = (tmp_path / "config/swarmcell/identity/site-a").read_bytes()
    assert runner.invoke(app, ["init", "--name", "site-a", "--force"]).exit_code == 0
    assert (tmp_path / "config/swarmcell/identity/site-a").read_bytes() == before


def test_init_makes_a_private_identity_and_says_what_comes_next(tmp_path):
    result = runner.invoke(app, ["init", "--name", "site-b"])
    assert result.exit_code == 0
    assert "next: swarmcell identity show site-b" in result.output
    assert stat.S_IMODE((tmp_path / "config/swarmcell/identity/site-b").stat().st_mode) == 0o600


def test_identity_show_prints_the_card_and_no_secret(tmp_path):
    runner.invoke(app, ["identity", "create", "site-a"])
    shown = runner.invoke(app, ["identity", "show", "site-a", "--quiet"]).stdout
    secret = (tmp_path / "config/swarmcell/identity/site-a").read_text()
    assert "signing_key" in shown
    assert not any(line.split('"')[1] in shown for line in secret.splitlines() if "_secret" in line)
    as_json = json.loads(runner.invoke(app, ["identity", "show", "site-a", "--json", "--quiet"]).stdout)
    assert as_json["signing_key"] in shown


def test_identity_show_without_a_name_lists_all():
    runner.invoke(app, ["identity", "create", "site-b"])
    runner.invoke(app, ["identity", "create", "site-a"])
    assert json.loads(runner.invoke(app, ["identity", "show", "--json", "--quiet"]).stdout) == ["site-a", "site-b"]
