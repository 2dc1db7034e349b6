"""Facts about `swarmcell swarm simulate`."""

import json
import sys

import pytest

from swarmcell.cli.app import main


def simulate(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["swarmcell", "swarm", "simulate", *options])
    main()


def test_it_prints_what_a_consortium_plans_with(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        simulate(monkeypatch, "--peers", "4", "--rounds", "2", "--json")
    assert ended.value.code == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["rounds"], found["quorum"], found["plan"]["peers"]) == (2, 3, 4)
    assert found["log_bytes"] > 4_000_000
    assert "a peer sends" in err
    assert "next: swarmcell swarm create" in err


def test_a_swarm_that_stands_still_ends_with_the_swarms_exit_code(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        simulate(monkeypatch, "--peers", "3", "--down", "0.7", "--quiet")
    assert ended.value.code == 7
    assert "2 must be up and honest" in capsys.readouterr().err
