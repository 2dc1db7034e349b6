"""Where a verification begins: at the genesis, or, if the log's beginning is trimmed, at a checkpoint.

Rules: the auditor chooses the checkpoint, and a peer's way of starting from one (`swarm.adopt`) must agree. What lies
before it is taken on trust, and is said in so many words.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from swarmcell.errors import TamperedError
from swarmcell.node.identity import verify
from swarmcell.swarm.adopt import adopt
from swarmcell.swarm.audit import Audit
from swarmcell.swarm.audit_checkpoints import Anchor
from swarmcell.swarm.blocks import Block, follows
from swarmcell.swarm.body import Body, body_digest, decode_body
from swarmcell.swarm.encoding import EncodingError
from swarmcell.swarm.entries import Entry, decode_entry
from swarmcell.swarm.founding import Founding
from swarmcell.swarm.genesis import Genesis
from swarmcell.swarm.payloads import Checkpoint
from swarmcell.swarm.roster import Roster, founding
from swarmcell.swarm.state import State


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a swarm beside the entries that are verified.

    Attributes
    ----------
    pins
        Body digests by height that the swarm file vouches for: those of an invitation.
    bodies
        Bytes of the final bodies that a peer's ledger keeps after it was trimmed, ascending.
    founding
        The swarm keys, sealed for members, that a trimmed ledger keeps.
    """

    pins: Mapping[int, bytes] = field(default_factory=dict)
    bodies: Sequence[bytes] = ()
    founding: Founding = field(default_factory=Founding)


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a verification begins.

    Attributes
    ----------
    state
        A peer's state before the first entry that is judged; it moves on with those.
    first
        The block that comes before all that is checked; `None`: the genesis comes first.
    checkpoint
        The entry that holds `first`, and what it says.
    signers
        Names of the founders that committed to the first block.
    is_pinned, by_ledger
        The swarm file vouches for the first block; or nothing does but the ledger that is verified.
    """

    state: State
    first: Block | None = None
    checkpoint: tuple[Entry, Checkpoint] | None = None
    signers: tuple[str, ...] = ()
    is_pinned: bool = False
    by_ledger: bool = False

    @property
    def height(self) -> int:
        """The height of the first block that is checked."""
        return 0 if self.first is None else self.first.body.height


def bodies_by_height(known: Known) -> dict[int, bytes]:
    """Return the digests of the bodies that a ledger keeps."""
    return {decode_body(content).height: body_digest(content) for content in known.bodies}


def begin(genesis: Genesis, entries: Iterable[bytes], audited: Audit, known: Known, *, by_ledger: bool) -> Start:
    """Return where to begin: where the auditor did.

    Raises
    ------
    TamperedError
        If a peer would not begin there.
    """
    anchor = audited.anchor
    if anchor is None:
        return Start(state=State(genesis, verify))
    pin = {anchor.height: anchor.digest} if by_ledger or anchor.height in known.pins else {}
    for found in _checkpoints(entries, anchor):
        try:
            state = adopt(genesis, verify, found[1], pins=pin)
        except EncodingError:
            continue  # another one of the same block may have the signatures
        state.pins = {}
        pinned = anchor.height in known.pins
        signers = tuple(member.name for member in genesis.founders if member.signing_key in anchor.founders)
        by_ledger = by_ledger and not pinned
        return Start(
            state=state,
            first=state.last,
            checkpoint=found,
            signers=signers,
            is_pinned=pinned,
            by_ledger=by_ledger,
        )
    msg = f"block {anchor.height}: a peer would not begin at its checkpoint, and the auditor does"
    raise TamperedError(msg)


def _checkpoints(entries: Iterable[bytes], anchor: Anchor) -> Iterator[tuple[Entry, Checkpoint]]:
    """Return the checkpoints of this block that their authors signed."""
    for raw in entries:
        try:
            entry = decode_entry(raw)
        except EncodingError:
            continue
        said = entry.payload
        if not isinstance(said, Checkpoint) or body_digest(said.content) != anchor.digest:
            continue
        if verify(entry.author, entry.signed_bytes(), entry.signature):
            yield entry, said


def body_faults(genesis: Genesis, known: Known, start: Start) -> tuple[list[str], list[Body]]:
    """Return what is wrong with the bodies that a ledger keeps of blocks up to the first, and those bodies.

    Each must name the one before by its digest, so the first block's digest proves them all.
    """
    bodies = [decode_body(content) for content in known.bodies]
    bodies = [body for body in bodies if body.height <= start.height]
    last: Body | None = None
    faults = []
    for body in bodies:
        if last is None and body.height > 0:
            last = body
            continue
        roster = founding(genesis) if last is None else Roster(last.roster, last.f)
        if wrong := follows(last, roster, body):
            faults.append(f"block {body.height}, as the ledger keeps it: {wrong}")
        last = body
    of_first = start.first.digest if start.first else b""
    if last is not None and last.height == start.height and body_digest(last.encode()) != of_first:
        faults.append(f"block {last.height}: the ledger keeps another one than the checkpoint holds")
    return faults, bodies


def proven(start: Start, height: int, bodies: Sequence[Body], *, merged: bool) -> list[str]:
    """Say what a verification that began at a checkpoint proves, up to the block at `height`."""
    first = start.height
    said = [f"block {first} is final: {_who(start)}"] if not start.by_ledger else []
    if height > first:
        merges = ", and every merge was computed again" if merged else ""
        said.append(f"blocks {first + 1} to {height} follow on it: what they rest on is all here{merges}")
    before = [body.height for body in bodies if body.height < first]
    if before:
        said.append(
            f"blocks {before[0]} to {before[-1]} are what it rests on: each is named by the next, by its digest"
        )
    return said


def _who(start: Start) -> str:
    if start.is_pinned:
        return "the invitation in the swarm file vouches for it"
    return f"{', '.join(start.signers)} committed to it, a quorum of the founders"


def on_trust(start: Start) -> list[str]:
    """Say what a verification that began at a checkpoint takes on trust."""
    first = start.height
    said = [f"how blocks 0 to {first} came about: the contributions, votes and keys before the checkpoint are trimmed"]
    if start.by_ledger:
        said.append(
            f"that block {first} is final: its signers are no quorum of the founders, and this ledger alone says so"
        )
    elif not start.is_pinned:
        said.append("that the keys of these founders were in their hands when they signed it")
    return said
