"""Facts about the auditor: it agrees with the peers on what is final, and names every planted fault."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import PAYLOADS, Author, Scene
from world import build, fake_sign, fake_verify, h, make_genesis, member, signed

from swarmcell.swarm import blocks
from swarmcell.swarm.actions import Outcome
from swarmcell.swarm.audit import audit
from swarmcell.swarm.audit_entries import read_entry
from swarmcell.swarm.body import body_digest, decode_body
from swarmcell.swarm.encoding import EncodingError, decode, encode
from swarmcell.swarm.entries import decode_entry, encode_entry
from swarmcell.swarm.payloads import Approve, Attest, Blob, Checkpoint, Commit, Patience, Propose, Update
from swarmcell.swarm.proposals import key_digest
from swarmcell.swarm.replay import replay
from swarmcell.swarm.state import State


def audited(genesis, log):
    return audit(genesis.encode(), log, fake_verify)


def final(genesis, log):
    state = replay(genesis, log, fake_verify)
    return {height: block.digest for height, block in state.blocks.items()}


def settled(seed, n, f, liars="", **options):
    world = build(seed, n=n, f=f, liars=liars, **options)
    world.run(300)
    world.heal()
    world.settle(12_000)
    return world


# -- agreement with the peers


@pytest.mark.parametrize("seed", range(4))
def test_an_honest_history_has_no_fault_and_the_peers_blocks(seed):
    world = build(seed, n=4, f=0, hostile=False, crash=0.0)
    world.settle(6000)
    found = audited(world.genesis, world.engine.log)
    assert found.faults == []
    assert found.blocks == world.final == final(world.genesis, world.engine.log)
    assert (found.n_entries, found.n_signed) == (len(world.engine.log), len(world.engine.log))


@pytest.mark.parametrize(("n", "f", "liars"), [(3, 0, ""), (4, 1, "l"), (4, 1, "t"), (7, 2, "tl")])
@pytest.mark.parametrize("seed", range(2))
def test_over_a_hostile_engine_with_liars_every_peers_ledger_gives_its_blocks(seed, n, f, liars):
    world = settled(seed, n, f, liars)
    named = [p.key.hex()[:16] for p in world.peers if not p.honest]
    for peer in world.peers:
        if peer.honest:
            found = audited(world.genesis, peer.disk.ledger)
            assert found.blocks == final(world.genesis, peer.disk.ledger) == world.final
            assert all(any(name in fault for name in named) for fault in found.faults)
    if liars:
        assert found.faults, "the liars contradict themselves, and nobody says so"


def test_a_roster_that_changes_has_no_fault():
    world = build(1, n=4, f=0, hostile=False, crash=0.0, rounds_max=6)
    world.add("newcomer")
    world.wishes = [("admit", member("newcomer"))]
    world.run(200)
    world.wishes.append(("revoke", member("m3")))
    world.settle(6000)
    kinds = {block.body.kind for block in world.bodies.values()}
    assert {"admit", "revoke"} <= kinds
    found = audited(world.genesis, world.engine.log)
    assert found.faults == []
    assert found.blocks == world.final


# -- planted faults


@pytest.fixture(scope="module")
def history():
    scene = Scene().found()
    for _ in range(3):
        scene.round()
    assert audited(scene.genesis, scene.log).faults == []
    return scene


def without(log, drop):
    return [raw for raw in log if not drop(decode_entry(raw))]


def resigned(scene, raw, **changes):
    """Sign an entry's changed payload with its author's own key, at its own place."""
    entry = decode_entry(raw)
    return signed(scene.genesis, entry.author, entry.sequence, entry.previous, replace(entry.payload, **changes)).raw


def test_an_entry_with_a_forged_signature_counts_for_nothing(history):
    commits = [raw for raw in history.log if decode_entry(raw).kind == "commit"][-2:]
    forged = [raw[: raw.index(b"signature") + 12] + bytes(3) + raw[raw.index(b"signature") + 15 :] for raw in commits]
    found = audited(history.genesis, [raw for raw in history.log if raw not in commits] + forged)
    assert max(found.blocks) == 2
    assert found.ignored == {"not signed by its author": 2}


def test_a_merge_of_fewer_than_the_study_needs_is_a_fault():
    scene = Scene().found()
    scene.round(Outcome(state=h("masked"), about={"sites_needed": 3}))
    scene.contribute("m0")
    scene.contribute("m1")
    offers = tuple(scene.state.closing.valid[key] for key in sorted(scene.state.closing.valid))
    scene.decide(blocks.merge(scene.state.body, scene.state.roster, offers, Outcome(state=h("sum of two"))))
    assert any(
        "merges 2 contributions, fewer than the rules allow" in x for x in audited(scene.genesis, scene.log).faults
    )


def test_a_missing_chunk_is_a_fault(history):
    log = without(history.log, lambda e: e.kind == "blob" and e.author == history["m1"].key)
    (fault,) = audited(history.genesis, log).faults[:1]
    assert fault.startswith("block 1: ")
    assert "chunks are not in the log" in fault


def test_a_missing_contribution_is_a_fault(history):
    log = without(history.log, lambda e: e.kind == "update" and e.author == history["m1"].key and e.payload.round == 2)
    assert audited(history.genesis, log).faults == [
        f"block 2: it merges a contribution of {history['m1'].key.hex()[:16]} that is not in the log"
    ]


def test_a_missing_body_is_a_fault(history):
    log = [resigned(history, raw, content=b"") if decode_entry(raw).kind == "commit" else raw for raw in history.log]
    assert "block 0: no body with its digest is in the log" in audited(history.genesis, log).faults


def test_a_changed_body_counts_for_nothing(history):
    """Bytes that do not have the digest that was voted for make no block, whoever signed them."""
    log = []
    for raw in history.log:
        entry = decode_entry(raw)
        if entry.kind == "commit" and entry.payload.height == 3:
            body = replace(decode_body(entry.payload.content), state=h("another state"))
            raw = resigned(history, raw, content=body.encode())  # noqa: PLW2901
        log.append(raw)
    assert max(audited(history.genesis, log).blocks) == 2


def test_a_commit_by_a_non_member_counts_for_nothing(history):
    votes = [raw for raw in history.log if decode_entry(raw).kind == "commit" and decode_entry(raw).payload.height == 3]
    log = [raw for raw in history.log if raw not in votes[1:]]
    payload = decode_entry(votes[0]).payload
    log += [Author(history.genesis, f"x{i}").entry(payload).raw for i in range(5)]
    assert max(audited(history.genesis, log).blocks) == 2
    assert audited(history.genesis, [*log, votes[1]]).blocks == audited(history.genesis, history.log).blocks


def test_a_member_who_equivocates_is_named_and_a_stranger_is_not(history):
    log = [*history.log, history["m0"].other(Patience(round=9), 2).raw]
    stranger = Author(history.genesis, "x")
    log += [stranger.entry(Patience(round=1)).raw, stranger.other(Patience(round=2)).raw]
    faults = audited(history.genesis, log).faults
    assert f"{history['m0'].key.hex()[:16]}, entry 2: two different entries are signed (the author equivocates)" in (
        faults
    )
    assert not any(stranger.key.hex()[:16] in fault for fault in faults)


def decided(body, *, extra=lambda scene: None, at=3):
    """Return what is found where all members certify this body at a height, whatever their rules say."""
    scene = Scene().found()
    for _ in range(at - 1):
        scene.round()
    for author in scene.everybody:
        scene.contribute(author.name)
    extra(scene)
    scene.decide(body(scene, scene.body()))
    return audited(scene.genesis, scene.log)


def newer(scene, body, index=0, **changes):
    """Return the body with another contribution of the member at `index`."""
    name = next(a.name for a in scene.everybody if a.key == body.included[index][0])
    chunk, update = scene.update(name, b"other", **changes)
    scene.say(name, chunk)
    entry = scene[name].entry(update)
    scene.tell(entry.raw)
    rows = list(body.included)
    rows[index] = (entry.author, entry.digest)
    return replace(body, included=tuple(rows))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda s, b: replace(b, round=9), "it says round 9, expected 3"),
        (lambda s, b: replace(b, previous=h("x")), "does not follow on the block before"),
        (lambda s, b: replace(b, roster=b.roster[:2]), "its roster is not what follows"),
        (lambda s, b: replace(b, f=1), "its f is not what follows"),
        (lambda s, b: replace(b, key_digest=h("x")), "its key_digest is not what follows"),
        (lambda s, b: replace(b, epoch=1), "its epoch is not what follows"),
        (lambda s, b: replace(b, included=b.included[:2]), "its roster is not what follows"),
        (lambda s, b: replace(b, included=()), "merges 0 contributions, fewer than"),
        (lambda s, b: replace(b, included=b.included[:1], left_out=((*b.included[0], "x"),)), "of one author"),
        (lambda s, b: newer(s, b, round=4), "of another round, state or key"),
        (lambda s, b: newer(s, b, base=h("x")), "of another round, state or key"),
        (lambda s, b: newer(s, b, epoch=3), "of another round, state or key"),
        (lambda s, b: newer(s, b, chunks=(h("x"),)), "chunks are not in the log"),
        (lambda s, b: replace(b, kind="admit", round=2), "a proposal that is not in the log"),
        (lambda s, b: replace(b, kind="genesis", round=2), "a proposal that is not in the log"),
    ],
)
def test_a_body_that_does_not_follow_is_a_fault_even_if_all_members_certify_it(change, why):
    assert any(fault.startswith("block 3: ") and why in fault for fault in decided(change).faults)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda b: replace(b, proposal=h("x")), "takes a key that no founder brought"),
        (lambda b: replace(b, key_digest=h("x")), "its key_digest is not what follows"),
        (lambda b: replace(b, kind="rotate"), "its kind is not what follows"),
        (lambda b: replace(b, roster=b.roster[:2]), "its roster is not what follows"),
        (lambda b: replace(b, f=1), "its f is not what follows"),
    ],
)
def test_a_first_body_that_does_not_follow_from_the_genesis_is_a_fault(change, why):
    from scenes import KEY

    from swarmcell.swarm.payloads import Accept

    scene = Scene()
    for name in ("m0", "m1", "m2"):
        scene.say(name, Accept(key_digest=key_digest(KEY), wraps=scene.wraps("m0", "m1", "m2", key=KEY)))
    scene.decide(change(scene.body()))
    assert any(fault.startswith("block 0: ") and why in fault for fault in audited(scene.genesis, scene.log).faults)


def changing(change, *approvers, twist=lambda body: body):
    """Return what is found where a proposal's body is certified, with these approvals."""
    from swarmcell.swarm import blocks
    from swarmcell.swarm.blocks import Changed

    scene = Scene().found()
    entry = scene["m0"].entry(change(scene))
    scene.tell(entry.raw)
    for name in approvers:
        scene.say(name, Approve(proposal=entry.digest))
    body = blocks.change(scene.state.body, scene.state.roster, Changed(entry.digest, entry.payload))
    scene.decide(twist(body))
    return audited(scene.genesis, scene.log).faults


def end(scene):
    return Propose(change="end", member=scene["m0"].member, f=0, key_digest=scene.state.key_digest)


@pytest.mark.parametrize("change", [lambda s: s.admit("new"), lambda s: s.revoke("m2"), end])
def test_a_change_needs_a_quorum_and_does_what_was_proposed(change):
    assert changing(change, "m1") == []
    assert changing(change) == ["block 1: it carries out a proposal that no quorum approved"]
    assert changing(change, "x", "y", "m0") == ["block 1: it carries out a proposal that no quorum approved"]
    for twist in ({"state": h("x")}, {"f": 2}, {"key_digest": h("x")}, {"epoch": 5}):
        name = next(iter(twist))
        faults = changing(change, "m1", twist=lambda body, twist=twist: replace(body, **twist))
        assert f"block 1: its {name} is not what follows" in faults


def test_two_final_bodies_at_one_height_are_a_fork(history):
    log = list(history.log)
    block = history.state.blocks[3]
    fork = replace(block.body, state=h("fork")).encode()
    for i, name in enumerate(("m0", "m1")):
        author = Author(history.genesis, name)
        commit = Commit(height=3, view=1, body=body_digest(fork), content=fork)
        log.append(signed(history.genesis, author.key, 500 + i, bytes(32), commit).raw)
    assert "block 3: two bodies are final, the swarm has forked" in audited(history.genesis, log).faults


def test_a_block_after_the_end_is_a_fault():
    scene = Scene().found()
    scene.round(Outcome(state=h("end"), finished=True))
    last = scene.state.body
    body = replace(last, height=2, previous=body_digest(last.encode()), round=2, finished=False)
    content = body.encode()
    scene.all_say(Commit(height=2, view=0, body=body_digest(content), content=content))
    assert "block 2: it comes after the study's end" in audited(scene.genesis, scene.log).faults


# -- totality


GENESIS = make_genesis(3, 0)


@given(PAYLOADS, st.sampled_from(["m0", "x"]))
def test_both_decoders_read_every_payload(payload, name):
    raw = Author(GENESIS, name).entry(payload).raw
    read = read_entry(raw, GENESIS.digest, fake_verify)
    assert not isinstance(read, str)
    assert (read["kind"], read["payload"]) == (payload.KIND, decode(raw)["payload"])


ATOMS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40) | st.just("merge")
ODD = st.recursive(ATOMS, lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(max_size=8), s, max_size=3))


def force_signed(fields):
    """Sign a map of any fields with the key that it names."""
    author = fields.get("author")
    unsigned = {name: value for name, value in fields.items() if name != "signature"}
    key = author if isinstance(author, bytes) else b""
    return encode({**fields, "signature": fake_sign(key, b"swarmcell/entry/v1\0" + encode(unsigned))})


@settings(deadline=None)
@given(st.data())
def test_an_audit_is_total_on_whatever_is_signed(data):
    """Anybody can sign anything with a key of their own: fields of other types must not stop an audit."""
    fields = decode(Author(GENESIS, data.draw(st.sampled_from(["m0", "x"]))).entry(data.draw(PAYLOADS)).raw)
    place = data.draw(st.sampled_from(["sequence", "previous", "kind", "payload", "author", "swarm", "inside"]))
    if place == "inside":
        name = data.draw(st.sampled_from(sorted(fields["payload"])))
        fields["payload"] = {**fields["payload"], name: data.draw(ODD)}
    else:
        fields[place] = data.draw(ODD)
    found = audited(GENESIS, [force_signed(fields)] * 2)
    assert found.n_entries == 2
    assert found.n_signed + found.ignored.total() == 2


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_an_audit_is_total_on_random_bytes(raws):
    found = audited(GENESIS, raws)
    assert found.ignored.total() == len(raws)
    assert found.blocks == {}


@pytest.mark.parametrize(
    "raw",
    [
        "5b000000ffffffffff",
        "9b7fffffffffffffff",
        "bb7fffffffffffffff",
        "c482 1b4000000000000000 01",
        "c582 1b4000000000000000 01",
        "d81e820100",
        "d81c81d81d00",
        "d8236128",
        "c249ffffffffffffffffff",
        "f97e00",
    ],
)
def test_bytes_that_make_a_decoder_stumble_are_malformed(raw):
    assert read_entry(bytes.fromhex(raw), GENESIS.digest, fake_verify) == "malformed"


@pytest.mark.parametrize("extra", [{"more": 1}, {"view": True}, {"view": 2**63 - 1}])
def test_a_liars_odd_commit_is_counted_by_neither_or_changes_no_block(history, extra):
    """The auditor must not take for a vote what every peer ignores."""
    votes = [raw for raw in history.log if decode_entry(raw).kind == "commit" and decode_entry(raw).payload.height == 3]
    fields = decode(votes[1])
    fields["payload"] = {**fields["payload"], **extra}
    log = [raw for raw in history.log if raw not in votes[1:]] + [force_signed(fields)]
    assert audited(history.genesis, log).blocks == final(history.genesis, log)
    with pytest.raises(EncodingError):
        decode_entry(log[-1])


def test_a_commit_whose_content_is_another_body_is_counted_by_neither(history):
    votes = [raw for raw in history.log if decode_entry(raw).kind == "commit" and decode_entry(raw).payload.height == 3]
    odd = resigned(history, votes[1], content=history.state.blocks[2].content)
    log = [raw for raw in history.log if raw not in votes[1:]] + [odd]
    assert audited(history.genesis, log).blocks == final(history.genesis, log)
    assert max(audited(history.genesis, log).blocks) == 2


def test_entries_of_another_swarm_are_counted_apart(history):
    other = Author(make_genesis(3, 0, name="other"), "m0").entry(Attest(height=0, view=0, body=h(1)))
    assert audited(history.genesis, [*history.log, other.raw]).ignored == {"of another swarm": 1}


def test_a_blobs_chunk_counts_for_its_author_only(history):
    body = history.state.blocks[1].body
    entry = next(e for e in map(decode_entry, history.log) if e.digest == body.included[0][1])
    assert isinstance(entry.payload, Update)
    log = without(history.log, lambda e: isinstance(e.payload, Blob) and e.author == entry.author)
    stolen = [r for r in history.log if (e := decode_entry(r)).kind == "blob" and e.author == entry.author]
    log += [Author(history.genesis, "x").entry(decode_entry(raw).payload).raw for raw in stolen]
    assert any("chunks are not in the log" in fault for fault in audited(history.genesis, log).faults)
    assert (
        encode_entry(entry.swarm, entry.author, entry.sequence, entry.previous, entry.payload, entry.signature)
        == entry.raw
    )


# -- a log whose beginning is gone


@pytest.fixture(scope="module")
def resumed():
    """Return a world of 24 rounds, its log from the checkpoint of block 10 on, and that block's digest."""
    world = build(5, n=4, f=0, hostile=False, crash=0.0, rounds_max=24)
    world.settle(12_000)
    log = world.engine.log
    state = State(world.genesis, fake_verify)
    for position, raw in enumerate(log):
        state.apply(position, raw)
        if state.height > 10:
            return world, log[position:], world.final[10]
    raise AssertionError


def test_a_log_that_begins_at_a_checkpoint_is_audited_from_it(resumed):
    world, log, digest = resumed
    found = audited(world.genesis, log)
    assert found.faults == []
    assert (found.anchor.height, found.anchor.digest, len(found.anchor.founders)) == (10, digest, 3)
    assert found.blocks == {height: of for height, of in world.final.items() if height >= 10}


def test_a_whole_log_is_audited_from_the_genesis(resumed):
    world, _, _ = resumed
    assert audited(world.genesis, world.engine.log).anchor is None


def rewritten(world, log, change):
    """Return the log with every checkpoint changed, and signed again by its author."""
    made = []
    for raw in log:
        entry = decode_entry(raw)
        said = change(entry.payload) if isinstance(entry.payload, Checkpoint) else entry.payload
        made.append(signed(world.genesis, entry.author, entry.sequence, entry.previous, said).raw)
    return made


@pytest.mark.parametrize("kept", [0, 2])
def test_commits_by_fewer_founders_than_a_quorum_vouch_for_nothing(resumed, kept):
    world, log, _ = resumed
    forged = rewritten(world, log, lambda said: replace(said, certificate=said.certificate[:kept]))
    found = audited(world.genesis, forged)
    assert (found.anchor, found.blocks) == (None, {})
    assert found.n_checkpoints > 0


def test_a_pin_vouches_for_a_checkpoint_and_refuses_another_body(resumed):
    world, log, digest = resumed
    bare = rewritten(world, log, lambda said: replace(said, certificate=()))
    found = audit(world.genesis.encode(), bare, fake_verify, {10: digest})
    assert (found.anchor.height, max(found.blocks)) == (10, 24)
    assert all("its author's entry before" in fault for fault in found.faults), "more than the test itself changed"
    other = audit(world.genesis.encode(), log, fake_verify, {10: h("another")})
    assert other.anchor.height > 10


def test_commits_to_another_body_do_not_vouch_for_a_checkpoint(resumed):
    world, log, _ = resumed

    def lie(said):
        return replace(said, content=replace(decode_body(said.content), state=h("another state")).encode())

    assert audited(world.genesis, rewritten(world, log, lie)).anchor is None
