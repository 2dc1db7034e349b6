"""Facts about how a swarm is founded."""

from dataclasses import replace

import pytest
from scenes import FRESH, KEY, Scene
from world import h

from swarmcell.swarm.founding import KEYS_PER_AUTHOR_MAX
from swarmcell.swarm.payloads import Accept, Wrap
from swarmcell.swarm.proposals import key_digest


def bring(scene, key=KEY):
    return Accept(key_digest=key_digest(key), wraps=scene.wraps("m0", "m1", "m2", key=key))


AGREE = Accept(key_digest=key_digest(KEY))


def test_a_quorum_of_accepts_and_a_key_found_the_swarm(scene):
    scene.say("m0", AGREE)
    scene.say("m1", AGREE)
    assert scene.state.candidate is None, "nobody has brought a key"
    scene.say("m2", bring(scene))
    assert scene.state.candidate.key_digest == key_digest(KEY)


def test_one_accept_is_not_enough(scene):
    scene.say("m0", bring(scene))
    assert scene.state.candidate is None


def test_the_first_key_in_the_log_is_taken(scene):
    scene.say("m2", bring(scene, FRESH))
    scene.say("m0", bring(scene))
    assert scene.state.candidate.key_digest == key_digest(FRESH)


def test_a_key_that_is_not_sealed_for_every_founder_is_refused(scene):
    applied = scene.say("m0", Accept(key_digest=key_digest(KEY), wraps=scene.wraps("m0", "m1")))
    assert applied.reason == "not sealed for every founder"


def test_a_founder_accepts_once(scene):
    scene.say("m0", AGREE)
    assert scene.say("m0", bring(scene)).reason == "accepted already"


def test_the_first_block_stands_on_the_genesis(founded):
    body = founded.state.body
    assert (body.height, body.kind, body.round, body.epoch, body.previous) == (0, "genesis", 0, 0, bytes(32))
    assert body.key_digest == key_digest(KEY)


@pytest.mark.parametrize("field", [{"f": 1}, {"epoch": 1}, {"round": 1}, {"height": 1}, {"previous": h(1)}])
def test_another_first_block_halts_a_reader_whoever_signed_it(field):
    scene = Scene(n=4)
    for name in ("m0", "m1", "m2", "m3"):
        scene.say(name, Accept(key_digest=key_digest(KEY), wraps=scene.wraps("m0", "m1", "m2", "m3", key=KEY)))
    body = replace(scene.body(), **field)
    assert scene.decide(body) == []
    assert scene.state.last is None


def test_a_key_may_be_sealed_again_for_somebody_and_such_wraps_have_limits(founded):
    key = founded["m1"].key
    for name in ("m0", "m2"):
        for i in range(3):
            founded.say(name, Wrap(key_digest=key_digest(KEY), wraps=((key, b"%s %d" % (name.encode(), i)),)))
    assert founded.state.founding.sealed_for(key_digest(KEY), key) == (KEY, b"m2 0"), "one author, one wrap"
    for i in range(KEYS_PER_AUTHOR_MAX):
        last = founded.say("m0", Wrap(key_digest=h(i), wraps=()))
    assert last.reason == "too many keys"
