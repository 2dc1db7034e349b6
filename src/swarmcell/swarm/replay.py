"""Reading a whole log at once."""

from collections.abc import Iterable

from swarmcell.swarm.genesis import Genesis
from swarmcell.swarm.state import State, Verify


def replay(genesis: Genesis, entries: Iterable[bytes], verify: Verify) -> State:
    """Return the state after `entries`, at positions from 1."""
    state = State(genesis, verify)
    for position, raw in enumerate(entries, start=1):
        state.apply(position, raw)
    return state
