# ruff: noqa: PLC0415 (a job imports what it measures, and no more)
"""How long a peer of a long log takes to start: from its snapshot, and from all entries, with every signature checked.

Run: `python -m benchmarks replay`, or `python -m benchmarks.bench_replay [--rounds 10000]` for JSON. The log is made by
simulation with real signatures (`benchmarks/long_log.py`); the ledger is written as a running peer writes it.
"""

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure

REPEATS = 3
ROUNDS = 10_000
BATCH = 512
START_S_MAX = 5.0


def write_ledger(path: Path, rounds: int) -> dict[str, float]:
    """Read a long log into a ledger as a peer does, and return what the first reading took."""
    from benchmarks.long_log import GENESIS, IDENTITIES, long_log
    from swarmcell.node import ledger, memory
    from swarmcell.node.ledger import Cursor, Read
    from swarmcell.swarm.me import Me

    raws = list(long_log(rounds))
    apply_s, snapshot_s, n_snapshots = 0.0, 0.0, 0
    with ledger.opened(path) as book:
        known = memory.recall(book, GENESIS, Me(IDENTITIES["site-b"].key))
        for first in range(0, len(raws), BATCH):
            reads, blocks, own = [], [], []
            began = time.perf_counter()
            for at, raw in enumerate(raws[first : first + BATCH], start=first + 1):
                applied = known.state.apply(at, raw)
                blocks += [memory.kept_block(block) for block in applied.blocks]
                reads.append(Read(at, raw, at))
                if applied.entry.author == known.me.key:
                    own.append((applied.entry.sequence, raw))
                    known.me.remember(applied.entry)
                    known.me.meet(applied.entry)
            apply_s += time.perf_counter() - began
            known.position = at
            known.me.observe(known.state, 0)
            book.store_own(own)
            book.store(reads, Cursor(at, hashlib.sha256(raw).digest()), blocks)
            if known.is_due:
                began = time.perf_counter()
                book.store_snapshot(memory.remembered(known))
                snapshot_s += time.perf_counter() - began
                n_snapshots += 1
        assert known.state.rounds.number == rounds + 1
    return {"entries": len(raws), "apply_s": apply_s, "snapshot_s": snapshot_s / n_snapshots}


def start_s(path: Path, rounds: int) -> float:
    """Return the seconds in which a peer knows from its ledger all that it knew."""
    from benchmarks.long_log import GENESIS, IDENTITIES
    from swarmcell.node import ledger, memory
    from swarmcell.swarm.me import Me

    began = time.perf_counter()
    with ledger.opened(path) as book:
        known = memory.recall(book, GENESIS, Me(IDENTITIES["site-b"].key))
        took = time.perf_counter() - began
    assert known.state.rounds.number == rounds + 1
    return took


def measure(rounds: int, repeats: int) -> dict[str, float | list[float]]:
    """Write a ledger and start from it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        written = write_ledger(path, rounds)
        starts = [start_s(path, rounds) for _ in range(repeats)]
        return {**written, "start_s": starts, "ledger_mb": path.stat().st_size / 1e6}


def figures(repeats: int) -> Iterator[Figure]:
    """Yield what a long log costs at a peer's start."""
    found = measure(ROUNDS, repeats)
    yield Figure(f"start of a peer of {ROUNDS} rounds, from its snapshot", "s", tuple(found["start_s"]), START_S_MAX)
    yield Figure(f"reading all {found['entries']} entries, every signature checked", "s", (found["apply_s"],))
    yield Figure("an entry, signature checked", "us", (1e6 * found["apply_s"] / found["entries"],))
    yield Figure("a snapshot, every 10 blocks", "s", (found["snapshot_s"],))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    options = parser.parse_args()
    print(json.dumps({"rounds": options.rounds, **measure(options.rounds, options.repeats)}, indent=2))


if __name__ == "__main__":
    main()
