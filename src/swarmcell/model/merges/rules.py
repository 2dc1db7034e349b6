"""Which merge a study's rule names, and what a site publishes for it beside its parameters."""

from collections.abc import Mapping, Sequence

from swarmcell.model.contribution import Slot, Update
from swarmcell.model.merges import averages, robust
from swarmcell.model.merges.averages import CONTROL, STEPS, STEPS_LAST, Merge, Merged
from swarmcell.model.study import FitRule, MergeName

_INT32_LAST = (1 << 31) - 1
RULES: Mapping[MergeName, Merge] = {
    "fedavg": averages.fedavg,
    "fedprox": averages.fedavg,
    "scaffold": averages.scaffold,
    "fednova": averages.fednova,
    "fedadam": averages.fedadam,
    "median": robust.median,
    "trimmed-mean": robust.trimmed_mean,
    "multi-krum": robust.multi_krum,
    "geometric-median": robust.geometric_median,
}


def slots(rule: FitRule, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Slot]:
    """Return what a site's update must look like; `shapes` are those of the classifier's parameters."""
    wanted = {name: Slot(bits=32, shape=shape, last=_INT32_LAST) for name, shape in shapes.items()}
    if rule.merge == "scaffold":
        wanted |= {CONTROL + name: slot for name, slot in wanted.items()}
    if rule.merge == "fednova":
        wanted[STEPS] = Slot(bits=64, shape=(1,), last=STEPS_LAST, signed=False)
    return wanted


def combine(rule: FitRule, before: Merged, updates: Sequence[Update]) -> Merged:
    """Return the merged parameters and what the rule remembers; unchanged where no site has training examples."""
    trained = [update for update in updates if update.weight > 0]
    return RULES[rule.merge](rule, before, trained) if trained else before
