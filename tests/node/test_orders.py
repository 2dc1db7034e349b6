"""Facts about orders: what an operator decided, on its way to the one process that signs."""

from dataclasses import replace

import pytest

from swarmcell.errors import SwarmError
from swarmcell.node import identity as identities
from swarmcell.node.blobs import Keyring
from swarmcell.node.orders import ORDERS_MAX, Admit, Approve, Clerk, End, Orders, Revoke, Rotate
from swarmcell.swarm.body import Body, Standing
from swarmcell.swarm.founding import KEYS_PER_AUTHOR_MAX
from swarmcell.swarm.genesis import Genesis, Member
from swarmcell.swarm.me import Me
from swarmcell.swarm.roster import Roster
from swarmcell.swarm.state import State

SWARM = bytes(32)


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def member(who):
    return Member(name=who.name, signing_key=who.key, sealing_key=who.card.sealing_key)


class Desk:
    """Three members; the first one's clerk, and its swarm as the log shows it."""

    def __init__(self):
        self.people = [identities.create(name) for name in ("site-a", "site-b", "site-c")]
        self.me = Me(self.people[0].key)
        self.keyring = Keyring(self.people[0])
        founders = tuple(member(who) for who in self.people)
        self.state = State(Genesis(name="trial", rules=b"", founders=founders), identities.verify)
        self.orders = Orders(self.people[0], SWARM)
        self.told = []
        self.clerk = Clerk(self.orders, self.keyring, self.told.append)
        accept = self.keyring.bring(founders)
        in_order = sorted(founders, key=lambda m: m.signing_key)
        standings = tuple(Standing(member=m, last_round=0) for m in in_order)
        self.body = Body(
            height=0, previous=bytes(32), kind="genesis", round=0, roster=standings, f=0, epoch=0,
            key_digest=accept.key_digest, state=bytes(32),
        )  # fmt: skip
        self.keyring.begin_epoch(0, accept.key_digest)

    def begin(self):
        from swarmcell.swarm.blocks import Block
        from swarmcell.swarm.body import body_digest

        content = self.body.encode()
        block = Block(body=self.body, content=content, digest=body_digest(content), view=0, certificate=(), position=1)
        self.state.begin(block)
        return self

    def carry_out(self):
        self.clerk.carry_out(self.orders.waiting(), self.state, self.me)


@pytest.fixture
def desk():
    return Desk().begin()


def newcomer(name="site-d"):
    return member(identities.create(name))


def test_an_order_is_kept_once_and_read_back_as_it_was(desk):
    orders = [Admit(newcomer(), None), Admit(newcomer("site-e"), 1), Revoke(desk.people[1].key, 0), Approve(b"p" * 32)]
    orders += [Rotate(3), End()]
    for order in [*orders, *orders]:
        desk.orders.give(order)
    assert sorted(map(repr, desk.orders.waiting())) == sorted(map(repr, orders))


def test_what_is_no_order_is_passed_over(desk):
    desk.orders.give(Approve(b"p" * 32))
    folder = next(identities.identity_folder().glob("*.orders"))
    for number, text in enumerate(["{", '{"do": "sign everything"}', "[]", '{"do": "admit", "member": 1, "f": 0}']):
        (folder / f"{number}.json").write_text(text)
    assert desk.orders.waiting() == [Approve(b"p" * 32)]


def test_orders_are_bounded(desk):
    for number in range(ORDERS_MAX):
        desk.orders.give(Approve(number.to_bytes(8, "big") + bytes(24)))
    with pytest.raises(SwarmError, match="orders wait already"):
        desk.orders.give(Approve(b"x" * 32))


def test_orders_are_for_this_user_only(desk):
    desk.orders.give(Approve(b"p" * 32))
    folder = next(identities.identity_folder().glob("*.orders"))
    assert folder.stat().st_mode & 0o077 == 0
    assert next(folder.iterdir()).stat().st_mode & 0o077 == 0


def test_an_order_to_admit_becomes_one_proposal_with_the_key_for_the_newcomer_alone(desk):
    guest = newcomer()
    desk.orders.give(Admit(guest))
    desk.carry_out()
    desk.carry_out()
    (change,) = desk.me.to_propose
    assert (change.change, change.member, change.key_digest) == ("admit", guest, desk.body.key_digest)
    assert [key for key, _ in change.wraps] == [guest.signing_key]
    assert desk.orders.waiting(), "it waits until the roster shows it"


def test_an_order_to_revoke_brings_a_fresh_key_for_those_who_stay_once(desk):
    gone = desk.people[2]
    desk.orders.give(Revoke(gone.key))
    desk.carry_out()
    desk.carry_out()
    (change,) = desk.me.to_propose
    assert change.key_digest != desk.body.key_digest
    assert [key for key, _ in change.wraps] == sorted(who.key for who in desk.people[:2])


def test_an_order_to_rotate_brings_one_fresh_key_for_all(desk):
    desk.orders.give(Rotate(0))
    desk.carry_out()
    desk.carry_out()
    (change,) = desk.me.to_propose
    assert (change.change, change.member.signing_key) == ("rotate", desk.me.key)
    assert change.key_digest != desk.body.key_digest
    assert [key for key, _ in change.wraps] == sorted(who.key for who in desk.people)


def test_an_order_to_end_changes_no_key(desk):
    desk.orders.give(End())
    desk.carry_out()
    (change,) = desk.me.to_propose
    assert (change.change, change.key_digest, change.wraps) == ("end", desk.body.key_digest, ())


def test_an_order_to_rotate_away_from_a_past_key_is_done(desk):
    desk.body = replace(desk.body, epoch=1)
    desk.begin()
    desk.orders.give(Rotate(0))
    desk.carry_out()
    assert desk.orders.waiting() == []
    assert desk.me.to_propose == []


def test_a_site_that_has_sealed_as_many_keys_as_it_may_says_so(desk):
    desk.state.founding._shown[desk.me.key] = KEYS_PER_AUTHOR_MAX
    desk.orders.give(Rotate(0))
    desk.carry_out()
    assert desk.orders.waiting() == []
    assert "let another do it" in desk.told[0]


def test_an_order_that_is_done_is_dropped(desk):
    desk.orders.give(Admit(member(desk.people[1])))
    desk.orders.give(Revoke(b"s" * 32))
    desk.me.done.add(("approve", b"p" * 32))
    desk.orders.give(Approve(b"p" * 32))
    desk.carry_out()
    assert desk.orders.waiting() == []
    assert desk.me.to_propose == []


def test_an_order_that_can_never_follow_is_dropped_with_the_reason(desk):
    desk.orders.give(Admit(newcomer(), 2))
    desk.carry_out()
    assert desk.orders.waiting() == []
    assert "cannot tolerate 2 liars" in desk.told[0]


def test_nothing_is_proposed_before_the_swarm_has_begun():
    desk = Desk()
    desk.orders.give(Admit(newcomer()))
    desk.carry_out()
    assert desk.me.to_propose == []
    assert desk.orders.waiting()


def test_a_roster_without_me_carries_nothing_out(desk):
    desk.state.roster = Roster(tuple(s for s in desk.body.roster if s.member.signing_key != desk.me.key), 0)
    desk.orders.give(Revoke(desk.people[1].key))
    desk.carry_out()
    assert desk.me.to_propose == []
