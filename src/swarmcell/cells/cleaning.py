"""Cleaning events: what is no single, live, well-measured cell is dropped; every step says how many went in and out.

Rules: a step that lacks its channels is skipped and says so; each can be switched off. Cut-offs are relative to the
file's own median (in units of its median absolute deviation, MAD), so that they mean the same on every instrument.

References
----------
Emmaneel et al. 2022, Cytometry A 101:325 (margins, and doublets by the ratio of area to height at 4 MAD; PeacoQC).
Bagwell et al. 2020, Cytometry A 97:184 (Gaussian parameters of mass cytometry events).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swarmcell.cells.events import EventTable, Label, Technology, chunks
from swarmcell.cells.roles import Role

Mask = npt.NDArray[np.bool_]  # shape (n_events,), True where an event stays
_STRICT = {"extra": "forbid"}
N_MADS_DOUBLETS = 4.0  # PeacoQC's default
N_MADS = 4.0  # chosen, for the other gates: keeps 99.99 % of a normal distribution
_MAD_TO_SD = 1.4826
_MARGIN_SLACK = 1e-6


@dataclass(frozen=True, kw_only=True)
class CleaningRules:
    """Which steps are taken; a step whose channels are absent is skipped."""

    __pydantic_config__ = _STRICT

    finite: bool = True  # NaN and Inf
    margins: bool = True  # flow: at the top of a detector's range
    singlets: bool = True  # flow: FSC-A / FSC-H
    event_length: bool = True  # mass
    dna: bool = True  # mass: two cells have twice the DNA
    gaussian: bool = True  # mass: Center, Offset, Width, Residual
    viability: bool = True


@dataclass(frozen=True)
class Step:
    """What one step did. `note` says why it was skipped, or what is odd."""

    name: str
    n_in: int
    n_out: int
    note: str = ""


@dataclass(frozen=True)
class Scope:
    """The channels of a file and what each is for. `markers` are the columns that become features."""

    labels: tuple[Label, ...]
    roles: tuple[Role, ...]
    markers: tuple[int, ...]
    technology: Technology

    def columns(self, role: Role) -> list[int]:
        """Return the columns of a role."""
        return [column for column, one in enumerate(self.roles) if one == role]


Verdict = tuple[Mask | None, str]  # over the events that still stand; None: skipped
_Gate = Callable[[EventTable, Mask, Scope], Verdict]


def clean_recorded(values: EventTable, scope: Scope, rules: CleaningRules) -> tuple[Mask, list[Step]]:
    """Take the steps that look at intensities as recorded, before compensation.

    Parameters
    ----------
    values
        Shape `(n_events, n_channels)`. Events that are not finite are set to 0 where they are dropped, so that
        compensation does not spread them.

    Returns
    -------
    mask, steps
        Which events stay, shape `(n_events,)`, and what each step did.
    """
    keep = np.ones(len(values), np.bool_)
    gates: list[tuple[str, bool, _Gate]] = [
        ("finite", rules.finite, _finite),
        ("margins", rules.margins and scope.technology != "mass", _margins),
    ]
    steps = _take(gates, values, keep, scope)
    if rules.finite and not keep.all():
        values[~keep] = 0
    return keep, steps


def clean_compensated(values: EventTable, keep: Mask, scope: Scope, rules: CleaningRules) -> list[Step]:
    """Take the steps that look at compensated intensities; `keep` is changed in place."""
    is_mass = scope.technology == "mass"
    gates: list[tuple[str, bool, _Gate]] = [
        ("singlets", rules.singlets and not is_mass, _singlets),
        ("event_length", rules.event_length and is_mass, _event_length),
        ("dna", rules.dna and is_mass, _dna),
        ("gaussian", rules.gaussian and is_mass, _gaussian),
        ("viability", rules.viability, _viability),
    ]
    return _take(gates, values, keep, scope)


def _take(gates: Sequence[tuple[str, bool, _Gate]], values: EventTable, keep: Mask, scope: Scope) -> list[Step]:
    steps = []
    for name, is_on, gate in gates:
        if not is_on:
            continue
        n_in = int(keep.sum())
        verdict, note = gate(values, keep, scope) if n_in else (None, "no event left")
        if verdict is not None:
            keep[np.flatnonzero(keep)[~verdict]] = False
        steps.append(Step(name, n_in, int(keep.sum()), note))
    return steps


def _finite(values: EventTable, keep: Mask, scope: Scope) -> Verdict:
    del scope
    found = np.empty(len(values), np.bool_)
    for rows in chunks(len(values)):
        found[rows] = np.isfinite(values[rows]).all(axis=1)
    return found[keep], ""


def _margins(values: EventTable, keep: Mask, scope: Scope) -> Verdict:
    inside = np.ones(int(keep.sum()), np.bool_)
    odd, used = [], 0
    for column in sorted({*scope.columns("scatter"), *scope.markers}):
        ceiling = scope.labels[column].ceiling
        if ceiling <= 0:
            continue
        intensities = values[keep, column]
        if float(intensities.max()) > (ceiling + 1) * (1 + _MARGIN_SLACK):
            odd.append(scope.labels[column].name)  # $PnR is then not the top of the range
            continue
        used += 1
        inside &= intensities < ceiling * (1 - _MARGIN_SLACK)
    note = f"not judged, values lie beyond $PnR: {', '.join(odd)}" if odd else ""
    return (inside, note) if used else (None, note or "no channel states its range")


def _singlets(values: EventTable, keep: Mask, scope: Scope) -> Verdict:
    by_name = {"".join(c for c in label.name.upper() if c.isalnum()): n for n, label in enumerate(scope.labels)}
    area, height = by_name.get("FSCA"), by_name.get("FSCH")
    if area is None or height is None:
        return None, "no FSC-A with FSC-H"
    heights = values[keep, height].astype(np.float64)
    ratio = np.divide(values[keep, area], heights, out=np.full(len(heights), np.inf), where=heights > 0)
    measured = np.isfinite(ratio)
    if not measured.any():
        return None, "FSC-H is never above 0"
    top = _limits(ratio[measured], N_MADS_DOUBLETS)
    return (None, "FSC-A / FSC-H does not vary") if top is None else (ratio <= top[1], "")


def _event_length(values: EventTable, keep: Mask, scope: Scope) -> Verdict:
    return _within(values, keep, scope.columns("length"), "no event length")


def _dna(values: EventTable, keep: Mask, scope: Scope) -> Verdict:
    return _within(values, keep, scope.columns("dna"), "no DNA channel", cofactor=5.0)


def _gaussian(values: EventTable, keep: Mask, scope: Scope) -> Verdict:
    return _within(values, keep, scope.columns("gaussian"), "no Gaussian parameters")


def _viability(values: EventTable, keep: Mask, scope: Scope) -> Verdict:
    cofactor = 5.0 if scope.technology == "mass" else 150.0
    columns = [column for column in scope.columns("viability") if column not in scope.markers]
    return _within(values, keep, columns, "no viability channel", cofactor=cofactor, only_top=True)


def _within(
    values: EventTable,
    keep: Mask,
    columns: Sequence[int],
    absent: str,
    *,
    cofactor: float | None = None,
    only_top: bool = False,
) -> Verdict:
    """Keep what lies within `N_MADS` of the median in every column, on the arcsinh scale where there is a cofactor."""
    inside = np.ones(int(keep.sum()), np.bool_)
    used = 0
    for column in columns:
        measured = values[keep, column].astype(np.float64)
        scaled = measured if cofactor is None else np.arcsinh(measured / cofactor)
        limits = _limits(scaled, N_MADS)
        if limits is None:
            continue
        used += 1
        inside &= scaled <= limits[1]
        if not only_top:
            inside &= scaled >= limits[0]
    if used:
        return inside, ""
    return None, "its channels do not vary" if columns else absent


def _limits(scaled: npt.NDArray[np.float64], n_mads: float) -> tuple[float, float] | None:
    middle = float(np.median(scaled))
    spread = float(np.median(np.abs(scaled - middle))) * _MAD_TO_SD
    return None if spread == 0 else (middle - n_mads * spread, middle + n_mads * spread)
