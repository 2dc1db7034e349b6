"""Facts about what a later view decides. Whole interleavings are in tests/simulation/schedules.py."""

from scenes import FRESH, KEY, Scene
from world import h

from swarmcell.swarm.blocks import Changed, Founded, Merged, Unknown
from swarmcell.swarm.body import body_digest
from swarmcell.swarm.payloads import Accept, Approve, Attest, Next
from swarmcell.swarm.proposals import key_digest
from swarmcell.swarm.views import Plan, highest_certificate, plan


def offered(scene, *names):
    return tuple(sorted(scene.contribute(name).entry.digest for name in names))


def call(scene, name, view=1, **said):
    scene.say(name, Next(height=scene.state.height, view=view, **said))


def test_view_0_decides_what_closed(founded):
    assert plan(founded.state, 0) is None
    offered(founded, "m0", "m1", "m2")
    assert plan(founded.state, 0) == Plan(founded.state.candidate)


def test_a_later_view_takes_the_body_of_the_highest_certificate(founded):
    offered(founded, "m0", "m1", "m2")
    body = founded.body()
    for name in ("m0", "m1"):
        founded.say(name, Attest(height=1, view=0, body=body_digest(body.encode())))
    call(founded, "m0", certified=1, content=body.encode())
    call(founded, "m2")
    found = plan(founded.state, 1)
    assert (found.content, found.candidate) == (body.encode(), founded.state.candidate)


def test_the_highest_certificate_wins_over_a_lower_one():
    votes = [Next(height=1, view=3, certified=c, content=b"x" if c else b"") for c in (0, 2, 1)]
    assert highest_certificate(votes).certified == 2


def test_without_a_certificate_it_takes_the_union_of_what_is_known(founded):
    a, b, _ = (offered(founded, name) for name in ("m0", "m1", "m2"))
    call(founded, "m0", known=a)
    call(founded, "m1", known=b)
    found = plan(founded.state, 1)
    assert {o.author for o in found.candidate.offers} == {founded["m0"].key, founded["m1"].key}
    assert [o.author for o in found.candidate.offers] == sorted(o.author for o in found.candidate.offers)


def test_with_a_liar_what_one_member_says_alone_binds_nobody():
    scene = Scene(n=4, f=1).found()
    a, b = offered(scene, "m0"), offered(scene, "m1")
    call(scene, "m0", known=tuple(sorted(a + b)))
    call(scene, "m1", known=a)
    call(scene, "m3", known=(h("nobody has this"),))
    assert [o.digest for o in plan(scene.state, 1).candidate.offers] == list(a)


def test_what_others_know_and_this_peer_has_not_read_is_named(founded):
    call(founded, "m0", known=(h("unread"),))
    call(founded, "m1")
    assert plan(founded.state, 1) == Unknown((h("unread"),))


def test_fewer_contributions_than_the_least_decide_nothing():
    scene = Scene(min_updates=2).found()
    a = offered(scene, "m0")
    call(scene, "m0", known=a)
    call(scene, "m1")
    assert plan(scene.state, 1) is None


def test_of_one_author_the_lowest_digest_is_merged(founded):
    both = tuple(sorted(founded.contribute("m0", b"%d" % i).entry.digest for i in range(2)))
    call(founded, "m0", known=both)
    call(founded, "m1", known=both)
    assert [o.digest for o in plan(founded.state, 1).candidate.offers] == [both[0]]


def test_an_approved_change_comes_before_a_merge(founded):
    a = offered(founded, "m0")
    change = founded["m0"].entry(founded.admit("new"))
    founded.tell(change.raw)
    founded.say("m1", Approve(proposal=change.digest))
    call(founded, "m0", known=a, approved=(change.digest,))
    call(founded, "m1")
    assert plan(founded.state, 1).candidate == Changed(change.digest, change.payload)


def test_at_height_0_later_views_take_the_keys_in_turn(scene):
    names = ("m0", "m1", "m2")
    first = scene.say("m0", Accept(key_digest=key_digest(KEY), wraps=scene.wraps(*names, key=KEY))).entry
    second = scene.say("m1", Accept(key_digest=key_digest(FRESH), wraps=scene.wraps(*names))).entry
    known = tuple(sorted((first.digest, second.digest)))
    for view in (1, 2):
        call(scene, "m0", view, known=known)
        call(scene, "m1", view)
    keys = {first.digest: key_digest(KEY), second.digest: key_digest(FRESH)}
    assert [plan(scene.state, v).candidate for v in (1, 2)] == [Founded(d, keys[d]) for d in known]


def test_a_merge_is_retraced_from_a_body_with_those_left_out(founded):
    from swarmcell.swarm.actions import Outcome
    from swarmcell.swarm.views import retrace

    offered(founded, "m0", "m1", "m2")
    body = founded.body(Outcome(state=h("x"), left_out={founded["m1"].key: "not finite"}))
    assert [reason for *_, reason in body.left_out] == ["not finite"]
    found = retrace(founded.state, body)
    assert isinstance(found, Merged)
    assert found == founded.state.candidate
