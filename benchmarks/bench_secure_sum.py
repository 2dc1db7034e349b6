"""What secrecy costs: sums of ten sites with updates of 1 MB, plain, in secret, and in secret with three drop-outs."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.figures import Figure
from swarmcell.model.contribution import Contribution, Kind, MergeOutcome, Slot, screen, stamp
from swarmcell.model.encoding import Named, encode
from swarmcell.model.state import MergedState, from_bytes, to_bytes
from swarmcell.privacy import secure_state
from swarmcell.privacy.secure_sum import SecureSum

REPEATS = 5
N_SITES, N_WORDS = 10, 2**17  # 1 MB of int64
SLOTS = {"x": Slot(bits=64, shape=(N_WORDS,), last=1 << 50)}


class Adding:
    """A study that adds what sites have."""

    def __init__(self, site: int) -> None:
        self._mine = np.random.default_rng(site).integers(0, 1 << 40, N_WORDS)

    def start(self) -> bytes:
        """Return the state before round 1."""
        return to_bytes(MergedState(rules="adding", stage="features"))

    def contribute(self, state: bytes, stop: threading.Event) -> Contribution:
        """Return what this site has."""
        assert not stop.is_set()
        parameters = encode(Named(stamp(from_bytes(state), weight=1), {"x": self._mine}))
        return Contribution(kind="statistics", parameters=parameters, n_cells=1000, n_donors=10)

    def merge(self, state: bytes, contributions: Sequence[Contribution]) -> MergeOutcome:
        """Add what the sites have."""
        now = from_bytes(state)
        updates, left_out = screen(now, SLOTS, contributions)
        total = np.sum([update.arrays["x"] for update in updates], axis=0)
        return MergeOutcome(state=to_bytes(replace(now, round=now.round + 1, arrays={"x": total})), left_out=left_out)

    def describe(self, state: bytes) -> dict[str, str | int]:
        """Say what the state is."""
        return {"stage": from_bytes(state).stage}

    def slots(self, state: bytes) -> dict[str, Slot]:
        """Return what a site has in form."""
        return SLOTS if state else {}

    def envelope(self, state: bytes, *, weight: int) -> tuple[Kind, dict[str, Any]]:
        """Return what a sum of all sites is called."""
        return "statistics", stamp(from_bytes(state), weight=weight)

    def failed(self, state: bytes, text: str) -> bytes:
        """Return the state of a study that cannot go on."""
        return to_bytes(replace(from_bytes(state), failure=text))


@dataclass(frozen=True)
class Cost:
    """Of one sum: processor time and bytes of one peer, and the rounds of the log that it took."""

    cpu_s: float
    size_bytes: float
    rounds: int


def summed(sites: Sequence[Adding | SecureSum], state: bytes, up: Sequence[range]) -> tuple[bytes, Cost]:
    """Take one round of the log per element of `up`; return the state and what it cost one peer."""
    contributing_s = merging_s = 0.0
    size = 0
    for present in up:
        began_s = time.process_time()
        said = [replace(sites[i].contribute(state, threading.Event()), author=f"{i:02d}") for i in present]
        contributing_s += time.process_time() - began_s
        size += sum(len(one.parameters) for one in said)
        began_s = time.process_time()
        state = sites[0].merge(state, said).state
        merging_s += time.process_time() - began_s
    return state, Cost(contributing_s / N_SITES + merging_s, size / N_SITES, len(up))


def one_run() -> tuple[Cost, Cost, Cost, bool]:
    """Return the cost of a plain sum, of a secret one, of one with three drop-outs, and whether that one was right."""
    studies = [Adding(i) for i in range(N_SITES)]
    _, plain = summed(studies, studies[0].start(), [range(N_SITES)])
    secret = [
        SecureSum(study, n_cells=1000, n_donors=10, me=f"{i:02d}", secret=bytes([i]) * 32, f=0)
        for i, study in enumerate(studies)
    ]
    everybody, seven = range(N_SITES), range(7)
    state, _ = summed(secret, studies[0].start(), [everybody] * 4)  # keys, shares, and the first sum
    state, steady = summed(secret, state, [everybody] * 2)
    state, dropped = summed(secret, state, [seven] * 2)
    found = from_bytes(secure_state.from_bytes(state).inner)
    return (
        plain,
        steady,
        dropped,
        bool(np.array_equal(found.arrays["x"], np.sum([s._mine for s in studies[:7]], axis=0))),
    )


def figures(repeats: int) -> Iterator[Figure]:
    """Yield what a sum costs one peer beyond a plain one."""
    runs = [one_run() for _ in range(repeats)]
    assert all(right for *_, right in runs), "a sum with drop-outs is wrong"
    yield Figure("a plain sum: processor time", "s", tuple(plain.cpu_s for plain, *_ in runs))
    beyond = tuple(steady.cpu_s - plain.cpu_s for plain, steady, *_ in runs)
    yield Figure("a secret sum: processor time beyond it", "s", beyond, 1.0)
    bytes_x = tuple(steady.size_bytes / plain.size_bytes for plain, steady, *_ in runs)
    yield Figure("a secret sum: bytes beside the plain one", "x", bytes_x, 2.0)
    dropping = tuple(dropped.cpu_s - plain.cpu_s for plain, _, dropped, _ in runs)
    yield Figure("with 3 of 10 dropping out: processor time beyond it", "s", dropping, 1.0)
    yield Figure("with 3 of 10 dropping out: rounds of the log", "", tuple(float(d.rounds) for *_, d, _ in runs), 2.0)
