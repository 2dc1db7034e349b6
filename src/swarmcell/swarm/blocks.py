"""Candidates and blocks: what a view proposes to decide, and the body that follows from it."""

from dataclasses import dataclass
from typing import TypeAlias

from swarmcell.swarm.actions import Offer, Outcome
from swarmcell.swarm.body import Body, body_digest
from swarmcell.swarm.encoding import digest, encode
from swarmcell.swarm.entries import NO_DIGEST
from swarmcell.swarm.payloads import Propose
from swarmcell.swarm.proposals import roster_after
from swarmcell.swarm.roster import Roster


@dataclass(frozen=True, slots=True)
class Founded:
    """Height 0: the swarm takes the key that this accept (entry digest) brought."""

    accept: bytes
    key_digest: bytes


@dataclass(frozen=True, slots=True)
class Merged:
    """Merge these contributions, ascending by author."""

    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """Carry out this proposal (entry digest)."""

    proposal: bytes
    change: Propose


@dataclass(frozen=True, slots=True)
class Unknown:
    """The view's candidate rests on entries (digests) that this peer has not read yet."""

    missing: tuple[bytes, ...]


Candidate: TypeAlias = Founded | Merged | Changed


@dataclass(frozen=True, kw_only=True)
class Block:
    """A final body: its bytes and digest, the view and the commits (raw entries) that made it final.

    `position` is the ledger position at which it became final here.
    """

    body: Body
    content: bytes
    digest: bytes
    view: int
    certificate: tuple[bytes, ...]
    position: int


def merge_key(height: int, base: bytes, offers: tuple[Offer, ...]) -> bytes:
    """Return the name of one merge: what is merged into what, at which height."""
    return digest(b"swarmcell/merge/v1\0", encode([height, base, [offer.digest for offer in offers]]))


def found(roster: Roster, candidate: Founded, outcome: Outcome) -> Body:
    """Return the body of height 0."""
    return Body(
        height=0,
        previous=NO_DIGEST,
        kind="genesis",
        round=0,
        roster=roster.standings,
        f=roster.f,
        epoch=0,
        key_digest=candidate.key_digest,
        proposal=candidate.accept,
        state=outcome.state,
        about=outcome.about,
    )


def merge(last: Body, roster: Roster, offers: tuple[Offer, ...], outcome: Outcome) -> Body:
    """Return the body that follows from merging `offers`."""
    out = outcome.left_out
    number = last.round + 1
    return Body(
        height=last.height + 1,
        previous=body_digest(last.encode()),
        kind="merge",
        round=number,
        roster=roster.seen((offer.author for offer in offers), number),
        f=last.f,
        epoch=last.epoch,
        key_digest=last.key_digest,
        included=tuple((o.author, o.digest) for o in offers if o.author not in out),
        left_out=tuple((o.author, o.digest, out[o.author][:200]) for o in offers if o.author in out),
        state=outcome.state,
        about=outcome.about,
        finished=outcome.finished,
        failure=outcome.failure[:200],
    )


def change(last: Body, roster: Roster, changed: Changed) -> Body:
    """Return the body that carries out a proposal."""
    proposal, propose = changed.proposal, changed.change
    after = roster_after(propose, roster, last.round)
    return Body(
        height=last.height + 1,
        previous=body_digest(last.encode()),
        kind=propose.change,
        round=last.round,
        roster=after.standings,
        f=propose.f,
        epoch=last.epoch + (propose.key_digest != last.key_digest),
        key_digest=propose.key_digest,
        proposal=proposal,
        state=last.state,
        about=last.about,
        finished=propose.change == "end",
    )


def follows(last: Body | None, roster: Roster, body: Body) -> str:
    """Say why a certified body cannot follow; empty if it can (what honest members certify always can)."""
    if last is None:
        fits = body.height == 0 and body.kind == "genesis" and body.previous == NO_DIGEST
        same = body.roster == roster.standings and body.f == roster.f and body.epoch == 0 and body.round == 0
        return "" if fits and same else "the first block does not follow from the genesis"
    if body.height != last.height + 1 or body.previous != body_digest(last.encode()) or last.finished:
        return "the block does not follow on the one before"
    if body.kind == "genesis" or body.round != last.round + (body.kind == "merge"):
        return "the block counts its round wrongly"
    keys = [s.member for s in body.roster] == [s.member for s in roster.standings]
    if body.kind in ("merge", "end", "rotate") and not keys:
        return "the block changes the roster without saying so"
    return ""
