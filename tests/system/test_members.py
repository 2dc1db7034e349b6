"""Members change while peers run: a late joiner, a revoked key, and what is refused. Real processes and commands."""

import json

import pytest
from sums_swarm import Swarm
from waiting import wait_until

ROUNDS = 500  # more than any test waits for


@pytest.fixture
def swarm(tmp_path):
    made = Swarm(tmp_path)
    yield made
    made.close()


def start(swarm, *names):
    return swarm.start(*names, rounds=ROUNDS, sleep_s=0.2)


def invite(swarm, by, name, approved_by):
    """Admit a newcomer by the commands of both sides, and start its peer."""
    newcomer = swarm.newcomer(name)
    _, said = by.hospital.cli("swarm", "invite", "swarm.toml", newcomer.card_file, "--identity", by.hospital.name)
    assert f"approved by {by.hospital.name}" in said
    approve(approved_by, name)
    newcomer.cli("swarm", "accept", by.hospital.folder / f"{name}.invitation.toml")
    return start(swarm, name)


def approve(peer, what):
    peer.hospital.cli("swarm", "approve", "swarm.toml", what, "--identity", peer.hospital.name)


def rounds_of(peer, name):
    return [block["round"] for block in peer.blocks() if name in block["included"]]


def assert_same_states(*peers):
    """Every height that two peers both saw has one state."""
    seen = {}
    for peer in peers:
        for block in peer.blocks():
            assert seen.setdefault(block["height"], block["state"]) == block["state"]


def test_a_site_joins_while_peers_run_another_is_revoked_and_comes_back_under_a_new_key(swarm):
    a, b, c = start(swarm, "site-a", "site-b", "site-c")
    a.wait_height(2)
    late = invite(swarm, a, "site-d", approved_by=b)
    a.wait_for(lambda peer: len(rounds_of(peer, "site-d")) >= 3, "three rounds with site-d")
    began = next(event["round"] for event in late.events() if event["event"] == "training")
    taken = rounds_of(a, "site-d")
    assert taken[0] - began <= 3, "it begins with the round that it finds open, and gets in before long"
    assert taken[:3] == [taken[0], taken[0] + 1, taken[0] + 2]

    a.hospital.cli("swarm", "revoke", "swarm.toml", "site-c", "--identity", "site-a")
    for peer in (b, late):
        approve(peer, "site-c")  # three of four must
    assert "revoked this identity" in c.ended(code=1)
    again = invite(swarm, a, "site-c2", approved_by=b)
    a.wait_for(lambda peer: len(rounds_of(peer, "site-c2")) >= 2, "two rounds with the new key")

    assert_same_states(a, b, c, late, again)
    shown = json.loads(a.hospital.cli("swarm", "show", "swarm.toml", "--json", "--quiet")[0])
    changes = [(block["kind"], block["epoch"]) for block in shown if block["kind"] != "merge"]
    assert changes == [("genesis", 0), ("admit", 0), ("revoke", 1), ("admit", 1)]
    decided = [(block["kind"], block["proposed_by"], len(block["approved_by"])) for block in shown]
    assert [row for row in decided if row[0] not in {"genesis", "merge"}] == [
        ("admit", "site-a", 2),
        ("revoke", "site-a", 3),
        ("admit", "site-a", 2),
    ]
    text = a.hospital.cli("swarm", "show", "swarm.toml")[1]
    assert "site-c revoked" in text
    assert "proposed by site-a" in text
    revoked = next(block["height"] for block in shown if block["kind"] == "revoke")
    assert not any("site-c" in block["included"] for block in shown if block["height"] > revoked)
    seen = wait_until(lambda: status_if_all_are_up(a), "a sign of life of all")
    assert [member["name"] for member in seen["members"]] == ["site-a", "site-b", "site-c2", "site-d"]
    assert seen["proposals"] == []
    assert_key_is_renewed_and_the_swarm_ended(a, b, late, again)


def status_if_all_are_up(peer):
    seen = json.loads(peer.hospital.cli("swarm", "status", "swarm.toml", "--json", "--quiet")[0])
    return seen if all(member["up"] for member in seen["members"]) else None


def assert_key_is_renewed_and_the_swarm_ended(a, b, late, again):
    """Three of four approve; the rounds go on under the new key, and nothing goes on after the end."""
    _, said = a.hospital.cli("swarm", "rotate", "swarm.toml", "--identity", "site-a")
    assert "rotate site-a, approved by site-a" in said
    for peer in (b, late):
        approve(peer, "rotate")
    everybody = {"site-a", "site-b", "site-d", "site-c2"}
    a.wait_for(lambda peer: any(block["kind"] == "rotate" for block in peer.blocks()), "a fresh key")
    rotated = next(block["height"] for block in a.blocks() if block["kind"] == "rotate")
    a.wait_for(
        lambda peer: any(x["height"] > rotated and everybody == set(x["included"]) for x in peer.blocks()),
        "a round of all under the new key",
    )
    a.hospital.cli("swarm", "end", "swarm.toml", "--identity", "site-a")
    for peer in (b, late):
        approve(peer, "end")
    for peer in (a, b, late, again):
        assert "ended this swarm for good" in peer.ended(code=1)
    shown = json.loads(a.hospital.cli("swarm", "show", "swarm.toml", "--json", "--quiet")[0])
    assert [block["changed"] for block in shown if block["epoch"] == 2 and block["changed"]] == [
        "the swarm's key renewed (epoch 2)",
        "the swarm ended by its members",
    ]
    _, said = a.hospital.cli("swarm", "verify", "swarm.toml")
    assert "entries" in said
    _, said = a.hospital.cli("swarm", "end", "swarm.toml", "--identity", "site-a", code=7)
    assert "has ended" in said


def test_a_joiner_refuses_another_history_than_its_invitation_vouches_for(swarm):
    a, *_ = start(swarm, "site-a", "site-b", "site-c")
    a.wait_height(1)
    newcomer = swarm.newcomer("site-d")
    a.hospital.cli("swarm", "invite", "swarm.toml", newcomer.card_file, "--identity", "site-a")
    path = a.hospital.folder / "site-d.invitation.toml"
    text = path.read_text()
    body = text.split('body = "')[1][:64]
    path.write_text(text.replace(body, "0" * 64))
    newcomer.cli("swarm", "accept", path)
    late = start(swarm, "site-d")
    assert "not the one that the invitation vouches for" in late.ended(code=1)


def test_orders_wait_for_a_peer_that_does_not_run_and_what_cannot_follow_is_refused(swarm):
    a, _ = start(swarm, "site-a", "site-b")
    a.wait_height(0)
    newcomer, c = swarm.newcomer("site-d"), swarm.hospitals["site-c"]
    _, said = c.cli("swarm", "invite", "swarm.toml", newcomer.card_file, "--identity", "site-c")
    assert "no peer of this identity runs" in said
    _, said = newcomer.cli("swarm", "accept", a.hospital.card_file, code=5)
    assert "not an invitation" in said
    _, said = c.cli("swarm", "accept", c.folder / "site-d.invitation.toml", "--out", "other.toml", code=7)
    assert "none of this user's identities" in said
    newcomer.swarm.write_bytes(c.swarm.read_bytes())
    _, said = newcomer.cli("swarm", "revoke", "swarm.toml", "site-a", "--identity", "site-d", code=7)
    assert "no member of this swarm" in said
    _, said = c.cli("swarm", "approve", "swarm.toml", "site-d", "--identity", "site-c", code=2)
    assert "means 0 of the open proposals" in said
    late = start(swarm, "site-c")
    wait_until(
        lambda: json.loads(c.cli("swarm", "proposals", "swarm.toml", "--json", "--quiet")[0]), "the order's proposal"
    )
    approve(a, "site-d")
    late.wait_for(lambda peer: any(block["kind"] == "admit" for block in peer.blocks()), "the admission")
