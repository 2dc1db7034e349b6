"""What a peer should do now. Pure: the same state, `Me` and time give the same actions; nothing is changed."""

from swarmcell.swarm import duties, voting
from swarmcell.swarm.actions import Action, Finish, Sign, Stop, Wait
from swarmcell.swarm.me import Me
from swarmcell.swarm.rounds import Closing
from swarmcell.swarm.state import State

_REVOKED = (
    "the members have revoked this identity: it signs nothing any more. To come back, make a new identity and ask a "
    "member for an invitation: swarmcell identity create, swarmcell swarm invite."
)


def decide(state: State, me: Me, now_ms: int) -> list[Action]:
    """Return what this peer should do now.

    Parameters
    ----------
    state
        Where its reading of the log stands.
    me
        Its own durable facts, results and clocks; `me.observe(state, now_ms)` comes before.
    now_ms
        Its monotonic clock, ms.

    Returns
    -------
    Actions, none of which depends on another one being performed; at most one of them signs. Where none does, a `Wait`
    says what the swarm waits for.
    """
    if reason := me.stranger or state.halted or duties.diverged(state, me):
        return [Stop(reason)]
    if me.key not in state.roster:
        return [*duties.catch_up(state, me), *_outside(state, me, now_ms)]
    actions = [
        *duties.resend(me, now_ms),
        *duties.accept(state, me),
        *duties.keys(state, me),
        *duties.catch_up(state, me),
        *voting.vote(state, me, now_ms),
        *duties.propose(state, me),
        *duties.answer(state, me, now_ms),
        *duties.contribute(state, me, now_ms),
        *duties.checkpoint(state, me, now_ms),
        *_end(state, me),
    ]
    if not any(isinstance(action, Sign) for action in actions):  # else it need not wait
        actions += _wait(state, me, now_ms)
    return _one_signature(actions)


def _one_signature(actions: list[Action]) -> list[Action]:
    """Keep the first of the actions that sign, and each other one once: the next `decide` knows of the signature."""
    kept: list[Action] = []
    signed = False
    for action in actions:
        if action in kept or (signed and isinstance(action, Sign)):
            continue
        signed = signed or isinstance(action, Sign)
        kept.append(action)
    return kept


def _end(state: State, me: Me) -> list[Action]:
    body = state.body
    if body is None or not body.finished or body.state not in me.states:
        return []
    return [Finish(state=body.state, failure=body.failure)]


def _outside(state: State, me: Me, now_ms: int) -> list[Action]:
    since = me.since.get(("height", state.height, 0), now_ms)
    if me.sequence and not state.finished:  # who signed was a member once
        return [Stop(_REVOKED)]
    return [
        *_end(state, me),
        Wait(
            "this site is not a member of the swarm, or not yet: a member invites it",
            (me.key,),
            since,
        ),
    ]


def _wait(state: State, me: Me, now_ms: int) -> list[Action]:
    """Say what the swarm waits for, for whom, and since when."""
    if state.finished:
        return []
    since = me.since.get(("height", state.height, 0), now_ms)
    members = set(state.roster.members)
    up = (me.up | {me.key}) & members
    if me.up and len(up) < state.roster.quorum:
        reason = f"below the quorum: {len(up)} of {len(members)} members are up, {state.roster.quorum} are needed"
        return [Wait(reason, tuple(sorted(members - up)), since)]
    if reason := voting.abstention(state, me):
        return [Wait(f"this site cannot attest: {reason}", (me.key,), since)]
    return [waiting_for(state, since)]


def waiting_for(state: State, since: int) -> Wait:
    """Say what the log shows to be missing, for anybody who looks; the study has not ended."""
    members = set(state.roster.members)
    ballot = state.ballot
    if state.candidate is not None or ballot.opened:
        voted = {author for (view, _), authors in ballot.attests.items() if view == ballot.view for author in authors}
        committed = {author for votes in ballot.commits.values() for author in votes}
        return Wait(f"votes on block {state.height}", tuple(sorted(members - (voted & committed))), since)
    if state.closing is None:
        accepted = {entry.author for entry, _ in state.founding.accepts.values()}
        return Wait("founders to accept", tuple(sorted(members - accepted)), since)
    least = state.body.sites_needed if state.body else 0
    needed = f", which needs {least} sites" if least > state.roster.quorum else ""
    missing = tuple(sorted(_missing(state, state.closing)))
    return Wait(f"contributions to round {state.rounds.number}{needed}", missing, since)


def _missing(state: State, closing: Closing) -> set[bytes]:
    """Return the awaited; where they alone would not make the round close, all who have not contributed."""
    suffice = len(closing.valid) + len(closing.awaited) >= closing.min_updates
    return (closing.awaited if suffice else set()) or set(state.roster.members) - set(closing.valid)
