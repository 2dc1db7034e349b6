"""Facts about taking up entries."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scenes import PAYLOADS, Author, Scene
from world import fake_verify, h, make_genesis, signed

from swarmcell.swarm.actions import Outcome
from swarmcell.swarm.body import body_digest
from swarmcell.swarm.genesis import Quotas
from swarmcell.swarm.payloads import Approve, Attest, Commit, Patience
from swarmcell.swarm.replay import replay
from swarmcell.swarm.snapshot import snapshot
from swarmcell.swarm.state import STRANGERS_MAX, State


def fresh(world, **options):
    return State(world.genesis, fake_verify, **options)


def test_an_entry_of_another_swarm_is_ignored(founded):
    other = make_genesis(3, 0, name="other")
    entry = signed(other, founded["m0"].key, founded["m0"].sequence + 1, founded["m0"].previous, Patience(round=1))
    applied = founded.tell(entry.raw)
    assert (applied.reason, applied.stored, applied.signed) == ("another swarm", False, False)


def test_an_entry_with_a_bad_signature_is_ignored_and_not_for_its_author(founded):
    raw = founded["m0"].entry(Patience(round=1)).raw
    at = raw.index(b"signature") + 20
    applied = founded.tell(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    assert (applied.reason, applied.stored, applied.signed) == ("bad signature", False, False)
    assert founded.tell(raw).reason == ""


def test_junk_is_ignored_and_counted(founded):
    assert founded.tell(b"junk").reason == "malformed"
    assert founded.tell(b"\x81" * 100_000).reason == "malformed"
    assert founded.state.ignored["malformed"] == 2


def test_an_author_over_its_quota_is_ignored_and_the_log_read_again_later():
    scene = Scene(quotas=Quotas(entries=64)).found()
    reasons = [scene.say("m0", Patience(round=1)).reason for _ in range(65)]
    assert reasons[-1] == "over quota"
    assert scene.state.reread
    assert scene.say("m1", Patience(round=1)).reason == ""


def test_two_entries_at_one_sequence_are_evidence_and_the_swarm_goes_on(founded):
    founded.say("m0", Patience(round=1))
    founded.tell(founded["m0"].other(Patience(round=2)).raw)
    assert [e.author for e in founded.state.chains.evidence] == [founded["m0"].key]
    founded.round()
    assert founded.state.height == 2


def test_strangers_are_held_for_a_while_only(scene):
    for i in range(STRANGERS_MAX):
        assert scene.tell(Author(scene.genesis, f"x{i}").entry(Patience(round=1)).raw).stored
    assert not scene.state.reread
    assert not scene.tell(Author(scene.genesis, "late").entry(Patience(round=1)).raw).stored
    assert scene.state.reread


def test_votes_for_a_height_that_is_not_open_wait_for_it(founded):
    for author in founded.everybody:
        founded.contribute(author.name)
    first = founded.body()
    digest = h("some body")
    for name in ("m0", "m1"):
        founded.say(name, Attest(height=2, view=0, body=digest))
    founded.decide(first)
    assert founded.state.ballot.certified == {0: digest}


def test_votes_for_a_final_height_are_past(founded):
    assert founded.say("m0", Attest(height=0, view=0, body=h(1))).reason == "past"


def test_a_final_block_without_its_body_waits_for_the_body(founded):
    for author in founded.everybody:
        founded.contribute(author.name)
    body = founded.body()
    digest = body_digest(body.encode())
    for name in ("m0", "m1"):
        assert founded.say(name, Commit(height=1, view=0, body=digest)).blocks == ()
    (block,) = founded.say("m2", Commit(height=1, view=0, body=digest, content=body.encode())).blocks
    assert (block.digest, len(block.certificate)) == (digest, 2)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"round": 7}, "counts its round wrongly"),
        ({"previous": h("other")}, "does not follow"),
        ({"kind": "genesis", "round": 0}, "counts its round wrongly"),
    ],
)
def test_a_certified_body_that_cannot_follow_halts_the_reader(founded, change, why):
    for author in founded.everybody:
        founded.contribute(author.name)
    assert founded.decide(replace(founded.body(), **change)) == []
    assert why in founded.state.halted
    assert founded.state.height == 1


def test_a_merge_that_changes_the_roster_halts_the_reader(founded):
    for author in founded.everybody:
        founded.contribute(author.name)
    body = founded.body()
    founded.decide(replace(body, roster=body.roster[:2]))
    assert "changes the roster" in founded.state.halted


def test_another_history_than_the_invitations_halts_the_reader(honest_world):
    good = {2: honest_world.final[2]}
    state = fresh(honest_world, pins=good)
    other = fresh(honest_world, pins={2: h("another history")})
    for position, raw in enumerate(honest_world.engine.log, start=1):
        state.apply(position, raw)
        other.apply(position, raw)
    assert state.finished
    assert (other.height, "invitation" in other.halted) == (2, True)


def test_a_finished_study_takes_no_more_rounds(founded):
    founded.round(Outcome(state=h("end"), finished=True))
    assert founded.state.finished
    assert founded.state.closing is None


# -- properties


def test_an_entry_that_is_applied_twice_changes_nothing(honest_world):
    state = fresh(honest_world)
    for position, raw in enumerate(honest_world.engine.log, start=1):
        state.apply(position, raw)
        before = len(state.blocks), state.position, state.height
        again = state.apply(position + 10_000, raw)
        assert again.blocks == ()
        assert not again.stored
        assert (len(state.blocks), state.position, state.height) == before
    once = replay(honest_world.genesis, honest_world.engine.log, fake_verify)
    state.ignored.clear()
    once.ignored.clear()
    assert snapshot(state) == snapshot(once)


@settings(max_examples=12, suppress_health_check=[*HealthCheck])
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_log_decides_no_final_body(honest_world, rng):
    log = list(honest_world.engine.log)
    for _ in range(60):
        i = rng.randrange(len(log) - 6)
        j = i + rng.randrange(6)
        log[i], log[j] = log[j], log[i]
    state = replay(honest_world.genesis, log, fake_verify)
    assert {h_: b.digest for h_, b in state.blocks.items()} == honest_world.final


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=20))
def test_apply_is_total_on_random_bytes(raws):
    state = State(make_genesis(3, 0), fake_verify)
    assert all(state.apply(i, raw).reason == "malformed" for i, raw in enumerate(raws, start=1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["m0", "m1", "m2", "new"]), PAYLOADS), max_size=25))
def test_apply_is_total_on_whatever_members_sign(said):
    scene = Scene().found()
    for name, payload in said:
        scene.say(name, payload)
    assert scene.state.height == 1


@settings(max_examples=25, suppress_health_check=[*HealthCheck])
@given(st.data())
def test_apply_is_total_on_mutated_entries_and_they_change_no_final_body(honest_world, data):
    state = fresh(honest_world)
    for position, raw in enumerate(honest_world.engine.log, start=1):
        if position % 5 == 0:
            at, flip = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(1, 255))
            mutated = raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :]
            assert state.apply(position, mutated).reason
        state.apply(position, raw)
    assert {h_: b.digest for h_, b in state.blocks.items()} == honest_world.final


def test_an_entry_of_a_newcomer_that_is_read_before_its_admission_counts_after_it(founded):
    change = founded["m0"].entry(founded.admit("new"))
    early = founded["new"].entry(Patience(round=1))
    assert founded.tell(early.raw).reason == "not a member"
    founded.tell(change.raw)
    founded.say("m1", Approve(proposal=change.digest))
    founded.decide(founded.body())
    assert founded["new"].key in founded.state.rounds.patient[1]
    assert founded.tell(early.raw).reason == "duplicate"
