"""Facts about verifying a history: what is right passes, and every planted fault is named."""

import asyncio
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from swarmcell.engine.embedded import EmbeddedLog
from swarmcell.node import ledger
from swarmcell.node.identity import Identity, verify
from swarmcell.node.peer import Peer
from swarmcell.node.task import Contribution, Merge
from swarmcell.node.terms import STANDARD, Terms
from swarmcell.swarm.body import body_digest, decode_body
from swarmcell.swarm.entries import NO_DIGEST, decode_entry, encode_entry, sign_bytes
from swarmcell.swarm.genesis import Genesis, Member
from swarmcell.swarm.payloads import Checkpoint
from swarmcell.workflows.swarm import verify as swarm_verify
from swarmcell.workflows.swarm.verify import NOTHING_MORE, verify_history
from swarmcell.workflows.swarm.verify_merges import merging
from swarmcell.workflows.swarm.verify_run import kept_of_trimmed
from swarmcell.workflows.swarm.verify_start import Known

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

    def __init__(self, factor=1, rounds=2):
        self.factor, self.rounds = factor, rounds

    def start(self):
        return json.dumps([0, 0]).encode()

    def contribute(self, state, stop):
        assert not stop.wait(0.03 if self.rounds > 2 else 0)  # a long study leaves time for checkpoints
        return Contribution(kind="update", parameters=json.dumps(len(state)).encode(), n_cells=1, n_donors=1)

    def merge(self, state, contributions):
        number, total = json.loads(state)
        total += self.factor * sum(json.loads(c.parameters) for c in contributions)
        return Merge(state=json.dumps([number + 1, total]).encode(), finished=number + 1 == self.rounds)

    def describe(self, state):
        return {"stage": "sums", "round": json.loads(state)[0]}


def run_swarm(folder, rounds, terms=STANDARD):
    """Return the log of a whole swarm: three real peers, whose ledgers lie in `folder`."""

    async def take_part(peer):
        log = EmbeddedLog(folder / "swarm.log")
        with ledger.opened(folder / f"{peer.name}.sqlite") as book:
            await Peer(peer, GENESIS, log, book, Sums(rounds=rounds), lambda *_: None, terms).run()
        entries = await log.read(1)
        await log.close()
        return entries

    async def scenario():
        return max(await asyncio.gather(*(take_part(peer) for peer in PEERS.values())), key=lambda read: read[-1][0])

    return [raw for _, raw in asyncio.run(scenario())]


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """Return the entries of a small swarm."""
    return run_swarm(Path(tmp_path_factory.mktemp("history")), 2)


TRIMMED_ROUNDS = 36


@dataclass
class Trimmed:
    """A swarm whose log and ledgers were trimmed: the log, and what site-c's ledger holds."""

    log: list[bytes]
    ledger: list[bytes]
    known: Known


@pytest.fixture(scope="module")
def trimmed(tmp_path_factory):
    folder = Path(tmp_path_factory.mktemp("trimmed"))
    log = run_swarm(folder, TRIMMED_ROUNDS, Terms(history_bytes_max=0))
    with ledger.opened(folder / "site-c.sqlite") as book:
        return Trimmed(log, [raw for _, raw in book.entries()], kept_of_trimmed(book, GENESIS, Known()))


def with_merges(history, task, known=NOTHING_MORE):
    with merging(PEERS["site-c"], GENESIS, task) as merger:
        return verify_history(GENESIS, history, merger, known)


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


# -- a log whose beginning is trimmed


def kinds(entries):
    return [decode_entry(raw).kind for raw in entries]


def test_a_trimmed_log_is_verified_from_a_checkpoint_that_the_founders_signed(trimmed):
    assert "accept" not in kinds(trimmed.log)
    found = verify_history(GENESIS, trimmed.log)
    assert found.faults == []
    assert 10 <= found.begins < TRIMMED_ROUNDS
    assert found.blocks == TRIMMED_ROUNDS - found.begins + 1
    assert "a quorum of the founders" in found.proven[0]
    assert f"blocks {found.begins + 1} to {TRIMMED_ROUNDS} follow" in found.proven[1]
    assert any(f"blocks 0 to {found.begins} came about" in said for said in found.on_trust)


def test_a_trimmed_ledger_proves_the_earlier_bodies_by_their_digests_and_the_later_merges(trimmed):
    found = with_merges(trimmed.ledger, Sums(rounds=TRIMMED_ROUNDS), trimmed.known)
    assert found.faults == []
    assert found.merges == TRIMMED_ROUNDS - found.begins > 0
    assert any(f"blocks 0 to {found.begins - 1} are what it rests on" in said for said in found.proven)
    assert any("every merge was computed again" in said for said in found.proven)


def test_another_merge_rule_is_found_out_after_a_checkpoint_too(trimmed):
    found = with_merges(trimmed.ledger, Sums(factor=2, rounds=TRIMMED_ROUNDS), trimmed.known)
    assert "gives another state" in found.faults[0]
    assert not any("computed again" in said for said in found.proven)


def test_a_key_that_is_trimmed_from_the_log_is_missed_once_with_a_remedy(trimmed):
    found = with_merges(trimmed.log, Sums(rounds=TRIMMED_ROUNDS))
    assert len(found.faults) == 1
    assert "--ledger" in found.faults[0]


def test_a_changed_body_of_a_trimmed_ledger_is_named(trimmed):
    bodies = [decode_body(content) for content in trimmed.known.bodies]
    bodies[4] = replace(bodies[4], state=bytes(32))
    known = replace(trimmed.known, bodies=[body.encode() for body in bodies])
    found = verify_history(GENESIS, trimmed.ledger, known=known)
    assert any("block 5, as the ledger keeps it" in fault for fault in found.faults)


def with_certificate(entries, certificate):
    """Return a log whose checkpoints say that these commits made them final.

    Each author's later entries follow on the changed one: the votes of all three count, for two may have been enough.
    """
    peers, renamed, made = {peer.key: peer for peer in PEERS.values()}, {}, []
    for entry in map(decode_entry, entries):
        said = entry.payload
        if isinstance(said, Checkpoint):
            said = replace(said, certificate=certificate)
        previous = renamed.get(entry.previous, entry.previous)
        made.append(sign(peers[entry.author], entry.sequence, previous, said))
        renamed[entry.digest] = decode_entry(made[-1]).digest
    return made


def test_a_checkpoint_that_nobody_known_vouches_for_proves_nothing(trimmed):
    log = with_certificate(trimmed.log, ())
    found = verify_history(GENESIS, log)
    assert (found.blocks, found.proven) == (0, [])
    assert any("neither a quorum of the founders nor the swarm file" in fault for fault in found.faults)


def test_an_invitation_vouches_for_a_checkpoint_that_founders_do_not(trimmed):
    log = with_certificate(trimmed.log, ())
    begins = verify_history(GENESIS, trimmed.log).begins
    pins = {begins: body_digest(trimmed.known.bodies[begins])}
    found = verify_history(GENESIS, log, known=Known(pins=pins))
    assert "the invitation in the swarm file vouches for it" in found.proven[0]
    assert found.blocks > 1
    other = verify_history(GENESIS, trimmed.log, known=Known(pins={begins: bytes(32)}))
    assert other.begins != begins


def test_a_ledger_that_alone_vouches_for_a_checkpoint_is_said_to_be_taken_on_trust(trimmed):
    found = verify_history(GENESIS, with_certificate(trimmed.ledger, ()), known=trimmed.known)
    assert any("this ledger alone says so" in said for said in found.on_trust)
    assert found.blocks > 1


def test_a_block_other_than_the_swarm_file_vouches_for_is_a_fault(history):
    found = verify_history(GENESIS, history, known=Known(pins={1: bytes(32)}))
    assert found.faults == ["block 1: it is not the one that is vouched for"]


def sign(peer, sequence, previous, payload):
    signature = peer.sign(sign_bytes(GENESIS.digest, peer.key, sequence, previous, payload))
    raw = encode_entry(GENESIS.digest, peer.key, sequence, previous, payload, signature)
    assert verify(peer.key, decode_entry(raw).signed_bytes(), signature)
    return raw
