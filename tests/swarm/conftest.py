"""Helpers lie beside the tests, and whole histories in the simulator's folder; tests are imported without packages."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
for folder in (HERE, HERE.parent / "simulation"):
    sys.path.insert(0, str(folder))


@pytest.fixture(autouse=True)
def _restore_decoding():
    from swarmcell.swarm import state
    from swarmcell.swarm.entries import decode_entry

    yield
    state.decode_entry = decode_entry


@pytest.fixture
def scene():
    from scenes import Scene

    return Scene()


@pytest.fixture
def founded():
    from scenes import Scene

    return Scene().found()


@pytest.fixture(scope="session")
def honest_world():
    """Return a finished history of three honest peers over an honest engine; never change it."""
    from world import build

    world = build(3, n=3, f=0, hostile=False, crash=0.0)
    world.settle(3000)
    return world
