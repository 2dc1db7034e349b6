"""Transforms of intensities, the same at all sites: a panel names one, and values then mean the same everywhere.

Rules: a transform has no parameter that is estimated from the data at hand.

References
----------
Parks, Roederer, Moore 2006, Cytometry A 69:541 (logicle).
"""

import math
import re
from dataclasses import dataclass
from typing import Literal

import flowutils.transforms  # type: ignore[import-untyped]
import numpy as np

from swarmcell.cells.events import EventTable, Technology, chunks
from swarmcell.errors import PanelError

Kind = Literal["arcsinh", "logicle", "none"]
COFACTORS: dict[Technology, float] = {"mass": 5.0, "flow": 150.0, "spectral": 6000.0}
_STRICT = {"extra": "forbid"}
_NAMED = re.compile(r"(arcsinh|logicle|none)(?:\(([^)]*)\))?")


@dataclass(frozen=True, kw_only=True)
class Logicle:
    """Parameters of the logicle scale, in intensities (`t`) and decades (`w`, `m`, `a`).

    The defaults are those of 18-bit flow cytometers: $PnR 262144, and FlowJo's and flowCore's w, m and a.
    """

    __pydantic_config__ = _STRICT

    t: float = 262_144.0
    w: float = 0.5
    m: float = 4.5
    a: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a scale that does not exist: flowutils would return -1 for every event, without a word."""
        in_range = 0 < self.t < math.inf and 0 < self.m < math.inf and 0 <= self.w <= self.m / 2
        if not (in_range and -self.w <= self.a <= self.m - 2 * self.w):
            msg = (
                f"logicle({self.t:g},{self.w:g},{self.m:g},{self.a:g}) is no scale; expected t > 0, m > 0, "
                "0 <= w <= m / 2 and -w <= a <= m - 2 w"
            )
            raise ValueError(msg)


@dataclass(frozen=True)
class Transform:
    """A transform with its parameters: `cofactor` for arcsinh, `logicle` for logicle."""

    kind: Kind
    cofactor: float | None = None
    logicle: Logicle | None = None

    @property
    def name(self) -> str:
        """How a panel names it: `arcsinh`, `none`, or `logicle(t,w,m,a)`. The cofactor has its own place there."""
        if self.logicle is None:
            return self.kind
        return f"logicle({self.logicle.t:g},{self.logicle.w:g},{self.logicle.m:g},{self.logicle.a:g})"


def named(name: str, cofactor: float | None) -> Transform:
    """Return the transform that a panel names.

    Raises
    ------
    PanelError
        If the name is none of arcsinh, none or logicle(t,w,m,a), or arcsinh has no cofactor.
    """
    match = _NAMED.fullmatch(name)
    if match is None or (match[1] == "arcsinh" and not cofactor):
        msg = (
            f"the panel's transform is {name!r} with cofactor {cofactor}; expected arcsinh with one, none, or logicle."
        )
        raise PanelError(msg)
    if match[1] == "arcsinh":
        return Transform("arcsinh", cofactor)
    if match[1] == "none":
        return Transform("none")
    try:
        numbers = [float(part) for part in match[2].split(",")] if match[2] else [262_144.0, 0.5, 4.5, 0.0]
        t, w, m, a = numbers
    except ValueError as error:
        msg = f"the panel's transform is {name!r}; expected logicle(t,w,m,a) with four numbers."
        raise PanelError(msg) from error
    try:
        return Transform("logicle", logicle=Logicle(t=t, w=w, m=m, a=a))
    except ValueError as error:
        msg = f"the panel's transform is {name!r}: {error}. Correct it in the universe file."
        raise PanelError(msg) from error


def apply(values: EventTable, transform: Transform) -> None:
    """Transform intensities in place.

    Parameters
    ----------
    values
        Shape `(n_events, n_markers)`, linear and compensated.
    """
    if transform.kind == "arcsinh":
        np.divide(values, np.float32(transform.cofactor or 1.0), out=values)
        np.arcsinh(values, out=values)
    elif transform.logicle is not None:
        _logicle(values, transform.logicle)


def _logicle(values: EventTable, scale: Logicle) -> None:
    everything = list(range(values.shape[1]))
    for rows in chunks(len(values)):
        values[rows] = flowutils.transforms.logicle(
            values[rows].astype(np.float64), everything, t=scale.t, m=scale.m, w=scale.w, a=scale.a
        )
