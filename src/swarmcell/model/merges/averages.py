"""Merges that average what sites fitted by themselves, weighted by their training examples.

Rules: parameters are int32 in fixed point 2**-22; a merge reads the parameters that the round started from, what it
remembers (`memory`, part of the merged state and its digest) and sums over sites, and returns both anew. Each site's
part of a sum is what it trained times its weight, an exact integer: plain, every peer multiplies and adds; under
secure aggregation a site multiplies and the masked sum is added, to the same bits. Where nobody trained, nothing
changes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from swarmcell.model.contribution import Update
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import EXACT_BITS, PARAMETER_BITS, divide, to_float
from swarmcell.model.study import FitRule

Named = Mapping[str, Array]

CONTROL = "control."  # SCAFFOLD: prefix of a site's gradient at the parameters that the round started from
STEPS = "steps"  # FedNova: how often a site's gradients count in its change, in sixteenths
SIXTEENTHS, STEPS_LAST = 16, 1 << 32
_INT32_LAST = (1 << 31) - 1
_SQUARE_BITS = 50
_NOVA_BITS = 24  # more than 2**-22, of a sixteenth of a site's mean step
FIRST, SECOND, FLOOR = 0.9, 0.99, 1e-3  # of FedAdam: decay of both moments, and adaptivity; Reddi et al., section 5


@dataclass(frozen=True)
class Merged:
    """What a merge returns: the next round's parameters, and what the rule remembers."""

    now: Named
    memory: Named = field(default_factory=dict)


@dataclass(frozen=True)
class Sums:
    """Sums over sites of what they trained times their weights (`terms`), and of the weights."""

    weight: int
    totals: Named

    def mean(self, name: str) -> npt.NDArray[np.int64]:
        """Return the exact weighted mean of the sites' arrays `name`, rounded half to even."""
        return np.asarray(divide(self.totals[name], self.weight)).astype(np.int64)


Merge = Callable[[FitRule, Merged, Sums], Merged]


def terms(rule: FitRule, start: Named, arrays: Named, weight: int) -> dict[str, Array]:
    """Return a site's part of the sums: its arrays times its weight; for `fednova` its mean step, in 2**-46.

    Parameters
    ----------
    start
        The parameters that the round started from.
    arrays
        What the site trained (`model.local_rounds`).
    weight
        Its training examples.
    """
    parts = dict(arrays)
    if rule.merge == "fednova":
        count = max(1, int(arrays[STEPS][0]))
        parts = {n: divide((arrays[n].astype(np.int64) - start[n]) << _NOVA_BITS, count) for n in start}
        parts[STEPS] = np.array([count], np.int64)
    return {name: _times(part, weight) for name, part in parts.items()}


def sums(rule: FitRule, start: Named, updates: Sequence[Update], *, weighted: bool) -> Sums:
    """Return the sums of the sites' parts; `weighted` says that sites multiplied by their weights themselves."""
    parts = [dict(u.arrays) if weighted else terms(rule, start, u.arrays, u.weight) for u in updates]
    totals = {name: _added([part[name] for part in parts]) for name in parts[0]}
    return Sums(sum(update.weight for update in updates), totals)


def _times(part: Array, weight: int) -> Array:
    fits = (int(np.abs(part.astype(np.int64)).max(initial=0)) + 1) * max(weight, 1) < 1 << 55
    return np.asarray(part.astype(np.int64 if fits else object) * weight)


def _added(parts: Sequence[Array]) -> Array:
    fits = len(parts) < 1 << 6 and all(part.dtype != object for part in parts)
    return np.asarray(sum((part.astype(np.int64 if fits else object) for part in parts[1:]), start=parts[0]))


def fedavg(_: FitRule, before: Merged, found: Sums) -> Merged:
    """Return the sites' weighted mean. `fedprox` differs only in what a site minimises.

    References
    ----------
    McMahan et al. 2017, arXiv:1602.05629, Algorithm 1. Li et al. 2020, arXiv:1812.06127.
    """
    return Merged({name: clipped(found.mean(name)) for name in before.now})


def scaffold(_: FitRule, before: Merged, found: Sums) -> Merged:
    """Return the sites' weighted mean, and remember the mean of their gradients with where these were taken.

    A site's control variate is its gradient at those parameters (option I), which it computes again in the next round:
    nothing is lost by a restart.

    References
    ----------
    Karimireddy et al. 2020, arXiv:1910.06378, Algorithm 1.
    """
    controls = {CONTROL + name: clipped(found.mean(CONTROL + name)) for name in before.now}
    return Merged(fedavg(_, before, found).now, controls | {f"at.{name}": a for name, a in before.now.items()})


def fednova(_: FitRule, before: Merged, found: Sums) -> Merged:
    """Return the parameters moved by the sites' mean step, times the weighted mean of their numbers of steps.

    References
    ----------
    Wang et al. 2020, arXiv:2007.07481, equation 9.
    """
    effective, n = int(found.totals[STEPS][0]), found.weight
    moved: dict[str, Array] = {}
    for name, start in before.now.items():
        change = divide(found.totals[name].astype(object) * effective, n * n << _NOVA_BITS)
        moved[name] = clipped(np.clip(start + change, -_INT32_LAST, _INT32_LAST).astype(np.int64))
    return Merged(moved)


def fedadam(rule: FitRule, before: Merged, found: Sums) -> Merged:
    """Return the parameters moved by Adam, which takes the sites' mean change for the gradient.

    References
    ----------
    Reddi et al. 2021, arXiv:2003.00295, Algorithm 2.
    """
    now: dict[str, Array] = {}
    memory: dict[str, Array] = {}
    for name, start in before.now.items():
        change = to_float(found.mean(name) - start, PARAMETER_BITS)
        none = np.zeros(start.shape, np.int64)
        first = FIRST * to_float(before.memory.get(f"first.{name}", none), EXACT_BITS) + (1 - FIRST) * change
        second = SECOND * to_float(before.memory.get(f"second.{name}", none), _SQUARE_BITS)
        second = second + (1 - SECOND) * (change * change)
        memory[f"first.{name}"] = rounded(first, EXACT_BITS)
        memory[f"second.{name}"] = rounded(np.minimum(second, 4096.0), _SQUARE_BITS)
        now[name] = clipped(start + rounded(rule.server_rate * (first / (np.sqrt(second) + FLOOR)), PARAMETER_BITS))
    return Merged(now, memory)


def rounded(values: npt.NDArray[np.float64], bits: int) -> npt.NDArray[np.int64]:
    """Return finite values in fixed point."""
    return np.rint(values * float(1 << bits)).astype(np.int64)


def clipped(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Return parameters that fit int32: hostile sums end at the bound instead of wrapping round."""
    return np.clip(values, -_INT32_LAST, _INT32_LAST).astype(np.int32)
