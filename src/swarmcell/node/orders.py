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
from swarmcell.swarm.genesis import Member
from swarmcell.swarm.me import Me
from swarmcell.swarm.payloads import Propose
from swarmcell.swarm.proposals import fault_of
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


Order: TypeAlias = Admit | Revoke | Approve


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
                case Admit() | Revoke():
                    self._propose(order, state, me)
                case _:
                    assert_never(order)

    def _approve(self, order: Order, proposal: bytes, state: State, me: Me) -> None:
        me.to_approve.add(proposal)
        carried_out = any(block.body.proposal == proposal for block in state.blocks.values())
        if ("approve", proposal) in me.done or carried_out:
            self.orders.done(order)

    def _propose(self, order: Admit | Revoke, state: State, me: Me) -> None:
        if is_done(order, state):
            self.orders.done(order)
            return
        if any(not fault_of(change, state.roster, state.key_digest) for change in _under_way(order, state, me)):
            return
        me.to_propose[:] = [change for change in me.to_propose if not _is_about(change, order)]
        try:
            change = proposal_of(order, state, self.keyring)
        except SwarmcellError as error:
            self.tell(str(error))
            return  # the key may come
        if fault := fault_of(change, state.roster, state.key_digest):
            self.orders.done(order)
            self.tell(f"cannot propose to {change.change} {change.member.name}: {fault}")
            return
        me.to_propose.append(change)


def is_done(order: Admit | Revoke, state: State) -> bool:
    """Say whether the roster is as the order wants it."""
    if isinstance(order, Admit):
        return state.roster.members.get(order.member.signing_key) == order.member
    return order.key not in state.roster


def _under_way(order: Admit | Revoke, state: State, me: Me) -> list[Propose]:
    """Return this peer's own proposals of that change: on their way to the log, or in it."""
    own = [payload for _, entry, payload in state.proposals.open.values() if entry.author == me.key]
    return [change for change in [*me.to_propose, *own] if _is_about(change, order)]


def _is_about(change: Propose, order: Admit | Revoke) -> bool:
    if isinstance(order, Admit):
        return change.change == "admit" and change.member == order.member and order.f in {None, change.f}
    return change.change == "revoke" and change.member.signing_key == order.key and order.f in {None, change.f}


def proposal_of(order: Admit | Revoke, state: State, keyring: Keyring) -> Propose:
    """Return what carries out an order: the present key sealed for a newcomer, or a fresh one for all who stay.

    Raises
    ------
    SwarmError
        If this identity does not hold the present key.
    """
    f = state.roster.f if order.f is None else order.f
    if isinstance(order, Revoke):
        members = [member for key, member in state.roster.members.items() if key != order.key]
        fresh = keyring.bring(members)
        return Propose(
            change="revoke",
            member=state.roster.members[order.key],
            f=f,
            key_digest=fresh.key_digest,
            wraps=fresh.wraps,
        )
    body = state.body
    key = keyring.of_epoch(body.epoch) if body else None
    if key is None:
        msg = f"cannot propose to admit {order.member.name} yet: this site does not hold the swarm's present key"
        raise SwarmError(msg)
    return Propose(
        change="admit", member=order.member, f=f, key_digest=state.key_digest, wraps=wraps(key, [order.member])
    )
