"""Facts about what a peer should do now. Whole histories are in tests/simulation."""

import copy
from dataclasses import replace

import pytest
from scenes import FRESH, KEY, Scene
from world import h

from swarmcell.swarm.actions import (
    BringKey,
    Contribute,
    Finish,
    Merge,
    OpenKey,
    Outcome,
    Resend,
    Sign,
    Stop,
    Wait,
    WrapKey,
)
from swarmcell.swarm.body import body_digest
from swarmcell.swarm.decide import decide
from swarmcell.swarm.duties import RESEND_MS, STRETCH_MAX
from swarmcell.swarm.me import Me, contribution_key
from swarmcell.swarm.payloads import Accept, Approve, Attest, Blob, Commit, Next, Patience, Wrap
from swarmcell.swarm.proposals import key_digest

PATIENCE_MS = 1000


class Seat:
    """One member's `Me` beside a scene's state."""

    def __init__(self, scene, name="m0"):
        self.scene, self.name = scene, name
        self.me = Me(scene[name].key)
        if scene.state.last is not None:
            self.me.done.add(("accept", 0))
            self.me.opened_key(scene.state.key_digest)
            self.me.holds([scene.state.body.state])

    def actions(self, now_ms=0):
        self.me.observe(self.scene.state, now_ms)
        return decide(self.scene.state, self.me, now_ms)

    def only(self, kind, now_ms=0):
        return [action for action in self.actions(now_ms) if isinstance(action, kind)]

    def signs(self, now_ms=0):
        return [action.payload for action in self.only(Sign, now_ms)]

    def sign(self, payload):
        entry = self.scene[self.name].entry(payload)
        self.me.remember(entry)
        self.scene.tell(entry.raw)
        self.me.meet(entry)


def closed(scene):
    """Let everybody contribute, and the seat's member merge."""
    seat = Seat(scene)
    for author in scene.everybody:
        scene.contribute(author.name)
    seat.me.done.add(("contribution", 1))
    (merge,) = seat.only(Merge)
    seat.me.merged(merge.key, Outcome(state=h("state", 1)))
    return seat


def test_a_peer_whose_key_signs_elsewhere_stops(founded):
    seat = Seat(founded)
    seat.me.meet(founded["m0"].entry(Patience(round=9)))
    assert isinstance(seat.actions()[0], Stop)
    assert len(seat.actions()) == 1


def test_a_peer_on_a_halted_history_stops(founded):
    founded.state.halted = "another history"
    assert Seat(founded).actions() == [Stop("another history")]


def test_a_stranger_signs_nothing(founded):
    (wait,) = Seat(founded, "new").actions()
    assert "not a member" in wait.reason


def test_a_revoked_member_stops_and_one_that_never_signed_waits_to_be_admitted():
    scene = Scene(n=5, f=1).found()
    gone, never = Seat(scene, "m3"), Seat(scene, "new")
    gone.sign(Patience(round=1))
    revoke_with_garbage(scene)
    (stop,) = gone.actions()
    assert isinstance(stop, Stop)
    assert "revoked this identity" in stop.reason
    assert [type(action) for action in never.actions()] == [Wait]


def test_a_peer_whose_own_merge_differs_from_the_final_one_stops(founded):
    seat = Seat(founded)
    founded.round(Outcome(state=h("what the others got")))
    seat.me.done.add(("contribution", 1))
    (merge,) = seat.only(Merge)
    seat.me.merged(merge.key, Outcome(state=h("another")))
    (stop,) = seat.actions()
    assert "its arithmetic, memory or software differs" in stop.reason


def test_deciding_changes_nothing_and_says_the_same_again(founded):
    seat = closed(founded)
    seat.me.observe(founded.state, 5)
    before = copy.deepcopy(vars(seat.me))
    assert decide(founded.state, seat.me, 5) == decide(founded.state, seat.me, 5)
    assert vars(seat.me) == before


def test_a_founder_brings_a_key_or_accepts_the_one_that_is_there(scene):
    seat = Seat(scene)
    assert seat.only(BringKey)
    scene.say("m1", Accept(key_digest=key_digest(KEY), wraps=scene.wraps("m0", "m1", "m2", key=KEY)))
    (opening,) = seat.only(OpenKey)
    assert opening.wraps == (KEY,)
    seat.me.opened_key(key_digest(KEY))
    assert seat.signs() == [Accept(key_digest=key_digest(KEY))]
    seat.me.keys.clear()
    seat.me.refuse(key_digest(KEY), "no wrap opens")
    assert seat.only(BringKey), "a key that this founder cannot open is no reason to wait"


def test_a_member_trains_from_the_last_state_once(founded):
    seat = Seat(founded)
    assert seat.only(Contribute) == [Contribute(round=1, epoch=0, base=founded.state.body.state)]
    seat.sign(Blob(content=b"x"))
    seat.sign(founded.update("m0", b"x")[1])
    assert seat.only(Contribute) == []


def test_patience_is_signed_after_its_time_only_and_once(founded):
    seat = Seat(founded)
    seat.me.refuse(contribution_key(1), "nothing to add")
    founded.contribute("m1")
    assert seat.signs(0) == []
    assert seat.signs(PATIENCE_MS - 1) == []
    assert seat.signs(PATIENCE_MS) == [Patience(round=1)]
    seat.sign(Patience(round=1))
    assert not any(isinstance(p, Next) for p in seat.signs(10 * PATIENCE_MS))


def test_a_living_slow_member_is_waited_for_longer_and_not_for_ever(founded):
    seat = Seat(founded)
    seat.me.refuse(contribution_key(1), "nothing to add")
    founded.contribute("m1")
    seat.me.up = frozenset([founded["m2"].key])
    seat.me.lags_ms = {0: 1500}
    assert seat.signs(0) == seat.signs(2999) == []
    assert seat.signs(3000) == [Patience(round=1)]
    seat.me.lags_ms = {0: 10**9}
    assert seat.signs(STRETCH_MAX * PATIENCE_MS) == [Patience(round=1)]


def test_a_member_attests_its_own_merge_once_per_view(founded):
    seat = closed(founded)
    body = founded.body(Outcome(state=h("state", 1)))
    assert seat.signs() == [Attest(height=1, view=0, body=body_digest(body.encode()))]
    seat.sign(seat.signs()[0])
    assert seat.signs() == []


def test_a_member_commits_on_a_certificate_and_shows_the_body(founded):
    seat = closed(founded)
    content = founded.body(Outcome(state=h("state", 1))).encode()
    attest = Attest(height=1, view=0, body=body_digest(content))
    founded.say("m1", attest)
    seat.sign(attest)
    assert seat.signs() == [Commit(height=1, view=0, body=body_digest(content), content=content)]


def test_a_certificate_of_another_body_is_not_committed_without_its_bytes(founded):
    seat = closed(founded)
    for name in ("m1", "m2"):
        founded.say(name, Attest(height=1, view=0, body=h("unknown")))
    assert not any(isinstance(payload, Commit) for payload in seat.signs())


def test_after_its_patience_a_member_calls_for_the_next_view_and_leaves_the_last(founded):
    seat = closed(founded)
    seat.sign(seat.signs(0)[0])
    assert seat.signs(PATIENCE_MS - 1) == []
    (call,) = seat.signs(PATIENCE_MS)
    assert (call.view, call.certified, len(call.known)) == (1, 0, 3)
    seat.sign(call)
    content = founded.body(Outcome(state=h("state", 1))).encode()
    for name in ("m1", "m2"):
        founded.say(name, Attest(height=1, view=0, body=body_digest(content)))
    votes = [p for p in seat.signs(PATIENCE_MS) if isinstance(p, Attest | Commit)]
    assert votes == [], "it commits to nothing in a view that it has left"


def test_a_member_whose_round_closed_lends_its_patience_to_those_where_it_did_not(founded):
    """Who counts an update that others ignore would else wait for their votes, and they for its patience."""
    seat = closed(founded)
    seat.sign(seat.signs(0)[0])
    seat.sign(seat.signs(PATIENCE_MS)[0])
    assert seat.signs(PATIENCE_MS) == [Patience(round=1)]


@pytest.mark.parametrize(("f", "n", "callers"), [(0, 3, 1), (1, 4, 2)])
def test_enough_calls_of_others_are_followed_without_patience(f, n, callers):
    scene = Scene(n=n, f=f).found()
    seat = closed(scene)
    seat.sign(seat.signs()[0])
    for i in range(callers):
        assert seat.signs() == []
        scene.say(f"m{i + 1}", Next(height=1, view=1))
    assert [call.view for call in seat.signs()] == [1]


def test_a_call_carries_the_certificate(founded):
    seat = closed(founded)
    content = founded.body(Outcome(state=h("state", 1))).encode()
    for name in ("m1", "m2"):
        founded.say(name, Attest(height=1, view=0, body=body_digest(content)))
    seat.sign(seat.signs(0)[0])
    calls = [p for p in seat.signs(PATIENCE_MS) if isinstance(p, Next)]
    assert [(call.certified, call.content) for call in calls] == [(1, content)]


def test_who_committed_and_has_not_read_the_certificate_again_calls_for_nothing(founded):
    seat = closed(founded)
    seat.me.committed[1, 0] = h("committed before the restart")
    seat.me.attested[1, 0] = h("committed before the restart")
    assert not any(isinstance(p, Next) for p in seat.signs(10 * PATIENCE_MS))


def test_who_committed_and_forgot_its_merge_in_a_restart_merges_again_and_follows_the_calls(founded):
    """Where its vote is needed for a quorum and nobody else shows the body, the swarm would wait for it for ever."""
    seat = closed(founded)
    content = founded.body(Outcome(state=h("state", 1))).encode()
    attest = Attest(height=1, view=0, body=body_digest(content))
    founded.say("m1", attest)
    founded.say("m2", attest)
    seat.sign(attest)
    seat.sign(Commit(height=1, view=0, body=body_digest(content)))
    founded.say("m1", Next(height=1, view=1))
    seat.me.outcomes.clear()  # a restart
    assert not any(isinstance(payload, Next) for payload in seat.signs())
    (merge,) = seat.only(Merge)
    seat.me.merged(merge.key, Outcome(state=h("state", 1)))
    assert [(call.view, call.certified, call.content) for call in seat.signs()] == [(1, 1, content)]


def test_what_the_log_does_not_show_is_sent_again_after_a_while(founded):
    seat = Seat(founded)
    seat.me.remember(founded["m0"].entry(Patience(round=1)))
    assert seat.only(Resend, 0) == []
    (again,) = seat.only(Resend, RESEND_MS)
    assert again.sequences == (founded["m0"].sequence,)
    seat.me.resent(RESEND_MS)
    assert seat.only(Resend, RESEND_MS + 1) == []


def test_one_signature_at_a_time(founded):
    seat = closed(founded)
    seat.me.to_propose = [founded.admit("new")]
    assert len(seat.signs()) == 1


def test_a_peer_below_the_quorum_says_who_is_missing(founded):
    seat = Seat(founded)
    seat.me.up = frozenset([founded["m0"].key])
    (wait,) = seat.only(Wait)
    assert "below the quorum: 1 of 3" in wait.reason
    assert set(wait.who) == {founded["m1"].key, founded["m2"].key}


def test_a_peer_says_whom_the_round_waits_for(founded):
    founded.contribute("m1")
    (wait,) = Seat(founded).only(Wait)
    assert wait.reason == "contributions to round 1"
    assert set(wait.who) == {founded["m0"].key, founded["m2"].key}


def test_a_study_that_ended_is_told_with_its_failure_once_the_state_is_there(founded):
    founded.round(Outcome(state=h("end"), finished=True, failure="no site has cells"))
    seat = Seat(founded)
    assert seat.only(Finish) == [Finish(state=h("end"), failure="no site has cells")]
    seat.me.states.clear()
    assert seat.only(Finish) == []


def test_only_the_first_attesters_show_the_body(founded):
    seat = closed(founded)
    content = founded.body(Outcome(state=h("state", 1))).encode()
    attest = Attest(height=1, view=0, body=body_digest(content))
    for name in ("m1", "m2"):
        founded.say(name, attest)
    assert seat.signs() == [Commit(height=1, view=0, body=body_digest(content), content=b"")]


def test_a_final_block_whose_body_nobody_showed_is_shown_by_the_first_next(founded):
    """The first attesters commit with the body; if all of them lie or vanish, patience brings it."""
    seat = closed(founded)
    content = founded.body(Outcome(state=h("state", 1))).encode()
    digest = body_digest(content)
    for payload in (Attest(height=1, view=0, body=digest), Commit(height=1, view=0, body=digest)):
        for name in ("m1", "m2"):
            founded.say(name, payload)
    assert founded.state.height == 1, "final by its commits, and nobody knows its bytes"
    seat.sign(Commit(height=1, view=0, body=digest))
    seat.actions(0)
    (call,) = [p for p in seat.signs(PATIENCE_MS + 1) if isinstance(p, Next)]
    assert call.content == content
    founded.say("m0", call)
    assert founded.state.height == 2


def revoke_with_garbage(scene):
    """Let m3 be revoked by a proposal that seals the fresh key for everybody but m0."""
    change = scene.revoke("m3")
    wraps = tuple((key, b"garbage" if key == scene["m0"].key else sealed) for key, sealed in change.wraps)
    entry = scene["m1"].entry(replace(change, wraps=wraps))
    scene.tell(entry.raw)
    for name in ("m0", "m2", "m3"):
        scene.say(name, Approve(proposal=entry.digest))
    assert scene.decide(scene.body())
    return change.key_digest


def test_a_member_whose_key_was_sealed_wrongly_asks_and_is_answered():
    """A liar that seals garbage for one member at a revocation must not lock it out."""
    scene = Scene(n=5, f=1).found()
    key = revoke_with_garbage(scene)
    seat = Seat(scene)
    seat.me.keys.discard(key)
    seat.me.states.add(scene.state.body.state)
    (opening,) = [a for a in seat.only(OpenKey) if a.key_digest == key]
    assert opening.wraps == (b"garbage",)
    seat.me.cannot_open(key, 1, "garbage")
    (ask,) = [p for p in seat.signs() if isinstance(p, Wrap)]
    assert ask == Wrap(key_digest=key, wraps=())
    seat.sign(ask)
    assert not [p for p in seat.signs() if isinstance(p, Wrap)], "asked twice"
    helper = Seat(scene, "m2")
    helper.me.opened_key(key)
    helper.actions()
    (answer,) = helper.only(WrapKey, now_ms=10 * PATIENCE_MS)
    assert answer.member.signing_key == scene["m0"].key
    scene.say("m2", Wrap(key_digest=key, wraps=((scene["m0"].key, FRESH),)))
    (opening,) = [a for a in seat.only(OpenKey) if a.key_digest == key]
    assert FRESH in opening.wraps


def test_more_answers_than_may_lie_are_enough():
    scene = Scene(n=4, f=1).found()
    key = scene.state.key_digest
    scene.say("m0", Wrap(key_digest=key, wraps=()))
    for name in ("m1", "m2"):
        scene.say(name, Wrap(key_digest=key, wraps=((scene["m0"].key, b"of " + name.encode()),)))
    assert not Seat(scene, "m3").only(WrapKey, now_ms=10**6)


def test_nobody_answers_a_stranger_or_without_the_key(founded):
    key = founded.state.key_digest
    founded.say("new", Wrap(key_digest=key, wraps=()))
    assert not Seat(founded, "m1").only(WrapKey, now_ms=10**6)
    founded.say("m0", Wrap(key_digest=key, wraps=()))
    seat = Seat(founded, "m1")
    seat.me.keys.clear()
    assert not seat.only(WrapKey, now_ms=10**6)
