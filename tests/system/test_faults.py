"""Facts about a swarm of real processes where something is really wrong: a member lies, an engine shows different logs,
a disk is full, peers die at any moment.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from test_peers import PATIENT_S, SITES, assert_same_end, cli, ended, wait_for
from typer.testing import CliRunner
from waiting import LIMIT_S, wait_until

from swarmcell.cli.app import app
from swarmcell.node import identity

FAULTY = Path(__file__).with_name("faulty_peer.py")


def start_faulty(swarm, site, fault, rounds, *, hidden=b""):
    command = [sys.executable, str(FAULTY), str(swarm.path), site, str(swarm.folder / site), str(rounds)]
    environment = {**os.environ, "FAULT": fault, "HIDDEN_AUTHOR": hidden.hex()}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": swarm.folder}
    process = subprocess.Popen(command, env=environment, **pipes)
    swarm.processes.append(process)
    return process


def shown(swarm):
    return json.loads(cli("show", str(swarm.path), "--json", "--quiet").stdout)


def test_a_lying_member_is_outvoted_left_out_and_found_out(make_swarm):
    """Blobs that nobody can open, votes for bodies that nobody got, two entries at one sequence."""
    sites = (*SITES, "site-d")
    swarm = make_swarm(sites=sites, f=1, patience_s=PATIENT_S)
    start_faulty(swarm, "site-d", "liar", 3)
    honest = [ended(process) for process in [swarm.start(site, rounds=3) for site in SITES]]
    assert_same_end(honest, 3)
    blocks = shown(swarm)
    left_out = [block["left_out"] for block in blocks if block["kind"] == "merge"]
    assert {"site-d": "does not open"} in left_out
    assert all(set(block["included"]) <= {*SITES} for block in blocks)
    found = CliRunner().invoke(app, ["swarm", "verify", str(swarm.path), "--quiet"])
    assert "the author equivocates" in str(found.exception)
    accused = {line.split(",")[0].strip() for line in str(found.exception).splitlines() if "equivocates" in line}
    liar = identity.load("site-d").key.hex()[:16]
    assert accused == {liar}, "an honest member is accused"


def test_processes_that_are_shown_different_logs_agree_in_another_view(make_swarm):
    """Nobody sees a certificate of view 0, and two of three miss different updates: view 1 merges the union."""
    swarm = make_swarm()
    keys = {site: identity.load(site).key for site in SITES}
    hides = {"site-a": keys["site-c"], "site-b": keys["site-c"], "site-c": keys["site-b"]}
    peers = [start_faulty(swarm, site, "twisted", 4, hidden=hides[site]) for site in SITES]
    assert_same_end([ended(process) for process in peers], 4)
    blocks = shown(swarm)
    assert blocks[2]["view"] >= 1
    cli("verify", str(swarm.path), "--quiet")


def test_a_full_disk_ends_a_peer_with_the_reason_and_it_goes_on_once_there_is_room(make_swarm):
    swarm = make_swarm()
    process = swarm.start("site-a", rounds=4, size=200_000, files_max=1_500_000)
    others = [swarm.start(site, rounds=4, size=200_000) for site in SITES[1:]]
    _, error = process.communicate(timeout=LIMIT_S)
    assert process.returncode != 0
    assert "the ledger cannot be read or written" in error
    assert "Nothing was signed that is not stored: mend the disk" in error
    again = swarm.start("site-a", rounds=4, size=200_000)
    assert_same_end([ended(process) for process in [again, *others]], 4)
    cli("verify", str(swarm.path), "--quiet")


def test_twenty_rounds_with_a_kill_at_a_random_moment_of_every_third(make_swarm):
    swarm = make_swarm()
    chance = random.Random(4)
    peers = dict(zip(SITES, swarm.start_all(rounds=20, sleep_s=0.25), strict=True))
    kills = 0
    wait_until(swarm.log.exists, "a log")
    for height in range(2, 20, 3):
        wait_until(lambda height=height: len(shown(swarm)) > height, f"block {height}")
        time.sleep(chance.uniform(0, 0.5))
        victim = chance.choice(SITES)
        peers[victim].kill()
        peers[victim].communicate()
        kills += peers[victim].returncode == -signal.SIGKILL
        peers[victim] = swarm.start(victim, rounds=20, sleep_s=0.25)
    assert kills, "the swarm was done before it was disturbed"
    assert_same_end([ended(process) for process in peers.values()], 20)
    blocks = shown(swarm)
    assert [block["round"] for block in blocks] == list(range(21)), "a round was lost"
    cli("verify", str(swarm.path), "--quiet")


def test_a_peer_that_is_killed_after_its_snapshot_starts_from_it(make_swarm):
    swarm = make_swarm()
    peers = swarm.start_all(rounds=14, sleep_s=0.02)
    wait_for(peers[0], "block", height=11)
    for process in peers:
        process.kill()
        process.communicate()
    from swarmcell.node import ledger

    with ledger.opened(swarm.folder / "site-a" / "ledger.sqlite") as book:
        assert book.snapshot() is not None
        assert book.snapshot().position > 0.5 * book.last_position()
    assert_same_end([ended(process) for process in swarm.start_all(rounds=14)], 14)


def test_a_swarm_whose_log_and_ledgers_are_trimmed_is_shown_whole_and_verified_from_a_checkpoint(make_swarm):
    swarm = make_swarm(patience_s=PATIENT_S)
    (swarm.folder / "site.toml").write_text('name = "anybody"\nhistory_gb_max = 0\n')
    assert_same_end([ended(process) for process in swarm.start_all(rounds=36, sleep_s=0.03)], 36)
    of_log, of_ledger = (), ("--ledger", str(swarm.folder / "site-b" / "ledger.sqlite"))
    for where, first in ((of_log, 10), (of_ledger, 0)):
        said = cli("verify", str(swarm.path), *where).output
        assert "proven: block " in said
        assert "a quorum of the founders" in said
        assert "on trust: how blocks 0 to " in said
        blocks = json.loads(cli("show", str(swarm.path), *where, "--json", "--quiet").stdout)
        heights = [block["height"] for block in blocks]
        assert first <= heights[0] <= 30 * bool(first)
        assert heights == list(range(heights[0], 37))
    assert blocks[0]["commits"] is None, "who committed to a block that is trimmed cannot be known"
    assert "blocks 0 to " in cli("show", str(swarm.path)).output
    lacking = json.loads(cli("give-back", str(swarm.path), *of_ledger, "--look", "--json", "--quiet").stdout)
    assert (lacking["lacking"], lacking["held"] > 100) == (0, True), "what was trimmed is not lost"
