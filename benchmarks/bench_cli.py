"""How long the command line takes to say what it can do: nothing heavy is imported before a command runs."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure

REPEATS = 10
GOALS_S_MAX = {("--help",): 0.3, ("--version",): 0.3, ("train", "--help"): None}


def seconds(command: tuple[str, ...]) -> float:
    """Return the wall time of one run of the installed command."""
    began_s = time.perf_counter()
    subprocess.run([str(Path(sys.executable).with_name("swarmcell")), *command], check=True, capture_output=True)
    return time.perf_counter() - began_s


def figures(repeats: int) -> Iterator[Figure]:
    """Yield the wall time of each command; the first run of each warms the disk and is left out."""
    for command, goal in GOALS_S_MAX.items():
        seconds(command)
        taken = tuple(seconds(command) for _ in range(repeats))
        yield Figure(f"`swarmcell {' '.join(command)}`", "s", taken, goal)
