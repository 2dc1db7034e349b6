"""Which merge a study's rule names, and what a site publishes for it beside its parameters."""

from collections.abc import Callable, Mapping, Sequence

from swarmcell.model.contribution import Slot, Update
from swarmcell.model.merges import averages, robust
from swarmcell.model.merges.averages import CONTROL, STEPS, STEPS_LAST, Merge, Merged
from swarmcell.model.study import FitRule, MergeName

_INT32_LAST = (1 << 31) - 1
_WEIGHTED_LAST = 1 << 62  # of a sum over sites, each of whose parts is below 2**55
AVERAGES: Mapping[MergeName, Merge] = {
    "fedavg": averages.fedavg,
    "fedprox": averages.fedavg,
    "scaffold": averages.scaffold,
    "fednova": averages.fednova,
    "fedadam": averages.fedadam,
}
SINGLE: Mapping[MergeName, Callable[[FitRule, Merged, Sequence[Update]], Merged]] = {  # need each site's own update
    "median": robust.median,
    "trimmed-mean": robust.trimmed_mean,
    "multi-krum": robust.multi_krum,
    "geometric-median": robust.geometric_median,
}


def slots(rule: FitRule, shapes: Mapping[str, tuple[int, ...]], *, weighted: bool = False) -> dict[str, Slot]:
    """Return what a site's update must look like.

    Parameters
    ----------
    shapes
        Those of the classifier's parameters.
    weighted
        Whether sites publish sums' parts, multiplied by their weights (secure aggregation).
    """
    wanted = {name: Slot(bits=32, shape=shape, last=_INT32_LAST) for name, shape in shapes.items()}
    if rule.merge == "scaffold":
        wanted |= {CONTROL + name: slot for name, slot in wanted.items()}
    if rule.merge == "fednova":
        wanted[STEPS] = Slot(bits=64, shape=(1,), last=STEPS_LAST, signed=False)
    if weighted:
        return {name: Slot(bits=64, shape=slot.shape, last=_WEIGHTED_LAST) for name, slot in wanted.items()}
    return wanted


def combine(rule: FitRule, before: Merged, updates: Sequence[Update], *, weighted: bool = False) -> Merged:
    """Return the merged parameters and what the rule remembers; unchanged where no site has training examples."""
    trained = [update for update in updates if update.weight > 0]
    if not trained:
        return before
    if rule.merge in AVERAGES:
        found = averages.sums(rule, before.now, trained, weighted=weighted)
        return AVERAGES[rule.merge](rule, before, found)
    return SINGLE[rule.merge](rule, before, trained)
