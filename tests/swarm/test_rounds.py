"""Facts about contributions, and when a round closes."""

import hashlib
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import Author, Scene
from world import fake_verify, h, make_genesis

from swarmcell.swarm.actions import Offer, Outcome
from swarmcell.swarm.decide import waiting_for
from swarmcell.swarm.payloads import Blob, Patience, Update
from swarmcell.swarm.rounds import AHEAD_MAX, KEPT_ROUNDS, OFFERS_PER_ROUND_MAX, Closing, Rounds
from swarmcell.swarm.snapshot import restore, snapshot

GENESIS = make_genesis(3, 0)
CHUNKS = tuple(h("chunk", i) for i in range(3))


def update(number=1, chunks=CHUNKS, author="m0", salt=0):
    said = Update(
        round=number,
        epoch=0,
        base=h(0),
        parameters=h(salt),
        chunks=chunks,
        size_bytes=1,
        n_cells=1,
        n_donors=1,
    )
    return Author(GENESIS, author).entry(said)


def add(rounds, entry, position=1):
    return rounds.add(entry, entry.payload, position)


def offer(name):
    return Offer(author=h("sign", name), digest=h(name), payload=update().payload, position=1, chunks=())


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_a_contribution_counts_from_its_last_part_in_any_order(order):
    rounds, entry, made = Rounds(), update(), []
    for position, part in enumerate(order, start=1):
        if part < 3:
            made.append(rounds.add_chunk(entry.author, CHUNKS[part], position))
        else:
            found = add(rounds, entry, position)
            made.append([] if isinstance(found, str) else [found])
    assert [len(found) for found in made] == [0, 0, 0, 1]
    assert rounds.by_digest[entry.digest].chunks == tuple(order.index(part) + 1 for part in range(3))


def test_chunks_of_another_author_do_not_count():
    rounds, entry = Rounds(), update(chunks=CHUNKS[:1])
    rounds.add_chunk(h("sign", "m1"), CHUNKS[0], 1)
    assert add(rounds, entry) == ""
    assert rounds.add_chunk(entry.author, CHUNKS[0], 2)[0].digest == entry.digest


def test_one_chunk_may_serve_two_contributions_and_one_contribution_twice():
    rounds = Rounds()
    first, second = update(chunks=(CHUNKS[0], CHUNKS[0])), update(chunks=CHUNKS[:1], salt=1)
    assert add(rounds, first) == add(rounds, second) == ""
    assert {o.digest for o in rounds.add_chunk(first.author, CHUNKS[0], 9)} == {first.digest, second.digest}
    assert rounds.add_chunk(first.author, CHUNKS[0], 10) == []


def test_contributions_of_one_author_to_one_round_have_a_limit():
    rounds = Rounds()
    found = [add(rounds, update(salt=i)) for i in range(OFFERS_PER_ROUND_MAX + 1)]
    assert found == [""] * OFFERS_PER_ROUND_MAX + ["too many contributions"]


def test_rounds_too_far_away_are_refused():
    rounds = Rounds()
    rounds.advance(100)
    assert add(rounds, update(100 - KEPT_ROUNDS - 1)) == "past"
    assert add(rounds, update(100 + AHEAD_MAX + 1)) == "ahead"
    assert rounds.add_patience(update(), 99, 1) == "past"


def test_what_lies_long_behind_is_forgotten():
    rounds, entry = Rounds(), update(chunks=CHUNKS[:1])
    rounds.add_chunk(entry.author, CHUNKS[0], 1)
    add(rounds, entry)
    add(rounds, update(chunks=(h("never"),), salt=1))
    rounds.advance(KEPT_ROUNDS + 2)
    assert not rounds.offers
    assert not rounds.by_digest
    assert not rounds.chunks
    assert not list(rounds.entries())


# -- closing


@given(st.integers(1, 5), st.integers(1, 5), st.sets(st.integers(0, 6)), st.sets(st.integers(0, 6)), st.data())
def test_a_round_closes_when_all_awaited_count_or_a_quorum_is_out_of_patience(quorum, least, here, patient, data):
    names = [f"m{i}" for i in range(7)]
    awaited = data.draw(st.sets(st.sampled_from(range(7))))
    closing = Closing(quorum, least, {h("sign", names[i]) for i in awaited})
    for i in sorted(here):
        closing.add(offer(names[i]))
    closing.patient.update({h("sign", names[i]): None for i in patient})
    assert closing.enough == (len(here) >= least)
    assert closing.closed == (len(here) >= least and (awaited <= here or len(patient) >= quorum))


def test_of_one_author_the_first_contribution_counts():
    closing = Closing(2, 1, set())
    first, second = offer("m0"), Offer(author=h("sign", "m0"), digest=h(9), payload=None, position=2, chunks=())
    closing.add(first)
    closing.add(second)
    assert closing.valid == {first.author: first}


def test_a_round_does_not_close_before_the_chunks_stand_in_the_log(founded):
    for name in ("m0", "m1"):
        founded.contribute(name)
    chunk, late = founded.update("m2", b"late")
    founded.say("m2", late)
    assert founded.state.candidate is None
    founded.say("m2", chunk)
    assert [o.author for o in founded.state.candidate.offers] == sorted(founded.state.roster.members)


def test_no_single_member_closes_a_round_without_the_others(founded):
    founded.contribute("m0")
    founded.say("m0", Patience(round=1))
    founded.say("m0", Patience(round=1))
    assert founded.state.candidate is None
    founded.say("m1", Patience(round=1))
    assert [o.author for o in founded.state.candidate.offers] == [founded["m0"].key]


def test_fewer_contributions_than_the_least_never_close_a_round():
    scene = Scene(min_updates=2).found()
    scene.contribute("m0")
    scene.all_say(Patience(round=1))
    assert scene.state.candidate is None
    scene.contribute("m1")
    assert len(scene.state.candidate.offers) == 2


def test_a_study_that_needs_three_sites_keeps_a_round_of_two_open():
    """Three members are a quorum of two: a secure sum would begin anew in vain, again and again."""
    scene = Scene(min_updates=2).found()
    scene.round(Outcome(state=h("masked"), about={"sites_needed": 3}))
    scene.contribute("m0")
    scene.contribute("m1")
    scene.all_say(Patience(round=2))
    assert scene.state.candidate is None
    wait = waiting_for(scene.state, 0)
    assert (wait.reason, wait.who) == ("contributions to round 2, which needs 3 sites", (scene["m2"].key,))
    scene.contribute("m2")
    assert len(scene.state.candidate.offers) == 3


def test_what_comes_after_the_closing_entry_is_not_merged(founded):
    founded.contribute("m0")
    founded.all_say(Patience(round=1))
    closed = founded.state.candidate
    founded.contribute("m1")
    assert founded.state.candidate == closed


@pytest.mark.parametrize("changes", [{"round": 2}, {"base": h("other")}, {"epoch": 1}])
def test_a_contribution_to_another_round_state_or_key_is_not_merged(founded, changes):
    founded.contribute("m0", **changes)
    founded.all_say(Patience(round=1))
    assert founded.state.candidate is None


def test_silent_members_are_no_longer_awaited_after_some_blocks_and_count_when_they_return(founded):
    for _ in range(3):
        for name in ("m0", "m1"):
            founded.contribute(name)
        if founded.state.candidate is None:
            founded.say("m0", Patience(round=founded.state.rounds.number))
            founded.say("m1", Patience(round=founded.state.rounds.number))
        founded.decide(founded.body())
    assert founded.state.height == 4
    assert founded["m2"].key not in founded.state.closing.awaited
    founded.contribute("m2")
    founded.contribute("m0")
    founded.contribute("m1")
    assert len(founded.state.candidate.offers) == 3


def test_a_contribution_that_was_read_before_its_round_opened_counts(founded):
    for name in ("m0", "m1", "m2"):
        founded.contribute(name)
    body = founded.body()
    chunk = Blob(content=b"early")
    founded.say("m0", chunk)
    _, early = founded.update("m0", b"early", round=2, base=body.state)
    founded.say("m0", early)
    founded.decide(body)
    assert list(founded.state.closing.valid) == [founded["m0"].key]
    assert founded.state.closing.valid[founded["m0"].key].payload.chunks == (hashlib.sha256(b"early").digest(),)


def test_a_member_whose_update_came_too_late_is_awaited_again():
    """Else a slow member that was away for some rounds would never be waited for again, however hard it works."""
    scene = Scene(awaited_blocks=2).found()
    chunk, update = scene.update("m2", b"slow")
    for _ in range(3):
        scene.contribute("m0")
        scene.contribute("m1")
        for name in ("m0", "m1"):
            scene.say(name, Patience(round=scene.state.rounds.number))
        scene.decide(scene.body())
    assert scene["m2"].key not in scene.state.closing.awaited
    late = replace(update, round=scene.state.rounds.number - 1)
    scene.say("m2", chunk)
    scene.say("m2", late)
    assert scene["m2"].key in scene.state.closing.awaited
    again = restore(scene.genesis, fake_verify, snapshot(scene.state))
    assert again.closing.awaited == scene.state.closing.awaited
    scene.contribute("m0")
    scene.contribute("m1")
    assert scene.state.candidate is None, "the round closed without the member that is at work"
    scene.contribute("m2", b"in time")
    assert len(scene.state.candidate.offers) == 3


def test_an_update_that_is_late_by_more_than_the_awaited_blocks_changes_nothing():
    scene = Scene(awaited_blocks=1).found()
    chunk, update = scene.update("m2", b"slow")
    for _ in range(3):
        scene.contribute("m0")
        scene.contribute("m1")
        for name in ("m0", "m1"):
            scene.say(name, Patience(round=scene.state.rounds.number))
        scene.decide(scene.body())
    scene.say("m2", chunk)
    scene.say("m2", update)
    assert scene["m2"].key not in scene.state.closing.awaited
