"""A swarm of virtual peers on one machine: what a consortium of this size costs, and what it survives.

Rules: entries, signatures, votes and blocks are the real ones; the engine is honest, and all peers share one reading
of the log (`State`), since it would be the same at each. Every peer decides on the same state, then all append: so all
vote at about the same time, as real peers do; only the first founder brings a swarm key. Clocks are virtual. Parameters
are not made: a chunk of the size asked for is counted, and a few bytes stand for it. The same options, the same run.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from swarmcell.errors import UsageError
from swarmcell.node.identity import Identity, verify
from swarmcell.swarm.actions import (
    BringKey,
    Contribute,
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
from swarmcell.swarm.decide import decide
from swarmcell.swarm.encoding import EncodingError
from swarmcell.swarm.entries import Entry, decode_entry, encode_entry, sign_bytes
from swarmcell.swarm.genesis import Genesis, Member, quorum
from swarmcell.swarm.me import Me
from swarmcell.swarm.payloads import CHUNK_BYTES_MAX, Accept, Attest, Blob, Checkpoint, Commit, Payload, Update, Wrap
from swarmcell.swarm.proposals import key_digest
from swarmcell.swarm.state import State

PEERS_MAX = 1000
PATIENCE_MS = 60_000
TICK_MS = 5_000
IDLE_TICKS_MAX = 200  # in one round: a quarter of an hour in which patience runs out four times over
_CHUNK_OVERHEAD_BYTES = 16 + 24  # a chunk's place in its entry, and the seal's nonce and tag


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to simulate.

    Attributes
    ----------
    peers, f, rounds
        Members, lying members that the rules tolerate, merges.
    update_bytes
        Size of one site's update.
    down
        Share of the peers that are down in each round, chosen anew.
    liars
        Members that vote for bodies of their own.
    """

    peers: int = 3
    f: int = 0
    rounds: int = 10
    update_bytes: int = 1_000_000
    down: float = 0.0
    liars: int = 0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What a simulated swarm cost; bytes are per round, means over the rounds.

    Attributes
    ----------
    rounds
        Rounds that were merged; fewer than asked for if the swarm stood still.
    stalled
        Why it stood still; empty if it did not.
    rounds_per_s, seconds_per_round, cpu_s_per_round
        Of this machine, which does the work of all peers with one shared replay.
    virtual_s_per_round
        What the patience of the rules adds to a round, in the peers' own time (training takes none).
    views
        Blocks that needed another view.
    written_bytes_per_peer, read_bytes_per_peer, log_bytes
        What a peer that contributes sends, what it receives, and what one copy of the log grows by.
    overhead_ratio
        What a peer sends and receives, beside its own update and the others'; checkpoints are apart.
    checkpoint_bytes
        What checkpoints add to the log, spread over all rounds.
    """

    plan: Plan
    quorum: int
    rounds: int
    stalled: str
    rounds_per_s: float
    seconds_per_round: float
    cpu_s_per_round: float
    virtual_s_per_round: float
    views: int
    entries: float
    written_bytes_per_peer: float
    read_bytes_per_peer: float
    log_bytes: float
    overhead_ratio: float
    checkpoint_bytes: float


def simulate(plan: Plan, progress: Callable[[int], None] = lambda number: None) -> Simulated:
    """Run a plan; `progress` hears of every merged round.

    Raises
    ------
    UsageError
        If no swarm can run by these numbers.
    """
    swarm = _Swarm(plan)
    stalled = swarm.run(progress)
    return swarm.result(stalled)


def simulated_json(found: Simulated) -> dict[str, Any]:
    """Return what a simulation found as plain values, for programs."""
    return asdict(found)


@dataclass
class _Peer:
    """A virtual peer: an identity, its own side, and nothing else."""

    identity: Identity
    me: Me
    lies: bool = False
    up: bool = True


@dataclass
class _Count:
    """Bytes of the log, by what they are."""

    entries: int = 0
    log: int = 0
    contributions: int = 0
    checkpoints: int = 0


class _Swarm:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.random = random.Random(plan.seed)  # noqa: S311 (a simulation)
        identities = [_identity(i) for i in range(plan.peers)]
        self.genesis = _genesis(plan, identities)
        self.state = State(self.genesis, verify)
        self.peers = [_Peer(one, Me(one.key), i < plan.liars) for i, one in enumerate(identities)]
        self.count = _Count()
        self.now_ms = 0
        self.position = 0
        self.views = 0
        self.founded_s, self.founded_cpu_s = time.perf_counter(), time.process_time()
        self.outcomes: dict[bytes, Outcome] = {}
        self.choose()

    def choose(self) -> None:
        """Choose who is down in the open round."""
        down = self.random.sample(range(len(self.peers)), int(self.plan.down * len(self.peers)))
        for i, peer in enumerate(self.peers):
            peer.up = i not in down or self.state.last is None

    def run(self, progress: Callable[[int], None]) -> str:
        """Run to the end; return why the swarm stands still, or nothing."""
        while self.state.rounds.number <= self.plan.rounds:
            number = self.state.rounds.number
            idle = 0
            while self.state.rounds.number == number:
                if not self.step():
                    idle, self.now_ms = idle + 1, self.now_ms + TICK_MS
                if self.state.halted or idle > IDLE_TICKS_MAX:
                    return self.state.halted or self.why()
            progress(number)
            self.choose()
        return ""

    def why(self) -> str:
        """Say what the swarm waits for."""
        up = next((peer for peer in self.peers if peer.up and not peer.lies), None)
        waits = [] if up is None else [a for a in decide(self.state, up.me, self.now_ms) if isinstance(a, Wait)]
        return waits[0].reason if waits else "nobody is up"

    def step(self) -> bool:
        """Let every peer decide on the same state, then append what they signed; return whether anybody did."""
        up = frozenset(peer.identity.key for peer in self.peers if peer.up)
        signed: list[Entry] = []
        for peer in self.peers if self.position else self.peers[:1]:
            if peer.up:
                signed += self.act(peer, up)
        for entry in signed:
            self.append(entry)
        return bool(signed)

    def act(self, peer: _Peer, up: frozenset[bytes]) -> list[Entry]:
        """Do what a peer decides, until it waits for the log; return what it signed."""
        peer.me.up = up
        peer.me.observe(self.state, self.now_ms)
        for _ in range(8):  # a key, a merge, a checkpoint: each told before the next decision
            signed: list[Entry] = []
            told = False
            for action in decide(self.state, peer.me, self.now_ms):
                payloads = self.payloads(peer, action)
                signed += [self.sign(peer, payload) for payload in payloads]
                told = told or isinstance(action, OpenKey | Merge | Open)
            if signed or not told:
                return signed
        return []

    def payloads(self, peer: _Peer, action: object) -> list[Payload]:  # noqa: C901 (one short case per action)
        """Perform an action; return what it makes the peer sign."""
        match action:
            case Sign(payload=payload):
                return [self.lie(payload) if peer.lies else payload]
            case BringKey():
                return [self.bring(peer)]
            case WrapKey(key_digest=digest, member=member):
                return [Wrap(key_digest=digest, wraps=((member.signing_key, bytes(80)),))]
            case Contribute():
                return list(self.contribution(peer, action))
            case WriteCheckpoint():
                return list(self.checkpoint(action))
            case OpenKey(key_digest=digest):
                peer.me.opened_key(digest)
            case Merge():
                peer.me.merged(action.key, self.merged(action))
            case Open(digest=digest, state=state):
                peer.me.opened_checkpoint(digest, state)
            case Stop(reason=reason):
                self.state.halted = reason
            case Resend():
                pass  # an honest engine loses nothing
        return []

    def lie(self, payload: Payload) -> Payload:
        """Vote for another body than the rules say."""
        if isinstance(payload, Attest | Commit):
            body = hashlib.sha256(b"a lie" + payload.body).digest()
            return type(payload)(height=payload.height, view=payload.view, body=body)
        return payload

    def bring(self, peer: _Peer) -> Accept:
        key = hashlib.sha256(peer.identity.key).digest()
        peer.me.opened_key(key_digest(key))
        members = sorted(member.signing_key for member in self.genesis.founders)
        return Accept(key_digest=key_digest(key), wraps=tuple((member, bytes(80)) for member in members))

    def merged(self, action: Merge) -> Outcome:
        """Return the outcome of a merge, the same object at every peer."""
        if action.key not in self.outcomes:
            self.outcomes = {action.key: Outcome(state=hashlib.sha256(action.key).digest(), about={"stage": "cell"})}
        return self.outcomes[action.key]

    def contribution(self, peer: _Peer, action: Contribute) -> Iterator[Payload]:
        content = hashlib.sha256(peer.identity.key + action.base).digest()
        n_chunks = -(-self.plan.update_bytes // CHUNK_BYTES_MAX)
        chunks = [content + i.to_bytes(4, "big") for i in range(n_chunks)]
        yield from (Blob(content=chunk) for chunk in chunks)
        yield Update(
            round=action.round,
            epoch=action.epoch,
            base=action.base,
            parameters=content,
            chunks=tuple(hashlib.sha256(chunk).digest() for chunk in chunks),
            size_bytes=self.plan.update_bytes,
            n_cells=1,
            n_donors=1,
        )

    def checkpoint(self, action: WriteCheckpoint) -> Iterator[Payload]:
        yield Blob(content=action.state)
        yield Checkpoint(
            height=action.height,
            epoch=action.epoch,
            content=action.content,
            certificate=action.certificate,
            chunks=(hashlib.sha256(action.state).digest(),),
            size_bytes=self.plan.update_bytes,
        )

    def sign(self, peer: _Peer, payload: Payload) -> Entry:
        place = (self.state.swarm, peer.identity.key, peer.me.sequence + 1, peer.me.previous, payload)
        entry = decode_entry(encode_entry(*place, peer.identity.sign(sign_bytes(*place))))
        peer.me.remember(entry)
        peer.me.meet(entry)
        return entry

    def append(self, entry: Entry) -> None:
        """Append to the log, which everybody reads at once."""
        self.position += 1
        for block in self.state.apply(self.position, entry.raw).blocks:
            self.views += block.view > 0
            if block.body.height == 0:
                self.founded_s, self.founded_cpu_s = time.perf_counter(), time.process_time()
        size = len(entry.raw)
        if self.state.last is None:
            return
        if isinstance(entry.payload, Checkpoint):
            self.count.checkpoints += size + self.plan.update_bytes
            return
        if isinstance(entry.payload, Update):
            missing = self.plan.update_bytes - sum(36 for _ in entry.payload.chunks)  # 36 bytes stand for a chunk
            size += max(0, missing) + _CHUNK_OVERHEAD_BYTES * len(entry.payload.chunks)
            self.count.contributions += 1
        self.count.entries += 1
        self.count.log += size

    def result(self, stalled: str) -> Simulated:
        """Return what the run cost, founding apart."""
        rounds = self.state.rounds.number - 1
        n, seconds = max(1, rounds), time.perf_counter() - self.founded_s
        log = self.count.log / n
        written = log * n / max(1, self.count.contributions)
        return Simulated(
            plan=self.plan,
            quorum=quorum(self.plan.peers, self.plan.f),
            rounds=rounds,
            stalled=stalled,
            rounds_per_s=rounds / seconds,
            seconds_per_round=seconds / n,
            cpu_s_per_round=(time.process_time() - self.founded_cpu_s) / n,
            virtual_s_per_round=self.now_ms / 1000 / n,
            views=self.views,
            entries=self.count.entries / n,
            written_bytes_per_peer=written,
            read_bytes_per_peer=log - written,
            log_bytes=log,
            overhead_ratio=self.count.log / max(1, self.count.contributions * self.plan.update_bytes),
            checkpoint_bytes=self.count.checkpoints / n,
        )


def _identity(i: int) -> Identity:
    seeds = (hashlib.sha256(f"virtual {kind} {i}".encode()).digest() for kind in ("sign", "seal", "engine"))
    return Identity(f"site-{i:04d}", *seeds)


def _genesis(plan: Plan, identities: list[Identity]) -> Genesis:
    """Return the rules of the simulated swarm.

    Raises
    ------
    UsageError
        If no swarm can run by these numbers.
    """
    if not 1 <= plan.peers <= PEERS_MAX or not 0 <= plan.liars <= plan.peers or not 0 <= plan.down < 1:
        msg = f"expected 1 to {PEERS_MAX} peers, no more liars than peers, and a share down of 0 to below 1"
        raise UsageError(msg)
    cards = [one.card for one in identities]
    founders = tuple(Member(name=c.name, signing_key=c.signing_key, sealing_key=c.sealing_key) for c in cards)
    try:
        return Genesis(name="simulated", rules=b"", founders=founders, f=plan.f, patience_ms=PATIENCE_MS)
    except EncodingError as error:
        msg = f"no swarm can run by these numbers: {error}"
        raise UsageError(msg) from error
