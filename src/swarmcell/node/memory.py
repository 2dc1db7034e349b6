"""What a peer knows when it starts, and how a start stays quick however long the log is.

Rules: a snapshot holds `State` and `Me` after all entries up to a position of the ledger, and is stored after them.
A start reads the last snapshot and the entries since. One of another version is not read: the peer starts from all its
entries, or, where those were trimmed, from a checkpoint. After a jump to a checkpoint the snapshot is all there is of
what lies below.
"""

import contextlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

from swarmcell.engine.log import Log
from swarmcell.errors import SwarmError
from swarmcell.node.identity import verify
from swarmcell.node.ledger import Cursor, Ledger, Snapshot
from swarmcell.swarm.adopt import adopt
from swarmcell.swarm.blocks import Block
from swarmcell.swarm.encoding import EncodingError, decode, encode
from swarmcell.swarm.entries import Entry, decode_entry
from swarmcell.swarm.genesis import Genesis
from swarmcell.swarm.me import Me
from swarmcell.swarm.payloads import Checkpoint
from swarmcell.swarm.snapshot import BYTES_MAX, claims_of, restore, snapshot
from swarmcell.swarm.state import State

SNAPSHOT_BLOCKS = 10  # between snapshots; a start reads the entries of so many blocks at most, and one height's quotas


@dataclass
class Memory:
    """What a peer knows: the swarm's state, its own side, and the last position of its ledger."""

    state: State
    me: Me
    position: int
    saved_height: int = 0

    @property
    def is_due(self) -> bool:
        """Enough has become final since the last snapshot."""
        return self.state.height >= self.saved_height + SNAPSHOT_BLOCKS


def recall(ledger: Ledger, genesis: Genesis, me: Me, pins: Mapping[int, bytes] | None = None) -> Memory:
    """Return what a peer knows by its ledger; `me`, fresh, takes up its own side.

    Raises
    ------
    SwarmError
        If the ledger was trimmed, and its snapshot cannot be read.
    """
    state = State(genesis, verify, pins=pins)
    kept = ledger.snapshot()
    if kept is not None:
        try:
            state = _take_up(kept, me, genesis, ledger)
        except (EncodingError, KeyError, TypeError, ValueError) as error:
            if ledger.is_trimmed():
                msg = f"the ledger's snapshot cannot be read ({error}), and the entries before it are trimmed. "
                raise SwarmError(msg + "Make a new identity and ask the members to admit it.") from error
            kept = None
    state.pins = dict(pins or {})
    for raw in ledger.own(first=me.sequence + 1):
        me.remember(decode_entry(raw))
    after, saved_height = (kept.position, state.height) if kept else (0, 0)
    for position, raw in ledger.entries(after):
        applied = state.apply(position, raw)
        if applied.entry is not None and applied.signed:
            me.meet(applied.entry)
    me.holds(ledger.states())
    return Memory(state, me, max(after, ledger.last_position()), saved_height)


def _take_up(kept: Snapshot, me: Me, genesis: Genesis, ledger: Ledger) -> State:
    held = decode(kept.content, bytes_max=BYTES_MAX)
    if not isinstance(held, dict) or not isinstance(held.get("state"), bytes):
        msg = "not a snapshot"
        raise EncodingError(msg)
    state = restore(genesis, verify, held["state"])
    digests = ledger.own_digests()
    for side in (Me(me.key), me):  # the first one tries
        side.load(held["me"], digests)
    return state


def kept_claims(kept: Snapshot) -> dict[bytes, Entry]:
    """Return the entries by which members said what they train on, by author, as a snapshot holds them."""
    held = decode(kept.content, bytes_max=BYTES_MAX)
    state = held.get("state") if isinstance(held, dict) else None
    return claims_of(state) if isinstance(state, bytes) else {}


def remembered(memory: Memory) -> Snapshot:
    """Return what `recall` takes up; the ledger must hold all entries that `memory` has applied."""
    memory.saved_height = memory.state.height
    content = encode({"state": snapshot(memory.state), "me": memory.me.dump()}, bytes_max=BYTES_MAX)
    return Snapshot(memory.position, memory.me.sequence, content)


def kept_block(block: Block) -> tuple[int, bytes, bytes]:
    """Return what the ledger keeps of a final block."""
    return block.body.height, block.body.state, block.content


async def newest_checkpoint(log: Log, state: State) -> State | None:
    """Return a state from the newest checkpoint in the log that lies beyond `state` and that its roster vouches for."""
    newest = None
    async for later in _checkpoints(log, state):
        newest = later
    return newest


async def first_checkpoint(log: Log, state: State) -> State | None:
    """Return a state from the first checkpoint in the log that lies beyond `state` and that its roster vouches for."""
    async with contextlib.aclosing(_checkpoints(log, state)) as found:
        return await anext(found, None)


async def _checkpoints(log: Log, state: State) -> AsyncGenerator[State, None]:
    """Yield states from checkpoints beyond `state`, each later than the one before, as the log is read."""
    best, position = None, 0
    while batch := await log.read(position + 1):
        for _, raw in batch:
            if (later := _later(state, best, raw)) is not None:
                yield (best := later)
        position = batch[-1][0]


def _later(state: State, best: State | None, raw: bytes) -> State | None:
    try:
        entry = decode_entry(raw)
    except EncodingError:
        return None
    said = entry.payload
    if not isinstance(said, Checkpoint) or entry.swarm != state.swarm or said.height < (best or state).height:
        return None
    try:
        return adopt(state.genesis, verify, said, roster=(best or state).roster, pins=state.pins)
    except EncodingError:
        return None


def jump(memory: Memory, state: State, ledger: Ledger, cursor: Cursor) -> Memory:
    """Go on from a checkpoint's state, reading the log after `cursor`; nothing is left to be read before it."""
    _meet_trimmed(memory, state)
    state.position, state.trained = memory.position, dict(memory.state.trained)
    jumped = Memory(state, memory.me, memory.position)
    blocks = [kept_block(block) for block in state.blocks.values()]
    ledger.store_snapshot(remembered(jumped), cursor, blocks)
    return jumped


def _meet_trimmed(memory: Memory, state: State) -> None:
    """Notice what this identity signed below a checkpoint, and the ledger lacks: the entries themselves are trimmed.

    Of these, the commits to the checkpoint's block are left, and the last round in which it took part.
    """
    me = memory.me
    for raw in [raw for block in state.blocks.values() for raw in block.certificate]:
        with contextlib.suppress(EncodingError):
            entry = decode_entry(raw)
            if entry.author == me.key and verify(me.key, entry.signed_bytes(), entry.signature):
                me.meet(entry)
    known = [s.last_round for s in memory.state.roster.standings if s.member.signing_key == me.key]
    signed = [number for kind, number in me.done if kind == "contribution" and isinstance(number, int)]
    last = max((s.last_round for s in state.roster.standings if s.member.signing_key == me.key), default=0)
    if known and last > max(known + signed):  # a member that was admitted meanwhile has not taken part yet
        me.stop(f"a contribution to round {last}")
