"""Twins: two instances of one identity, a partition per view, crashes right after a vote is stored. No fork, no wedge.

Four members, f = 1; the fourth runs twice, and its instances know nothing of each other: together they say everything
that a liar can say. In every view the five are parted in two, each twin on its side, and only entries of one's own
side are read; a pair of partitions is a schedule, and all pairs are tried, some with an honest member that crashes
after it has stored a vote and before the engine sees it. Then everybody reads everything, and the study must end well.
"""

from itertools import product

import pytest
from schedules import Scripted
from world import Peer, Twin, World, cached_decode

from swarmcell.swarm.actions import Contribute

HONEST = ("m0", "m1", "m2")
SIDES = tuple(product((0, 1), repeat=len(HONEST)))  # which twin each honest member hears
KINDS = ("attest", "commit", "next")


class Actor(Peer):
    """Trains at once, from when the swarm is founded and parted."""

    def contribute(self, action: Contribute) -> None:
        if self.world.parted:
            super().contribute(action)
            super().contribute(action)


class TwinActor(Actor, Twin):
    honest = False


class Schedule:
    """A world of which the test chooses who hears whom."""

    def __init__(self, seed: int = 0) -> None:
        self.world = World(seed, n=4, f=1, crash=0.0, rounds_max=2, min_updates=2, snapshots=0.2)
        self.world.engine = Scripted(self.world.rng, hostile=True)
        self.world.training_ms = (0,)
        self.world.parted = False
        self.honest = [self.world.add(name, Actor) for name in HONEST]
        self.twins = [self.world.add("m3", TwinActor, label=f"m3-{i}") for i in range(2)]
        self.said: dict[str, list[bytes]] = {peer.label: [] for peer in self.world.peers}
        self.crashes: dict[tuple[str, str], int] = {}
        self.world.crash_now = self.crash_now

    def crash_now(self, peer: Peer) -> bool:
        """Crash a peer the first time that it has stored a vote of a kind, and not yet appended it."""
        kind = cached_decode(peer.disk.own[-1]).kind
        if self.crashes.pop((peer.name, kind), 0):
            peer.crash()
            return True
        return False

    def talk(self, *groups: list[Peer], times: int = 30) -> None:
        """Let the members of each group read one another so many times, or until nothing happens."""
        for _ in range(times):
            before = len(self.world.engine.log)
            for group in groups:
                for peer in group:
                    self.hear(peer, group)
            if len(self.world.engine.log) == before:
                return

    def hear(self, peer: Peer, group: list[Peer]) -> None:
        if not peer.up:
            peer.restart()
        known = set(self.world.engine.shown[peer.label])
        for other in group:
            fresh = [raw for raw in self.said[other.label] if raw not in known]
            self.world.engine.shown[peer.label].extend(fresh)
        peer.read(10_000)
        before = len(self.world.engine.log)
        for _ in range(4):
            if peer.up:
                peer.act()
        self.said[peer.label] += self.world.engine.log[before:]

    def split(self, sides: tuple[int, ...]) -> tuple[list[Peer], list[Peer]]:
        parted = ([self.twins[0]], [self.twins[1]])
        for peer, side in zip(self.honest, sides, strict=True):
            parted[side].append(peer)
        return parted

    def run(self, *views: tuple[int, ...], times: int) -> None:
        self.talk(self.world.peers)
        self.world.parted = True
        for sides in views:
            self.talk(*self.split(sides), times=times)
            self.world.now_ms += 1100
        for _ in range(60):
            self.talk(self.world.peers)
            self.world.now_ms += 1100
            if all(peer.finished for peer in self.honest):
                break
        self.world.check_end()


@pytest.mark.parametrize("times", [1, 2])
def test_all_pairs_of_partitions(times):
    deepest = 0
    for first, second in product(SIDES[:4], SIDES):  # the twins are alike: half of all is all
        schedule = Schedule()
        schedule.run(first, first, second, first, times=times)
        deepest = max(deepest, schedule.world.views_needed)
    assert deepest > 0, "no schedule needed another view: they would show nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_a_crash_right_after_a_vote_is_stored(kind):
    crashed = 0
    for sides, name in product(SIDES[1:4], HONEST[:2]):
        schedule = Schedule()
        schedule.crashes[name, kind] = 1
        schedule.run(sides, sides, sides, times=2)
        crashed += not schedule.crashes
    assert crashed > 0, "nobody crashed"
