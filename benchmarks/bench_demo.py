"""The demo from the files to the report: three hospitals on this machine, as `make demo` runs them."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from swarmcell.workflows.demo import Demonstration, demonstrate

REPEATS = 3
ROOT = Path(__file__).parents[1]
GOALS = {"seconds_max": 180, "peer_memory_mb_max": 600, "first_block_s_max": 5}


@dataclass
class Clock:
    """Notes when the last peer was started and when the first block of the swarm was seen (looked for every 0.2 s)."""

    last_start_s: float = 0.0
    blocks_s: list[float] = field(default_factory=list)

    def __call__(self, event: str, about: dict[str, Any]) -> None:
        """Observe the demo."""
        if event == "command" and "--join" in about["text"]:
            self.last_start_s = time.monotonic()
        elif event == "round" and about["model"] == "merged":
            self.blocks_s.append(time.monotonic())

    @property
    def first_block_s(self) -> float:
        """Seconds from the last peer's start to the first merged block, this round's training included."""
        return self.blocks_s[0] - self.last_start_s


def once() -> tuple[Demonstration, Clock]:
    """Run the demo in a folder of its own."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "demo"
        return demonstrate(ROOT / "sample_data", ROOT / "configs", out, modality="rna", observer=clock), clock


def figures(repeats: int) -> Iterator[Figure]:
    """Yield the demo's time, its peers' memory, and how soon the swarm begins."""
    runs = [once() for _ in range(repeats)]
    wall = tuple(done.seconds for done, _ in runs)
    memory = tuple(done.peer_memory_mb_max for done, _ in runs)
    first = tuple(clock.first_block_s for _, clock in runs)
    yield Figure("`swarmcell demo`, in all", "s", wall, GOALS["seconds_max"])
    yield Figure("from the last peer's start to the first merged block", "s", first, GOALS["first_block_s_max"])
    yield Figure("resident memory of a peer, the largest of three", "MB", memory, GOALS["peer_memory_mb_max"])
