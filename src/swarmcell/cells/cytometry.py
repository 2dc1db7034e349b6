"""From one file's recorded events to one study's markers: clean, compensate, choose the markers, in this order.

Rules: what a file does not say is told by the site (`[cytometry]`), never guessed; everything done is in the result, so
that the QC summary can show it. Transforms come later, on the events that are kept (`transforms`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from swarmcell.cells import compensation, transforms
from swarmcell.cells.cleaning import CleaningRules, Mask, Scope, Step, clean_compensated, clean_recorded
from swarmcell.cells.compensation import Spillover
from swarmcell.cells.events import Events, EventTable, Technology, has_raw_detectors, technology_of
from swarmcell.cells.markers import Assignment, assign, markers_of
from swarmcell.cells.mass_checks import unprocessed
from swarmcell.cells.panel import Panel
from swarmcell.cells.roles import role_of
from swarmcell.cells.transforms import COFACTORS, Logicle, Transform
from swarmcell.errors import CellsError, ConfigError, PanelError

_STRICT = {"extra": "forbid"}
_SHOWN_MAX = 40  # channels that an error lists: about as many as a large panel has
_CHANNEL_VALUE_MAX = 1023.0  # 10 bits: the display scale of exports
_TRANSFORMED_MAX = 14.0  # arcsinh of the largest number that a cytometer writes (2^22) is 16; of what occurs, below 14


@dataclass(frozen=True, kw_only=True)
class CytometrySettings:
    """The `[cytometry]` table of a preprocess configuration.

    A panel fixes the transform and its cofactor for all sites; without one `transform` and `cofactor` hold.
    """

    __pydantic_config__ = _STRICT

    technology: Literal["auto", "mass", "flow", "spectral"] = "auto"
    transform: Literal["arcsinh", "logicle", "none"] = "arcsinh"
    cofactor: float | None = None  # None: 5 for mass, 150 for flow, 6000 for spectral
    logicle: Logicle = field(default_factory=Logicle)
    compensate: bool = True
    spillover: Path | None = None  # csv; None: the one that each file carries
    events_per_donor: int = 20_000  # 0: all. Chosen: 100 donors of 40 markers stay under 400 MB
    min_coverage: float = 1.0  # share of the panel's markers that a site must have; below it, an error
    markers: dict[str, str] = field(default_factory=dict)  # channel to marker, or to "" to leave it out
    cleaning: CleaningRules = field(default_factory=CleaningRules)


@dataclass(frozen=True)
class FileReport:
    """What was done to one file. `markers` are those that it gives, in the study's order."""

    source: str
    technology: Technology
    markers: tuple[str, ...]
    n_recorded: int
    n_cleaned: int
    assignments: tuple[Assignment, ...]
    steps: tuple[Step, ...]
    compensation: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class MarkerEvents:
    """Cleaned events of one file: linear intensities, shape `(n_cleaned, n_markers)`, and their rows in the file."""

    values: EventTable
    rows: npt.NDArray[np.intp]
    report: FileReport


def technology(events: Events, settings: CytometrySettings) -> Technology:
    """Return the file's technology, as configured or as its channels and instrument tell."""
    return technology_of(events.labels, events.keywords) if settings.technology == "auto" else settings.technology


def transform_for(settings: CytometrySettings, kind: Technology, panel: Panel | None) -> Transform:
    """Return the study's transform: the panel's where there is one.

    Raises
    ------
    ConfigError
        If the site configured a cofactor that is not the panel's.
    PanelError
        If the panel's transform is unknown.
    """
    if panel is None:
        if settings.transform == "logicle":
            return Transform("logicle", logicle=settings.logicle)
        if settings.transform == "none":
            return Transform("none")
        return Transform("arcsinh", settings.cofactor or COFACTORS[kind])
    cofactor = panel.cofactor or (COFACTORS[kind] if panel.transform == "arcsinh" else None)
    if settings.cofactor is not None and settings.cofactor != cofactor:
        msg = (
            f"[cytometry] cofactor is {settings.cofactor}, and panel {panel.name!r} fixes {cofactor} for all sites. "
            "Remove it from the configuration."
        )
        raise ConfigError(msg)
    return transforms.named(panel.transform, cofactor)


def to_markers(
    events: Events, *, settings: CytometrySettings, panel: Panel | None, spillover: Spillover | None = None
) -> MarkerEvents:
    """Clean and compensate a file's events and keep its markers.

    `events.values` is changed in place.

    Parameters
    ----------
    panel
        The study's markers, which also give their order; None: all stained channels, by name.
    spillover
        The matrix for all files; None: the one that the file carries.

    Raises
    ------
    InputError
        If the spillover matrix does not fit, or spectral data are not unmixed.
    PanelError
        If a name is ambiguous, or markers of the panel are missing beyond `min_coverage`.
    CellsError
        If no marker or no event is left, or values look transformed already.
    """
    kind = technology(events, settings)
    assignments = assign(events.labels, panel=panel, table=settings.markers, source=events.source)
    columns = _ordered(markers_of(assignments), panel, settings, events)
    scope = Scope(events.labels, tuple(role_of(label) for label in events.labels), tuple(columns.values()), kind)
    _check_scale(events, scope, settings, panel)
    keep, steps = clean_recorded(events.values, scope, settings.cleaning)
    done = _compensate(events, kind, settings, spillover)
    steps += clean_compensated(events.values, keep, scope, settings.cleaning)
    _check_left(events, keep, steps)
    rows = np.flatnonzero(keep)
    report = FileReport(
        source=events.source,
        technology=kind,
        markers=tuple(columns),
        n_recorded=len(keep),
        n_cleaned=len(rows),
        assignments=tuple(assignments),
        steps=tuple(steps),
        compensation=done,
        notes=(*events.notes, *_warnings(events, scope, rows)),
    )
    return MarkerEvents(events.values[rows[:, None], np.asarray(scope.markers)[None, :]], rows, report)


def _ordered(found: dict[str, int], panel: Panel | None, settings: CytometrySettings, events: Events) -> dict[str, int]:
    if not found:
        msg = (
            f"{events.source}: no channel is a marker of the study (it has {_shown(events)}). "
            'Name them in the configuration: [cytometry.markers] "FL1-H" = "CD4".'
        )
        error = PanelError(msg)
        if len(events.labels) > _SHOWN_MAX:
            error.add_note(f"These are {len(events.labels)} features. If they are genes: --modality rna.")
        raise error
    if panel is None:
        return dict(sorted(found.items(), key=lambda item: item[0].casefold()))
    missing = [marker for marker in panel.ids if marker not in found]
    if len(missing) > (1 - settings.min_coverage) * len(panel.ids) + 1e-9:
        msg = (
            f"{events.source}: {len(missing)} of the panel's {len(panel.ids)} markers are missing: "
            f"{', '.join(missing[:10])}. It has {_shown(events)}. If they go by other names, write them under "
            "[cytometry.markers]; if this site has not measured them, lower [cytometry] min_coverage."
        )
        raise PanelError(msg)
    return {marker: found[marker] for marker in panel.ids if marker in found}


def _shown(events: Events) -> str:
    names = [str(label) for label in events.labels]
    return ", ".join(names[:_SHOWN_MAX]) + (" ..." if len(names) > _SHOWN_MAX else "")


def _check_scale(events: Events, scope: Scope, settings: CytometrySettings, panel: Panel | None) -> None:
    is_none = (settings.transform if panel is None else panel.transform) == "none"
    if is_none or not events.values.size:
        return
    measured = (events.values[:, column] for column in scope.markers)
    top = max(float(np.max(one, where=np.isfinite(one), initial=0.0)) for one in measured)
    column = events.values[:, scope.markers[0]]
    if top < _TRANSFORMED_MAX and not np.array_equal(column, np.round(column), equal_nan=True):
        msg = (
            f"{events.source}: the largest intensity is {top:.3g}: the values look transformed already. Export linear "
            'intensities, or set transform = "none" in the panel (and in [cytometry]).'
        )
        raise CellsError(msg)


def _compensate(events: Events, kind: Technology, settings: CytometrySettings, spillover: Spillover | None) -> str:
    """Compensate in place, and say what was done or why not."""
    if has_raw_detectors(events.labels) and kind == "spectral":
        msg = (
            f"{events.source}: a spectral cytometer's raw detectors ({len(events.labels)} channels). Unmix the file in "
            "the cytometer's software, and export it unmixed."
        )
        raise CellsError(msg)
    if (reason := _uncompensated(events, kind, settings)) is not None:
        return f"none: {reason}"
    matrix = spillover or compensation.from_keywords(events.keywords, events.source)
    if matrix is None:
        return "none: no spillover matrix"
    columns = compensation.places(matrix, events.labels, events.source)
    if matrix.is_identity:
        return "none: the spillover matrix is the identity"
    compensation.compensate(events.values, matrix, columns)
    return f"{len(columns)} channels, by {'the given csv' if spillover else 'the matrix of the file'}"


def _uncompensated(events: Events, kind: Technology, settings: CytometrySettings) -> str | None:
    """Say why a file's values must not be compensated, or None."""
    if kind != "flow":
        return "mass cytometry" if kind == "mass" else "spectral data come unmixed"
    if not settings.compensate:
        return "switched off"
    if compensation.is_compensated(events.labels):
        return "the channels' names say that they are compensated already"
    return None


def _check_left(events: Events, keep: Mask, steps: Sequence[Step]) -> None:
    if not len(keep):
        msg = f"{events.source}: holds no event. Leave it out of the sheet and the folder."
        raise CellsError(msg)
    if not keep.any():
        worst = max(steps, key=lambda step: step.n_in - step.n_out)
        msg = (
            f"{events.source}: no event is left after cleaning ({worst.name} dropped {worst.n_in - worst.n_out} of "
            f"{len(keep)}). Look at the file, or switch the step off: [cytometry.cleaning] {worst.name} = false."
        )
        raise CellsError(msg)


def _warnings(events: Events, scope: Scope, rows: npt.NDArray[np.intp]) -> list[str]:
    if scope.technology == "mass":
        return unprocessed(events.values, rows, scope.labels)
    warned = []
    if others := [name for name in events.keywords if compensation.OTHER_KEYWORDS.fullmatch(name)]:
        warned.append(
            f"compensation keywords that are not applied: {', '.join(sorted(others)[:3])} ([cytometry] spillover)"
        )
    top = float(np.max(events.values[:, scope.markers[0]], initial=0.0))
    if not events.keywords and 0 < top <= _CHANNEL_VALUE_MAX:
        warned.append("no intensity is above 1023: these look like display channels, not linear intensities")
    return warned
