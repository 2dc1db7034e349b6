"""Orders: what the operator of this site decided about the members, on its way to the peer that signs.

Rules: only the running peer signs, so that no two processes ever sign with one identity. A command leaves an order in
a folder beside the identity's lock, whole or not at all; the peer takes it up within a second, or when it next runs,
and drops it once the log shows that it is done. What can never follow is dropped with the reason. An order holds no
secret and needs no signature: who may write there may also read the identity.
"""

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias, assert_never

from swarmcell.errors import SwarmcellError, SwarmError
from swarmcell.files import write_whole
from swarmcell.node.blobs import Keyring, wraps
from swarmcell.node.identity import Identity, identity_folder
from swarmcell.swarm.founding import KEYS_PER_AUTHOR_MAX
from swarmcell.swarm.genesis import Member
from swarmcell.swarm.me import Me
from swarmcell.swarm.payloads import Propose
from swarmcell.swarm.proposals import fault_of
from swarmcell.swarm.roster import Roster
from swarmcell.swarm.state import State

ORDERS_MAX = 64
LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class Admit:
    """Propose to admit this member; `f` liars are tolerated from then on (`None`: as many as now)."""

    member: Member
    f: int | None = None


@dataclass(frozen=True)
class Revoke:
    """Propose to revoke the member with this signing key, and a fresh swarm key for those who stay."""

    key: bytes
    f: int | None = None


@dataclass(frozen=True)
class Approve:
    """Approve the proposal with this entry digest."""

    proposal: bytes


@dataclass(frozen=True)
class Rotate:
    """Propose a fresh swarm key for all members, to follow the key of this epoch."""

    epoch: int


@dataclass(frozen=True)
class End:
    """Propose to end the swarm for good."""


Change: TypeAlias = Admit | Revoke | Rotate | End
Order: TypeAlias = Change | Approve


class Orders:
    """The orders of one identity in one swarm."""

    def __init__(self, identity: Identity, swarm: bytes) -> None:
        self._folder = identity_folder() / f"{identity.key.hex()[:16]}-{swarm.hex()[:16]}.orders"

    def give(self, order: Order) -> None:
        """Leave an order; the same one twice is one.

        Raises
        ------
        OutputError
            If it cannot be written.
        SwarmError
            If too many wait already.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if len(self.waiting()) >= ORDERS_MAX:
            msg = f"{self._folder}: {ORDERS_MAX} orders wait already. Run the peer: it carries them out."
            raise SwarmError(msg)
        write_whole(self._folder / _name(order), _encode(order), force=True, mode=0o600)

    def waiting(self) -> list[Order]:
        """Return the orders that wait, by name; what is not one is passed over."""
        if not self._folder.is_dir():
            return []
        found = (_decode(path) for path in sorted(self._folder.glob("*.json"))[:ORDERS_MAX])
        return [order for order in found if order is not None]

    def done(self, order: Order) -> None:
        """Drop an order."""
        with contextlib.suppress(OSError):
            (self._folder / _name(order)).unlink()


def _name(order: Order) -> str:
    match order:
        case Admit(member=member):
            return f"admit-{member.signing_key.hex()[:16]}.json"
        case Revoke(key=key):
            return f"revoke-{key.hex()[:16]}.json"
        case Approve(proposal=proposal):
            return f"approve-{proposal.hex()[:16]}.json"
        case Rotate(epoch=epoch):
            return f"rotate-{epoch}.json"
        case End():
            return "end.json"
        case _:
            assert_never(order)


def _encode(order: Order) -> bytes:
    content = {"do": type(order).__name__.lower(), **asdict(order)}
    return json.dumps(content, default=bytes.hex, indent=2).encode()


def _decode(path: Path) -> Order | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _READERS[content["do"]](content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _admit(content: dict[str, Any]) -> Admit:
    said = content["member"]
    keys = {name: bytes.fromhex(said[name]) for name in ("signing_key", "sealing_key")}
    return Admit(Member(name=str(said["name"]), **keys), content["f"])


_READERS: dict[str, Callable[[dict[str, Any]], Order]] = {
    "admit": _admit,
    "revoke": lambda content: Revoke(bytes.fromhex(content["key"]), content["f"]),
    "approve": lambda content: Approve(bytes.fromhex(content["proposal"])),
    "rotate": lambda content: Rotate(int(content["epoch"])),
    "end": lambda _: End(),
}


# -- carrying them out -----------------------------------------------------------------------------------------------


@dataclass
class Clerk:
    """Hands orders to `Me`, from which `decide` signs them; touched by the peer's loop only."""

    orders: Orders
    keyring: Keyring
    tell: Callable[[str], None]

    def carry_out(self, waiting: list[Order], state: State, me: Me) -> None:
        """Take up what waits, as far as the swarm's state allows."""
        if state.last is None or me.key not in state.roster:
            return
        for order in waiting:
            match order:
                case Approve(proposal=proposal):
                    self._approve(order, proposal, state, me)
                case Admit() | Revoke() | Rotate() | End():
                    self._propose(order, state, me)
                case _:
                    assert_never(order)

    def _approve(self, order: Order, proposal: bytes, state: State, me: Me) -> None:
        me.to_approve.add(proposal)
        carried_out = any(block.body.proposal == proposal for block in state.blocks.values())
        if ("approve", proposal) in me.done or carried_out:
            self.orders.done(order)

    def _propose(self, order: Change, state: State, me: Me) -> None:
        if is_done(order, state):
            self.orders.done(order)
            return
        if any(not fault_of(change, state.roster, state.key_digest) for change in _under_way(order, state, me)):
            return
        me.to_propose[:] = [change for change in me.to_propose if not _is_about(change, order)]
        try:
            change = proposal_of(order, state, self.keyring, me.key)
        except SwarmcellError as error:
            self.tell(str(error))
            return  # the key may come
        fault = fault_of(change, state.roster, state.key_digest)
        if change.wraps and state.founding.shown_by(me.key) >= KEYS_PER_AUTHOR_MAX:
            fault = (
                f"this site has sealed {KEYS_PER_AUTHOR_MAX} keys in this swarm, which is the most; let another do it"
            )
        if fault:
            self.orders.done(order)
            self.tell(f"cannot propose to {change.change} {change.member.name}: {fault}")
            return
        me.to_propose.append(change)


def is_done(order: Change, state: State) -> bool:
    """Say whether the swarm is as the order wants it."""
    match order:
        case Admit(member=member):
            return state.roster.members.get(member.signing_key) == member
        case Revoke(key=key):
            return key not in state.roster
        case Rotate(epoch=epoch):
            return state.body is not None and state.body.epoch > epoch
        case End():
            return state.finished
        case _:
            assert_never(order)


def _under_way(order: Change, state: State, me: Me) -> list[Propose]:
    """Return this peer's own proposals of that change: on their way to the log, or in it."""
    own = [payload for _, entry, payload in state.proposals.open.values() if entry.author == me.key]
    return [change for change in [*me.to_propose, *own] if _is_about(change, order)]


def _is_about(change: Propose, order: Change) -> bool:
    match order:
        case Admit(member=member, f=f):
            return change.change == "admit" and change.member == member and f in {None, change.f}
        case Revoke(key=key, f=f):
            return change.change == "revoke" and change.member.signing_key == key and f in {None, change.f}
        case Rotate():
            return change.change == "rotate"
        case End():
            return change.change == "end"
        case _:
            assert_never(order)


def proposal_of(order: Change, state: State, keyring: Keyring, me: bytes) -> Propose:
    """Return what carries out an order: the present key sealed for a newcomer, or a fresh one for all who stay.

    Parameters
    ----------
    me
        Signing key of the member that proposes.

    Raises
    ------
    SwarmError
        If this identity does not hold the present key.
    """
    roster = state.roster
    match order:
        case Revoke(key=key, f=f):
            return _with_fresh_key("revoke", roster.members[key], roster.f if f is None else f, roster, keyring)
        case Rotate():
            return _with_fresh_key("rotate", roster.members[me], roster.f, roster, keyring)
        case End():
            return Propose(change="end", member=roster.members[me], f=roster.f, key_digest=state.key_digest)
        case Admit(member=member, f=f):
            sealed = wraps(_present_key(member, state, keyring), [member])
            f = roster.f if f is None else f
            return Propose(change="admit", member=member, f=f, key_digest=state.key_digest, wraps=sealed)
        case _:
            assert_never(order)


def _with_fresh_key(change: str, member: Member, f: int, roster: Roster, keyring: Keyring) -> Propose:
    gone = member.signing_key if change == "revoke" else b""
    fresh = keyring.bring([one for key, one in roster.members.items() if key != gone])
    return Propose(change=change, member=member, f=f, key_digest=fresh.key_digest, wraps=fresh.wraps)


def _present_key(guest: Member, state: State, keyring: Keyring) -> bytes:
    key = keyring.of_epoch(state.body.epoch) if state.body else None
    if key is None:
        msg = f"cannot propose to admit {guest.name} yet: this site does not hold the swarm's present key"
        raise SwarmError(msg)
    return key
