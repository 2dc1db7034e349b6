"""Starting from a checkpoint: for a member that comes late, or whose log has been trimmed.

Trust comes from a certificate by a roster that the newcomer knows (the genesis', or that of a block which an invitation
vouches for), or from the invitation's own digest of that very body.
"""

from collections.abc import Mapping

from swarmcell.swarm.blocks import Block
from swarmcell.swarm.body import body_digest, decode_body
from swarmcell.swarm.encoding import EncodingError
from swarmcell.swarm.entries import decode_entry
from swarmcell.swarm.genesis import Genesis
from swarmcell.swarm.payloads import Checkpoint, Commit
from swarmcell.swarm.roster import Roster, founding
from swarmcell.swarm.state import State, Verify


def adopt(
    genesis: Genesis,
    verify: Verify,
    checkpoint: Checkpoint,
    *,
    roster: Roster | None = None,
    pins: Mapping[int, bytes] | None = None,
) -> State:
    """Return a state that begins after the checkpoint's block; apply the log from there.

    Parameters
    ----------
    genesis, verify, pins
        As for `State`.
    checkpoint
        Its author need not be trusted.
    roster
        Members whose commits are trusted; the founders by default.

    Raises
    ------
    EncodingError
        If neither a pin nor a quorum of the roster vouches for the checkpoint's block.
    """
    body, digest = decode_body(checkpoint.content), body_digest(checkpoint.content)
    pin = (pins or {}).get(body.height)
    view = _certified(genesis, verify, checkpoint, digest, roster or founding(genesis))
    if body.height != checkpoint.height or pin not in (None, digest) or (pin is None and view is None):
        msg = f"nobody known vouches for the checkpoint of block {checkpoint.height}: ask a member for a new invitation"
        raise EncodingError(msg)
    state = State(genesis, verify, pins=pins)
    state.chains.resumed = True
    state.begin(
        Block(
            body=body,
            content=checkpoint.content,
            digest=digest,
            view=view or 0,
            certificate=checkpoint.certificate,
            position=0,
        )
    )
    return state


def _certified(genesis: Genesis, verify: Verify, checkpoint: Checkpoint, digest: bytes, roster: Roster) -> int | None:
    """Return the view in which a quorum committed the body; `None` if the commits at hand show no such view."""
    authors: dict[int, set[bytes]] = {}
    for raw in checkpoint.certificate:
        try:
            entry = decode_entry(raw)
        except EncodingError:
            continue
        vote = entry.payload
        right = isinstance(vote, Commit) and vote.body == digest and vote.height == checkpoint.height
        known = entry.swarm == genesis.digest and entry.author in roster
        if right and known and verify(entry.author, entry.signed_bytes(), entry.signature):
            authors.setdefault(vote.view, set()).add(entry.author)  # type: ignore[union-attr]
    return next((view for view, members in sorted(authors.items()) if len(members) >= roster.quorum), None)


def trim_below(state: State) -> int:
    """Return the ledger position below which nothing is needed any more; 0 if there is no settled checkpoint.

    A checkpoint settles once a quorum has opened it. What belongs to open rounds, proposals and heights is kept.
    """
    for stored in state.checkpoints.stored(state.rounds.chunks):
        block = state.blocks.get(stored.payload.height)
        if block is None or not state.checkpoints.settled(stored, state.roster):
            continue
        rounds = [(p, e) for p, e in state.rounds.entries() if getattr(e.payload, "round", 0) > block.body.round]
        offers = [o for o in state.rounds.by_digest.values() if o.payload.round > block.body.round]
        positions = [p for p, _ in rounds] + [p for o in offers for p in o.chunks]
        positions += [p for p, _ in state.proposals.entries()]
        positions += [p for votes in state.ahead.values() for p, _ in votes]
        return min([block.position, stored.position, *stored.chunks, *positions])
    return 0
