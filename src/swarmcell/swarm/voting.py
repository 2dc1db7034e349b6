"""What a member attests, commits to and calls for. Every rule that keeps a swarm from forking stands here.

1. One attest per view, one body per view; nothing is signed in a view below one in which this member has signed.
2. A commit needs a certificate of its view, and the body's bytes.
3. A `next` carries this member's highest certificate, and never a lower one than it has committed to.
"""

from dataclasses import dataclass

from swarmcell.swarm import blocks
from swarmcell.swarm.actions import Action, Merge, Offer, OpenKey, Outcome, Sign
from swarmcell.swarm.blocks import Block, Candidate, Changed, Founded, Merged, Unknown
from swarmcell.swarm.body import body_digest
from swarmcell.swarm.me import Me
from swarmcell.swarm.payloads import VIEW_MAX, Attest, Commit, Next
from swarmcell.swarm.roster import Roster
from swarmcell.swarm.state import State
from swarmcell.swarm.views import plan

DOUBLINGS_MAX = 10  # a view's patience doubles from view to view, at most so often


@dataclass(frozen=True, slots=True)
class Abstain:
    """Why this member attests nothing in a view."""

    reason: str


def vote(state: State, me: Me, now_ms: int) -> list[Action]:
    """Return the votes that are due, or what must be computed first."""
    if state.finished:
        return []
    if (commit := _commit(state, me)) is not None:
        return [commit]
    if (call := _next(state, me, now_ms)) is not None:
        return [call]
    return _attest(state, me) or _lost_body(state, me)


def abstention(state: State, me: Me) -> str:
    """Say why this member cannot attest in the open view; empty if it can, or has."""
    view = state.ballot.view
    if not may_attest(state, me, view):
        return ""
    found = content(state, me, view)
    return found.reason if isinstance(found, Abstain) else ""


def may_attest(state: State, me: Me, view: int) -> bool:
    """Say whether this member is free to attest in a view: it has not yet, and has signed in none above."""
    return (state.height, view) not in me.attested and view >= me.views.get(state.height, 0)


def may_commit(state: State, me: Me, view: int) -> bool:
    """Say whether this member is free to commit in a view."""
    return (state.height, view) not in me.committed and view >= me.views.get(state.height, 0)


def content(state: State, me: Me, view: int) -> bytes | Action | Abstain | None:
    """Return the body's bytes that this member stands for in a view, what must be computed first, or why none."""
    found = plan(state, view)
    if found is None:
        return None
    if isinstance(found, Unknown):
        return Abstain(f"{len(found.missing)} entries that others know have not been read yet")
    own = _own_content(state, me, found.candidate)
    if isinstance(own, bytes) and found.content and own != found.content:
        return Abstain("this site's own merge differs from the certified one")
    return own


def _own_content(state: State, me: Me, candidate: Candidate) -> bytes | Action | Abstain:
    if isinstance(candidate, Founded):
        if (key := open_key(state, me, 0, candidate.key_digest)) is not None:
            return key
        outcome = _merge(state, me, ())
    elif state.last is None:
        return Abstain("the swarm is not founded yet")
    elif isinstance(candidate, Changed):
        return state.memo.once(_content_of, state.last, state.roster, candidate, None)
    else:
        outcome = _merge(state, me, candidate.offers)
    if not isinstance(outcome, Outcome):
        return outcome
    return state.memo.once(_content_of, state.last, state.roster, candidate, outcome)


def _content_of(last: Block | None, roster: Roster, candidate: Candidate, outcome: Outcome | None) -> bytes:
    """Return the bytes of the body that follows from a candidate."""
    match candidate:
        case Founded() if outcome is not None:
            return blocks.found(roster, candidate, outcome).encode()
        case Changed() if last is not None:
            return blocks.change(last.body, roster, candidate).encode()
        case Merged(offers=offers) if last is not None and outcome is not None:
            return blocks.merge(last.body, roster, offers, outcome).encode()
    msg = f"{candidate} has no body at this height"
    raise AssertionError(msg)


def open_key(state: State, me: Me, epoch: int, key_digest: bytes) -> OpenKey | Abstain | None:
    """Return what is missing to use a swarm key; `None` if it is at hand."""
    if key_digest in me.keys:
        return None
    wraps = state.founding.sealed_for(key_digest, me.key)
    if key_digest in me.refused and len(wraps) <= me.tried.get(key_digest, 0):
        return Abstain(me.refused[key_digest])
    return OpenKey(epoch=epoch, key_digest=key_digest, wraps=wraps)


def _merge(state: State, me: Me, offers: tuple[Offer, ...]) -> Outcome | Action | Abstain:
    body = state.body
    base = b"" if body is None else body.state
    key = state.memo.once(_name_of_merge, state.last, offers)
    if key in me.outcomes:
        return me.outcomes[key]
    if key in me.refused:
        return Abstain(me.refused[key])
    if body is not None and base not in me.states:
        return Abstain("the merged state before this round is not at hand yet")
    number = 0 if body is None else state.rounds.number
    return Merge(key=key, height=state.height, round=number, base=base, offers=offers)


def _name_of_merge(last: Block | None, offers: tuple[Offer, ...]) -> bytes:
    return blocks.merge_key(*((0, b"") if last is None else (last.body.height + 1, last.body.state)), offers)


def _attest(state: State, me: Me) -> list[Action]:
    view = state.ballot.view
    if not may_attest(state, me, view):
        return []
    found = content(state, me, view)
    if isinstance(found, bytes):
        return [Sign(Attest(height=state.height, view=view, body=body_digest(found)))]
    return [] if found is None or isinstance(found, Abstain) else [found]


def _commit(state: State, me: Me) -> Sign | None:
    found = certificate(state, me)
    if found is None or not may_commit(state, me, found[0]):
        return None
    view, digest, body = found
    shows = digest not in state.ballot.bodies and _shows_body(state, me, view, digest)
    return Sign(Commit(height=state.height, view=view, body=digest, content=body if shows else b""))


def _shows_body(state: State, me: Me, view: int, digest: bytes) -> bool:
    """Say whether this member is among the few whose commits carry the body: the first attesters, who are up.

    All commit at about the same time, so else a block of a thousand members would carry a thousand bodies. One of them
    may crash; if all do, the first `next` shows the body.
    """
    return me.key in list(state.ballot.attests[view, digest])[: state.roster.doubt + 1]


def certificate(state: State, me: Me) -> tuple[int, bytes, bytes] | None:
    """Return this member's highest certificate whose body it knows: view, digest and bytes."""
    for view in sorted(state.ballot.certified, reverse=True):
        digest = state.ballot.certified[view]
        body = state.ballot.bodies.get(digest) or me.bodies.get(digest) or _own(state, me, view, digest)
        if body:
            return view, digest, body
    return None


def _own(state: State, me: Me, view: int, digest: bytes) -> bytes:
    """Return the bytes with this digest if they follow from what this member merged itself."""
    for found in _contents(state, me, view):
        if isinstance(found, bytes) and body_digest(found) == digest:
            return found
    return b""


def _contents(state: State, me: Me, view: int) -> list[bytes | Action | Abstain | None]:
    """Return what this member stands for in the views from which a body that is certified in `view` may come."""
    return [content(state, me, at) for at in sorted({0, view} & {0, *state.ballot.opened})]


def _lost_body(state: State, me: Me) -> list[Action]:
    """Return what must be computed again to have the bytes of a certified body: a restart forgets what was merged.

    Without them a member that committed could neither commit nor call for another view, and be missed in a quorum.
    """
    for view, digest in sorted(state.ballot.certified.items(), reverse=True):
        if digest in state.ballot.bodies or digest in me.bodies:
            return []
        for found in _contents(state, me, view):
            if found is not None and not isinstance(found, bytes | Abstain):
                return [found]
    return []


def _next(state: State, me: Me, now_ms: int) -> Sign | None:
    height, view = state.height, state.ballot.view
    signed = max(me.called.get(height, 0), view)
    target = state.ballot.calls(me.key)
    if target <= signed:
        target = view + 1 if signed == view and _out_of_patience(state, me, now_ms) else 0
    if not 0 < target <= VIEW_MAX or target < me.views.get(height, 0):
        return None
    return _call(state, me, target)


def _out_of_patience(state: State, me: Me, now_ms: int) -> bool:
    view = state.ballot.view
    since = me.since.get(("view", state.height, view))
    return since is not None and now_ms - since >= state.genesis.patience_ms << min(view, DOUBLINGS_MAX)


def _call(state: State, me: Me, view: int) -> Sign | None:
    found = certificate(state, me)
    committed = max((v for h, v in me.committed if h == state.height), default=-1)
    if committed > (-1 if found is None else found[0]):
        return None  # the certificate that I committed to has not been read again yet: wait for it
    body = (0, b"") if found is None else (found[0] + 1, found[2])
    approved = state.proposals.approved(state.roster, state.key_digest) if state.last else []
    return Sign(
        Next(
            height=state.height,
            view=view,
            certified=body[0],
            content=body[1],
            known=known(state, me),
            approved=tuple(approved),
        )
    )


def known(state: State, me: Me) -> tuple[bytes, ...]:
    """Return what this member knows to be valid, ascending: contributions, or at height 0 accepts with their keys."""
    if state.last is None:
        bringing = state.founding.bringing()
        return tuple(sorted(entry.digest for entry, payload in bringing if payload.key_digest in me.keys))
    offers = state.rounds.offers.get(state.rounds.number, {})
    return tuple(sorted(offer.digest for of_one in offers.values() for offer in of_one if state.fits(offer)))
