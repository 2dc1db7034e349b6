"""What others' votes rest on and this peer has ignored or not read: limits do not hold for it.

Quotas, and the limits of one author's contributions, votes and proposals, go by the order in which a peer reads. Where
an engine shows members different orders, a member that writes too much makes them keep different entries. What an
honest member's vote names must then be let in by all, or they would wait for each other for ever: the entries that a
view's candidate rests on, their chunks, the approvals of such a proposal, and the attests of a claimed certificate.
"""

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from swarmcell.swarm.blocks import Unknown
from swarmcell.swarm.encoding import Plain
from swarmcell.swarm.entries import Entry
from swarmcell.swarm.payloads import Accept, Approve, Attest, Blob, Next, Propose, Statistics, Update
from swarmcell.swarm.views import plan

if TYPE_CHECKING:
    from swarmcell.swarm.state import State


@dataclass
class Wanted:
    """What is let in beyond all limits at the open height, by digests; bounded by what a quorum of votes can name."""

    entries: set[bytes] = field(default_factory=set)
    chunks: set[tuple[bytes, bytes]] = field(default_factory=set)
    attests: set[tuple[int, bytes]] = field(default_factory=set)

    def __contains__(self, entry: object) -> bool:
        if not isinstance(entry, Entry):
            return False
        match entry.payload:
            case Blob(content=content):
                return bool(self.chunks) and (entry.author, hashlib.sha256(content).digest()) in self.chunks
            case Approve(proposal=proposal):
                return proposal in self.entries
            case Attest(view=view, body=body):
                return (view, body) in self.attests
            case _:
                return entry.digest in self.entries

    def add(self, entry: Entry) -> None:
        """Want the chunks of a contribution that is wanted."""
        if isinstance(entry.payload, Update | Statistics):
            self.chunks.update((entry.author, chunk) for chunk in entry.payload.chunks)

    def dump(self) -> Plain:
        """Return this as a plain value."""
        return [sorted(self.entries), [[*pair] for pair in sorted(self.chunks)], [[*p] for p in sorted(self.attests)]]

    def load(self, rows: list[list]) -> None:  # type: ignore[type-arg]
        """Take up what `dump` returned."""
        self.entries = set(rows[0])
        self.chunks = {(author, chunk) for author, chunk in rows[1]}
        self.attests = {(view, body) for view, body in rows[2]}


def want(state: "State", entry: Entry) -> str:
    """After a `next`: let in what its view rests on, and have the log read again. Return no fault."""
    if not isinstance(entry.payload, Next):
        return ""
    wanted, ballot = state.wanted, state.ballot
    found = plan(state, ballot.view) if ballot.view else None
    missing = set(found.missing) if isinstance(found, Unknown) else set()
    claimed = ballot.claimed()
    state.reread = state.reread or not (missing <= wanted.entries and claimed <= wanted.attests)
    wanted.entries |= missing
    wanted.attests |= claimed
    for known in filter(None, map(state.rounds.known, missing)):
        wanted.add(known)
    return ""


def lacks(state: "State", entry: Entry) -> bool:
    """Say whether an entry that was read before had no effect, being over a limit."""
    match entry.payload:
        case Attest(height=height) as vote:
            return height == state.height and not state.ballot.has_attest(entry.author, vote)
        case Update() | Statistics():
            return state.rounds.known(entry.digest) is None
        case Approve(proposal=proposal):
            return entry.author not in state.proposals.approvers(proposal)
        case Propose():
            return entry.digest not in state.proposals.open
        case Accept():
            return entry.digest not in state.founding.accepts
    return False
