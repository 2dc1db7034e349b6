"""What a benchmark reports. Every `bench_*.py` offers `figures(repeats)`, which yields these; `__main__` prints them.

Rules: a figure keeps the value of every run; what is shown is their median, and the range beside it, because a median
alone hides a machine that was busy. A goal is a bound, in the figure's own unit.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One quantity, measured once per run.

    Attributes
    ----------
    what, unit
        What was measured, and in what (`s`, `MB`, `x` for a ratio).
    values
        One per run, in order.
    goal_max, goal_min
        What the median must not exceed, or must reach; `None` where there is no goal (a peer's figure, for comparison).
    """

    what: str
    unit: str
    values: tuple[float, ...]
    goal_max: float | None = None
    goal_min: float | None = None

    @property
    def median(self) -> float:
        """The median of all runs."""
        return statistics.median(self.values)

    @property
    def missed(self) -> bool:
        """Whether the median exceeds `goal_max`, or does not reach `goal_min`."""
        over = self.goal_max is not None and self.median > self.goal_max
        return over or (self.goal_min is not None and self.median < self.goal_min)

    @property
    def goal(self) -> str:
        """The goal in words; empty where there is none."""
        return (
            f"at most {self.goal_max:g}"
            if self.goal_max is not None
            else ("" if self.goal_min is None else f"at least {self.goal_min:g}")
        )


def table(figures: Iterable[Figure]) -> str:
    """Return a Markdown table, a row per figure."""
    rows = ["| figure | median | range | runs | goal |", "|---|---|---|---|---|"]
    rows += [f"| {' | '.join(_cells(figure))} |" for figure in figures]
    return "\n".join(rows)


def _cells(figure: Figure) -> Sequence[str]:
    low, high = min(figure.values), max(figure.values)
    spread = f"{shown(low)} to {shown(high)}" if len(figure.values) > 1 else ""
    goal = figure.goal + (", **missed**" if figure.missed else "")
    return figure.what, f"{shown(figure.median)} {figure.unit}", spread, str(len(figure.values)), goal


def shown(value: float) -> str:
    """Return a value with three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
