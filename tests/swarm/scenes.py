"""A swarm by hand: authors who sign whatever a test wants, one state that reads it, and the votes of a height."""

import hashlib

from hypothesis import strategies as st
from world import fake_verify, h, make_genesis, member, signed

from swarmcell.swarm import blocks
from swarmcell.swarm.actions import Outcome
from swarmcell.swarm.blocks import Changed, Founded, Merged
from swarmcell.swarm.body import body_digest
from swarmcell.swarm.entries import NO_DIGEST
from swarmcell.swarm.genesis import Genesis, Member
from swarmcell.swarm.payloads import (
    Accept,
    Acknowledge,
    Approve,
    Attest,
    Blob,
    Checkpoint,
    Commit,
    Evaluation,
    Next,
    Patience,
    Propose,
    Statistics,
    TrainedOn,
    Update,
    Wrap,
)
from swarmcell.swarm.proposals import key_digest
from swarmcell.swarm.state import State

KEY = b"the first swarm key".ljust(32, b".")
FRESH = b"another swarm key".ljust(32, b".")


class Author:
    """Signs entries, each on the one before."""

    def __init__(self, genesis, name):
        self.genesis, self.name = genesis, name
        self.member = member(name)
        self.key = self.member.signing_key
        self.sequence, self.previous = 0, NO_DIGEST

    def entry(self, payload):
        entry = signed(self.genesis, self.key, self.sequence + 1, self.previous, payload)
        self.sequence, self.previous = entry.sequence, entry.digest
        return entry

    def other(self, payload, sequence=None):
        """Sign a second entry at a sequence, and go on as if it had not happened."""
        return signed(self.genesis, self.key, sequence or self.sequence, NO_DIGEST, payload)


class Scene:
    """One state, its authors, and all that it was told."""

    def __init__(self, n=3, f=0, **rules):
        genesis = make_genesis(n, f)
        self.genesis = Genesis(**{name: getattr(genesis, name) for name in genesis.__slots__} | rules)
        self.state = State(self.genesis, fake_verify)
        self.authors = {f"m{i}": Author(self.genesis, f"m{i}") for i in range(n)}
        self.log = []

    def __getitem__(self, name):
        if name not in self.authors:
            self.authors[name] = Author(self.genesis, name)
        return self.authors[name]

    @property
    def everybody(self):
        return [self[name] for name in self.authors if self[name].key in self.state.roster]

    def tell(self, raw):
        self.log.append(raw)
        return self.state.apply(len(self.log), raw)

    def say(self, name, payload):
        return self.tell(self[name].entry(payload).raw)

    def all_say(self, payload):
        return [self.say(author.name, payload) for author in self.everybody]

    def decide(self, body):
        """Let everybody attest and commit to a body; return what the last one made final."""
        content = body.encode()
        height, digest = body.height, body_digest(content)
        self.all_say(Attest(height=height, view=0, body=digest))
        made = [self.say(a.name, Commit(height=height, view=0, body=digest, content=content)) for a in self.everybody]
        return [block for applied in made for block in applied.blocks]

    def body(self, outcome=None):
        """Return the body that follows from what view 0 decides."""
        state, last = self.state, self.state.body
        outcome = outcome or Outcome(state=h("state", state.height))
        match state.candidate:
            case Founded() as candidate:
                return blocks.found(state.roster, candidate, outcome)
            case Merged(offers=offers):
                return blocks.merge(last, state.roster, offers, outcome)
            case Changed() as changed:
                return blocks.change(last, state.roster, changed)
        raise AssertionError(state.candidate)

    def found(self):
        keys = sorted(m.signing_key for m in self.genesis.founders)
        wraps = tuple((key, KEY) for key in keys)
        for i, member_ in enumerate(self.genesis.founders):
            self.say(member_.name, Accept(key_digest=key_digest(KEY), wraps=wraps if i == 0 else ()))
        assert len(self.decide(self.body())) == 1
        return self

    def update(self, name, content=b"parameters", **changes):
        """Return the chunk and the update of a member for the open round."""
        fields = {
            "round": self.state.rounds.number,
            "epoch": 0,
            "base": self.state.body.state,
            "parameters": h(content),
            "chunks": (hashlib.sha256(content).digest(),),
            "size_bytes": len(content),
            "n_cells": 10,
            "n_donors": 2,
        }
        return Blob(content=content), Update(**(fields | changes))

    def contribute(self, name, content=None, **changes):
        chunk, update = self.update(name, content or f"of {name}".encode(), **changes)
        self.say(name, chunk)
        return self.say(name, update)

    def round(self, outcome=None):
        for author in self.everybody:
            self.contribute(author.name)
        return self.decide(self.body(outcome))

    def wraps(self, *names, key=FRESH):
        return tuple(sorted((self[name].key, key) for name in names))

    def admit(self, name, f=0):
        return Propose(
            change="admit",
            member=self[name].member,
            f=f,
            key_digest=self.state.key_digest,
            wraps=self.wraps(name, key=KEY),
        )

    def revoke(self, name, f=0):
        staying = [a.name for a in self.everybody if a.name != name]
        return Propose(
            change="revoke",
            member=self[name].member,
            f=f,
            key_digest=key_digest(FRESH),
            wraps=self.wraps(*staying),
        )


def checkpoint(scene, height, sealed=b"sealed", **changes):
    block = scene.state.blocks[height]
    fields = {
        "height": height,
        "epoch": 0,
        "content": block.content,
        "certificate": block.certificate,
        "chunks": (hashlib.sha256(sealed).digest(),),
        "size_bytes": len(sealed),
    }
    return Checkpoint(**(fields | changes))


def rounds(n):
    scene = Scene().found()
    for _ in range(n):
        scene.round()
    return scene


def digests():
    return st.integers(0, 50).map(h)


NUMBERS = st.integers(0, 2**40)
POSITIVE = st.integers(1, 2**40)
WRAPS = st.dictionaries(digests(), st.binary(max_size=200), max_size=4).map(lambda w: tuple(sorted(w.items())))
ASCENDING = st.sets(digests(), max_size=4).map(lambda found: tuple(sorted(found)))
LISTED = st.lists(digests(), max_size=3).map(tuple)
CONTENT = st.binary(max_size=60)
NAMES = st.text(st.characters(blacklist_categories=("Cc", "Cs")), max_size=20)
MEMBERS = st.builds(Member, name=NAMES, signing_key=digests(), sealing_key=digests())
VIEWS = st.integers(0, 10_000)
CONTRIBUTION = {
    **{name: st.integers(0, 2**30) for name in ("epoch", "size_bytes", "n_cells", "n_donors")},
    "round": POSITIVE,
    "base": digests(),
    "parameters": digests(),
    "chunks": LISTED,
    "figures": st.dictionaries(NAMES, st.integers(-(2**63), 2**63 - 1), max_size=3),
}
CHECKPOINT = {"content": CONTENT, "certificate": st.lists(CONTENT, max_size=2).map(tuple), "chunks": LISTED}
PAYLOADS = st.one_of(
    st.builds(Accept, key_digest=digests(), wraps=WRAPS),
    st.builds(Blob, content=st.binary(min_size=1, max_size=60)),
    st.builds(Statistics, **CONTRIBUTION),
    st.builds(Update, **CONTRIBUTION),
    st.builds(Patience, round=POSITIVE),
    st.builds(Attest, height=NUMBERS, view=VIEWS, body=digests()),
    st.builds(Commit, height=NUMBERS, view=VIEWS, body=digests(), content=CONTENT),
    st.builds(
        Next,
        height=NUMBERS,
        view=st.integers(1, 10_000),
        certified=VIEWS,
        content=CONTENT,
        known=ASCENDING,
        approved=ASCENDING,
    ),
    st.builds(
        Propose,
        change=st.sampled_from(("admit", "revoke", "rotate", "end")),
        member=MEMBERS,
        f=st.integers(0, 4000),
        key_digest=digests(),
        wraps=WRAPS,
    ),
    st.builds(Approve, proposal=digests()),
    st.builds(Wrap, key_digest=digests(), wraps=WRAPS),
    st.builds(Checkpoint, height=NUMBERS, epoch=NUMBERS, size_bytes=st.integers(0, 2**30), **CHECKPOINT),
    st.builds(Acknowledge, height=NUMBERS, checkpoint=digests()),
    st.builds(
        Evaluation,
        state=digests(),
        counts=st.dictionaries(NAMES, st.lists(st.integers(0, 2**50), max_size=4).map(tuple), max_size=3),
    ),
    st.builds(TrainedOn, commitment=digests(), epoch=NUMBERS, content=st.binary(max_size=40)),
)
