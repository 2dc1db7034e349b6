"""A study that only adds, and sites that add in secret: who is up in each phase is the test's choice."""

import threading
from dataclasses import dataclass, field, replace

import numpy as np

from swarmcell.model.contribution import Contribution, MergeOutcome, Slot, kind_of, screen, stamp
from swarmcell.model.encoding import Named, encode
from swarmcell.model.stages import fail
from swarmcell.model.state import DONE, MergedState, from_bytes, to_bytes
from swarmcell.privacy import secure_state
from swarmcell.privacy.secure_sum import SecureSum

SLOTS = {"big": Slot(bits=64, shape=(3, 5), last=1 << 50), "few": Slot(bits=64, shape=(2,), last=1 << 40)}


class Adding:
    """Adds what each site has, `rounds` times; implements `privacy.secure_sum.Summing`."""

    def __init__(self, seed=0, rounds=2, slots=SLOTS):
        self.seed, self.rounds, self._slots = seed, rounds, slots

    def start(self):
        return to_bytes(MergedState(rules="adding", stage="features"))

    def mine(self, number):
        rng = np.random.default_rng([self.seed, number])
        return {name: rng.integers(-(1 << 30), 1 << 30, slot.shape) for name, slot in self._slots.items()}

    def contribute(self, state, stop):
        now = from_bytes(state)
        parameters = encode(Named(stamp(now, weight=7), self.mine(now.round)))
        return Contribution(kind="statistics", parameters=parameters, n_cells=10, n_donors=2)

    def merge(self, state, contributions):
        now = from_bytes(state)
        updates, left_out = screen(now, self._slots, contributions)
        if not updates:
            return MergeOutcome(state=to_bytes(replace(now, round=now.round + 1)), left_out=left_out)
        arrays = {**now.arrays, **{f"{name}.{now.round}": array for name, array in updates[0].arrays.items()}}
        ended = {"stage": DONE, "phase": DONE} if now.round + 1 == self.rounds else {}
        after = replace(now, round=now.round + 1, arrays=arrays, failure="", **ended)
        return MergeOutcome(state=to_bytes(after), left_out=left_out, finished=after.finished)

    def describe(self, state):
        return {"stage": from_bytes(state).stage, "round": from_bytes(state).round}

    def slots(self, state):
        return self._slots

    def envelope(self, state, *, weight):
        return kind_of(from_bytes(state)), stamp(from_bytes(state), weight=weight)

    def failed(self, state, text):
        return to_bytes(fail(from_bytes(state), text))


@dataclass
class Swarm:
    """Sites with one log: `turn` is a round to which those who are up contribute."""

    n: int
    f: int = 0
    rounds: int = 2
    slots: dict = field(default_factory=lambda: SLOTS)

    def __post_init__(self):
        self.studies = [Adding(seed=i, rounds=self.rounds, slots=self.slots) for i in range(self.n)]
        self.sites = [
            SecureSum(study, n_cells=10, n_donors=2, me=f"{i:02d}", secret=bytes([i]) * 32, f=self.f)
            for i, study in enumerate(self.studies)
        ]
        self.state = self.sites[0].start()
        self.log = []

    @property
    def now(self):
        return secure_state.from_bytes(self.state)

    def says(self, i):
        return replace(self.sites[i].contribute(self.state, threading.Event()), author=f"{i:02d}")

    def turn(self, up=None, *, instead=None):
        """Let the sites in `up` contribute (`instead`: by site, what it says for itself); return the outcome."""
        said = [(instead or {}).get(i) or self.says(i) for i in (range(self.n) if up is None else up)]
        outcome = self.sites[0].merge(self.state, said)
        backwards = SecureSum(Adding(rounds=self.rounds, slots=self.slots), f=self.f).merge(self.state, said[::-1])
        assert backwards.state == outcome.state, "whoever merges, in whatever order, gets the same bytes"
        self.log.append((self.state, said))
        self.state = outcome.state
        return outcome

    def true_sum(self, number, staying):
        parts = [self.studies[i].mine(number) for i in staying]
        return {name: sum(part[name] for part in parts) for name in self.slots}

    def summed(self, number):
        arrays = from_bytes(self.now.inner).arrays
        return {name: arrays[f"{name}.{number}"] for name in self.slots}
