"""Changing who is a member: inviting, accepting, revoking, approving; renewing the swarm's key; ending the swarm.

Rules: nothing is signed here. What this site's operator decides is left as an order for the running peer
(`node/orders.py`), after the log has shown that it can follow; then the log is watched for a while until it is there.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from swarmcell.config import invitation as invitations
from swarmcell.config import swarm_file as swarm_files
from swarmcell.config.invitation import Guest, Invitation
from swarmcell.config.swarm_file import KnownBlock
from swarmcell.errors import InputError, SwarmError, UsageError
from swarmcell.files import write_whole
from swarmcell.node import identity as identities
from swarmcell.node.identity import Card, Identity
from swarmcell.node.orders import Admit, Approve, End, Order, Orders, Revoke, Rotate
from swarmcell.swarm.genesis import Member, tolerates
from swarmcell.workflows.join import take_seat
from swarmcell.workflows.swarm.view import Onlooker, ProposalView, SwarmView, open_onlooker

WATCH_S = 30.0  # a running peer takes an order up within a second, on a busy machine within some; chosen
_WATCH_EVERY_S = 0.3
_ABOUT_MEMBERS = ("admit", "revoke")


@dataclass(frozen=True)
class Ordered:
    """What became of a decision so far.

    Attributes
    ----------
    proposal
        As the log shows it; `None` if the peer has not signed it yet.
    is_running
        Whether a peer of this identity runs on this machine.
    done
        Whether the swarm has carried it out already.
    invitation
        The invitation's file, where one was written.
    """

    proposal: ProposalView | None
    is_running: bool
    done: bool = False
    invitation: Path | None = None


def invite(
    swarm: Path,
    card: Path,
    *,
    out: Path | None = None,
    f: int | None = None,
    site_file: Path | None = None,
    identity: str | None = None,
    force: bool = False,
) -> Ordered:
    """Propose to admit the site of a public card, and write its invitation.

    Parameters
    ----------
    out
        By default `NAME.invitation.toml` in this folder.
    f
        Liars tolerated from then on; by default as many as now.

    Raises
    ------
    SwarmError
        If this site is no member, or the swarm cannot admit that one.
    ConfigError, InputError, OutputError
        If a file cannot be read or written.
    """
    guest = identities.load_card(str(card))
    desk = _Desk(swarm, site_file, identity)
    seen = desk.look()
    _refuse_guest(seen, guest, f)
    target = out or Path(f"{guest.name}.invitation.toml")
    write_whole(target, _invitation(swarm, seen, guest, desk.me.name), force=force)
    member = Member(name=guest.name, signing_key=guest.signing_key, sealing_key=guest.sealing_key)
    made = desk.order(Admit(member, f), lambda p: p.change == "admit" and p.member_key == guest.signing_key.hex())
    return Ordered(made.proposal, made.is_running, made.done, target)


def _refuse_guest(seen: SwarmView, guest: Card, f: int | None) -> None:
    for member in seen.members:
        if member.key == guest.signing_key.hex() or member.name == guest.name:
            msg = f"{guest.name}: a member of this swarm has this name or key already. Take a card with another name."
            raise SwarmError(msg)
    _refuse_liars(len(seen.members) + 1, seen.f if f is None else f)


def _refuse_liars(n: int, f: int) -> None:
    if n < 1 or not tolerates(n, f):
        msg = f"{n} members would be left, which cannot tolerate f = {f} liars ({3 * f + 1} are needed). Give --f."
        raise SwarmError(msg)


def _invitation(swarm: Path, seen: SwarmView, guest: Card, by: str) -> bytes:
    file = swarm_files.load(swarm)
    last = seen.blocks[-1]
    known = KnownBlock(height=last.body.height, body=last.digest.hex())
    whom = Guest(name=guest.name, signing_key=guest.signing_key.hex(), invited_by=by)
    return invitations.dump(Invitation(invitation=whom, swarm=file.model_copy(update={"history": (known,)})))


@dataclass(frozen=True)
class Accepted:
    """A swarm file taken from an invitation, and the identity that it was for."""

    path: Path
    digest: str
    name: str
    height: int


def accept(invitation: Path, out: Path, *, force: bool = False) -> Accepted:
    """Take up an invitation: check whom it is for, and write the swarm file with the block that it vouches for.

    Raises
    ------
    ConfigError, TamperedError
        If it is no invitation, or was changed.
    SwarmError
        If it is for another identity than those of this user.
    OutputError
        If `out` exists (without `force`) or cannot be written.
    """
    found = invitations.load(invitation)
    guest = found.invitation
    name = next((name for name in identities.local_names() if _key(name) == guest.signing_key), None)
    if name is None:
        msg = (
            f"{invitation}: for {guest.name}, whose key {guest.signing_key[:16]} is none of this user's identities. "
            "Send the card of yours to a member for an invitation: swarmcell identity show NAME"
        )
        raise SwarmError(msg)
    write_whole(out, swarm_files.dump(found.swarm), force=force)
    return Accepted(out, found.swarm.digest, name, found.swarm.history[-1].height if found.swarm.history else 0)


def _key(name: str) -> str:
    return identities.load(name).key.hex()


def revoke(
    swarm: Path, member: str, *, f: int | None = None, site_file: Path | None = None, identity: str | None = None
) -> Ordered:
    """Propose to revoke a member, by name or the beginning of its key, with a fresh swarm key for all who stay.

    Raises
    ------
    SwarmError
        If this site is no member, or those who stay could not decide.
    InputError
        If there is no such member.
    """
    desk = _Desk(swarm, site_file, identity)
    seen = desk.look()
    found = [m for m in seen.members if m.name == member or (len(member) >= 8 and m.key.startswith(member))]
    if len(found) != 1:
        msg = f"{member}: no such member. Members: {', '.join(m.name for m in seen.members)}."
        raise InputError(msg)
    _refuse_liars(len(seen.members) - 1, seen.f if f is None else f)
    key = found[0].key
    return desk.order(Revoke(bytes.fromhex(key), f), lambda p: p.change == "revoke" and p.member_key == key)


def rotate(swarm: Path, *, site_file: Path | None = None, identity: str | None = None) -> Ordered:
    """Propose a fresh swarm key for all members: what is sealed later, nobody opens with the present one.

    Raises
    ------
    SwarmError
        If this site is no member, or the study has ended.
    """
    desk = _Desk(swarm, site_file, identity)
    epoch = desk.look().epoch
    return desk.order(Rotate(epoch), lambda p: p.change == "rotate" and not p.fault)


def end(swarm: Path, *, site_file: Path | None = None, identity: str | None = None) -> Ordered:
    """Propose to end the swarm for good: no block follows on the one that carries this out.

    Raises
    ------
    SwarmError
        If this site is no member, or the study has ended already.
    """
    return _Desk(swarm, site_file, identity).decide(End(), lambda p: p.change == "end" and not p.fault)


def approve(swarm: Path, proposal: str, *, site_file: Path | None = None, identity: str | None = None) -> Ordered:
    """Approve an open proposal: by the beginning of its digest, its member's name, or the word `rotate` or `end`.

    Raises
    ------
    SwarmError
        If this site is no member.
    UsageError
        If no open proposal, or more than one, is meant.
    """
    desk = _Desk(swarm, site_file, identity)
    seen = desk.look()
    found = [
        p
        for p in seen.proposals
        if (p.member == proposal and p.change in _ABOUT_MEMBERS)
        or (p.change == proposal and p.change not in _ABOUT_MEMBERS)
        or (len(proposal) >= 6 and p.digest.startswith(proposal))
    ]
    if len(found) != 1:
        there = ", ".join(f"{p.digest[:16]} ({p.change} {p.member})" for p in seen.proposals) or "none"
        msg = f"{proposal}: means {len(found)} of the open proposals. Give the beginning of its digest. Open: {there}."
        raise UsageError(msg)
    if found[0].fault:
        msg = f"{found[0].digest[:16]}: can no longer follow ({found[0].fault}). It must be proposed anew."
        raise SwarmError(msg)
    digest, name = found[0].digest, desk.me.name
    return desk.order(Approve(bytes.fromhex(digest)), lambda p: p.digest == digest and name in p.approved_by)


class _Desk:
    """Where an operator decides: this site's identity, its orders, and a look at the log."""

    def __init__(self, swarm: Path, site_file: Path | None, identity: str | None) -> None:
        seat = take_seat(swarm, identity=identity, site_file=site_file)
        self.me: Identity = seat.identity
        self._swarm = bytes.fromhex(seat.swarm.digest)
        self._orders = Orders(seat.identity, self._swarm)
        self._open: Callable[[], Onlooker] = lambda: open_onlooker(
            swarm, site_file=site_file, identity=identity or seat.identity.name
        )

    def look(self) -> SwarmView:
        """Return where the swarm stands; this site must be a member, and the study under way."""
        seen = asyncio.run(self._open().look_once())
        if not seen.blocks:
            msg = "the swarm has not begun: a quorum of the founders must train --join first, then members can change."
            raise SwarmError(msg)
        if seen.finished:
            msg = "the study has ended: its members cannot change any more. Create a new swarm: swarmcell swarm create"
            raise SwarmError(msg)
        if self.me.key.hex() not in {member.key for member in seen.members}:
            msg = f"{self.me.name} is no member of this swarm: only members decide who is. Give --identity."
            raise SwarmError(msg)
        return seen

    def decide(self, order: Order, fits: Callable[[ProposalView], bool]) -> Ordered:
        """Look whether members can change, then leave an order (`order`)."""
        self.look()
        return self.order(order, fits)

    def order(self, order: Order, fits: Callable[[ProposalView], bool]) -> Ordered:
        """Leave an order, and watch the log until it shows the proposal that fits, or for `WATCH_S`."""
        self._orders.give(order)
        is_running = identities.is_held(self.me, self._swarm)
        return asyncio.run(self._watch(order, fits, is_running))

    async def _watch(self, order: Order, fits: Callable[[ProposalView], bool], is_running: bool) -> Ordered:
        onlooker = self._open()
        until = time.monotonic() + (WATCH_S if is_running else 0.0)
        try:
            while True:
                seen = await onlooker.look()
                shown = next((p for p in seen.proposals if fits(p)), None)
                done = _is_carried_out(order, seen)
                if shown or done or time.monotonic() > until:
                    return Ordered(shown, is_running, done)
                await asyncio.sleep(_WATCH_EVERY_S)
        finally:
            await onlooker.close()


def _is_carried_out(order: Order, seen: SwarmView) -> bool:
    match order:
        case Admit(member=member):
            return member.signing_key.hex() in {m.key for m in seen.members}
        case Revoke(key=key):
            return key.hex() not in {m.key for m in seen.members}
        case Rotate(epoch=epoch):
            return seen.epoch > epoch
        case End():
            return seen.finished
        case Approve(proposal=proposal):
            return any(block.body.proposal == proposal for block in seen.blocks)
