"""Figures in words, so that a reader without statistics is not misled: chance, few donors, differences."""

from collections.abc import Mapping

from swarmcell.metrics.estimate import Estimate
from swarmcell.metrics.permutation import ChanceTest

ALPHA = 0.05
FEW_DONORS = 10  # per group; chosen: below it a 95 % interval of AUROC spans 0.4 and more
NEGLIGIBLE = 0.005  # of a figure; two digits are shown
CLOSE_TO_CHANCE = 0.05  # of the way from chance to perfect; chosen


def number(found: Estimate, *, digits: int = 2) -> str:
    """Return a figure with its interval, or with the words why one is missing: `0.83 (95 % interval 0.70 to 0.93)`."""
    if found.value is None:
        return f"undefined ({found.note})"
    value = f"{found.value:.{digits}f}"
    if found.low is None or found.high is None:
        return f"{value} ({found.note})"
    return f"{value} ({100 * found.level:.0f} % interval {found.low:.{digits}f} to {found.high:.{digits}f})"


def against_chance(found: Estimate, chance: float, test: ChanceTest | None) -> str:
    """Say whether a figure is better than chance.

    Parameters
    ----------
    found
        The figure; larger is better, 1 is perfect.
    chance
        What guessing earns.
    test
        Permutation test of the same figure, if one could be made.
    """
    if found.value is None:
        return f"undefined: {found.note}"
    p_value = "" if test is None else f", permutation p {probability(test)}"
    seen = f"{number(found)}; chance is {chance:.2f}{p_value}"
    if test is not None and test.smallest_p_value > ALPHA:
        smallest = f"the smallest possible p is {test.smallest_p_value:.2g}"
        return f"not to be told from chance with so few donors ({smallest}): {seen}"
    if found.contains(chance) or found.value <= chance or (test is not None and test.p_value >= ALPHA):
        return f"not distinguishable from chance: {seen}"
    if found.value < chance + CLOSE_TO_CHANCE * (1 - chance):
        return f"close to chance: {seen}"
    return f"better than chance: {seen}"


def probability(test: ChanceTest) -> str:
    """Return p as text, with two digits; a random test's smallest value is a bound."""
    bound = "" if test.exact or test.p_value > test.smallest_p_value else "≤ "
    return f"{bound}{test.p_value:.2g}"


def difference(found: Estimate, first: str, second: str, *, smaller_is_better: bool = False) -> str:
    """Say whether two models differ on the same donors."""
    if found.value is None:
        return f"undefined: {found.note}"
    if found.low is None or found.high is None:
        return f"{first} - {second} = {found.value:+z.2f}; {found.note}"
    span = f"{found.value:+z.2f} ({100 * found.level:.0f} % interval {found.low:+z.2f} to {found.high:+z.2f})"
    if found.low == found.high == 0:
        return f"{first} and {second} are equal on every resample"
    if max(abs(found.low), abs(found.high)) < NEGLIGIBLE:
        return f"no difference between {first} and {second} can be shown: less than {NEGLIGIBLE} either way"
    if found.low <= 0 <= found.high:
        return f"no difference between {first} and {second} can be shown: {span}"
    better = (found.low > 0) != smaller_is_better
    return f"{first} is {'better' if better else 'worse'} than {second}: {span}"


def few_donors(per_group: Mapping[str, int], *, of: str) -> str:
    """Warn of small groups; empty if each has enough."""
    small = {name: n for name, n in per_group.items() if n < FEW_DONORS}
    if not small:
        return ""
    listed = ", ".join(f"{n} of {name}" if name else str(n) for name, n in small.items())
    if list(small.items()) == [("", 1)]:
        return f"One held-out donor for {of}: no figure has an interval, and another donor may give quite other ones."
    return f"Few held-out donors for {of} ({listed}): intervals are wide and rest on few people; read no figure alone."
