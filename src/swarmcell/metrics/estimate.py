"""A figure with its interval, or the reason why there is none."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One figure.

    Attributes
    ----------
    value
        The figure on the data as measured; `None` if the data do not define it.
    low, high
        Ends of the interval at `level`; both `None` if it cannot be computed.
    method
        How the interval was computed: `bootstrap over donors`, `score` (closed form, where all resamples agree), or ``.
    note
        Why the value or its interval is missing, or what to bear in mind; empty if there is nothing to say.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    method: str = ""
    note: str = ""
    level: float = 0.95

    @property
    def has_interval(self) -> bool:
        """Whether both ends of the interval are known."""
        return self.low is not None and self.high is not None

    def contains(self, value: float) -> bool:
        """Return whether `value` lies in the interval (false where there is none)."""
        return self.low is not None and self.high is not None and self.low <= value <= self.high

    def to_json(self) -> dict[str, Any]:
        """Return the figure as JSON values; a missing number is null, and `note` says why."""
        interval = None if not self.has_interval else [self.low, self.high]
        return {
            "value": self.value,
            "interval": interval,
            "level": self.level,
            "method": self.method,
            "note": self.note,
        }


def undefined(reason: str) -> Estimate:
    """Return a figure that the data do not define."""
    return Estimate(value=None, note=reason)
