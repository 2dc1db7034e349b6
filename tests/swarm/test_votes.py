"""Facts about attests, commits, certificates and the views that nexts open."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import Author
from world import h, make_genesis

from swarmcell.swarm.body import Body, body_digest
from swarmcell.swarm.payloads import Attest, Commit, Next, Patience
from swarmcell.swarm.roster import founding
from swarmcell.swarm.votes import BODIES_PER_AUTHOR_MAX, Ballot


def body(height=1, state=b""):
    roster = founding(make_genesis(4, 1)).standings
    return Body(
        height=height,
        previous=h("before"),
        kind="merge",
        round=height,
        roster=roster,
        f=1,
        epoch=0,
        key_digest=h("key"),
        state=state or h("state"),
    ).encode()


X, Y = body(), body(state=h("other"))
DX, DY = body_digest(X), body_digest(Y)


class Poll:
    def __init__(self, n=4, f=1):
        self.genesis = make_genesis(n, f)
        self.ballot = Ballot(1, founding(self.genesis))
        self.authors = {i: Author(self.genesis, f"m{i}") for i in range(n + 2)}

    def cast(self, i, payload):
        return self.ballot.add(self.authors[i].entry(payload))

    def attest(self, i, digest=DX, view=0):
        return self.cast(i, Attest(height=1, view=view, body=digest))

    def commit(self, i, digest=DX, view=0, content=b""):
        return self.cast(i, Commit(height=1, view=view, body=digest, content=content))


@pytest.mark.parametrize(("n", "f", "q"), [(1, 0, 1), (3, 0, 2), (4, 0, 3), (4, 1, 3), (7, 2, 5)])
def test_a_quorum_and_no_less_makes_a_certificate_and_a_final_body(n, f, q):
    poll = Poll(n, f)
    for i in range(q):
        assert not poll.ballot.has_certificate(0, DX)
        poll.attest(i)
    assert poll.ballot.has_certificate(0, DX)
    for i in range(q):
        assert poll.ballot.final is None
        poll.commit(i)
    assert (poll.ballot.final.view, poll.ballot.final.body, len(poll.ballot.final.commits)) == (0, DX, q)


def test_a_member_who_votes_twice_counts_once():
    poll = Poll()
    for _ in range(2):
        poll.attest(0)
        poll.commit(0)
    poll.attest(1)
    poll.commit(1)
    assert not poll.ballot.has_certificate(0, DX)
    assert poll.ballot.final is None
    assert poll.attest(0) == "too many votes"


def test_votes_of_strangers_and_of_other_kinds_do_not_count():
    poll = Poll()
    assert poll.attest(4) == poll.commit(5) == "not a member"
    assert poll.cast(0, Patience(round=1)) == "not a vote"


def test_votes_of_different_views_and_bodies_are_not_added_up():
    poll = Poll()
    for i, (digest, view) in enumerate([(DX, 0), (DX, 1), (DY, 0), (DX, 2)]):
        poll.attest(i, digest, view)
        poll.commit(i, digest, view)
    assert not poll.ballot.certified
    assert poll.ballot.final is None


@pytest.mark.parametrize(
    "vote",
    [
        Commit(height=1, view=0, body=DX, content=Y),
        Commit(height=1, view=0, body=body_digest(b"junk"), content=b"junk"),
        Commit(height=1, view=0, body=body_digest(body(2)), content=body(2)),
        Next(height=1, view=1, certified=1),
        Next(height=1, view=1, content=X),
        Next(height=1, view=1, certified=2, content=X),
        Next(height=1, view=1, certified=1, content=body(2)),
        Next(height=1, view=1, certified=1, content=b"junk"),
    ],
)
def test_votes_that_are_wrong_in_themselves_are_refused(vote):
    assert Poll().cast(0, vote) == "malformed"


def test_an_author_shows_only_so_many_bodies():
    poll = Poll()
    found = []
    for view in range(BODIES_PER_AUTHOR_MAX + 1):
        content = body(state=h(view))
        found.append(poll.commit(0, body_digest(content), view, content))
    assert found == [""] * BODIES_PER_AUTHOR_MAX + ["too many bodies"]


@given(st.permutations(range(8)))
def test_in_any_order_the_same_votes_make_the_same_body_final(order):
    poll = Poll()
    votes = [(poll.attest, i) for i in range(4)] + [(poll.commit, i) for i in range(4)]
    for at in order:
        votes[at][0](votes[at][1])
    assert poll.ballot.certified == {0: DX}
    assert poll.ballot.final.body == DX


def test_a_quorum_of_nexts_opens_a_view_and_the_first_quorum_binds_it():
    poll = Poll()
    for i in range(4):
        assert poll.ballot.view == (1 if i >= 3 else 0)
        poll.cast(i, Next(height=1, view=1, known=(h(i),)))
    assert poll.ballot.view == 1
    assert [vote.known for vote in poll.ballot.opened[1]] == [(h(0),), (h(1),), (h(2),)]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_next_that_claims_a_certificate_counts_from_when_its_attests_are_known(order):
    poll = Poll()
    for i in order:
        poll.cast(i, Next(height=1, view=1, certified=1, content=X))
    assert poll.ballot.view == 0
    for i in range(3):
        assert not poll.ballot.opened
        poll.attest(i)
    assert poll.ballot.view == 1


def test_a_false_certificate_never_counts():
    poll = Poll()
    poll.cast(3, Next(height=1, view=1, certified=1, content=Y))
    for i in range(3):
        poll.attest(i)
    poll.cast(0, Next(height=1, view=1, certified=1, content=X))
    poll.cast(1, Next(height=1, view=1))
    assert poll.ballot.view == 0
    poll.cast(2, Next(height=1, view=1))
    assert [vote.content for vote in poll.ballot.opened[1]] == [X, b"", b""]


def test_a_call_is_heard_once_more_members_than_lie_have_made_it():
    poll = Poll()
    key = poll.authors[0].key
    poll.cast(1, Next(height=1, view=5))
    assert poll.ballot.calls(key) == 0
    poll.cast(2, Next(height=1, view=3))
    assert poll.ballot.calls(key) == 3
    assert poll.ballot.calls(poll.authors[1].key) == 0
