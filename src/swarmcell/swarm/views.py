"""What a view decides: in view 0 what closed in the log, in a later view what the nexts that opened it say.

The first quorum of nexts that opened a view binds it: to the body of the highest certificate that they carry, or else
to what enough of them (one more than there may be liars) know. So a body that may be final anywhere is carried on.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swarmcell.swarm.actions import Offer
from swarmcell.swarm.blocks import Candidate, Changed, Founded, Merged, Unknown
from swarmcell.swarm.body import Body, decode_body
from swarmcell.swarm.payloads import Next

if TYPE_CHECKING:
    from swarmcell.swarm.state import State


@dataclass(frozen=True, slots=True)
class Plan:
    """What to decide in a view; `content`, if not empty, is the one body that may be attested."""

    candidate: Candidate
    content: bytes = b""


def plan(state: "State", view: int) -> Plan | Unknown | None:
    """Return what is to be decided in an open view; `None`: nothing can be."""
    if view == 0:
        return None if state.candidate is None else Plan(state.candidate)
    nexts = state.ballot.opened[view]
    highest = highest_certificate(nexts)
    if highest.certified:
        found = retrace(state, decode_body(highest.content))
        return found if isinstance(found, Unknown) else Plan(found, highest.content)
    fresh = _founded(state, nexts, view) if state.height == 0 else _changed(state, nexts) or _merged(state, nexts)
    return fresh if fresh is None or isinstance(fresh, Unknown) else Plan(fresh)


def highest_certificate(nexts: Iterable[Next]) -> Next:
    """Return the `next` that carries the highest certificate."""
    return max(nexts, key=lambda vote: vote.certified)


def retrace(state: "State", body: Body) -> Candidate | Unknown:
    """Return the candidate that a body says it followed from."""
    match body.kind:
        case "genesis":
            accept = state.founding.accepts.get(body.proposal)
            return Founded(body.proposal, body.key_digest) if accept else Unknown((body.proposal,))
        case "merge":
            rows = sorted([(a, d) for a, d in body.included] + [(a, d) for a, d, _ in body.left_out])
            return _offers(state, (entry for _, entry in rows))
        case _:
            return _change(state, body.proposal)


def _change(state: "State", proposal: bytes) -> Changed | Unknown:
    if not state.proposals.is_approved(proposal, state.roster, state.key_digest):
        return Unknown((proposal,))
    return Changed(proposal, state.proposals.open[proposal][2])


def _offers(state: "State", digests: Iterable[bytes]) -> Merged | Unknown:
    wanted = list(digests)
    missing = tuple(digest for digest in wanted if digest not in state.rounds.by_digest)
    return Unknown(missing) if missing else Merged(tuple(state.rounds.by_digest[digest] for digest in wanted))


def _said_often(state: "State", lists: Iterable[tuple[bytes, ...]]) -> list[bytes]:
    counts = Counter(digest for said in lists for digest in said)
    return sorted(digest for digest, n in counts.items() if n >= state.roster.doubt)


def _founded(state: "State", nexts: tuple[Next, ...], view: int) -> Founded | Unknown | None:
    said = _said_often(state, (vote.known for vote in nexts))
    if missing := tuple(digest for digest in said if digest not in state.founding.accepts):
        return Unknown(missing)
    keys = [Founded(digest, state.founding.accepts[digest][1].key_digest) for digest in said]
    return keys[(view - 1) % len(keys)] if keys else None


def _changed(state: "State", nexts: tuple[Next, ...]) -> Changed | Unknown | None:
    said = _said_often(state, (vote.approved for vote in nexts))
    return _change(state, said[0]) if said else None


def _merged(state: "State", nexts: tuple[Next, ...]) -> Merged | Unknown | None:
    found = _offers(state, _said_often(state, (vote.known for vote in nexts)))
    if isinstance(found, Unknown):
        return found
    first: dict[bytes, Offer] = {}
    for offer in sorted(found.offers, key=lambda o: o.digest):
        if state.fits(offer):
            first.setdefault(offer.author, offer)
    if len(first) < state.min_updates:
        return None
    return Merged(tuple(first[author] for author in sorted(first)))
