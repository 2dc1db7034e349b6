"""Peers over a real NATS cluster: its leader killed, its stores wiped, all its servers away. Real processes."""

import json

import pytest
from nats_cluster import missing_binary
from sums_swarm import Swarm
from waiting import wait_until

ROUNDS = 500  # more than any test waits for


@pytest.fixture
def swarm(tmp_path):
    if why := missing_binary():
        pytest.skip(why)
    made = Swarm(tmp_path)
    made.cluster = made.over_nats(tmp_path / "nats")
    made.cluster.start()
    try:
        yield made
    finally:
        made.close()
        made.cluster.stop()


def start(swarm, *names):
    return swarm.start(*(names or swarm.hospitals), rounds=ROUNDS, sleep_s=0.1)


def leader(swarm):
    def led_by():
        seen = json.loads(swarm.hospitals["site-a"].cli("swarm", "status", "swarm.toml", "--json", "--quiet")[0])
        return seen["engine"]["about"].partition("led by ")[2].partition(",")[0]

    return wait_until(led_by, "a leader")


def assert_same_states(peers):
    seen = {}
    for peer in peers:
        for block in peer.blocks():
            assert seen.setdefault(block["height"], block["state"]) == block["state"]


def test_the_next_block_comes_soon_after_the_leader_is_killed_and_a_wiped_server_catches_up(swarm):
    peers = start(swarm)
    peers[0].wait_height(3)
    victim = leader(swarm)
    swarm.cluster.kill(victim)
    peers[0].wait_height(peers[0].height() + 2)  # one may have been under way
    swarm.cluster.lose_store(victim)
    swarm.cluster.start(victim)
    for peer in peers:
        peer.wait_height(peers[0].height() + 3)
    assert_same_states(peers)


def test_peers_give_back_what_a_cluster_lost_with_all_its_disks(swarm):
    peers = start(swarm)
    peers[0].wait_height(4)
    for site in swarm.cluster.sites:
        swarm.cluster.kill(site)
    for site in swarm.cluster.sites:
        swarm.cluster.lose_store(site)
    height = max(peer.height() for peer in peers)
    swarm.cluster.start()
    for peer in peers:
        peer.wait_height(height + 3)
    assert any(event["event"] == "engine_mended" for peer in peers for event in peer.events())
    assert_same_states(peers)
    late = swarm.hospitals["site-a"]
    wait_until(
        lambda: '"height": 0' in late.cli("swarm", "show", "swarm.toml", "--json", "--quiet")[0],
        "all blocks in the new log",
    )
