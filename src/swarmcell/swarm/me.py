"""What one peer knows of itself: what it has signed and computed, who seems up, and since when it waits.

Rules: the durable part is rebuilt by `remember`ing the peer's own signed entries, and `decide` never signs against it;
the rest may be lost at any moment and is computed again. Clocks are local, and decide patience, never validity.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from swarmcell.swarm.actions import Outcome
from swarmcell.swarm.body import body_digest
from swarmcell.swarm.encoding import Plain, digest, encode
from swarmcell.swarm.entries import NO_DIGEST, Entry
from swarmcell.swarm.payloads import (
    Accept,
    Acknowledge,
    Approve,
    Attest,
    Checkpoint,
    Commit,
    Next,
    Patience,
    Propose,
    Statistics,
    TrainedOn,
    Update,
    Wrap,
)

if TYPE_CHECKING:
    from swarmcell.swarm.state import State

_KEPT_HEIGHTS = 16  # own votes of older heights are forgotten: `decide` never looks below the open height
_BODIES_MAX = 64
_OUTCOMES_MAX = 64  # merges of the open height's views, and of blocks that are caught up with


@dataclass
class Me:
    """One peer's own side of the swarm.

    Attributes
    ----------
    key
        The peer's signing key.
    sequence, previous
        Of the last own entry; the next entry carries `sequence + 1` and `previous`.
    up
        Signing keys of the members whose announcements were heard of late (the node sets it).
    to_approve, to_propose
        What the operator decided: proposals (entry digests) to approve, changes to propose.
    stranger
        Why this key must not sign any more; empty as long as all is well.
    """

    key: bytes
    sequence: int = 0
    previous: bytes = NO_DIGEST
    up: frozenset[bytes] = frozenset()
    to_approve: set[bytes] = field(default_factory=set)
    to_propose: list[Propose] = field(default_factory=list)
    stranger: str = ""
    digests: dict[int, bytes] = field(default_factory=dict)
    attested: dict[tuple[int, int], bytes] = field(default_factory=dict)
    committed: dict[tuple[int, int], bytes] = field(default_factory=dict)
    views: dict[int, int] = field(default_factory=dict)
    called: dict[int, int] = field(default_factory=dict)
    done: set[tuple[str, object]] = field(default_factory=set)
    outcomes: dict[bytes, Outcome] = field(default_factory=dict)
    refused: dict[bytes, str] = field(default_factory=dict)
    tried: dict[bytes, int] = field(default_factory=dict)
    states: set[bytes] = field(default_factory=set)
    keys: set[bytes] = field(default_factory=set)
    opened: set[bytes] = field(default_factory=set)
    bodies: dict[bytes, bytes] = field(default_factory=dict)
    unseen: dict[int, None] = field(default_factory=dict)
    unseen_since_ms: int | None = None
    since: dict[tuple[str, int, int], int] = field(default_factory=dict)
    lags_ms: dict[int, int] = field(default_factory=dict)
    asked_ms: dict[tuple[bytes, bytes], int] = field(default_factory=dict)
    _pruned: int = 0

    def remember(self, entry: Entry) -> None:
        """Take up one of my own durable entries, in the order of their sequences."""
        self.sequence, self.previous = entry.sequence, entry.digest
        self.digests[entry.sequence] = entry.digest
        self.unseen[entry.sequence] = None
        match entry.payload:
            case Attest(height=height, view=view, body=body):
                self.attested[height, view] = body
                self._enter(height, view)
            case Commit(height=height, view=view, body=body, content=content):
                self.committed[height, view] = body
                self._enter(height, view)
                if content:
                    self.bodies[body] = content
            case Next(height=height, view=view):
                self.called[height] = max(view, self.called.get(height, 0))
                self._enter(height, view)
            case _:
                self.done.update(_marks(entry))

    def dump(self) -> Plain:
        """Return the durable part as a plain value, apart from the digests of the entries themselves."""
        marks: list[Plain] = [[kind, list(what) if isinstance(what, tuple) else what] for kind, what in self.done]  # type: ignore[list-item]
        return {
            "sequence": self.sequence,
            "previous": self.previous,
            "attested": [[*place, body] for place, body in sorted(self.attested.items())],
            "committed": [[*place, body] for place, body in sorted(self.committed.items())],
            "views": [list(row) for row in sorted(self.views.items())],
            "called": [list(row) for row in sorted(self.called.items())],
            "bodies": list(self.bodies.values()),
            "unseen": sorted(self.unseen),
            "stranger": self.stranger,
            "done": sorted(marks, key=repr),
        }

    def load(self, held: Any, digests: Mapping[int, bytes]) -> None:  # noqa: ANN401 (a decoded plain value)
        """Take up what `dump` returned, and the digests of own entries by sequence; `remember` those after it."""
        self.sequence, self.previous = held["sequence"], held["previous"]
        self.digests = {sequence: digest for sequence, digest in digests.items() if sequence <= self.sequence}
        self.attested = {(height, view): body for height, view, body in held["attested"]}
        self.committed = {(height, view): body for height, view, body in held["committed"]}
        self.views, self.called = dict(held["views"]), dict(held["called"])
        self.bodies = {body_digest(content): content for content in held["bodies"]}
        self.unseen = dict.fromkeys(held["unseen"])
        self.stranger = held.get("stranger", "")
        self.done = {(kind, tuple(what) if isinstance(what, list) else what) for kind, what in held["done"]}

    def meet(self, entry: Entry) -> None:
        """Compare an own-authored entry of the log with what I have signed; a foreign one stops me for good."""
        if entry.author != self.key:
            return
        if self.digests.get(entry.sequence) == entry.digest:
            self.unseen.pop(entry.sequence, None)
            self.unseen_since_ms = None
        else:
            self.stop(f"entry {entry.sequence}")

    def stop(self, met: str) -> None:
        """Sign nothing any more, for good: the log holds something of this key that was not signed here."""
        if self.stranger:
            return
        cause = (
            "the ledger was restored from a backup, or the identity runs twice (a cloned machine)"
            if self.sequence
            else "the ledger is new, and the identity has signed before: under another --name, or on another machine"
        )
        self.stranger = (
            f"the log holds {met} of this identity, which this site's ledger never signed: {cause}. Where the ledger "
            "that signed it is still there, go on with that one alone. Else make a new identity (swarmcell identity "
            "create), and ask a member to revoke this one and to invite the new one (swarm revoke, swarm invite)."
        )

    def merged(self, key: bytes, outcome: Outcome) -> None:
        """Take the result of a `Merge`; the node keeps the state that it digests."""
        self.outcomes[key] = outcome
        self.states.add(outcome.state)

    def holds(self, states: Iterable[bytes]) -> None:
        """Say which merged states (digests) the node keeps."""
        self.states.update(states)

    def opened_checkpoint(self, checkpoint: bytes, state: bytes) -> None:
        """Say that a checkpoint (entry digest) was opened, and that the node keeps the state that it holds."""
        self.opened.add(checkpoint)
        self.states.add(state)

    def resent(self, now_ms: int) -> None:
        """Say that a `Resend` was performed."""
        self.unseen_since_ms = now_ms

    def observe(self, state: "State", now_ms: int) -> None:
        """Note on the local clock what `state` shows; call it before `decide`."""
        height, view = state.height, state.ballot.view
        self.since.setdefault(("height", height, 0), now_ms)
        if state.closing is not None and state.closing.enough:
            self.since.setdefault(("ready", height, 0), now_ms)
        if view > 0 or state.candidate is not None:
            self.since.setdefault(("view", height, view), now_ms)
        if state.candidate is not None and height not in self.lags_ms:
            self.lags_ms[height] = now_ms - self.since.get(("ready", height, 0), now_ms)
        for author in state.founding.asked.get(state.key_digest, ()):
            self.asked_ms.setdefault((state.key_digest, author), now_ms)
        if self.unseen and self.unseen_since_ms is None:
            self.unseen_since_ms = now_ms
        self.prune(height, state.rounds.number)

    def opened_key(self, key_digest: bytes) -> None:
        """Say that the node holds the swarm key with this digest."""
        self.keys.add(key_digest)
        self.refused.pop(key_digest, None)

    def cannot_open(self, key_digest: bytes, n_wraps: int, why: str) -> None:
        """Say that none of the so many wraps at hand holds this swarm key; it is tried again with more of them."""
        self.tried[key_digest] = n_wraps
        self.refuse(key_digest, why)

    def refuse(self, key: bytes, why: str) -> None:
        """Say why something asked for cannot be done here; `retry` asks again."""
        self.refused[key] = why

    def retry(self, key: bytes) -> None:
        """Forget a refusal."""
        self.refused.pop(key, None)

    def has_proposed(self, proposal: Propose) -> bool:
        """Say whether I have signed this very proposal."""
        return ("propose", _change_key(proposal)) in self.done

    def prune(self, height: int, number: int) -> None:
        """Forget votes, outcomes and clocks of long final heights, and marks of rounds long before `number`."""
        floor = height - _KEPT_HEIGHTS
        if height > self._pruned:
            self._pruned = height
            self._forget_marks({"contribution": number - _KEPT_HEIGHTS, "patience": number - _KEPT_HEIGHTS})
            self._forget_marks({"checkpoint": floor - _KEPT_HEIGHTS, "acknowledge": floor - _KEPT_HEIGHTS})
            for old_outcome in list(self.outcomes)[:-_OUTCOMES_MAX]:
                del self.outcomes[old_outcome]
        for votes in (self.attested, self.committed):
            for old in [key for key in votes if key[0] < floor]:
                del votes[old]
        if len(self.bodies) > _BODIES_MAX:
            kept = {body for votes in (self.attested, self.committed) for body in votes.values()}
            self.bodies = {body: content for body, content in self.bodies.items() if body in kept}
        for marks in (self.views, self.called, self.lags_ms):
            for lower in [key for key in marks if key < floor]:
                del marks[lower]
        for stale in [key for key in self.since if key[1] < floor]:
            del self.since[stale]

    def _forget_marks(self, floors: Mapping[str, int]) -> None:
        old = [mark for mark in self.done if isinstance(mark[1], int) and mark[1] < floors.get(mark[0], 0)]
        self.done.difference_update(old)

    def _enter(self, height: int, view: int) -> None:
        self.views[height] = max(view, self.views.get(height, 0))


def contribution_key(number: int) -> bytes:
    """Return the name under which a peer refuses to contribute to a round."""
    return digest(b"swarmcell/contribution/v1\0", encode(number))


def _change_key(proposal: Propose) -> tuple[str, bytes, int, bytes]:
    return proposal.change, proposal.member.signing_key, proposal.f, proposal.key_digest


def _marks(entry: Entry) -> list[tuple[str, object]]:
    """Say what a peer need not do again once it has signed this."""
    match entry.payload:
        case Accept() | TrainedOn():
            return [("accept", 0)] if isinstance(entry.payload, Accept) else [("trained", entry.payload.commitment)]
        case Statistics(round=number) | Update(round=number):
            return [("contribution", number)]
        case Patience(round=number) | Checkpoint(height=number) | Acknowledge(height=number):
            return [(entry.kind, number)]
        case Wrap(key_digest=key, wraps=wraps):
            return [("wrap", key + member) for member, _ in wraps] or [("ask", key)]
        case Propose() as proposal:
            return [("propose", _change_key(proposal)), ("approve", entry.digest)]
        case _:
            return [("approve", entry.payload.proposal)] if isinstance(entry.payload, Approve) else []
