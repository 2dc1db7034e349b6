"""What a fault costs: a peer killed and restarted, and the leader of the log killed; a training takes 0.1 s.

Run: `python -m benchmarks faults`. Patience is 2 s here, so that what a killed peer costs shows; a study's is 60 s.
After the leader's death the second block is waited for, since one may have been under way.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import log_servers
from benchmarks.bench_swarm import SITES, TINY_BYTES, Swarm
from benchmarks.figures import Figure

REPEATS = 3
PATIENCE_S = 2.0
LEADERS_KILLED = 3  # per run
MANY = 1_000_000


def once(engine: str) -> dict[str, tuple[float, ...]]:
    """Return the figures of one swarm."""
    with tempfile.TemporaryDirectory() as folder, Swarm(Path(folder), engine, patience_s=PATIENCE_S) as swarm:
        swarm.start(rounds=MANY, size=TINY_BYTES, sleep_s=0.1)
        _wait_height(swarm, 3)
        found = {"next_block_s": (_kill_peer(swarm),), "rounds_missed": (_restart_peer(swarm),)}
        if swarm.servers:
            found["leader_killed_s"] = tuple(_kill_leader(swarm) for _ in range(LEADERS_KILLED))
        return found


def _height(swarm: Swarm, name: str = "site-a") -> int:
    return max((e["height"] for e in swarm.events(name) if e["event"] == "block"), default=-1)


def _wait_height(swarm: Swarm, height: int) -> float:
    until = time.monotonic() + 90
    while _height(swarm) < height:
        assert time.monotonic() < until
        time.sleep(0.02)
    return time.monotonic()


def _kill_peer(swarm: Swarm) -> float:
    swarm.peers["site-c"].kill()
    swarm.peers["site-c"].wait()
    began, until = time.monotonic(), time.monotonic() + 90
    while time.monotonic() < until:
        alone = [e["at"] for e in swarm.events("site-a") if e["event"] == "block" and "site-c" not in e["included"]]
        if alone and alone[-1] > began:
            return next(at for at in alone if at > began) - began
        time.sleep(0.02)
    raise TimeoutError


def _restart_peer(swarm: Swarm) -> float:
    """Return how many rounds after the one that it found open the restarted peer's contribution is merged in."""
    n_before = len(swarm.events("site-c"))
    swarm.start("site-c", rounds=MANY, size=TINY_BYTES, sleep_s=0.1)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        began = [e["round"] for e in swarm.events("site-c")[n_before:] if e["event"] == "training"]
        merged = [e["round"] for e in swarm.events("site-a") if e["event"] == "block" and "site-c" in e["included"]]
        again = [number for number in merged if began and number >= began[0]]
        if again:
            return again[0] - began[0]
        time.sleep(0.05)
    raise TimeoutError


def _kill_leader(swarm: Swarm) -> float:
    leader = swarm.wait_for_replicas()
    time.sleep(2)
    swarm.servers.kill(leader)
    began = time.monotonic()
    took = _wait_height(swarm, _height(swarm) + 2) - began
    swarm.servers.start(leader)
    return took


def figures(repeats: int) -> Iterator[Figure]:
    """Yield what faults cost, over each engine."""
    engines = ["embedded"] if log_servers.missing() else ["embedded", "nats"]
    for engine in engines:
        runs = [once(engine) for _ in range(repeats)]

        def of(key: str, runs=runs) -> tuple[float, ...]:
            return tuple(value for run in runs for value in run[key])

        deadline = (
            f"{engine}: one of {len(SITES)} peers killed, until the first block without it (patience {PATIENCE_S:g} s)"
        )
        yield Figure(deadline, "s", of("next_block_s"), 2 * PATIENCE_S)
        missed = f"{engine}: rounds until a restarted peer is merged again, after the one that it found open"
        yield Figure(missed, "rounds", of("rounds_missed"), 1)
        if engine == "nats":
            yield Figure("nats: the log's leader killed, until the next block", "s", of("leader_killed_s"), 10)
