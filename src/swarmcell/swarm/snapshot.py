"""A state as canonical bytes, so that a peer of a long log starts from what it has verified before.

A snapshot is for the peer that made it: it holds what its ledger holds, verified, and is read back unverified. Never
take one from somebody else (a checkpoint and its certificate are for that: `adopt`).
"""

from collections.abc import Iterable
from typing import Any

from swarmcell.swarm.blocks import Block, Changed, Founded, Merged
from swarmcell.swarm.body import body_digest, decode_body
from swarmcell.swarm.encoding import EncodingError, Plain, decode, encode
from swarmcell.swarm.entries import Entry, decode_entry
from swarmcell.swarm.genesis import Genesis
from swarmcell.swarm.payloads import (
    Accept,
    Acknowledge,
    Approve,
    Checkpoint,
    Evaluation,
    Patience,
    Propose,
    Statistics,
    Update,
    Wrap,
)
from swarmcell.swarm.roster import Roster, founding
from swarmcell.swarm.rounds import KEPT_ROUNDS
from swarmcell.swarm.state import State, Verify

VERSION = 3
BYTES_MAX = 2**31


def snapshot(state: State) -> bytes:
    """Return `state` as canonical bytes; store them beside the ledger position `state.position`."""
    blocks = [b for h, b in sorted(state.blocks.items()) if h >= state.height - KEPT_ROUNDS - 1]
    content: Plain = {
        "version": VERSION,
        "swarm": state.swarm,
        "position": state.position,
        "halted": state.halted,
        "reread": state.reread,
        "ignored": dict(state.ignored),
        "blocks": [[b.content, b.view, list(b.certificate), b.position] for b in blocks],
        "chains": state.chains.dump(),
        "resumed": state.chains.resumed,
        "used": [[*purse, count, size] for purse, (count, size) in sorted(state.chains.used.items())],
        "chunks": state.rounds.dump_chunks(),
        "wanted": state.wanted.dump(),
        "votes": [entry.raw for entry in state.ballot.kept],
        "candidate": _candidate(state),
        "parts": [_rows(part.entries()) for part in (state.rounds, state.founding, state.proposals, state.checkpoints)],
        "evaluations": _rows(state.evaluations.values()),
        "trained": _rows(state.trained.values()),
        "ahead": _rows(pair for votes in state.ahead.values() for pair in votes),
        "strangers": _rows(state.strangers.values()),
    }
    return encode(content, bytes_max=BYTES_MAX)


def restore(genesis: Genesis, verify: Verify, content: bytes) -> State:
    """Return the state that `snapshot` wrote.

    Raises
    ------
    EncodingError
        If the bytes are no snapshot of this version and swarm.
    """
    held: Any = decode(content, bytes_max=BYTES_MAX)
    if not isinstance(held, dict) or held.get("version") != VERSION or held.get("swarm") != genesis.digest:
        msg = "not a snapshot of this swarm by this version; start from the ledger"
        raise EncodingError(msg)
    state = State(genesis, verify)
    _restore_blocks(state, held["blocks"])
    state.chains.load(held["chains"])
    state.chains.resumed = held["resumed"]
    state.rounds.chunks = {(author, chunk): (position, since) for author, chunk, position, since in held["chunks"]}
    for position, raw in [row for rows in held["parts"] for row in rows]:
        _replace(state, position, decode_entry(raw))
    for position, raw in held["ahead"]:
        state.expect(position, decode_entry(raw))
    state.evaluations = {(e.author, _state_of(e)): (p, e) for p, e in _entries(held["evaluations"])}
    state.trained = {e.author: (p, e) for p, e in _entries(held.get("trained", []))}
    state.strangers = {e.digest: (p, e) for p, e in _entries(held["strangers"])}
    state.open()
    state.wanted.load(held["wanted"])
    for raw in held["votes"]:
        state.ballot.add(decode_entry(raw))
    _restore_rest(state, held)
    return state


def claims_of(content: bytes) -> dict[bytes, Entry]:
    """Return the entries of a snapshot by which members said what they train on, by author."""
    held: Any = decode(content, bytes_max=BYTES_MAX)
    return {entry.author: entry for _, entry in _entries(held.get("trained", []))}


def _restore_rest(state: State, held: Any) -> None:  # noqa: ANN401 (a decoded snapshot)
    state.candidate = _chosen(state, held["candidate"])
    state.chains.used = {(author, votes): (count, size) for author, votes, count, size in held["used"]}
    state.ignored.clear()
    state.ignored.update(held["ignored"])
    state.position, state.halted, state.reread = held["position"], held["halted"], held["reread"]


def _restore_blocks(state: State, rows: list[Any]) -> None:
    for content, view, certificate, position in rows:
        body = decode_body(content)
        block = Block(
            body=body,
            content=content,
            digest=body_digest(content),
            view=view,
            certificate=tuple(certificate),
            position=position,
        )
        state.last, state.blocks[body.height] = block, block
        state.roster = Roster(body.roster, body.f)
        state.rounds.number = body.round + 1


def _replace(state: State, position: int, entry: Entry) -> None:
    """Put one kept entry back into its part."""
    match entry.payload:
        case (Update() | Statistics()) as payload:
            state.rounds.add(entry, payload, position)
        case Patience(round=number):
            state.rounds.add_patience(entry, number, position)
        case Accept() as payload:
            state.founding.accept(entry, payload, position, founding(state.genesis))
        case Wrap() as payload:
            state.founding.wrap(entry, payload, position, wanted=True)
        case Approve(proposal=proposal):
            state.proposals.approve(entry, proposal, position)
        case Checkpoint() as payload:
            state.checkpoints.add(entry, payload, position)
        case Acknowledge(checkpoint=checkpoint):
            state.checkpoints.acknowledge(entry, checkpoint, position)
        case Propose() as payload:
            _replace_proposal(state, position, entry, payload)


def _replace_proposal(state: State, position: int, entry: Entry, payload: Propose) -> None:
    """Put a proposal back: it is kept for its keys, which outlive it, and once more as long as it is open."""
    if any(kept.digest == entry.digest for _, kept in state.founding.entries()) or not payload.wraps:
        state.proposals.propose(entry, payload, position)
    else:
        state.founding.wrap(entry, payload, position, wanted=True)


def _candidate(state: State) -> Plain:
    match state.candidate:
        case None:
            return []
        case Founded(accept=accept):
            return ["founded", accept]
        case Changed(proposal=proposal):
            return ["changed", proposal]
        case Merged(offers=offers):
            return ["merged", *(offer.digest for offer in offers)]


def _chosen(state: State, row: list[Any]) -> Founded | Changed | Merged | None:
    match row:
        case ["founded", accept]:
            return Founded(accept, state.founding.accepts[accept][1].key_digest)
        case ["changed", proposal]:
            return Changed(proposal, state.proposals.open[proposal][2])
        case ["merged", *digests]:
            return Merged(tuple(state.rounds.by_digest[digest] for digest in digests))
    return None


def _rows(pairs: Iterable[tuple[int, Entry]]) -> Plain:
    return [[position, entry.raw] for position, entry in pairs]


def _entries(rows: list[Any]) -> list[tuple[int, Entry]]:
    return [(position, decode_entry(raw)) for position, raw in rows]


def _state_of(entry: Entry) -> bytes:
    return entry.payload.state if isinstance(entry.payload, Evaluation) else b""
