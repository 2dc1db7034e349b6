"""Facts about a state as bytes: a peer that starts from it decides as if it had read the whole log."""

import pytest
from scenes import Scene
from world import build, cached_decode, fake_verify, make_genesis

from swarmcell.swarm.decide import decide
from swarmcell.swarm.encoding import EncodingError, encode
from swarmcell.swarm.me import Me
from swarmcell.swarm.payloads import Approve, TrainedOn
from swarmcell.swarm.replay import replay
from swarmcell.swarm.snapshot import restore, snapshot
from swarmcell.swarm.state import State


def histories():
    for seed, n, f, liars in ((1, 3, 0, ""), (2, 4, 1, "l"), (4, 4, 1, "t")):
        world = build(seed, n=n, f=f, liars=liars)
        world.run(300)
        yield world.genesis, next(p.disk.ledger for p in world.peers if p.honest), world
    world = build(5, n=4, f=0, hostile=False, crash=0.0, rounds_max=6)
    world.add("newcomer")
    from world import member

    world.wishes = [("admit", member("newcomer"))]
    world.run(250)
    yield world.genesis, list(world.engine.log), world


HISTORIES = list(histories())


def decisions(state, me):
    """Return what each member would do, whatever it has computed."""
    me.holds(block.body.state for block in state.blocks.values())
    me.opened_key(state.key_digest)
    found = []
    for now_ms in (0, 5_000):
        me.observe(state, now_ms)
        found.append(decide(state, me, now_ms))
    return found


def me_of(key, ledger):
    me = Me(key)
    for raw in ledger:
        entry = cached_decode(raw)
        if entry.author == key and entry.sequence == me.sequence + 1:
            me.remember(entry)
    return me


@pytest.mark.parametrize("i", range(len(HISTORIES)))
def test_a_restored_state_decides_as_the_one_that_was_saved(i):
    genesis, ledger, world = HISTORIES[i]
    for cut in range(5, len(ledger), max(1, len(ledger) // 15)):
        state = replay(genesis, ledger[:cut], fake_verify)
        again = restore(genesis, fake_verify, snapshot(state))
        for peer in world.peers[:2]:
            assert decisions(again, me_of(peer.key, ledger[:cut])) == decisions(state, me_of(peer.key, ledger[:cut]))


@pytest.mark.parametrize("i", range(len(HISTORIES)))
def test_a_restored_state_reads_on_to_the_same_blocks(i):
    genesis, ledger, _ = HISTORIES[i]
    whole = replay(genesis, ledger, fake_verify)
    for cut in (0, len(ledger) // 3, len(ledger) // 2, len(ledger) - 3):
        again = restore(genesis, fake_verify, snapshot(replay(genesis, ledger[:cut], fake_verify)))
        for position, raw in enumerate(ledger[cut:], start=cut + 1):
            again.apply(position, raw)
        assert (again.height, again.position) == (whole.height, whole.position)
        assert again.last.digest == whole.last.digest
        assert again.candidate == whole.candidate
        assert again.ignored == whole.ignored
        assert again.chains.by_author == whole.chains.by_author
        assert again.chains.used == whole.chains.used


@pytest.mark.parametrize("i", range(len(HISTORIES)))
def test_a_snapshot_of_a_restored_state_is_the_snapshot(i):
    genesis, ledger, _ = HISTORIES[i]
    first = snapshot(replay(genesis, ledger, fake_verify))
    second = snapshot(restore(genesis, fake_verify, first))
    assert snapshot(restore(genesis, fake_verify, second)) == second


def test_open_proposals_and_strangers_survive():
    scene = Scene().found()
    entry = scene["m0"].entry(scene.admit("new"))
    scene.tell(entry.raw)
    scene.tell(scene["new"].entry(Approve(proposal=entry.digest)).raw)
    again = restore(scene.genesis, fake_verify, snapshot(scene.state))
    assert again.proposals.open == scene.state.proposals.open
    assert again.strangers == scene.state.strangers
    again.apply(100, scene["m1"].entry(Approve(proposal=entry.digest)).raw)
    assert again.candidate.proposal == entry.digest


@pytest.mark.parametrize(
    "content", [encode({}), encode([]), encode({"version": 99}), encode({"version": 1, "swarm": b"other"}), b"", b"x"]
)
def test_bytes_of_no_snapshot_are_refused(content):
    with pytest.raises(EncodingError):
        restore(make_genesis(3, 0), fake_verify, content)


def test_a_snapshot_of_another_swarm_is_refused():
    content = snapshot(State(make_genesis(3, 0), fake_verify))
    with pytest.raises(EncodingError, match="not a snapshot of this swarm"):
        restore(make_genesis(3, 0, name="other"), fake_verify, content)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_newest_word_on_what_a_member_trains_on_counts_and_is_kept(order):
    scene = Scene()
    author = scene["m0"]
    entries = [author.entry(TrainedOn(commitment=bytes([n]) * 32)) for n in (1, 2)]
    for i in order:
        assert scene.tell(entries[i].raw).stored
    state = restore(scene.genesis, fake_verify, snapshot(scene.state))
    assert state.trained[author.key][1] == entries[1]
    me = me_of(author.key, [entry.raw for entry in entries])
    again = Me(author.key)
    again.load(me.dump(), {})
    assert {("trained", bytes([n]) * 32) for n in (1, 2)} <= again.done
