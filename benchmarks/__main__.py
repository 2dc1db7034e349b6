"""Every benchmark, one after the other: `make bench`, or `python -m benchmarks [--repeats 5] [cli demo fcs swarm]`.

Prints Markdown: the machine, then a table per `bench_*.py` as soon as it is measured. Nothing here is a test, and
nothing is timed in the tests: a busy machine is no fault of the code. Ends with 1 if a goal is missed.
"""

import argparse
import importlib
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.figures import Figure, table
from benchmarks.kept import FOLDER

HERE = Path(__file__).parent
NAMES = tuple(sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py")))
PACKAGES = ("numpy", "torch", "anndata", "scanpy")


def machine() -> str:
    """Return what the figures were measured on, in one line."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{models[0] if models else platform.machine()}, {cores} cores, {memory_gib:.0f} GiB of memory, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {packages}."
    )


def measure(name: str, repeats: int | None) -> list[Figure]:
    """Run one benchmark and print its table."""
    module = importlib.import_module(f"benchmarks.bench_{name}")
    print(f"\n## {name}\n\n{module.__doc__.splitlines()[0]}\n", flush=True)
    began_s, load = time.monotonic(), os.getloadavg()[0]
    figures = list(module.figures(repeats or module.REPEATS))
    print(table(figures))
    print(f"\nTook {time.monotonic() - began_s:.0f} s; {load:.1f} processes were running before it.", flush=True)
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; default: all")
    parser.add_argument("--repeats", type=int, help="runs of each; default: the benchmark's own number")
    parser.add_argument("--cache", type=Path, help="keep results here, so that a run cut off goes on (merges, unknown)")
    options = parser.parse_args(arguments)
    if options.cache:
        os.environ[FOLDER] = str(options.cache)
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no benchmark of the name {', '.join(sorted(unknown))}; there are: {', '.join(NAMES)}")
    print(machine())
    missed = [f for name in options.names or NAMES for f in measure(name, options.repeats) if f.missed]
    for figure in missed:
        print(f"missed: {figure.what}: {figure.median:.3g} {figure.unit}, goal {figure.goal}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
