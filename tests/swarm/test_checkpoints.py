"""Facts about checkpoints: which count, who settles them, and what may be trimmed."""

from scenes import checkpoint, rounds
from world import h

from swarmcell.swarm.actions import Open, WriteCheckpoint
from swarmcell.swarm.adopt import trim_below
from swarmcell.swarm.checkpoints import KEPT_PER_AUTHOR
from swarmcell.swarm.decide import decide
from swarmcell.swarm.duties import usable_checkpoints
from swarmcell.swarm.me import Me
from swarmcell.swarm.payloads import Acknowledge, Blob


def written(scene, author="m0", height=None, **changes):
    height = scene.state.height - 1 if height is None else height
    scene.say(author, Blob(content=b"sealed"))
    entry = scene[author].entry(checkpoint(scene, height, **changes))
    scene.tell(entry.raw)
    return entry


def test_a_checkpoint_counts_with_its_chunks_only():
    scene = rounds(2)
    scene.say("m0", checkpoint(scene, 2))
    assert usable_checkpoints(scene.state) == []
    scene.say("m0", Blob(content=b"sealed"))
    assert [stored.payload.height for stored in usable_checkpoints(scene.state)] == [2]


def test_a_checkpoint_of_another_body_does_not_count():
    scene = rounds(2)
    written(scene, content=scene.state.blocks[1].content)
    assert usable_checkpoints(scene.state) == []


def test_the_newest_comes_first_and_of_one_author_the_last_few_are_kept():
    scene = rounds(KEPT_PER_AUTHOR + 2)
    for height in range(1, KEPT_PER_AUTHOR + 3):
        written(scene, height=height)
    heights = [stored.payload.height for stored in usable_checkpoints(scene.state)]
    assert heights == [6, 5, 4, 3]


def test_an_acknowledgement_of_nothing_does_not_count():
    scene = rounds(1)
    assert scene.say("m1", Acknowledge(height=1, checkpoint=h("none"))).reason == "no such checkpoint"


def test_nothing_is_trimmed_before_a_quorum_has_opened_a_checkpoint():
    scene = rounds(2)
    entry = written(scene)
    assert trim_below(scene.state) == 0
    scene.say("m1", Acknowledge(height=2, checkpoint=entry.digest))
    scene.say("m1", Acknowledge(height=2, checkpoint=entry.digest))
    assert trim_below(scene.state) == 0
    scene.say("m2", Acknowledge(height=2, checkpoint=entry.digest))
    assert trim_below(scene.state) == scene.state.blocks[2].position


def test_what_belongs_to_the_open_round_is_not_trimmed():
    scene = rounds(1)
    body, position = scene.state.body, len(scene.log) + 1
    scene.say("m0", Blob(content=b"early"))
    early = scene.update("m0", b"early", round=3)[1]
    scene.say("m0", early)
    assert body.height == 1
    scene.round()
    entry = written(scene)
    for name in ("m1", "m2"):
        scene.say(name, Acknowledge(height=2, checkpoint=entry.digest))
    assert trim_below(scene.state) == position


def asked(scene, me, kind, now_ms=0):
    me.observe(scene.state, 0)
    return [action for action in decide(scene.state, me, now_ms) if isinstance(action, kind)]


def member(scene, name):
    me = Me(scene[name].key)
    me.sequence, me.previous = scene[name].sequence, scene[name].previous
    me.done = {("accept", 0), ("contribution", scene.state.rounds.number)}
    me.holds(block.body.state for block in scene.state.blocks.values())
    me.opened_key(scene.state.key_digest)
    return me


def test_a_checkpoint_is_due_every_ten_blocks_and_the_first_author_writes_it():
    scene = rounds(9)
    first = min(author.name for author in scene.everybody if author.key == min(scene.state.roster.members))
    assert asked(scene, member(scene, first), WriteCheckpoint) == []
    scene.round()
    assert [w.height for w in asked(scene, member(scene, first), WriteCheckpoint)] == [10]
    second = next(a.name for a in scene.everybody if a.key == sorted(scene.state.roster.members)[1])
    me = member(scene, second)
    assert asked(scene, me, WriteCheckpoint) == []
    assert [w.height for w in asked(scene, me, WriteCheckpoint, scene.genesis.patience_ms)] == [10]


def test_a_checkpoint_that_does_not_open_keeps_nobody_from_writing_one():
    scene = rounds(10)
    first = next(a.name for a in scene.everybody if a.key == min(scene.state.roster.members))
    bad = written(scene, author=next(a.name for a in scene.everybody if a.name != first))
    me = member(scene, first)
    assert [o.digest for o in asked(scene, me, Open)] == [bad.digest]
    assert asked(scene, me, WriteCheckpoint) == []
    me.refuse(bad.digest, "does not open")
    assert [w.height for w in asked(scene, me, WriteCheckpoint)] == [10]
