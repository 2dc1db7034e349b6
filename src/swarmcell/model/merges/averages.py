"""Merges that average what sites fitted by themselves, weighted by their training examples.

Rules: parameters are int32 in fixed point 2**-22; a merge reads the parameters that the round started from, what it
remembers (`memory`, part of the merged state and its digest) and the updates, and returns both anew. Where nobody
trained, nothing changes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from swarmcell.model.contribution import Update
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import EXACT_BITS, PARAMETER_BITS, divide, to_float, weighted_mean
from swarmcell.model.study import FitRule

Named = Mapping[str, Array]

CONTROL = "control."  # SCAFFOLD: prefix of a site's gradient at the parameters that the round started from
STEPS = "steps"  # FedNova: a site's number of local steps
STEPS_LAST = 1 << 32
_INT32_LAST = (1 << 31) - 1
_SQUARE_BITS = 50
_NOVA_BITS = 20  # more than 2**-22, of a site's mean step
FIRST, SECOND, FLOOR = 0.9, 0.99, 1e-3  # of FedAdam: decay of both moments, and adaptivity; Reddi et al., section 5


@dataclass(frozen=True)
class Merged:
    """What a merge returns: the next round's parameters, and what the rule remembers."""

    now: Named
    memory: Named = field(default_factory=dict)


Merge = Callable[[FitRule, Merged, Sequence[Update]], Merged]


def fedavg(_: FitRule, before: Merged, updates: Sequence[Update]) -> Merged:
    """Return the sites' weighted mean. `fedprox` differs only in what a site minimises.

    References
    ----------
    McMahan et al. 2017, arXiv:1602.05629, Algorithm 1. Li et al. 2020, arXiv:1812.06127.
    """
    return Merged({name: mean(updates, name).astype(np.int32) for name in before.now})


def scaffold(_: FitRule, before: Merged, updates: Sequence[Update]) -> Merged:
    """Return the sites' weighted mean, and remember the mean of their gradients with where these were taken.

    A site's control variate is its gradient at those parameters (option I), which it computes again in the next round:
    nothing is lost by a restart.

    References
    ----------
    Karimireddy et al. 2020, arXiv:1910.06378, Algorithm 1.
    """
    controls = {CONTROL + name: mean(updates, CONTROL + name).astype(np.int32) for name in before.now}
    return Merged(fedavg(_, before, updates).now, controls | {f"at.{name}": a for name, a in before.now.items()})


def fednova(_: FitRule, before: Merged, updates: Sequence[Update]) -> Merged:
    """Return the parameters moved by the sites' mean step, times the weighted mean of their numbers of steps.

    References
    ----------
    Wang et al. 2020, arXiv:2007.07481, equation 9 (local solver: gradient descent without momentum).
    """
    steps = [max(1, int(update.arrays[STEPS][0])) for update in updates]
    weights = [update.weight for update in updates]
    effective, n = sum(w * s for w, s in zip(weights, steps, strict=True)), sum(weights)
    moved: dict[str, Array] = {}
    for name, start in before.now.items():
        total = np.zeros(start.shape, object)
        for update, weight, count in zip(updates, weights, steps, strict=True):
            step = divide((update.arrays[name].astype(np.int64) - start) << _NOVA_BITS, count)
            total = total + step.astype(object) * weight
        change = divide(total * effective, n * n << _NOVA_BITS).astype(np.int64)
        moved[name] = clipped(start + change)
    return Merged(moved)


def fedadam(rule: FitRule, before: Merged, updates: Sequence[Update]) -> Merged:
    """Return the parameters moved by Adam, which takes the sites' mean change for the gradient.

    References
    ----------
    Reddi et al. 2021, arXiv:2003.00295, Algorithm 2.
    """
    now: dict[str, Array] = {}
    memory: dict[str, Array] = {}
    for name, start in before.now.items():
        change = to_float(mean(updates, name) - start, PARAMETER_BITS)
        none = np.zeros(start.shape, np.int64)
        first = FIRST * to_float(before.memory.get(f"first.{name}", none), EXACT_BITS) + (1 - FIRST) * change
        second = SECOND * to_float(before.memory.get(f"second.{name}", none), _SQUARE_BITS)
        second = second + (1 - SECOND) * (change * change)
        memory[f"first.{name}"] = rounded(first, EXACT_BITS)
        memory[f"second.{name}"] = rounded(np.minimum(second, 4096.0), _SQUARE_BITS)
        now[name] = clipped(start + rounded(rule.server_rate * (first / (np.sqrt(second) + FLOOR)), PARAMETER_BITS))
    return Merged(now, memory)


def mean(updates: Sequence[Update], name: str) -> npt.NDArray[np.int64]:
    """Return the exact weighted mean of the sites' arrays `name`, rounded half to even."""
    return weighted_mean([update.arrays[name] for update in updates], [update.weight for update in updates])


def rounded(values: npt.NDArray[np.float64], bits: int) -> npt.NDArray[np.int64]:
    """Return finite values in fixed point."""
    return np.rint(values * float(1 << bits)).astype(np.int64)


def clipped(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Return parameters that fit int32: hostile sums end at the bound instead of wrapping round."""
    return np.clip(values, -_INT32_LAST, _INT32_LAST).astype(np.int32)
