"""Facts about starting from a checkpoint."""

from dataclasses import replace

import pytest
from scenes import Scene, checkpoint, rounds
from world import fake_verify, h

from swarmcell.swarm.adopt import adopt
from swarmcell.swarm.encoding import EncodingError
from swarmcell.swarm.payloads import Patience


@pytest.fixture
def scene():
    return rounds(4)


def late(scene, found, **options):
    return adopt(scene.genesis, fake_verify, found, **options)


def test_what_nobody_known_vouches_for_is_refused(scene):
    good = checkpoint(scene, 4)
    other = scene.state.blocks[3]
    for bad in (
        replace(good, certificate=()),
        replace(good, certificate=good.certificate[:1]),
        replace(good, certificate=good.certificate[:1] * 3),
        replace(good, certificate=(b"junk", *good.certificate[:1])),
        replace(good, certificate=other.certificate),
        replace(good, content=other.content),
        replace(good, height=3),
        replace(good, content=b"junk"),
    ):
        with pytest.raises(EncodingError):
            late(scene, bad)


def test_commits_with_a_forged_signature_do_not_vouch(scene):
    with pytest.raises(EncodingError):
        adopt(scene.genesis, lambda *_: False, checkpoint(scene, 4))


def test_commits_of_strangers_do_not_vouch(scene):
    others = Scene(founders=tuple(scene[f"x{i}"].member for i in range(3)))
    with pytest.raises(EncodingError):
        late(scene, checkpoint(scene, 4), roster=others.state.roster)


def test_another_body_than_the_invitations_is_refused(scene):
    with pytest.raises(EncodingError, match="ask a member for a new invitation"):
        late(scene, checkpoint(scene, 4), pins={4: h("other")})


def test_an_invitation_vouches_without_commits(scene):
    state = late(scene, replace(checkpoint(scene, 4), certificate=()), pins={4: scene.state.blocks[4].digest})
    assert state.height == 5


def test_a_latecomer_goes_on_from_there_with_the_others(scene):
    state = late(scene, checkpoint(scene, 4))
    assert (state.height, state.rounds.number) == (scene.state.height, scene.state.rounds.number)
    before = len(scene.log)
    scene.round()
    scene.say("m0", Patience(round=6))
    for position, raw in enumerate(scene.log[before:], start=before + 1):
        assert state.apply(position, raw).reason in ("", "past")
    assert state.last.digest == scene.state.last.digest
    assert state.chains.gaps() == {}
