# ruff: noqa: D102, PLC0415 (a job imports what it measures, and no more)
"""What a swarm costs beyond local training: three peers in processes of their own, over either engine.

Run: `python -m benchmarks swarm`, or `python -m benchmarks.bench_swarm [--engine nats] [--rounds 20] [--size 1000000]`
for JSON.
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

from benchmarks import log_servers
from benchmarks.figures import Figure
from benchmarks.peak import peak_mb

REPEATS = 3
ROOT = Path(__file__).parents[1]
ROUNDS, SIZE_BYTES, TINY_BYTES = 20, 1_000_000, 40_000  # a tiny MLP: 10,000 parameters
SITES = ("site-a", "site-b", "site-c")
GOALS = {"round_overhead_s_max": 0.2, "wake_ms_max": 50, "start_to_first_round_s_max": 4, "bytes_ratio_max": 1.1}


class Sums:
    """Sums of int32 arrays; `contribute` returns a fixed array at once."""

    def __init__(self, name: str, rounds: int, size: int, sleep_s: float = 0.0) -> None:
        import numpy as np

        self.rounds, self.sleep_s = rounds, sleep_s
        self.said = np.random.default_rng(sum(name.encode())).integers(-1000, 1000, size // 4, dtype="<i4")

    def start(self):
        return bytes(8) + bytes(self.said.nbytes)

    def contribute(self, state, stop):
        from swarmcell.node.task import Contribution

        if self.sleep_s and stop.wait(self.sleep_s):
            return None
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


def peer(swarm_file: Path, name: str, rounds: int, size: int, sleep_s: float) -> None:
    """Take part, and write when each thing happened (monotonic seconds, the same clock for all processes)."""
    from swarmcell.workflows.join import take_part, take_seat

    home = swarm_file.parent / name
    home.mkdir(exist_ok=True)
    with (home / "events.jsonl").open("a") as book:

        def tell(event, facts):
            told = {"event": event, "at": time.monotonic(), "round": facts.get("round", 0)}
            told |= {key: facts[key] for key in ("height", "included") if key in facts}
            book.write(json.dumps(told) + "\n")
            book.flush()

        seat = take_seat(swarm_file, identity=name, site_file=swarm_file.with_name(f"{name}.site.toml"))
        task = Sums(name, rounds, size, sleep_s)
        ended = take_part(seat, task, run=home, observer=tell)
        book.write(json.dumps({"event": "ended", "digest": ended.digest.hex(), "rss_mb": peak_mb()}) + "\n")


class Swarm:
    """Three founded peers in a folder, over one engine; a context manager that ends all it started."""

    def __init__(self, folder: Path, engine: str, *, patience_s: float = 60.0) -> None:
        from swarmcell.config import swarm_file
        from swarmcell.model.study import Study
        from swarmcell.node import identity

        os.environ["XDG_CONFIG_HOME"] = f"{folder}/config"
        os.environ["OMP_NUM_THREADS"] = "1"
        cards = [identity.create(name).card for name in SITES]
        rules = swarm_file.SwarmRules(patience_s=patience_s)
        self.made = swarm_file.create(
            swarm_file.SwarmConfig(study=Study(name="bench", modality="rna"), swarm=rules), cards
        )
        self.folder, self.path = folder, folder / "swarm.toml"
        self.path.write_bytes(swarm_file.dump(self.made))
        self.servers = log_servers.Servers(folder / "servers", self.path, SITES) if engine == "nats" else None
        part = self.servers.site_engine if self.servers else f'[engine]\npath = "{folder / "swarm.log"}"\n'
        for name in SITES:
            (folder / f"{name}.site.toml").write_text(f'name = "{name}"\n{part}')
        self.peers: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Swarm":
        if self.servers:
            self.servers.start()
            self.wait_for_replicas()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.peers.values():
            process.kill()
            process.wait()
        if self.servers:
            self.servers.stop()

    def start(self, *names: str, rounds: int, size: int, sleep_s: float = 0.0) -> None:
        numbers = ["--rounds", str(rounds), "--size", str(size), "--sleep", str(sleep_s)]
        command = [sys.executable, "-m", "benchmarks.bench_swarm", *numbers, "--peer"]
        for name in names or SITES:
            self.peers[name] = subprocess.Popen([*command, f"{self.path}:{name}"], cwd=ROOT)

    def events(self, name: str) -> list[dict]:
        path = self.folder / name / "events.jsonl"
        return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.is_file() else []

    def health(self):
        """Return what the engine says of itself."""
        from swarmcell.workflows.swarm.view import open_swarm_log

        async def ask():
            _, log = open_swarm_log(self.path, site_file=self.path.with_name("site-a.site.toml"), identity="site-a")
            try:
                return await log.health()
            finally:
                await log.close()

        return asyncio.run(ask())

    def wait_for_replicas(self) -> str:
        """Wait until all replicas are in step; return who leads them."""
        from swarmcell.errors import EngineError

        for _ in range(300):
            try:
                if "3 of 3 replicas" in (about := self.health().about):
                    return about.split("led by ")[1].split(",")[0]
            except EngineError:
                pass
            time.sleep(0.1)
        raise TimeoutError


def run_swarm(folder: Path, rounds: int, size: int, engine: str) -> dict[str, float]:
    """Run three peers to the end and return their figures."""
    with Swarm(folder, engine) as swarm:
        began = time.monotonic()
        swarm.start(rounds=rounds, size=size)
        for process in swarm.peers.values():
            assert process.wait(timeout=300) == 0
        said = [swarm.events(name) for name in SITES]
        assert len({events[-1]["digest"] for events in said}) == 1
        gaps = [gap for events in said for gap in block_gaps(events)]
        first = max(min(e["at"] for e in events if e["event"] == "training") for events in said) - began
        logged = swarm.health().size_bytes
        return {
            "round_overhead_s": statistics.median(gaps),
            "round_overhead_s_worst": max(gaps),
            "start_to_first_round_s": first,
            "log_bytes_to_update_bytes": logged / (len(SITES) * rounds * size) if size else None,
            "peer_rss_mb": max(events[-1]["rss_mb"] for events in said),
        }


def block_gaps(events: list[dict]) -> list[float]:
    """Return the seconds from block to block, from block 1 on."""
    at = [event["at"] for event in events if event["event"] == "block" and event["round"] >= 1]
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


def once(rounds: int, size: int, engine: str) -> dict[str, float]:
    """Run one swarm in a folder of its own and return its figures."""
    with tempfile.TemporaryDirectory() as folder:
        return run_swarm(Path(folder), rounds, size, engine)


def waking() -> float:
    with tempfile.TemporaryDirectory() as folder:
        return wake_ms(Path(folder))


def figures(repeats: int) -> Iterator[Figure]:
    """Yield what a swarm adds to training, over each engine, in turn."""
    engines = ["embedded"] if log_servers.missing() else ["embedded", "nats"]
    cases = [(engine, size) for engine in engines for size in (TINY_BYTES, SIZE_BYTES)]
    runs = {case: [] for case in cases}
    for _ in range(repeats):
        for engine, size in cases:
            runs[engine, size].append(once(ROUNDS, size, engine))
    for engine, size in cases:
        where = f"{engine}, {size / 1e6:g} MB per update"

        def of(key: str, case=(engine, size)) -> tuple[float, ...]:
            return tuple(run[key] for run in runs[case])

        yield Figure(f"{where}: overhead of a round", "s", of("round_overhead_s"), GOALS["round_overhead_s_max"])
        yield Figure(f"{where}: the same, the worst round of a run", "s", of("round_overhead_s_worst"))
        started = of("start_to_first_round_s")
        yield Figure(f"{where}: from the start to the first round", "s", started, GOALS["start_to_first_round_s_max"])
        bound = GOALS["bytes_ratio_max"] if size == SIZE_BYTES else None
        yield Figure(f"{where}: bytes of the log per byte of updates", "x", of("log_bytes_to_update_bytes"), bound)
    waits = tuple(waking() for _ in range(repeats))
    yield Figure("embedded: from an append to its reader", "ms", waits, GOALS["wake_ms_max"])
    memory = tuple(run["peer_rss_mb"] for case in cases for run in runs[case])
    yield Figure("resident memory of a peer without a study", "MB", memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["embedded", "nats"], default="embedded")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--size", type=int, default=SIZE_BYTES, help="bytes of one update")
    parser.add_argument("--sleep", type=float, default=0.0, help="seconds that a training takes")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        path, _, name = options.peer.rpartition(":")
        peer(Path(path), name, options.rounds, options.size, options.sleep)
        return
    measured = once(options.rounds, options.size, options.engine)
    machine = {"machine": platform.platform(), "cpus": os.cpu_count(), "python": platform.python_version()}
    settings = {"peers": len(SITES), "rounds": options.rounds, "update_bytes": options.size, "engine": options.engine}
    print(json.dumps({**machine, **settings, "figures": measured, "goals": GOALS}, indent=2))


if __name__ == "__main__":
    main()
