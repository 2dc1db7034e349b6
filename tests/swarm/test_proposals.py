"""Facts about changes of the roster and the swarm's key."""

from dataclasses import replace

import pytest
from scenes import FRESH, KEY, Scene
from world import h, member

from swarmcell.swarm.payloads import Approve, Propose
from swarmcell.swarm.proposals import APPROVALS_PER_AUTHOR_MAX, OPEN_PER_AUTHOR_MAX, fault_of, key_digest


def fault(scene, change):
    return fault_of(change, scene.state.roster, scene.state.key_digest)


def end(scene):
    return Propose(change="end", member=scene["m0"].member, f=0, key_digest=scene.state.key_digest)


def rotate(scene, *names):
    wraps = scene.wraps(*(names or ("m0", "m1", "m2")))
    return Propose(change="rotate", member=scene["m0"].member, f=0, key_digest=key_digest(FRESH), wraps=wraps)


def test_a_change_that_can_follow_has_no_fault(founded):
    for change in (founded.admit("new"), founded.revoke("m2"), rotate(founded), end(founded)):
        assert fault(founded, change) == ""


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda s: s.admit("m1"), "name or key already"),
        (lambda s: replace(s.admit("new"), member=replace(member("new"), name="m1")), "name or key already"),
        (lambda s: replace(s.admit("new"), member=replace(member("new"), sealing_key=h("seal", "m1"))), "already"),
        (lambda s: replace(s.admit("new"), key_digest=h("old key")), "key has changed"),
        (lambda s: replace(s.admit("new"), wraps=()), "sealed for the newcomer"),
        (lambda s: replace(s.admit("new"), wraps=s.wraps("m0", "new")), "sealed for the newcomer"),
        (lambda s: s.admit("new", f=2), "cannot tolerate 2 liars"),
        (lambda s: s.revoke("new"), "no such member"),
        (lambda s: replace(s.revoke("m2"), key_digest=key_digest(KEY)), "fresh swarm key"),
        (lambda s: replace(s.revoke("m2"), wraps=s.wraps("m0", "m1", "m2")), "exactly those who stay"),
        (lambda s: replace(s.revoke("m2"), wraps=s.wraps("m0")), "exactly those who stay"),
        (lambda s: rotate(s, "m0", "m1"), "exactly those who stay"),
        (lambda s: replace(end(s), f=1), "cannot tolerate"),
        (lambda s: replace(end(s), key_digest=h("key")), "changes nothing else"),
    ],
)
def test_a_change_that_cannot_follow_is_refused(founded, make, why):
    assert why in fault(founded, make(founded))


def test_four_members_may_tolerate_one_liar_from_an_admission_on(founded):
    assert fault(founded, founded.admit("new", f=1)) == ""


def test_a_swarm_never_loses_its_last_member():
    scene = Scene(n=1).found()
    assert "0 members" in fault(scene, scene.revoke("m0"))


def approved(scene, change):
    entry = scene["m0"].entry(change)
    scene.tell(entry.raw)
    scene.say("m1", Approve(proposal=entry.digest))
    return entry


def test_one_member_alone_changes_nothing(founded):
    entry = founded["m0"].entry(founded.admit("new"))
    founded.tell(entry.raw)
    founded.say("m0", Approve(proposal=entry.digest))
    assert founded.state.candidate is None


def test_an_approval_may_come_before_its_proposal(founded):
    entry = founded["m0"].entry(founded.admit("new"))
    founded.say("m1", Approve(proposal=entry.digest))
    founded.tell(entry.raw)
    assert founded.state.candidate.proposal == entry.digest


def test_an_approval_counts_once_and_only_so_many_count(founded):
    found = [founded.say("m1", Approve(proposal=h(i))).reason for i in range(APPROVALS_PER_AUTHOR_MAX)]
    assert set(found) == {""}
    assert founded.say("m1", Approve(proposal=h(0))).reason == "approved already"
    assert founded.say("m1", Approve(proposal=h("more"))).reason == "too many approvals"


def test_open_proposals_have_a_limit(founded):
    for i in range(OPEN_PER_AUTHOR_MAX):
        assert founded.say("m0", replace(end(founded), key_digest=h(i))).reason == ""
    assert founded.say("m0", end(founded)).reason == "too many proposals"


def test_an_admitted_member_votes_from_the_next_block_on(founded):
    approved(founded, founded.admit("new"))
    (block,) = founded.decide(founded.body())
    assert (block.body.kind, block.body.epoch, block.body.state) == ("admit", 0, founded.state.blocks[0].body.state)
    assert founded["new"].key in founded.state.roster
    assert founded.state.roster.quorum == 3
    assert founded["new"].key in founded.state.closing.awaited
    founded.round()
    assert founded.state.height == 3


def test_a_revoked_members_entries_count_for_nothing_and_the_key_is_another(founded):
    approved(founded, founded.revoke("m2"))
    founded.decide(founded.body())
    assert founded.state.key_digest == key_digest(FRESH)
    assert founded.state.body.epoch == 1
    applied = founded.contribute("m2")
    assert (applied.reason, applied.stored) == ("not a member", False)
    assert {s.member.name for s in founded.state.roster.standings} == {"m0", "m1"}


def test_a_proposal_that_cannot_follow_any_more_is_never_carried_out(founded):
    first = approved(founded, founded.admit("new"))
    second = founded["m2"].entry(founded.admit("new"))
    founded.tell(second.raw)
    for name in ("m0", "m1"):
        founded.say(name, Approve(proposal=second.digest))
    assert founded.state.candidate.proposal == first.digest
    founded.decide(founded.body())
    assert founded.state.candidate is None


def test_an_end_finishes_the_study_and_nothing_follows(founded):
    approved(founded, end(founded))
    founded.decide(founded.body())
    assert founded.state.finished
    founded.contribute("m0")
    assert founded.state.candidate is None
