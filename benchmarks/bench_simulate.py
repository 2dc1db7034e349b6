# ruff: noqa: PLC0415 (a job imports what it measures, and no more)
"""What a round of a large swarm takes on one machine: all peers' decisions and signatures, with one shared replay.

Run: `python -m benchmarks simulate`; the same by hand is `swarmcell swarm simulate --peers 1000 --rounds 3`.
"""

from collections.abc import Iterator

from benchmarks.figures import Figure

REPEATS = 3
ROUNDS = 3
SECONDS_MAX = 5.0


def figures(repeats: int) -> Iterator[Figure]:
    """Yield the seconds of a round, and what it adds to the updates' bytes."""
    from swarmcell.workflows.swarm.simulate import Plan, simulate

    for peers, goal in ((100, None), (1000, SECONDS_MAX)):
        found = [simulate(Plan(peers=peers, rounds=ROUNDS)) for _ in range(repeats)]
        yield Figure(f"a round of {peers} peers", "s", tuple(one.seconds_per_round for one in found), goal)
        yield Figure(f"the same, processor time: {peers} peers", "s", tuple(one.cpu_s_per_round for one in found))
        yield Figure(f"bytes beside the updates, 1 MB each: {peers} peers", "x", (found[0].overhead_ratio,), 1.1)
