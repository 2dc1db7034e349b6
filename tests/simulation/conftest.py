"""The simulator's modules lie beside the tests, which are imported without packages."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _restore_decoding():
    from swarmcell.swarm import state
    from swarmcell.swarm.entries import decode_entry

    yield
    state.decode_entry = decode_entry
