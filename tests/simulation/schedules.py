"""Directed schedules: interleavings in which one deleted rule forks the swarm. Each runs with the true rules too.

In all of them three members (no liar, quorum 2) are in round 1, and hold updates a, b and c. Shown `a, b` and then a
quorum's patience, a member merges a and b: block X. Shown `a, c` first, it merges a and c: block Y.
"""

from world import Durable, Engine, Peer, World, h, member, signed

from swarmcell.swarm.actions import Contribute
from swarmcell.swarm.body import Body, body_digest
from swarmcell.swarm.entries import NO_DIGEST, decode_entry
from swarmcell.swarm.payloads import Attest, Commit


class Scripted(Engine):
    """Shows every peer exactly what the script says."""

    def append(self, raw: bytes) -> None:
        if raw not in self.log:
            self.log.append(raw)

    def step(self) -> None:
        pass


class Actor(Peer):
    """Trains when told to, and reads only what it is shown."""

    may_train = False

    def contribute(self, action: Contribute) -> None:
        if self.may_train:
            super().contribute(action)
            super().contribute(action)


class Script:
    """A world in which the test moves every message."""

    def __init__(self, *, monitored: bool = False) -> None:
        self.world = World(0, n=3, f=0, crash=0.0, min_updates=2)
        self.world.engine = Scripted(self.world.rng, hostile=True)
        self.world.training_ms = (0,)
        if not monitored:  # only a fork counts here
            self.world.signing = lambda peer, entry: None
        self.a, self.b, self.c = (self.world.add(f"m{i}", Actor) for i in range(3))

    def show(self, peer: Peer, *raws: bytes) -> None:
        self.world.engine.shown[peer.label].extend(raws)
        peer.read(10_000)

    def act(self, peer: Peer) -> list[bytes]:
        """Let a peer do all it can; return what it appended."""
        before = len(self.world.engine.log)
        for _ in range(12):
            peer.act()
        return self.world.engine.log[before:]

    def say(self, peer: Peer, kind: str, view: int | None = None) -> bytes:
        """Return the last entry of a kind that a peer appended (in a view)."""
        for raw in reversed(self.world.engine.log):
            entry = decode_entry(raw)
            right_view = view is None or getattr(entry.payload, "view", None) == view
            if entry.author == peer.key and entry.kind == kind and right_view:
                return raw
        msg = f"{peer.name} has not said {kind}"
        raise AssertionError(msg)

    def said(self, peer: Peer, kind: str, view: int | None = None) -> bool:
        try:
            self.say(peer, kind, view)
        except AssertionError:
            return False
        return True

    def everybody(self) -> None:
        """Show everything to everybody until nothing happens any more."""
        for _ in range(40):
            before = len(self.world.engine.log)
            for peer in (self.a, self.b, self.c):
                known = set(self.world.engine.shown[peer.label])
                self.show(peer, *(raw for raw in self.world.engine.log if raw not in known))
                self.act(peer)
            if len(self.world.engine.log) == before:
                return

    def later(self, ms: int = 1100) -> None:
        self.world.now_ms += ms

    def updates(self) -> dict[str, list[bytes]]:
        """Found the swarm, train at all three, and return each one's chunk and update."""
        self.everybody()
        assert all(peer.state.height == 1 for peer in (self.a, self.b, self.c))
        made = {}
        for name in "abc":
            peer = getattr(self, name)
            peer.may_train = True
            made[name] = self.act(peer)
        return made

    def split(self) -> dict[str, list[bytes]]:
        """A and B attest X, C attests Y; nobody has seen another's vote."""
        made = self.updates()
        for peer in (self.a, self.b):
            self.show(peer, *made["a"], *made["b"])
        self.act(self.a)
        self.act(self.b)
        self.later()
        patience = [*self.act(self.a), *self.act(self.b)]
        for peer in (self.a, self.b):
            self.show(peer, *patience)
            self.act(peer)
        self.show(self.c, *made["a"], *made["c"], *patience)
        self.act(self.c)
        assert self.vote(self.a) == self.vote(self.b) != self.vote(self.c)
        return made

    def vote(self, peer: Peer) -> bytes:
        return decode_entry(self.say(peer, "attest", 0)).payload.body

    def tell_all(self, peers: tuple[Peer, ...], *raws: bytes) -> None:
        for peer in peers:
            self.show(peer, *raws)
            self.act(peer)


def carried_certificate() -> Script:
    """X is final at A; B, which committed to X, and C open view 1."""
    s = Script()
    made = s.split()
    attests = [s.say(s.a, "attest", 0), s.say(s.b, "attest", 0)]
    s.tell_all((s.a, s.b), *attests)
    s.tell_all((s.a,), s.say(s.a, "commit", 0), s.say(s.b, "commit", 0))
    assert s.a.state.height == 2
    s.show(s.b, *made["c"])
    s.show(s.c, *made["b"])
    s.later()
    s.act(s.b)
    s.act(s.c)
    nexts = [s.say(s.b, "next", 1), s.say(s.c, "next", 1)]
    s.tell_all((s.b, s.c), *attests, *nexts)
    _finish_view(s, s.b, s.c, 1)
    s.everybody()
    return s


def left_view() -> Script:
    """B has called for view 1 before it sees the certificate of view 0."""
    s = Script()
    made = s.split()
    attests = [s.say(s.a, "attest", 0), s.say(s.b, "attest", 0)]
    s.show(s.b, *made["c"])
    s.show(s.c, *made["b"])
    s.later()
    s.act(s.b)
    s.act(s.c)
    nexts = [s.say(s.b, "next", 1), s.say(s.c, "next", 1)]
    s.tell_all((s.a, s.b), *attests)
    if s.said(s.b, "commit", 0):
        s.tell_all((s.a,), s.say(s.b, "commit", 0), s.say(s.a, "commit", 0))
    s.tell_all((s.b, s.c), *nexts)
    _finish_view(s, s.b, s.c, 1)
    s.everybody()
    return s


def forgotten_reading() -> Script:
    """B holds X final; A, whose disk kept only what it signed, reads the log again in another order."""
    s = Script()
    made = s.split()
    attests = [s.say(s.a, "attest", 0), s.say(s.b, "attest", 0)]
    s.tell_all((s.b,), *attests)
    s.show(s.c, *made["b"])
    s.tell_all((s.c,), *attests, s.say(s.b, "commit", 0))
    s.tell_all((s.b,), s.say(s.b, "commit", 0), s.say(s.c, "commit", 0))
    assert s.b.state.height == 2
    founded = s.world.engine.shown["m0"][: _founded(s)]
    s.a.disk = Durable(own=s.a.disk.own, states=s.a.disk.states, keys=s.a.disk.keys)
    s.world.engine.shown["m0"] = []
    s.a.boot()
    patience = [s.say(s.a, "patience"), s.say(s.b, "patience")]
    s.show(s.a, *founded, *made["a"], *made["c"], *patience)
    s.act(s.a)
    s.tell_all((s.a,), s.say(s.c, "attest", 0), s.say(s.a, "attest", 0))
    s.later()
    s.act(s.a)
    s.act(s.c)
    ballots = [s.say(p, "next", 1) for p in (s.a, s.c) if s.said(p, "next", 1)]
    s.tell_all((s.c,), s.say(s.a, "attest", 0))
    s.tell_all((s.a, s.c), *ballots, *attests)
    for view in (1,):
        _finish_view(s, s.a, s.c, view)
    s.everybody()
    return s


def _founded(s: Script) -> int:
    """Return how many of A's entries were shown before its first update."""
    raws = s.world.engine.shown["m0"]
    return next(i for i, raw in enumerate(raws) if decode_entry(raw).kind == "blob")


def _finish_view(s: Script, one: Peer, two: Peer, view: int) -> None:
    """Let two members read each other's votes of a view."""
    for kind in ("attest", "commit"):
        votes = [s.say(peer, kind, view) for peer in (one, two) if s.said(peer, kind, view)]
        s.tell_all((one, two), *votes)


def lonely_votes() -> Script:
    """Every member reads its own votes only, then everybody's."""
    s = Script()
    s.split()
    for peer in (s.a, s.c):
        s.tell_all((peer,), s.say(peer, "attest", 0))
        if s.said(peer, "commit", 0):
            s.tell_all((peer,), s.say(peer, "commit", 0))
    s.later()
    s.everybody()
    s.later()
    s.everybody()
    return s


def outsiders() -> Script:
    """Two keys that are no members vote for a body of their own."""
    s = Script()
    s.split()
    last = s.c.state.last
    fake = Body(
        height=1,
        previous=last.digest,
        kind="merge",
        round=1,
        roster=last.body.roster,
        f=0,
        epoch=0,
        key_digest=last.body.key_digest,
        state=h("fake"),
    ).encode()
    for name in ("outsider", "another"):
        key, digest = member(name).signing_key, body_digest(fake)
        first = signed(s.world.genesis, key, 1, NO_DIGEST, Attest(height=1, view=0, body=digest))
        vote = Commit(height=1, view=0, body=digest, content=fake)
        s.show(s.c, first.raw, signed(s.world.genesis, key, 2, first.digest, vote).raw)
    s.later()
    s.everybody()
    s.later()
    s.everybody()
    return s


def other_swarm() -> Script:
    """C is shown what the same members signed in another swarm."""
    other = World(1, n=3, f=0, hostile=False)
    other.genesis = type(other.genesis)(name="other", rules=b"", founders=other.genesis.founders, patience_ms=1000)
    for i in range(3):
        other.add(f"m{i}")
    other.settle(5000)
    s = Script()
    s.show(s.c, *other.engine.log)
    s.act(s.c)
    s.everybody()
    return s


def late_update() -> Script:
    """A reads C's update after the entry that closed the round, and before it merges; B never reads it."""
    s = Script()
    made = s.updates()
    for peer in (s.a, s.b):
        s.show(peer, *made["a"], *made["b"])
        s.act(peer)
    s.later()
    patience = [*s.act(s.a), *s.act(s.b)]
    for peer in (s.a, s.b):
        s.show(peer, *patience)
    s.show(s.a, *made["c"])
    s.act(s.a)
    s.act(s.b)
    if s.vote(s.a) != s.vote(s.b):
        s.world.fail("an update after the closing entry was counted")
    s.everybody()
    return s


SCHEDULES = (late_update, carried_certificate, left_view, forgotten_reading, lonely_votes, outsiders, other_swarm)
