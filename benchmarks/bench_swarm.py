# ruff: noqa: D102, PLC0415 (a job imports what it measures, and no more)
"""What a swarm costs beyond local training: three peers in processes of their own, a model of 1 MB.

Run: `python -m benchmarks swarm`, or `python -m benchmarks.bench_swarm [--rounds 20] [--size 1000000]` for JSON.
Training takes no time here, so the time from block to block is all overhead: sealing, signing, the log, opening,
merging, voting. Figures are medians; the first round is left out (it waits for keys).
"""

import argparse
import asyncio
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure

REPEATS = 3
ROOT = Path(__file__).parents[1]
ROUNDS, SIZE_BYTES = 20, 1_000_000
SITES = ("site-a", "site-b", "site-c")
GOALS = {"round_overhead_s_max": 0.2, "wake_ms_max": 50, "start_to_first_round_s_max": 4, "bytes_ratio_max": 1.1}


class Sums:
    """Sums of int32 arrays; `contribute` returns a fixed array at once."""

    def __init__(self, name: str, rounds: int, size: int) -> None:
        import numpy as np

        self.rounds = rounds
        self.said = np.random.default_rng(sum(name.encode())).integers(-1000, 1000, size // 4, dtype="<i4")

    def start(self):
        return bytes(8) + bytes(self.said.nbytes)

    def contribute(self, state, stop):
        from swarmcell.node.task import Contribution

        assert not stop.is_set()
        assert len(state) == 8 + self.said.nbytes
        return Contribution(kind="update", parameters=self.said.tobytes(), n_cells=1, n_donors=1)

    def merge(self, state, contributions):
        import numpy as np

        from swarmcell.node.task import Merge

        number = int.from_bytes(state[:8], "big") + 1
        total = np.frombuffer(state[8:], "<i4").copy()
        for contribution in contributions:
            total += np.frombuffer(contribution.parameters, "<i4")
        return Merge(state=number.to_bytes(8, "big") + total.tobytes(), finished=number >= self.rounds)

    def describe(self, state):
        return {"stage": "sums", "round": int.from_bytes(state[:8], "big")}


def peer(swarm_file: Path, name: str, rounds: int, size: int, site_file: Path | None) -> None:
    """Take part, and print when each thing happened (monotonic seconds, the same clock for all processes)."""
    import resource

    from swarmcell.workflows.join import take_part, take_seat

    events: list[tuple[str, float, int]] = []

    def tell(event, facts):
        events.append((event, time.monotonic(), facts.get("round", 0)))

    seat = take_seat(swarm_file, identity=name, site_file=site_file)
    ended = take_part(seat, Sums(name, rounds, size), run=swarm_file.parent / name, observer=tell)
    rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"events": events, "digest": ended.digest.hex(), "rss_mb": rss_mb}))


def run_swarm(folder: Path, rounds: int, size: int) -> dict[str, float]:
    """Run three peers to the end and return their figures."""
    from swarmcell.config import swarm_file
    from swarmcell.model.study import Study
    from swarmcell.node import identity

    cards = [identity.create(name).card for name in SITES]
    made = swarm_file.create(swarm_file.SwarmConfig(study=Study(name="bench", modality="rna")), cards)
    path = folder / "swarm.toml"
    path.write_bytes(swarm_file.dump(made))
    began = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.bench_swarm", "--rounds", str(rounds), "--size", str(size), "--peer"]
    peers = [
        subprocess.Popen([*command, f"{path}:{name}"], stdout=subprocess.PIPE, text=True, cwd=ROOT) for name in SITES
    ]
    said = [json.loads(p.communicate(timeout=300)[0]) for p in peers]
    assert len({one["digest"] for one in said}) == 1
    gaps = [gap for one in said for gap in block_gaps(one["events"])]
    first = max(min(at for event, at, _ in one["events"] if event == "training") for one in said) - began
    logged = (folder / f"swarm.{made.digest[:8]}.log").stat().st_size
    return {
        "round_overhead_s": statistics.median(gaps),
        "round_overhead_s_worst": max(gaps),
        "start_to_first_round_s": first,
        "log_bytes_to_update_bytes": logged / (len(SITES) * rounds * size) if size else None,
        "peer_rss_mb": max(one["rss_mb"] for one in said),
    }


def block_gaps(events: list[list[object]]) -> list[float]:
    """Return the seconds from block to block, from block 1 on."""
    at = [float(when) for event, when, number in events if event == "block" and number >= 1]
    return [b - a for a, b in itertools.pairwise(at)]


def wake_ms(folder: Path, repeats: int = 50) -> float:
    """Return the median time from an append's return to the follower's batch, in ms."""
    from swarmcell.engine.embedded import EmbeddedLog

    async def measure() -> list[float]:
        writer, reader = EmbeddedLog(folder / "wake.log"), EmbeddedLog(folder / "wake.log")
        follower = reader.follow(1)
        delays = []
        for i in range(repeats):
            waiting = asyncio.ensure_future(anext(follower))
            await asyncio.sleep(0.01)
            await writer.append([str(i).encode()])
            appended = time.monotonic()
            await waiting
            delays.append(time.monotonic() - appended)
        await follower.aclose()
        await writer.close()
        await reader.close()
        return delays

    return statistics.median(asyncio.run(measure())) * 1000


def once(rounds: int, size: int) -> dict[str, float]:
    """Run one swarm in a folder of its own and return its figures."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CONFIG_HOME"] = f"{folder}/config"
        os.environ["OMP_NUM_THREADS"] = "1"
        return {**run_swarm(Path(folder), rounds, size), "wake_ms": wake_ms(Path(folder))}


def figures(repeats: int) -> Iterator[Figure]:
    """Yield what a swarm adds to training."""
    runs = [once(ROUNDS, SIZE_BYTES) for _ in range(repeats)]

    def of(key: str) -> tuple[float, ...]:
        return tuple(run[key] for run in runs)

    yield Figure("overhead of a round, 1 MB per update", "s", of("round_overhead_s"), GOALS["round_overhead_s_max"])
    yield Figure("the same, the worst round of a run", "s", of("round_overhead_s_worst"))
    started = of("start_to_first_round_s")
    yield Figure("from three peers' start to the first round", "s", started, GOALS["start_to_first_round_s_max"])
    yield Figure("from an append to its reader", "ms", of("wake_ms"), GOALS["wake_ms_max"])
    yield Figure("bytes of the log per byte of updates", "x", of("log_bytes_to_update_bytes"), GOALS["bytes_ratio_max"])
    yield Figure("resident memory of a peer without a study", "MB", of("peer_rss_mb"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--size", type=int, default=SIZE_BYTES, help="bytes of one update")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        path, _, name = options.peer.rpartition(":")
        peer(Path(path), name, options.rounds, options.size, None)
        return
    measured = once(options.rounds, options.size)
    machine = {"machine": platform.platform(), "cpus": os.cpu_count(), "python": platform.python_version()}
    settings = {"peers": len(SITES), "rounds": options.rounds, "update_bytes": options.size, "engine": "embedded"}
    print(json.dumps({**machine, **settings, "figures": measured, "goals": GOALS}, indent=2))


if __name__ == "__main__":
    main()
