"""A seeded swarm in one process: honest peers, liars, and an engine that may be hostile. Signatures are faked.

Durable and volatile parts of a peer are kept apart, so that a crash loses exactly what a crash may lose.
"""

import hashlib
import random
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from swarmcell.swarm import state as state_module
from swarmcell.swarm.actions import (
    BringKey,
    Contribute,
    Finish,
    Merge,
    Open,
    OpenKey,
    Outcome,
    Resend,
    Sign,
    Stop,
    Wait,
    WrapKey,
    WriteCheckpoint,
)
from swarmcell.swarm.adopt import adopt
from swarmcell.swarm.decide import decide
from swarmcell.swarm.encoding import EncodingError, decode, encode
from swarmcell.swarm.entries import Entry, decode_entry, encode_entry, sign_bytes
from swarmcell.swarm.genesis import Genesis, Member, Quotas
from swarmcell.swarm.me import Me
from swarmcell.swarm.payloads import Accept, Attest, Blob, Checkpoint, Commit, Next, Propose, Update, Wrap
from swarmcell.swarm.proposals import key_digest
from swarmcell.swarm.snapshot import restore, snapshot
from swarmcell.swarm.state import State

PATIENCE_MS = 1000


class Violation(AssertionError):  # noqa: N818
    """An invariant of the swarm does not hold."""


def h(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def member(name: str) -> Member:
    return Member(name=name, signing_key=h("sign", name), sealing_key=h("seal", name))


def fake_sign(key: bytes, message: bytes) -> bytes:
    return hashlib.sha256(key + message).digest() * 2


def fake_verify(key: bytes, message: bytes, signature: bytes) -> bool:
    return fake_sign(key, message) == signature


cached_decode = lru_cache(maxsize=20_000)(decode_entry)


def make_genesis(n: int, f: int, *, min_updates: int = 1, name: str = "simulated", **rules) -> Genesis:
    founders = tuple(member(f"m{i}") for i in range(n))
    fixed = {"rules": b"", "patience_ms": PATIENCE_MS, "min_updates": min_updates}
    return Genesis(name=name, founders=founders, f=f, **(fixed | rules))


def signed(genesis: Genesis, key: bytes, sequence: int, previous: bytes, payload) -> Entry:
    signature = fake_sign(key, sign_bytes(genesis.digest, key, sequence, previous, payload))
    return decode_entry(encode_entry(genesis.digest, key, sequence, previous, payload, signature))


@dataclass
class Faults:
    """Planted bugs of a node (those of `swarm/` itself are planted by patching it)."""

    store_after_append: bool = False
    cursor_unchecked: bool = False


class Engine:
    """An ordered log, and what a hostile engine shows of it to each peer."""

    def __init__(self, rng: random.Random, *, hostile: bool) -> None:
        self.rng = rng
        self.hostile = hostile
        self.log: list[bytes] = []
        self.limbo: list[bytes] = []
        self.shown: dict[str, list[bytes]] = {}
        self.unshown: dict[str, list[bytes]] = {}
        self.blind: set[str] = set()
        self.trimmed: dict[str, int] = {}  # how much of the beginning a late peer does not find any more

    def attach(self, name: str) -> None:
        if name not in self.shown:
            self.shown[name], self.unshown[name] = [], list(self.log)

    def append(self, raw: bytes) -> None:
        if self.hostile:
            chance = self.rng.random()
            if chance < 0.04:
                return
            if chance < 0.14:
                self.limbo.append(raw)
                return
            if chance < 0.18:
                self._put(raw)
        self._put(raw)

    def _put(self, raw: bytes) -> None:
        self.log.append(raw)
        for pending in self.unshown.values():
            pending.append(raw)

    def log_for(self, name: str) -> list[bytes]:
        return self.shown[name] if self.hostile else self.log[self.trimmed.get(name, 0) :]

    def step(self) -> None:
        """Show something more to somebody, in some order."""
        if not self.hostile:
            return
        if self.limbo and self.rng.random() < 0.3:
            self._put(self.limbo.pop(self.rng.randrange(len(self.limbo))))
        if self.rng.random() < 0.05:
            self.blind = {name for name in self.shown if self.rng.random() < 0.3}
        for name, pending in self.unshown.items():
            for _ in range(self.rng.randrange(4)):
                if pending and name not in self.blind:
                    at = 0 if self.rng.random() < 0.8 else self.rng.randrange(min(12, len(pending)))
                    self.shown[name].append(pending.pop(at))

    def lose(self) -> None:
        """Lose a committed stretch at the end of the log."""
        cut = self.rng.randrange(1, 40)
        self.log = self.log[: max(0, len(self.log) - cut)]
        if self.hostile:
            for name in self.shown:
                self.shown[name] = self.shown[name][: max(0, len(self.shown[name]) - self.rng.randrange(cut))]
                self.unshown[name] = [raw for raw in self.log if raw not in set(self.shown[name])]

    def heal(self) -> None:
        self.hostile = False
        self.log.extend(self.limbo)
        self.limbo = []


@dataclass
class Durable:
    """What a peer's disk holds."""

    ledger: list[bytes] = field(default_factory=list)
    own: list[bytes] = field(default_factory=list)
    read: list[bytes] = field(default_factory=list)
    states: set[bytes] = field(default_factory=set)
    keys: dict[bytes, bytes] = field(default_factory=dict)
    snapshot: tuple[int, bytes, Any] | None = None  # how much of the ledger it holds, the state, and `Me`

    def copy(self) -> "Durable":
        lists = (list(self.ledger), list(self.own), list(self.read))
        return Durable(*lists, set(self.states), dict(self.keys), self.snapshot)


class Peer:
    """A node around `State` and `decide`: reads, signs, stores, appends."""

    honest = True

    def __init__(self, world: "World", name: str, label: str = "") -> None:
        self.world, self.name, self.label = world, name, label or name
        self.key = h("sign", name)
        self.disk = Durable()
        self.backup: Durable | None = None
        self.up = True
        self.stopped = ""
        self.finished = False
        self.busy_until = 0
        world.engine.attach(self.label)
        self.boot()

    # -- life

    def boot(self) -> None:
        self.state = State(self.world.genesis, fake_verify)
        self.me = Me(self.key)
        self.done: set[object] = set()
        self.reread_at = -1
        after = self.recall()
        for raw in self.disk.own[self.me.sequence :]:
            self.me.remember(cached_decode(raw))
        for position, raw in enumerate(self.disk.ledger[after:], start=after + 1):
            applied = self.state.apply(position, raw)
            if applied.signed:
                self.me.meet(applied.entry)
        self.me.holds(self.disk.states)
        for digest in self.disk.keys:
            self.me.opened_key(digest)
        self.reconnect()

    def recall(self) -> int:
        """Take up the last snapshot; return how much of the ledger it holds."""
        if self.disk.snapshot is None:
            return 0
        position, state, me = self.disk.snapshot
        self.state = restore(self.world.genesis, fake_verify, state)
        self.me.load(me, {i: hashlib.sha256(raw).digest() for i, raw in enumerate(self.disk.own, start=1)})
        return position

    def save(self) -> None:
        """Keep a snapshot."""
        me = decode(encode(self.me.dump()))
        self.disk.snapshot = (len(self.disk.ledger), snapshot(self.state), me)

    def adopt_newest(self) -> None:
        """Begin at the newest checkpoint of a log whose beginning is gone."""
        for raw in self.world.engine.log_for(self.label):
            said = cached_decode(raw).payload
            if isinstance(said, Checkpoint) and said.height >= self.state.height:
                self.state = adopt(self.world.genesis, fake_verify, said, roster=self.state.roster)

    def crash(self) -> None:
        self.up = False

    def restart(self, *, amnesia: bool = False) -> None:
        if amnesia:  # the disk kept what this peer signed and its states, not what it read
            self.disk.ledger, self.disk.read, self.disk.snapshot = [], [], None
        self.up = True
        self.boot()

    def reconnect(self) -> None:
        log, read = self.world.engine.log_for(self.label), self.disk.read
        if self.world.faults.cursor_unchecked:
            self._reappend(log)
            return
        while read and (len(read) > len(log) or read[-1] != hashlib.sha256(log[len(read) - 1]).digest()):
            read.pop()
        self._reappend(log)

    def _reappend(self, log: list[bytes]) -> None:
        if self.honest and not self.stopped:
            present = set(log)
            for raw in self.disk.ledger:
                if raw not in present:
                    self.world.engine.append(raw)

    # -- reading

    def read(self, limit: int) -> None:
        log = self.world.engine.log_for(self.label)
        for raw in log[len(self.disk.read) : len(self.disk.read) + limit]:
            self.disk.read.append(hashlib.sha256(raw).digest())
            self.take(raw)
        gaps = bool(self.state.chains.gaps()) or self.state.reread
        again = len(self.disk.read) >= len(log) and self.reread_at != len(log)
        if gaps and again and not self.world.faults.cursor_unchecked:
            self.reread_at = len(log)
            self.state.reread = False
            self.disk.read.clear()

    def take(self, raw: bytes) -> None:
        applied = self.state.apply(len(self.disk.ledger) + 1, raw)
        if applied.stored:
            self.disk.ledger.append(raw)
        if applied.signed:
            self.me.meet(applied.entry)
        for block in applied.blocks:
            self.world.saw_block(self, block)

    # -- acting

    def act(self) -> None:
        now = self.world.now_ms
        self.me.up = frozenset(p.key for p in self.world.peers if p.up)
        self.world.instruct(self)
        self.me.observe(self.state, now)
        for action in decide(self.state, self.me, now):
            if not self.up:
                return
            self.perform(action)
        if self.world.rng.random() < self.world.snapshots:
            self.save()

    def perform(self, action) -> None:  # noqa: C901, PLR0912
        match action:
            case Sign(payload):
                self.sign(payload)
            case Resend(sequences):
                for sequence in sequences:
                    self.world.engine.append(self.disk.own[sequence - 1])
                self.me.resent(self.world.now_ms)
            case BringKey():
                key = h("swarm key", self.label, len(self.disk.own))
                wraps = tuple(sorted((m.signing_key, key) for m in self.world.genesis.founders))
                self.hold_key(key)
                self.sign(Accept(key_digest=key_digest(key), wraps=wraps))
            case OpenKey(key_digest=digest, wraps=wraps):
                good = [key for key in wraps if key_digest(key) == digest]
                if good:
                    self.hold_key(good[0])
                else:
                    self.me.cannot_open(digest, len(wraps), "no wrap opens")
            case WrapKey(key_digest=digest, member=who):
                self.sign(Wrap(key_digest=digest, wraps=((who.signing_key, self.disk.keys[digest]),)))
            case Contribute():
                self.contribute(action)
            case Merge():
                self.merge(action)
            case Open(digest=digest, state=state):
                self.disk.states.add(state)
                self.me.opened_checkpoint(digest, state)
            case WriteCheckpoint():
                self.write_checkpoint(action)
            case Finish():
                self.finished = True
            case Stop(reason):
                self.stopped = reason
            case Wait():
                self.waiting = action

    def hold_key(self, key: bytes) -> None:
        self.disk.keys[key_digest(key)] = key
        self.me.opened_key(key_digest(key))

    def sign(self, payload) -> None:
        entry = signed(self.world.genesis, self.key, self.me.sequence + 1, self.me.previous, payload)
        self.world.signing(self, entry)
        if self.world.faults.store_after_append:
            self.world.engine.append(entry.raw)
            if self.world.crash_now(self):
                return
            self.disk.own.append(entry.raw)
            self.me.remember(entry)
            return
        self.disk.own.append(entry.raw)
        if self.world.crash_now(self):
            return
        self.me.remember(entry)
        self.world.engine.append(entry.raw)
        self.world.crash_now(self)

    def contribute(self, action: Contribute) -> None:
        if self.world.now_ms < self.busy_until:
            return
        if ("training", action.round) not in self.done:
            self.done.add(("training", action.round))
            self.busy_until = self.world.now_ms + self.world.rng.choice(self.world.training_ms)
            return
        content = h("update", self.label, action.round, action.base, self.world.rng.random())
        self.sign(Blob(content=content))
        if self.up:
            self.sign(
                Update(
                    round=action.round,
                    epoch=action.epoch,
                    base=action.base,
                    parameters=h(content),
                    chunks=(hashlib.sha256(content).digest(),),
                    size_bytes=len(content),
                    n_cells=1,
                    n_donors=1,
                )
            )

    def merge(self, action: Merge) -> None:
        offers = [offer.payload.parameters for offer in action.offers]
        left_out = {o.author: "not finite" for o in action.offers if o.payload.parameters[0] < 8}
        outcome = Outcome(
            state=h("state", action.base, offers) if action.height else h("start"),
            left_out=left_out,
            finished=action.round >= self.world.rounds_max,
            about={"stage": "cell", "round": action.round},
        )
        self.disk.states.add(outcome.state)
        self.me.merged(action.key, outcome)

    def write_checkpoint(self, action: WriteCheckpoint) -> None:
        self.sign(Blob(content=action.state))
        if self.up:
            self.sign(
                Checkpoint(
                    height=action.height,
                    epoch=action.epoch,
                    content=action.content,
                    certificate=action.certificate,
                    chunks=(hashlib.sha256(action.state).digest(),),
                    size_bytes=len(action.state),
                )
            )


class World:
    """All peers, the engine, the clock, and what must always hold."""

    def __init__(
        self,
        seed: int,
        *,
        n: int = 3,
        f: int = 0,
        hostile: bool = True,
        crash: float = 0.01,
        rounds_max: int = 4,
        min_updates: int = 1,
        faults: Faults | None = None,
        snapshots: float = 0.02,
        quotas: Quotas | None = None,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.snapshots = snapshots
        self.genesis = make_genesis(n, f, min_updates=min_updates, quotas=quotas or Quotas())
        self.engine = Engine(self.rng, hostile=hostile)
        self.faults = faults or Faults()
        self.now_ms = 0
        self.crash = crash
        self.rounds_max = rounds_max
        self.training_ms = (0, 100, 500, 3000)
        self.peers: list[Peer] = []
        self.final: dict[int, bytes] = {}
        self.bodies: dict[int, object] = {}
        self.cast: dict[tuple[str, str, int, int], bytes] = {}
        self.sequences: dict[tuple[str, int], bytes] = {}
        self.views: dict[tuple[str, int], int] = {}
        self.wishes: list[tuple[str, Member]] = []
        self.views_needed = 0
        state_module.decode_entry = cached_decode

    def add(self, name: str, cls: type[Peer] = Peer, label: str = "") -> Peer:
        peer = cls(self, name, label)
        self.peers.append(peer)
        return peer

    # -- invariants

    def fail(self, why: str) -> None:
        msg = f"seed {self.seed}: {why}"
        raise Violation(msg)

    def saw_block(self, peer: Peer, block) -> None:
        if not peer.honest:
            return
        known = self.final.setdefault(block.body.height, block.digest)
        self.bodies.setdefault(block.body.height, block)
        self.views_needed = max(self.views_needed, block.view)
        if known != block.digest:
            self.fail(f"two blocks are final at height {block.body.height}")

    def signing(self, peer: Peer, entry: Entry) -> None:
        """Hold an honest peer to its rules, whatever it was before it crashed."""
        if not peer.honest:
            return
        if self.sequences.setdefault((peer.name, entry.sequence), entry.digest) != entry.digest:
            self.fail(f"{peer.name} signed two entries at sequence {entry.sequence}")
        vote = entry.payload
        if not isinstance(vote, Attest | Commit | Next):
            return
        place = (peer.name, vote.height)
        if vote.view < self.views.get(place, 0):
            self.fail(f"{peer.name} signed a {entry.kind} in a view that it had left")
        if isinstance(vote, Next):
            self.views[place] = vote.view
        key = (peer.name, entry.kind, vote.height, vote.view)
        if key in self.cast:
            self.fail(f"{peer.name} signed two {entry.kind}s at height {vote.height} in view {vote.view}")
        self.cast[key] = entry.digest

    # -- steps

    def crash_now(self, peer: Peer) -> bool:
        if peer.honest and self.engine.hostile and self.rng.random() < self.crash:
            peer.crash()
            return True
        return False

    def instruct(self, peer: Peer) -> None:
        """Let every operator approve what the consortium wishes, and one of them propose it."""
        if not self.wishes or peer.state.last is None or not peer.honest:
            return
        open_ = peer.state.proposals.open
        present = set(peer.state.roster.members)
        for change, who in self.wishes:
            done = (who.signing_key in present) == (change == "admit")
            mine = [d for d, (_, _, p) in open_.items() if (p.change, p.member) == (change, who)]
            peer.me.to_approve.update(mine)
            if not done and not any(p.member == who and not _stale(peer, p) for _, _, p in open_.values()):
                peer.me.to_propose = [self.proposal(peer, change, who)]

    def proposal(self, peer: Peer, change: str, who: Member) -> Propose:
        roster = peer.state.roster
        if change == "admit":
            present = peer.disk.keys.get(peer.state.key_digest)
            wraps = ((who.signing_key, present or b""),)
            return Propose(change=change, member=who, f=roster.f, key_digest=peer.state.key_digest, wraps=wraps)
        fresh = h("fresh key", who.name, peer.name, peer.state.height)
        staying = sorted(key for key in roster.members if key != who.signing_key)
        wraps = tuple((key, fresh) for key in staying)
        return Propose(change=change, member=who, f=roster.f, key_digest=key_digest(fresh), wraps=wraps)

    def step(self) -> None:
        self.now_ms += self.rng.choice((1, 10, 100))
        self.engine.step()
        peer = self.rng.choice(self.peers)
        if not peer.up:
            if self.rng.random() < 0.1 or not self.engine.hostile:
                peer.restart(amnesia=self.rng.random() < 0.2)
            return
        if self.rng.random() < 0.7:
            peer.read(self.rng.randrange(1, 12) if self.engine.hostile else 400)
        if peer.up:
            peer.act()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()
            if self.engine.hostile and self.rng.random() < 0.002:
                self.lose()

    def lose(self) -> None:
        self.engine.lose()
        for peer in self.peers:
            if peer.up:
                peer.reconnect()

    def heal(self) -> None:
        """From here on the engine is honest and all peers are up."""
        self.engine.heal()
        for peer in self.peers:
            if peer.up:
                peer.reconnect()
            else:
                peer.restart()

    def settle(self, steps: int) -> None:
        """Demand that all honest members finish the study within `steps`."""
        for _ in range(steps):
            self.step()
            if all(p.finished or p.stopped or p.key not in p.state.roster for p in self.peers if p.honest):
                break
        self.check_end()

    def check_end(self) -> None:
        members = [p for p in self.peers if p.honest and p.key in p.state.roster]
        stuck = [
            f"{p.name}: height {p.state.height}, view {p.state.ballot.view}, {getattr(p, 'waiting', '')} {p.stopped}"
            for p in members
            if not p.finished
        ]
        if stuck or not members:
            self.fail("wedged; " + "; ".join(stuck))
        if len({p.state.last.digest for p in members}) != 1:
            self.fail("finished members hold different last blocks")
        self.check_nothing_lost(members)
        for peer in members:
            for evidence in peer.state.chains.evidence:
                if any(q.key == evidence.author for q in members):
                    self.fail("an honest member contradicts itself")

    def check_nothing_lost(self, members: list[Peer]) -> None:
        """What was final anywhere is final everywhere, and the engine's log shows it to whoever comes now."""
        reader = State(self.genesis, fake_verify)
        for position, raw in enumerate(self.engine.log, start=1):
            reader.apply(position, raw)
        for height, digest in self.final.items():
            for state in (reader, *(peer.state for peer in members)):
                if height in state.blocks and state.blocks[height].digest != digest:
                    self.fail(f"block {height} was final and is another one")
            if height not in reader.blocks:
                self.fail(f"block {height} was final, and the log does not show it any more")


def _stale(peer: Peer, proposal: Propose) -> bool:
    from swarmcell.swarm.proposals import fault_of

    return bool(fault_of(proposal, peer.state.roster, peer.state.key_digest))


class Twin(Peer):
    """A second instance of an identity, which knows nothing of the first: together they are a liar."""

    honest = False

    def take(self, raw: bytes) -> None:
        super().take(raw)
        self.me.stranger = ""


class Liar(Peer):
    """Signs whatever comes to its mind: votes for any body in any view, false certificates, bogus chunks, floods."""

    honest = False

    def take(self, raw: bytes) -> None:
        super().take(raw)
        self.me.stranger = ""

    def act(self) -> None:
        rng, state = self.world.rng, self.state
        if rng.random() < 0.5:
            super().act()
            self.me.stranger = ""
            self.me.attested.clear()
            self.me.committed.clear()
            self.me.views.clear()
            return
        if self.key not in state.roster:
            return
        bodies = list(state.ballot.bodies) + [b for _, b in state.ballot.attests] + [h("lie", rng.random())]
        view, body = rng.randrange(4), rng.choice(bodies)
        match rng.randrange(7):
            case 0 | 1:
                self.lie(Attest(height=state.height, view=view, body=body))
            case 2:
                self.lie(Commit(height=state.height, view=view, body=body))
            case 3:
                known = tuple(sorted(rng.sample(sorted(state.rounds.by_digest), min(1, len(state.rounds.by_digest)))))
                self.lie(Next(height=state.height, view=view + 1, known=known))
            case 4:
                content = state.ballot.bodies.get(body, b"")
                self.lie(
                    Next(height=state.height, view=view + 1, certified=view + 1 if content else 0, content=content)
                )
            case 5:
                self.world.engine.append(rng.choice(self.world.engine.log or [b"noise"]))
                self.world.engine.append(rng.randbytes(30))
            case 6 if state.last is not None:
                base = state.last.body.state
                chunks = (h("no such chunk"),)
                self.lie(
                    Update(
                        round=state.rounds.number,
                        epoch=0,
                        base=base,
                        parameters=h(1),
                        chunks=chunks,
                        size_bytes=1,
                        n_cells=1,
                        n_donors=1,
                    )
                )

    def lie(self, payload) -> None:
        sequence = self.me.sequence + self.world.rng.choice((0, 1, 1, 1))
        if sequence >= 1:
            entry = signed(self.world.genesis, self.key, sequence, self.me.previous, payload)
            if sequence == self.me.sequence + 1:
                self.disk.own.append(entry.raw)
                self.me.remember(entry)
            self.world.engine.append(entry.raw)


class Flooder(Peer):
    """Writes as much as it can, of every kind, between being a good member."""

    honest = False

    def act(self) -> None:
        super().act()
        if self.key not in self.state.roster or not self.up:
            return
        for _ in range(self.world.rng.randrange(12)):
            payload = self.world.rng.choice(
                (
                    Blob(content=self.world.rng.randbytes(20)),
                    Attest(height=self.state.height + self.world.rng.randrange(3), view=9, body=h(0)),
                    Next(height=self.state.height + 5, view=1),
                    Wrap(key_digest=h(self.world.rng.random()), wraps=()),
                )
            )
            if not self.up:
                return
            self.sign(payload)


def build(seed: int, *, n: int, f: int, liars: str = "", **options) -> World:
    """Make a world of `n` founders, of which the last are liars, one letter each: `t`wins, a `l`iar, a `f`looder."""
    world = World(seed, n=n, f=f, **options)
    for i in range(n - len(liars)):
        world.add(f"m{i}")
    for i, letter in enumerate(liars, start=n - len(liars)):
        if letter == "t":
            world.add(f"m{i}", Twin, label=f"m{i}-one")
            world.add(f"m{i}", Twin, label=f"m{i}-two")
        else:
            world.add(f"m{i}", Flooder if letter == "f" else Liar)
    return world


__all__ = ["EncodingError", "Faults", "Violation", "World", "build"]
