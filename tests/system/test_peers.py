"""Facts about a swarm of real processes over the embedded engine, with real kills."""

import contextlib
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner
from waiting import LIMIT_S, wait_until

from swarmcell.cli.app import app
from swarmcell.config import swarm_file
from swarmcell.model.study import Study
from swarmcell.node import identity

PEER = Path(__file__).with_name("sums_peer.py")
SITES = ("site-a", "site-b", "site-c")
PATIENCE_S = 0.5  # soon without those that are away
PATIENT_S = 60.0  # with everybody, however slow the machine


class Swarm:
    """Three sites in one folder; `start` starts a process, `ended` waits for it and returns its last word."""

    def __init__(self, folder, sites=SITES, f=0, patience_s=PATIENCE_S):
        self.folder = folder
        self.processes = []
        cards = [identity.create(name).card for name in sites]
        rules = swarm_file.SwarmRules(patience_s=patience_s, f=f)
        config = swarm_file.SwarmConfig(study=Study(name="sums", modality="rna"), swarm=rules)
        self.made = swarm_file.create(config, cards)
        self.path = folder / "swarm.toml"
        self.path.write_bytes(swarm_file.dump(self.made))
        self.log = folder / f"swarm.{self.made.digest[:8]}.log"

    def start(self, site, *, rounds=4, size=0, sleep_s=0.0, kill_at="", run=None, files_max=None):
        numbers = [str(number) for number in (rounds, size, sleep_s)]
        command = [sys.executable, str(PEER), str(self.path), site, str(self.folder / (run or site)), *numbers]
        environment = {**os.environ, "KILL_AT": kill_at}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": self.folder}
        process = subprocess.Popen(command, env=environment, **pipes)
        if files_max is not None:  # as on a full disk: no file of this process grows beyond it
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (files_max, files_max))
        self.processes.append(process)
        return process

    def start_all(self, **options):
        return [self.start(site, **options) for site in SITES]

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()
            for pipe in (process.stdout, process.stderr):
                pipe.close()

    def lose_log(self):
        for path in self.folder.glob("swarm.*.log*"):
            if path.is_file():
                path.unlink()


@pytest.fixture
def swarm(make_swarm):
    return make_swarm()


def ended(process):
    out, error = process.communicate(timeout=LIMIT_S)
    events = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0, error
    assert events[-1]["event"] == "ended"
    return events


def assert_same_end(all_events, rounds):
    last = [events[-1] for events in all_events]
    assert len({event["digest"] for event in last}) == 1
    assert {event["rounds"] for event in last} == {rounds}


def wait_for(process, event, **about):
    """Read a process's events until one fits."""
    seen = []
    for line in process.stdout:
        found = json.loads(line)
        seen.append(found)
        if found["event"] == event and all(found.get(key) == value for key, value in about.items()):
            return seen
    pytest.fail(f"{event} {about} never came; {process.stderr.read()[-2000:]}")


def cli(*arguments):
    result = CliRunner().invoke(app, ["swarm", *arguments])
    assert result.exit_code == 0, result.output
    return result


def killed(process):
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == -signal.SIGKILL


def test_a_tampered_swarm_file_is_refused(swarm):
    swarm.path.write_text(swarm.path.read_text().replace("patience_s = 0.5", "patience_s = 9.0"))
    process = swarm.start("site-a")
    _, error = process.communicate(timeout=LIMIT_S)
    assert process.returncode != 0
    assert "TamperedError" in error
    assert not swarm.log.exists()


def test_two_processes_with_one_identity_are_refused(swarm):
    first = swarm.start("site-a")
    wait_until(swarm.log.exists, "a log")
    _, error = swarm.start("site-a", run="elsewhere").communicate(timeout=LIMIT_S)
    assert "another process already runs this identity" in error
    rest = [swarm.start(site) for site in SITES[1:]]
    assert_same_end([ended(process) for process in [first, *rest]], 4)


@pytest.mark.parametrize("rounds", [3, 24])  # of 24 blocks the peer keeps a snapshot before it stops
def test_a_restored_backup_stops_signing_for_good(swarm, rounds):
    home, backup = swarm.folder / "site-a", swarm.folder / "backup.sqlite"
    peers = swarm.start_all(rounds=rounds, sleep_s=0.1)
    wait_for(peers[0], "block", height=1)
    peers[0].kill()
    peers[0].wait()
    with contextlib.closing(sqlite3.connect(home / "ledger.sqlite")) as book:
        book.execute("VACUUM INTO ?", (str(backup),))
    assert_same_end([ended(process) for process in [swarm.start("site-a", rounds=rounds), *peers[1:]]], rounds)
    for path in home.glob("ledger.sqlite*"):
        path.unlink()
    backup.rename(home / "ledger.sqlite")
    signed = []
    for _ in range(2):
        _, error = swarm.start("site-a", rounds=rounds).communicate(timeout=LIMIT_S)
        assert "never signed" in error
        assert "restored from a backup" in error
        with contextlib.closing(sqlite3.connect(home / "ledger.sqlite")) as book:
            signed += book.execute("SELECT COUNT(*), MAX(sequence) FROM own").fetchall()
    assert signed[0] == signed[1], "it signed on in its second start"


def test_three_processes_end_with_the_same_digest_and_every_site_in_every_round(make_swarm):
    swarm = make_swarm(patience_s=PATIENT_S)
    all_events = [ended(process) for process in swarm.start_all(rounds=4, size=200_000)]
    assert_same_end(all_events, 4)
    for events in all_events:
        blocks = [event for event in events if event["event"] == "block"]
        assert [block["height"] for block in blocks] == [0, 1, 2, 3, 4]
        assert all(set(block["included"]) == {*SITES} for block in blocks[1:])
    shown = json.loads(cli("show", str(swarm.path), "--json", "--quiet").stdout)
    assert shown[-1]["state"] == all_events[0][-1]["digest"]
    own = str(swarm.folder / "site-b" / "ledger.sqlite")
    by_ledger = json.loads(cli("show", str(swarm.path), "--ledger", own, "--json", "--quiet").stdout)
    assert all(block.pop("known_since") for block in by_ledger)
    assert not any(block.pop("known_since") for block in shown), "no clock stands in the log"
    for block in [*shown, *by_ledger]:
        assert block.pop("position") > 0
    assert by_ledger == shown
    status = json.loads(cli("status", str(swarm.path), "--json", "--quiet").stdout)
    assert status["finished"]
    assert [(member["name"], member["doing"], member["height"]) for member in status["members"]] == [
        (site, "ended", 4) for site in SITES
    ]


@pytest.mark.parametrize("when", ["before", "stored", "after"])
@pytest.mark.parametrize("kind", ["accept 1", "update 1", "attest 2", "commit 2"])
def test_a_peer_killed_around_what_it_signs_goes_on_and_nothing_is_lost(swarm, when, kind):
    victim = swarm.start("site-a", rounds=2, kill_at=f"{when} {kind}")
    second = swarm.start("site-b", rounds=2)  # with two of three up, the victim's every vote is needed
    killed(victim)
    again = [swarm.start(site, rounds=2) for site in ("site-a", "site-c")]
    assert_same_end([ended(process) for process in [*again, second]], 2)


def test_all_peers_killed_and_restarted_go_on(swarm):
    peers = swarm.start_all(rounds=4, sleep_s=0.1)
    wait_for(peers[0], "block", height=2)
    for process in peers:
        process.kill()
        process.wait()
    assert_same_end([ended(process) for process in swarm.start_all(rounds=4)], 4)


def test_below_the_quorum_the_swarm_says_who_is_missing_and_goes_on_by_itself(swarm):
    first = swarm.start("site-a", rounds=2)
    waiting = wait_for(first, "waiting")[-1]
    assert waiting["why"].startswith("below the quorum: 1 of 3 members are up")
    assert set(waiting["who"]) == {"site-b", "site-c"}

    def is_alone():
        status = json.loads(cli("status", str(swarm.path), "--json", "--quiet").stdout)
        up = [member["up"] for member in status["members"]]
        return up == [True, False, False] and set(status["waited_for"]) == {"site-b", "site-c"}

    wait_until(is_alone, "site-a's sign of life alone")
    others = [swarm.start(site, rounds=2) for site in SITES[1:]]
    assert_same_end([ended(process) for process in [first, *others]], 2)


def test_two_of_three_go_on_without_the_third_which_catches_up_later(swarm):
    peers = swarm.start_all(rounds=4, sleep_s=0.05)
    wait_for(peers[2], "block", height=1)
    peers[2].kill()
    peers[2].wait()
    both = [ended(process) for process in peers[:2]]
    late = ended(swarm.start("site-c", rounds=4))
    assert_same_end([*both, late], 4)


@pytest.mark.parametrize("while_running", [True, False])
def test_a_deleted_log_is_noticed_and_its_entries_are_given_back(swarm, while_running):
    peers = swarm.start_all(rounds=4, sleep_s=0.15)
    wait_for(peers[0], "block", height=2)
    if not while_running:
        for process in peers:
            process.kill()
            process.wait()
    swarm.lose_log()
    if not while_running:
        peers = swarm.start_all(rounds=4)
    all_events = [ended(process) for process in peers]
    assert_same_end(all_events, 4)


def test_the_first_round_waits_for_nobodys_patience(make_swarm):
    swarm = make_swarm(patience_s=100 * LIMIT_S)
    assert_same_end([ended(process) for process in swarm.start_all(rounds=1)], 1)


def test_a_log_that_lost_its_end_after_all_had_ended_is_given_it_back_by_one_site(make_swarm, monkeypatch):
    swarm = make_swarm(patience_s=PATIENT_S)
    for process in swarm.start_all(rounds=3):
        ended(process)
    heights = [block["height"] for block in json.loads(cli("show", str(swarm.path), "--json", "--quiet").stdout)]
    (log,) = [path for path in swarm.folder.glob("swarm.*.log") if path.is_file()]
    with contextlib.closing(sqlite3.connect(log)) as entries:
        gone = entries.execute("DELETE FROM entries WHERE position > (SELECT MAX(position) FROM entries) / 2").rowcount
        entries.commit()
    (swarm.folder / "runs").mkdir()
    (swarm.folder / "runs" / "mine").symlink_to(swarm.folder / "site-b")
    monkeypatch.chdir(swarm.folder)
    said = " ".join(cli("verify", str(swarm.path)).output.split())
    assert f"the engine's log lacks {gone} entries that runs/mine/ledger.sqlite holds" in said
    of_ledger = ("--ledger", "runs/mine/ledger.sqlite")
    assert f"lacks {gone} of " in cli("give-back", str(swarm.path), *of_ledger, "--look").output
    assert f"lacked {gone} of " in cli("give-back", str(swarm.path), *of_ledger).output
    assert "holds all " in cli("give-back", str(swarm.path), *of_ledger).output
    again = [block["height"] for block in json.loads(cli("show", str(swarm.path), "--json", "--quiet").stdout)]
    assert again == heights == [0, 1, 2, 3]
    assert "lacks" not in cli("verify", str(swarm.path)).output
