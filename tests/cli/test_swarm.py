"""Facts about `swarmcell swarm create`."""

import json
import os
import pty
import signal
import subprocess
import sys

import pytest
from terminal import read_to_end
from typer.testing import CliRunner

from swarmcell.cli.app import app
from swarmcell.errors import ConfigError, InputError, OutputError, SwarmError
from swarmcell.node import ledger

runner = CliRunner()
STUDY = '[study]\nname = "trial"\nmodality = "rna"\n[swarm]\nf = {f}\n'


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(STUDY.format(f=0))
    for name in ("site-a", "site-b", "site-c", "site-d"):
        assert runner.invoke(app, ["identity", "create", name]).exit_code == 0


def create(*founders, config="study.toml", more=()):
    named = [word for founder in founders for word in ("--founder", founder)]
    return runner.invoke(app, ["swarm", "create", config, *named, *more])


def test_an_unknown_founder_is_refused():
    assert isinstance(create("site-a", "nobody").exception, InputError)


def test_an_existing_swarm_file_is_kept(tmp_path):
    (tmp_path / "swarm.toml").write_text("mine")
    assert isinstance(create("site-a").exception, OutputError)
    assert (tmp_path / "swarm.toml").read_text() == "mine"


def test_a_liar_cannot_be_tolerated_among_three(tmp_path):
    (tmp_path / "study.toml").write_text(STUDY.format(f=1))
    assert isinstance(create("site-a", "site-b", "site-c").exception, ConfigError)
    assert not (tmp_path / "swarm.toml").exists()
    assert create("site-a", "site-b", "site-c", "site-d").exit_code == 0


@pytest.mark.parametrize(
    ("n", "said"), [(2, "survives no crash"), (3, "survives 1 crashed"), (4, "survives 1 crashed")]
)
def test_create_says_what_the_swarm_survives(n, said):
    result = create(*("site-a", "site-b", "site-c", "site-d")[:n])
    assert said in " ".join(result.output.split())
    assert "next: swarmcell train SITE.h5ad --join swarm.toml" in result.output


@pytest.mark.parametrize(
    ("n", "said"), [(3, "all 3 peers must be up: a secure sum needs 3"), (4, "survives 1 crashed")]
)
def test_secure_aggregation_is_asked_for_and_what_it_survives_is_said(n, said, tmp_path):
    result = create(*("site-a", "site-b", "site-c", "site-d")[:n], more=("--secure-aggregation",))
    assert said in " ".join(result.output.split())
    assert "secure_aggregation = true" in (tmp_path / "swarm.toml").read_text()


def test_a_founder_may_be_given_by_its_card(tmp_path):
    card = tmp_path / "config/swarmcell/identity/site-b.card.toml"
    made = create("site-a", str(card), more=("--json", "--quiet"))
    assert json.loads(made.stdout)["quorum"] == 2


@pytest.mark.parametrize("command", ["show", "verify", "give-back"])
def test_a_ledger_of_another_swarm_is_refused_by_name(command, tmp_path):
    assert create("site-a", "site-b", "site-c").exit_code == 0
    with ledger.opened(tmp_path / "ledger.sqlite") as book:
        book.bind(b"another swarm".ljust(32, b"."), bytes(32))
    asked = runner.invoke(app, ["swarm", command, "--ledger", "ledger.sqlite"])
    assert isinstance(asked.exception, SwarmError)
    assert f"a ledger of swarm {b'another '.hex()}, expected one of" in str(asked.exception)


@pytest.mark.parametrize("command", [["show"], ["show", "--mine"], ["verify"], ["give-back"]])
def test_a_ledger_that_is_not_there_is_not_made(command, tmp_path):
    assert create("site-a", "site-b", "site-c").exit_code == 0
    asked = runner.invoke(app, ["swarm", *command, "--ledger", "none.sqlite"])
    assert isinstance(asked.exception, InputError)
    assert "runs/NAME/ledger.sqlite" in str(asked.exception)
    assert not (tmp_path / "none.sqlite").exists()


def test_ctrl_c_is_how_a_watched_swarm_is_left(tmp_path):
    assert create("site-a", "site-b", "site-c").exit_code == 0
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "swarmcell", "swarm", "status", "swarm.toml", "--watch"]
    environment = {**os.environ, "TERM": "xterm", "OMP_NUM_THREADS": "1"}
    watching = subprocess.Popen(command, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while b"NOT BEGUN" not in shown:  # else the test waits for ever, as for a program that shows nothing
        shown += os.read(ours, 65536)
    watching.send_signal(signal.SIGINT)
    assert b"interrupted" not in shown + read_to_end(ours)
    assert watching.wait(timeout=60) == 0
