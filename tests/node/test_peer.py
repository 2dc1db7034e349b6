"""Facts about a running peer. Real processes and kills are in tests/system."""

import asyncio
import json

import pytest
from waiting import LIMIT_S

from swarmcell.engine.embedded import EmbeddedLog
from swarmcell.errors import SwarmError
from swarmcell.node import ledger
from swarmcell.node.identity import Identity
from swarmcell.node.peer import Peer
from swarmcell.node.task import Contribution, Merge
from swarmcell.swarm.entries import NO_DIGEST, SIGNATURE_BYTES, encode_entry, sign_bytes
from swarmcell.swarm.genesis import Genesis, Member
from swarmcell.swarm.payloads import Patience

NAMES = ("site-a", "site-b")
PEERS = {name: Identity(name, *((name + kind).encode().ljust(32, b".") for kind in "123")) for name in NAMES}
GENESIS = Genesis(
    name="counting",
    rules=b"",
    founders=tuple(
        Member(name=name, signing_key=peer.card.signing_key, sealing_key=peer.card.sealing_key)
        for name, peer in PEERS.items()
    ),
)


class Counting:
    """Counts the rounds, and stops after two."""

    def start(self):
        return b"0"

    def contribute(self, state, stop):
        assert not stop.is_set()
        return Contribution(kind="update", parameters=b"one", n_cells=1, n_donors=1)

    def merge(self, state, contributions):
        number = json.loads(state) + 1
        return Merge(state=json.dumps(number).encode(), finished=number == 2)

    def describe(self, state):
        return {"stage": "counting", "round": json.loads(state)}


def run(folder, *planted):
    """Let both peers take part over a log in which these entries stand already; return how it ended."""

    async def take_part(identity):
        log = EmbeddedLog(folder / "swarm.log")
        with ledger.opened(folder / f"{identity.name}.sqlite") as book:
            ended = await Peer(identity, GENESIS, log, book, Counting(), lambda *_: None).run()
        await log.close()
        return ended

    async def scenario():
        log = EmbeddedLog(folder / "swarm.log")
        await log.append(planted)
        await log.close()
        async with asyncio.timeout(LIMIT_S):
            return await asyncio.gather(*(take_part(identity) for identity in PEERS.values()))

    return asyncio.run(scenario())


def entry_of(identity, *, signed):
    payload = Patience(round=1)
    message = sign_bytes(GENESIS.digest, identity.key, 1, NO_DIGEST, payload)
    signature = identity.sign(message) if signed else bytes(SIGNATURE_BYTES)
    return encode_entry(GENESIS.digest, identity.key, 1, NO_DIGEST, payload, signature)


def test_a_forged_entry_stops_nobody(tmp_path):
    """Anybody who can write to the engine can name any author; only the author can sign."""
    ended = run(tmp_path, entry_of(PEERS["site-a"], signed=False))
    assert [end.state for end in ended] == [b"2", b"2"]


def test_an_own_entry_that_the_ledger_never_signed_stops_the_peer(tmp_path):
    with pytest.raises(SwarmError, match="which this site's ledger never signed"):
        run(tmp_path, entry_of(PEERS["site-a"], signed=True))
