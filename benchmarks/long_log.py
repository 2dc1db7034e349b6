"""A long log, made by simulation with real signatures: three members, every round merged, a checkpoint every ten.

One `State` reads what all three write, so the log is what three honest peers over an honest engine would leave.
"""

import hashlib
from collections.abc import Iterator

from swarmcell.node.identity import Identity, verify
from swarmcell.swarm import blocks
from swarmcell.swarm.actions import Outcome
from swarmcell.swarm.blocks import Founded, Merged
from swarmcell.swarm.body import Body, body_digest
from swarmcell.swarm.entries import NO_DIGEST, encode_entry, sign_bytes
from swarmcell.swarm.genesis import Genesis, Member
from swarmcell.swarm.payloads import Accept, Acknowledge, Attest, Blob, Checkpoint, Commit, Payload, Update
from swarmcell.swarm.proposals import key_digest
from swarmcell.swarm.state import State

SITES = ("site-a", "site-b", "site-c")
IDENTITIES = {name: Identity(name, *((name + kind).encode().ljust(32, b".") for kind in "123")) for name in SITES}
GENESIS = Genesis(
    name="long",
    rules=b"",
    founders=tuple(
        Member(name=name, signing_key=one.card.signing_key, sealing_key=one.card.sealing_key)
        for name, one in IDENTITIES.items()
    ),
)
_SWARM_KEY = bytes(32)


class _Author:
    def __init__(self, identity: Identity) -> None:
        self.identity, self.sequence, self.previous = identity, 0, NO_DIGEST

    def entry(self, payload: Payload) -> bytes:
        self.sequence += 1
        place = (GENESIS.digest, self.identity.key, self.sequence, self.previous, payload)
        raw = encode_entry(*place, self.identity.sign(sign_bytes(*place)))
        self.previous = hashlib.sha256(raw).digest()
        return raw


def long_log(rounds: int, size: int = 200) -> Iterator[bytes]:
    """Yield the entries of a swarm of `rounds` merges, with updates of `size` bytes."""
    state, authors, position = State(GENESIS, verify), [_Author(one) for one in IDENTITIES.values()], 0
    while state.rounds.number <= rounds:
        for author, payload in _height(state, authors, size):
            raw = author.entry(payload)
            position += 1
            applied = state.apply(position, raw)
            assert applied.stored, applied.reason
            assert not applied.reason, applied.reason
            yield raw


def _height(state: State, authors: list[_Author], size: int) -> Iterator[tuple[_Author, Payload]]:
    """Yield what the members write at one height."""
    height, last = state.height, state.last
    if last is not None and last.body.height % 10 == 0 and last.body.height:
        yield from _checkpoint(state, authors)
    if last is None:
        wraps = tuple((m.signing_key, _SWARM_KEY) for m in sorted(GENESIS.founders, key=lambda m: m.signing_key))
        for author in authors:
            yield author, Accept(key_digest=key_digest(_SWARM_KEY), wraps=wraps if author is authors[0] else ())
    else:
        for author in authors:
            yield from _update(state, author, size)
    content = _body(state).encode()
    digest = body_digest(content)
    for author in authors:
        yield author, Attest(height=height, view=0, body=digest)
    for author in authors[:2]:  # the third would come after the block
        yield author, Commit(height=height, view=0, body=digest, content=content if author is authors[0] else b"")


def _update(state: State, author: _Author, size: int) -> Iterator[tuple[_Author, Payload]]:
    body = state.body
    assert body is not None
    content = hashlib.shake_128(author.previous).digest(size)
    yield author, Blob(content=content)
    said = hashlib.sha256(content).digest()
    yield (
        author,
        Update(
            round=state.rounds.number,
            epoch=0,
            base=body.state,
            parameters=said,
            chunks=(said,),
            size_bytes=size,
            n_cells=1,
            n_donors=1,
        ),
    )


def _checkpoint(state: State, authors: list[_Author]) -> Iterator[tuple[_Author, Payload]]:
    block = state.last
    assert block is not None
    chunk = hashlib.sha256(block.digest).digest()
    yield authors[0], Blob(content=block.digest)
    said = Checkpoint(
        height=block.body.height,
        epoch=0,
        content=block.content,
        certificate=block.certificate,
        chunks=(chunk,),
        size_bytes=32,
    )
    yield authors[0], said
    entry = authors[0].previous
    for author in authors:
        yield author, Acknowledge(height=block.body.height, checkpoint=entry)


def _body(state: State) -> Body:
    outcome = Outcome(state=hashlib.sha256(b"state" + state.height.to_bytes(8, "big")).digest())
    match state.candidate:
        case Founded() as candidate:
            return blocks.found(state.roster, candidate, outcome)
        case Merged(offers=offers):
            assert state.body is not None
            return blocks.merge(state.body, state.roster, offers, outcome)
    raise AssertionError(state.candidate)
