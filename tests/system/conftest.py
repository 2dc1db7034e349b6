"""Helpers lie beside the tests; tests are imported without packages."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def make_swarm(tmp_path, monkeypatch):
    """Found a swarm that sums, with these rules; its processes end with the test."""
    from test_peers import Swarm

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = []

    def make(**rules):
        made.append(Swarm(tmp_path, **rules))
        return made[-1]

    yield make
    for swarm in made:
        swarm.close()
