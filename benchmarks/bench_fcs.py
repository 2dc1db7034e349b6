# ruff: noqa: PLC0415 (a job imports what it measures, and no more)
"""Reading FCS files beside FlowIO, and preprocessing a large cohort: time and peak memory, each in its own process.

Run: `python -m benchmarks fcs`, or `python -m benchmarks.bench_fcs [--files 100] [--repeats 5]` for JSON. Files are
made by a seed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.peak import peak_mb

REPEATS = 5
ROOT = Path(__file__).parents[1]
ORDERS = {"little-endian": "1,2,3,4", "big-endian": "4,3,2,1"}
N_FILES = 100

N_EVENTS, N_CHANNELS = 1_000_000, 40
COHORT_EVENTS = 300_000
GOALS = {"time_to_flowio_max": 0.5, "memory_to_flowio_max": 0.6, "preprocess_memory_gb_max": 1.5}


def ours(path: str) -> None:
    from swarmcell.cells.fcs import only_data_set, read_events

    assert read_events(only_data_set(Path(path))).shape[1] == N_CHANNELS


def flowio_array(path: str) -> None:
    import flowio

    assert flowio.FlowData(path).as_array(preprocess=False).shape[1] == N_CHANNELS


def flowio_buffer(path: str) -> None:
    import flowio

    assert len(flowio.FlowData(path).events) % N_CHANNELS == 0


def imports_only(path: str) -> None:
    import flowio  # noqa: F401

    import swarmcell.cells.fcs  # noqa: F401

    assert path


def preprocess(folder: str) -> None:
    """Prepare a folder whole, as the command does: the file is written too."""
    from swarmcell.config.preprocess import load
    from swarmcell.workflows.preprocess import preprocess as run

    out = Path(folder).with_suffix(".h5ad")
    made = run(Path(folder), load(None, {"modality": "cytometry"}), out, observer=lambda _kind, _shown: None)
    print(json.dumps({key: made.summary["qc"][key] for key in ("cells_in", "cells_out")}), file=sys.stderr)


JOBS: dict[str, Callable[[str], None]] = {
    job.__name__: job for job in (ours, flowio_array, flowio_buffer, imports_only, preprocess)
}


def write(path: Path, *, n_events: int, seed: int, byte_order: str = "1,2,3,4") -> None:
    """Write a flow file of scatter and stains, float32."""
    import numpy as np

    rng = np.random.default_rng(seed)
    values = rng.exponential(900, (n_events, N_CHANNELS)).astype(np.float32)
    values[:, 1] = rng.uniform(50_000, 100_000, n_events)
    values[:, 0] = values[:, 1] * rng.normal(1, 0.02, n_events)
    stored = values if byte_order[0] == "1" else values.byteswap()
    names = ["FSC-A", "FSC-H", *(f"D{n}-A" for n in range(3, N_CHANNELS + 1))]
    stains = ["", "", *(f"CD{n}" for n in range(3, N_CHANNELS + 1))]
    words = {
        "$BYTEORD": byte_order,
        "$DATATYPE": "F",
        "$MODE": "L",
        "$NEXTDATA": "0",
        "$PAR": str(N_CHANNELS),
        "$TOT": str(n_events),
        "$BEGINDATA": "8192",
        "$ENDDATA": str(8192 + stored.nbytes - 1),
        "$BEGINSTEXT": "0",
        "$ENDSTEXT": "0",
        "$BEGINANALYSIS": "0",
        "$ENDANALYSIS": "0",
    }
    for n, (name, stain) in enumerate(zip(names, stains, strict=True), 1):
        words |= {f"$P{n}N": name, f"$P{n}S": stain or " ", f"$P{n}B": "32", f"$P{n}R": "262144", f"$P{n}E": "0,0"}
    text = "/" + "".join(f"{word}/{value}/" for word, value in words.items())
    last = 8192 + stored.nbytes - 1
    data = (8192, last) if last <= 99_999_999 else (0, 0)
    offsets = (58, 58 + len(text) - 1, *data, 0, 0)
    header = "FCS3.1    " + "".join(str(offset).rjust(8) for offset in offsets)
    with path.open("wb") as file:
        file.write((header + text).encode().ljust(8192))
        stored.tofile(file)


def cohort(folder: Path, n_files: int) -> None:
    """Make a folder of `n_files` donors; four files, linked under many names, so that the disk holds them."""
    rows = ["file,donor,condition"]
    for n in range(n_files):
        path = folder / f"d{n:03d}.fcs"
        if n < 4:
            write(path, n_events=COHORT_EVENTS, seed=n)
        else:
            path.hardlink_to(folder / f"d{n % 4:03d}.fcs")
        rows.append(f"{path.name},d{n:03d},{'sick' if n % 2 else 'well'}")
    (folder / "samples.csv").write_text("\n".join(rows))


def measured(job: str, path: Path) -> dict[str, float]:
    """Run one job in a process of its own: seconds within it (imports left out), and its peak memory."""
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.bench_fcs", "--job", job, str(path)],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    return json.loads(result.stdout)


def run_job(job: str, path: str) -> None:
    imports_only(path)
    began = time.perf_counter()
    JOBS[job](path)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb()}))


Runs = dict[str, list[dict[str, float]]]


def reading(folder: Path, repeats: int, byte_order: str) -> Runs:
    path = folder / "large.fcs"
    write(path, n_events=N_EVENTS, seed=0, byte_order=byte_order)
    jobs = ("ours", "flowio_array", "flowio_buffer", "imports_only")
    runs: Runs = {job: [] for job in jobs}
    for _ in range(repeats):  # in turn, so that a busy machine hurts all alike
        for job in jobs:
            runs[job].append(measured(job, path))
    path.unlink()
    return runs


def _least(done: list[dict[str, float]]) -> dict[str, float]:
    """Least and median time: on a shared machine the least is what the code takes, the rest is its neighbours."""
    seconds = [run["seconds"] for run in done]
    return {
        "seconds": round(min(seconds), 3),
        "seconds_median": round(statistics.median(seconds), 3),
        "peak_mb": round(max(run["peak_mb"] for run in done), 1),
    }


def figures(repeats: int) -> Iterator[Figure]:
    """Yield our reader's time and memory as shares of FlowIO's, run by run, and what a large cohort takes."""
    with tempfile.TemporaryDirectory() as scratch:
        for name, byte_order in ORDERS.items():
            yield from beside_flowio(name, reading(Path(scratch), repeats, byte_order))
        (Path(scratch) / "cohort").mkdir()
        cohort(Path(scratch) / "cohort", N_FILES)
        done = measured("preprocess", Path(scratch) / "cohort")
    what = f"preprocess {N_FILES} files x {COHORT_EVENTS:,} events"
    yield Figure(what, "s", (done["seconds"],))
    yield Figure(f"{what}, peak memory", "MB", (done["peak_mb"],), GOALS["preprocess_memory_gb_max"] * 1000)


def beside_flowio(name: str, runs: Runs) -> Iterator[Figure]:
    what = f"1M events x {N_CHANNELS}, {name}"
    for job, who in (("ours", "swarmcell"), ("flowio_buffer", "FlowIO's buffer"), ("flowio_array", "FlowIO's array")):
        yield Figure(f"{what}: {who}", "s", tuple(run["seconds"] for run in runs[job]))
    pairs = list(zip(runs["ours"], runs["flowio_array"], runs["flowio_buffer"], strict=True))
    for n, who in ((1, "array"), (2, "buffer")):
        seconds = tuple(pair[0]["seconds"] / pair[n]["seconds"] for pair in pairs)
        peak = tuple(pair[0]["peak_mb"] / pair[n]["peak_mb"] for pair in pairs)
        yield Figure(f"{what}: time beside FlowIO's {who}", "x", seconds, GOALS["time_to_flowio_max"])
        yield Figure(f"{what}: peak memory beside FlowIO's {who}", "x", peak, GOALS["memory_to_flowio_max"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", nargs=2)
    parser.add_argument("--files", type=int, default=N_FILES)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    options = parser.parse_args()
    if options.job:
        run_job(*options.job)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shown: dict[str, object] = {"goals": GOALS}
        for name, byte_order in ORDERS.items():
            runs = reading(folder, options.repeats, byte_order)
            least = {job: _least(done) for job, done in runs.items()}
            shown[f"read {N_EVENTS} x {N_CHANNELS} float32, {name}"] = least
        (folder / "cohort").mkdir()
        cohort(folder / "cohort", options.files)
        shown[f"preprocess {options.files} files x {COHORT_EVENTS} events"] = measured("preprocess", folder / "cohort")
    print(json.dumps(shown, indent=2))


if __name__ == "__main__":
    main()
