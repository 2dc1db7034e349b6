"""Facts about verifying a history: what is right passes, and every planted fault is named."""

import json
from pathlib import Path

import pytest

from swarmcell.node.identity import Identity, verify
from swarmcell.node.task import Contribution, Merge
from swarmcell.swarm.entries import NO_DIGEST, decode_entry, encode_entry, sign_bytes
from swarmcell.swarm.genesis import Genesis, Member
from swarmcell.workflows.swarm import verify as swarm_verify
from swarmcell.workflows.swarm.verify import merging, verify_history

NAMES = ("site-a", "site-b", "site-c")


def identity(name):
    return Identity(name, *((name + kind).encode().ljust(32, b".") for kind in ("1", "2", "3")))


PEERS = {name: identity(name) for name in NAMES}
MEMBERS = tuple(
    Member(name=name, signing_key=peer.card.signing_key, sealing_key=peer.card.sealing_key)
    for name, peer in PEERS.items()
)
GENESIS = Genesis(name="sums", rules=b"", founders=MEMBERS, min_updates=2)


class Sums:
    """Sums what the sites say."""

    def __init__(self, factor=1):
        self.factor = factor

    def start(self):
        return json.dumps([0, 0]).encode()

    def contribute(self, state, stop):
        assert not stop.is_set()
        return Contribution(kind="update", parameters=json.dumps(len(state)).encode(), n_cells=1, n_donors=1)

    def merge(self, state, contributions):
        number, total = json.loads(state)
        total += self.factor * sum(json.loads(c.parameters) for c in contributions)
        return Merge(state=json.dumps([number + 1, total]).encode(), finished=number + 1 == 2)

    def describe(self, state):
        return {"stage": "sums", "round": json.loads(state)[0]}


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """Return the entries of a whole small swarm: three real peers over an embedded log."""
    import asyncio

    from swarmcell.engine.embedded import EmbeddedLog
    from swarmcell.node import ledger
    from swarmcell.node.peer import Peer

    folder = Path(tmp_path_factory.mktemp("history"))

    async def take_part(peer):
        log = EmbeddedLog(folder / "swarm.log")
        with ledger.opened(folder / f"{peer.name}.sqlite") as book:
            await Peer(peer, GENESIS, log, book, Sums(), lambda *_: None).run()
        entries = [raw for _, raw in await log.read(1)]
        await log.close()
        return entries

    async def scenario():
        return max(await asyncio.gather(*(take_part(peer) for peer in PEERS.values())), key=len)

    return asyncio.run(scenario())


def with_merges(history, task):
    with merging(PEERS["site-c"], GENESIS, task) as merger:
        return verify_history(GENESIS, history, merger)


def test_an_empty_log_verifies_nothing_and_says_so():
    assert "no block is final" in verify_history(GENESIS, []).faults[0]


def test_a_true_history_passes_with_every_merge(history):
    found = with_merges(history, Sums())
    assert found.faults == []
    assert (found.blocks, found.merges) == (3, 3)
    assert found.signatures == len(history)


def test_another_merge_rule_is_found_out(history):
    found = with_merges(history, Sums(factor=2))
    assert any("gives another state" in fault for fault in found.faults)


def test_an_equivocating_author_is_named(history):
    first = decode_entry(next(raw for raw in history if decode_entry(raw).author == PEERS["site-a"].key))
    other = sign(PEERS["site-a"], first.sequence, first.previous, decode_entry(history[-1]).payload)
    found = verify_history(GENESIS, [*history, other])
    assert any("equivocates" in fault for fault in found.faults)


def test_an_entry_that_does_not_follow_on_its_authors_last_is_named(history):
    last = [decode_entry(raw) for raw in history if decode_entry(raw).author == PEERS["site-b"].key][-1]
    other = sign(PEERS["site-b"], last.sequence + 1, NO_DIGEST, last.payload)
    found = verify_history(GENESIS, [*history, other])
    assert any("does not follow" in fault for fault in found.faults)


def test_forged_entries_count_for_nothing_and_are_counted(history):
    forged = bytearray(history[0])
    forged[-70] ^= 1
    found = verify_history(GENESIS, [*history, b"junk", bytes(forged)])
    assert found.faults == []
    assert sum(found.strange.values()) == 2


def test_a_certificate_with_too_few_members_is_a_fault(history, monkeypatch):
    monkeypatch.setattr(swarm_verify, "quorum", lambda n, f: n + f + 1)
    found = verify_history(GENESIS, history)
    assert all("members committed" in fault for fault in found.faults)
    assert len(found.faults) == 3


def sign(peer, sequence, previous, payload):
    signature = peer.sign(sign_bytes(GENESIS.digest, peer.key, sequence, previous, payload))
    raw = encode_entry(GENESIS.digest, peer.key, sequence, previous, payload, signature)
    assert verify(peer.key, decode_entry(raw).signed_bytes(), signature)
    return raw
