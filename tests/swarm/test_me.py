"""Facts about what a peer knows of itself."""

import pytest
from scenes import Author
from world import h, make_genesis

from swarmcell.swarm.actions import Outcome
from swarmcell.swarm.encoding import decode, encode
from swarmcell.swarm.me import Me, contribution_key
from swarmcell.swarm.payloads import Approve, Attest, Commit, Next, Patience

GENESIS = make_genesis(3, 0)


def remembering(*payloads):
    author = Author(GENESIS, "m0")
    me = Me(author.key)
    for payload in payloads:
        me.remember(author.entry(payload))
    return me, author


def test_an_own_entry_that_was_never_signed_here_stops_the_peer():
    me, author = remembering(Patience(round=1))
    me.meet(author.other(Patience(round=2)))
    assert "never signed" in me.stranger


def test_an_own_entry_beyond_the_last_one_stops_the_peer():
    me, author = remembering(Patience(round=1))
    me.meet(author.entry(Patience(round=2)))
    assert me.stranger


def test_a_peer_that_was_stopped_is_so_after_a_restart_too():
    """Its snapshot may lie beyond the entry that stopped it; a second start would sign against what it met."""
    me, author = remembering(Patience(round=1))
    me.meet(author.other(Patience(round=2)))
    again = Me(author.key)
    again.load(decode(encode(me.dump())), me.digests)
    assert again.stranger == me.stranger


@pytest.mark.parametrize(
    ("signed", "cause"), [([], "the ledger is new"), ([Patience(round=1)], "restored from a backup")]
)
def test_a_stop_says_what_happened_and_what_to_do(signed, cause):
    me, author = remembering(*signed)
    me.meet(author.entry(Patience(round=2)))
    assert cause in me.stranger
    assert "swarm revoke, swarm invite" in me.stranger


def test_entries_of_others_and_own_ones_stop_nobody():
    me, author = remembering()
    entry = author.entry(Patience(round=1))
    me.remember(entry)
    assert me.unseen == {1: None}
    me.meet(Author(GENESIS, "m1").entry(Patience(round=1)))
    me.meet(entry)
    assert me.stranger == ""
    assert me.unseen == {}


def test_a_restart_remembers_every_vote_and_the_highest_view():
    me, _ = remembering(
        Attest(height=3, view=0, body=h(1)),
        Commit(height=3, view=0, body=h(1), content=b"body"),
        Next(height=3, view=2),
        Approve(proposal=h(2)),
        Patience(round=4),
    )
    assert me.attested == {(3, 0): h(1)}
    assert me.committed == {(3, 0): h(1)}
    assert (me.views, me.called) == ({3: 2}, {3: 2})
    assert me.bodies == {h(1): b"body"}
    assert {("approve", h(2)), ("patience", 4)} <= me.done
    assert me.sequence == 5


def test_votes_of_long_final_heights_are_forgotten_and_those_of_the_open_one_kept():
    me, _ = remembering(Attest(height=3, view=0, body=h(1)), Attest(height=90, view=0, body=h(2)))
    me.prune(90, 90)
    assert me.attested == {(90, 0): h(2)}
    assert set(me.views) == {90}


def test_a_refusal_can_be_tried_again_and_a_merge_is_held():
    me = Me(h(1))
    me.refuse(contribution_key(1), "disk full")
    me.retry(contribution_key(1))
    assert me.refused == {}
    me.merged(h(2), Outcome(state=h(3)))
    assert h(3) in me.states
