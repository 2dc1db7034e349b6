"""Changes of the roster and the swarm's key: proposed by one member, approved by a quorum, carried out by a block."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from swarmcell.swarm.body import Standing
from swarmcell.swarm.encoding import digest
from swarmcell.swarm.entries import Entry
from swarmcell.swarm.genesis import tolerates
from swarmcell.swarm.payloads import Propose
from swarmcell.swarm.roster import Roster

OPEN_PER_AUTHOR_MAX = 256
APPROVALS_PER_AUTHOR_MAX = 256


def key_digest(key: bytes) -> bytes:
    """Return the digest by which bodies know a swarm key."""
    return digest(b"swarmcell/key/v1\0", key)


def fault_of(change: Propose, roster: Roster, present_key: bytes) -> str:
    """Say why a change cannot follow on this roster and swarm key; empty if it can."""
    after = len(roster.standings) + {"admit": 1, "revoke": -1}.get(change.change, 0)
    if after < 1 or not tolerates(after, change.f):
        return f"{after} members cannot tolerate {change.f} liars"
    checks = {"admit": _admit_fault, "revoke": _key_fault, "rotate": _key_fault, "end": _end_fault}
    return checks[change.change](change, roster, present_key)


def _admit_fault(change: Propose, roster: Roster, present_key: bytes) -> str:
    member, key = change.member, change.member.signing_key
    names = {getattr(m, name) for m in roster.members.values() for name in ("name", "signing_key", "sealing_key")}
    if names & {member.name, key, member.sealing_key}:
        return "a member has this name or key already"
    if change.key_digest != present_key:
        return "the swarm's key has changed since"
    return "" if [k for k, _ in change.wraps] == [key] else "the swarm's key must be sealed for the newcomer"


def _key_fault(change: Propose, roster: Roster, present_key: bytes) -> str:
    key = change.member.signing_key
    if change.change == "revoke" and roster.members.get(key) != change.member:
        return "no such member"
    staying = sorted(set(roster.members) - ({key} if change.change == "revoke" else set()))
    if change.key_digest == present_key or [k for k, _ in change.wraps] != staying:
        return "a fresh swarm key must be sealed for exactly those who stay"
    return ""


def _end_fault(change: Propose, roster: Roster, present_key: bytes) -> str:
    same = change.key_digest == present_key and change.f == roster.f
    return "" if same else "an end changes nothing else"


def roster_after(change: Propose, roster: Roster, number: int) -> Roster:
    """Return the roster that a change makes, after `number` merge blocks."""
    kept = [s for s in roster.standings if change.change != "revoke" or s.member != change.member]
    if change.change == "admit":
        kept.append(Standing(member=change.member, last_round=number))
    return Roster(tuple(sorted(kept, key=lambda s: s.member.signing_key)), change.f)


@dataclass(frozen=True, slots=True)
class Decided:
    """Who decided what a block carried out: who proposed it, and who had approved it by then, the proposer among them.

    `position` is where this reader has the proposal.
    """

    proposer: bytes
    approvers: tuple[bytes, ...]
    position: int


@dataclass
class Proposals:
    """Open proposals by entry digest, who approved what, and what blocks carried out (as far as it was read here)."""

    open: dict[bytes, tuple[int, Entry, Propose]] = field(default_factory=dict)
    approvals: dict[bytes, dict[bytes, tuple[int, Entry]]] = field(default_factory=dict)
    decided: dict[bytes, Decided] = field(default_factory=dict)
    _count: dict[bytes, int] = field(default_factory=dict)

    def propose(self, entry: Entry, payload: Propose, position: int, *, wanted: bool = False) -> str:
        """Take up a proposal, beyond the limit if it is wanted; return why it does not count, or nothing."""
        if not wanted and sum(e.author == entry.author for _, e, _ in self.open.values()) >= OPEN_PER_AUTHOR_MAX:
            return "too many proposals"
        self.open[entry.digest] = (position, entry, payload)
        return ""

    def approve(self, entry: Entry, proposal: bytes, position: int, *, wanted: bool = False) -> str:
        """Take up an approval, of a proposal that may not be known yet; return why it does not count, or nothing."""
        if entry.author in self.approvals.get(proposal, ()):
            return "approved already"
        count = self._count.get(entry.author, 0)
        if count >= APPROVALS_PER_AUTHOR_MAX and not wanted:
            return "too many approvals"
        self._count[entry.author] = count + 1
        self.approvals.setdefault(proposal, {})[entry.author] = (position, entry)
        return ""

    def approvers(self, proposal: bytes) -> set[bytes]:
        """Return who approved a proposal, its author among them."""
        own = {self.open[proposal][1].author} if proposal in self.open else set()
        return own | set(self.approvals.get(proposal, ()))

    def is_approved(self, proposal: bytes, roster: Roster, present_key: bytes) -> bool:
        """Say whether a proposal is known, can follow, and a quorum of the roster has approved it."""
        if proposal not in self.open:
            return False
        if sum(author in roster for author in self.approvers(proposal)) < roster.quorum:
            return False
        return not fault_of(self.open[proposal][2], roster, present_key)

    def approved(self, roster: Roster, present_key: bytes) -> list[bytes]:
        """Return the approved proposals, ascending."""
        return sorted(p for p in self.open if self.is_approved(p, roster, present_key))

    def advance(self, done: bytes) -> None:
        """Close the proposal that a block carried out."""
        if done in self.open:
            position, entry, _ = self.open[done]
            self.decided[done] = Decided(entry.author, tuple(sorted(self.approvers(done))), position)
        self.open.pop(done, None)
        for _, entry in self.approvals.pop(done, {}).values():
            self._count[entry.author] -= 1

    def entries(self) -> Iterator[tuple[int, Entry]]:
        """Return the entries from which this can be built again."""
        for position, entry, _ in self.open.values():
            yield position, entry
        for votes in self.approvals.values():
            yield from votes.values()
