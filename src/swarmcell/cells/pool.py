"""A site's files put together: the cap of events per donor, the table of all events, their labels, the QC summary."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from swarmcell.cells import capping, transforms
from swarmcell.cells.cytometry import FileReport, MarkerEvents
from swarmcell.cells.events import Events, EventTable
from swarmcell.cells.markers import Assignment
from swarmcell.cells.panel import Panel
from swarmcell.cells.specimens import Specimen
from swarmcell.cells.transforms import Transform
from swarmcell.errors import CellsError, PanelError

Objects = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Pooled:
    """Events of one file that stay: one row of `values`, `keys`, `names` and `cell_types` each."""

    specimen: Specimen
    report: FileReport
    values: EventTable
    keys: capping.Keys
    names: Objects
    cell_types: Objects | None

    def at(self, chosen: npt.NDArray[np.intp]) -> "Pooled":
        """Keep the events at these positions."""
        if len(chosen) == len(self.keys):
            return self
        types = None if self.cell_types is None else self.cell_types[chosen]
        return replace(
            self, values=self.values[chosen], keys=self.keys[chosen], names=self.names[chosen], cell_types=types
        )


def pooled(specimen: Specimen, events: Events, cleaned: MarkerEvents, *, cap: int, seed: int) -> Pooled:
    """Keep at most `cap` events of a file (0: all), chosen by their random keys."""
    keys = capping.event_keys(len(cleaned.rows), seed=seed, source=f"{specimen.sample}/{cleaned.report.source}")
    chosen = capping.smallest(keys, cap or len(keys))
    rows = cleaned.rows[chosen]
    stem = specimen.path.stem
    names = np.array([f"{stem}-{row}" for row in rows], object) if events.names is None else events.names[rows]
    types = None if events.cell_types is None else events.cell_types[rows]
    values = cleaned.values if len(chosen) == len(keys) else cleaned.values[chosen]
    return Pooled(specimen, cleaned.report, values, keys[chosen], names, types)


def share(files: Sequence[Pooled], cap: int) -> list[Pooled]:
    """Share one donor's cap between its samples, and drop what is over."""
    by_sample: dict[str, list[Pooled]] = {}
    for one in files:
        by_sample.setdefault(one.specimen.sample, []).append(one)
    counts = [sum(len(one.keys) for one in same) for same in by_sample.values()]
    kept = []
    for same, quota in zip(by_sample.values(), capping.fair_shares(counts, cap), strict=True):
        chosen = capping.smallest(np.concatenate([one.keys for one in same]), quota)
        edges = np.cumsum([0, *(len(one.keys) for one in same)])
        for one, first, last in zip(same, edges[:-1], edges[1:], strict=True):
            kept.append(one.at(chosen[(chosen >= first) & (chosen < last)] - first))
    return kept


def check_alike(first: FileReport, other: FileReport) -> None:
    """Check that two files of a site were measured alike.

    Raises
    ------
    CellsError
        If they are of two technologies.
    PanelError
        If they give different markers.
    """
    if first.technology != other.technology:
        msg = (
            f"{other.source} is {other.technology} cytometry, {first.source} is {first.technology}. Preprocess them "
            "in separate folders, or set [cytometry] technology."
        )
        raise CellsError(msg)
    if first.markers != other.markers:
        lacks = ", ".join(sorted(set(first.markers) - set(other.markers))) or "nothing"
        adds = ", ".join(sorted(set(other.markers) - set(first.markers))) or "nothing"
        msg = (
            f"{other.source} has another panel than {first.source}: it lacks {lacks} and adds {adds}. Name what they "
            "share in a universe file, or give the channels their markers under [cytometry.markers]."
        )
        raise PanelError(msg)


def table(files: list[Pooled], panel: Panel, transform: Transform) -> EventTable:
    """Return the transformed events of all files, shape `(n_cells, n_markers)`; an absent marker is 0.

    The files' own values are given free one by one, so that two copies of all never stand in memory.
    """
    present = {marker: place for place, marker in enumerate(panel.ids)}
    everything = np.zeros((sum(len(one.keys) for one in files), len(panel.ids)), np.float32)
    start = 0
    for place, one in enumerate(files):
        transforms.apply(one.values, transform)
        rows = slice(start, start + len(one.keys))
        everything[rows, [present[marker] for marker in one.report.markers]] = one.values
        files[place] = replace(one, values=one.values[:0].copy())
        start += len(one.keys)
    return everything


def labels(files: Sequence[Pooled], site: str) -> pd.DataFrame:
    """Return obs: donor, sample, site and, where any file states one, condition, covariates, cell_type; categories."""
    counts = [len(one.keys) for one in files]
    per_file: dict[str, list[str | None]] = {
        "donor": [one.specimen.donor for one in files],
        "sample": [one.specimen.sample for one in files],
        "site": [one.specimen.site or site for one in files],
        "condition": [one.specimen.condition for one in files],
    }
    for name in files[0].specimen.covariates:
        per_file[name] = [one.specimen.covariates.get(name) for one in files]
    obs = pd.DataFrame(index=pd.Index(_unique(files), dtype=object))
    for name, values in per_file.items():
        if any(value is not None for value in values):
            obs[name] = _repeated(values, counts)
    if (types := _cell_types(files)) is not None:
        obs["cell_type"] = pd.Categorical(types, categories=pd.Index(sorted({t for t in types if t}), dtype=object))
    return obs


def _unique(files: Sequence[Pooled]) -> Objects:
    """Return the events' names; the file's place is added where two files give the same."""
    names = np.concatenate([one.names for one in files])
    if len(set(names)) == len(names):
        return names
    return np.array([f"{place}-{name}" for place, one in enumerate(files) for name in one.names], object)


def _repeated(values: Sequence[str | None], counts: Sequence[int]) -> pd.Categorical:
    names = sorted({value for value in values if value is not None})
    codes = np.repeat([-1 if value is None else names.index(value) for value in values], counts)
    return pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype=object))


def _cell_types(files: Sequence[Pooled]) -> Objects | None:
    parts = []
    for one in files:
        whole = np.full(len(one.keys), one.specimen.cell_type, object)
        parts.append(whole if one.cell_types is None else one.cell_types)
    types = np.concatenate(parts)
    return types if any(value is not None for value in types) else None


def summary(files: Sequence[Pooled], values: EventTable, panel: Panel, transform: Transform) -> dict[str, Any]:
    """Return the QC summary as plain values: events in and out, why, per file and donor, channels, medians.

    Parameters
    ----------
    values
        The table of all events, in the order of `files`.
    """
    return {
        **_counts(files),
        "technology": files[0].report.technology,
        "transform": transform.name,
        "cofactor": transform.cofactor,
        "files": [_file(one) for one in files],
        "channels": mapping(files[0].report.assignments),
        "donors": _donors(files, values, panel),
    }


def _counts(files: Sequence[Pooled]) -> dict[str, Any]:
    """Count events in, out and dropped by each step."""
    dropped: Counter[str] = Counter()
    for one in files:
        dropped.update({step.name: step.n_in - step.n_out for step in one.report.steps if step.n_in > step.n_out})
        if capped := one.report.n_cleaned - len(one.keys):
            dropped["events_per_donor"] += capped
    n_in = sum(one.report.n_recorded for one in files)
    return {"cells_in": n_in, "cells_out": n_in - sum(dropped.values()), "dropped": dict(dropped)}


def mapping(assignments: Sequence[Assignment]) -> list[dict[str, str]]:
    """Return what became of each channel: channel, stain, marker ("" if left out) and why."""
    return [
        {"channel": one.label.name, "stain": one.label.stain, "marker": one.marker or "", "why": one.why}
        for one in assignments
    ]


def _file(one: Pooled) -> dict[str, Any]:
    return {
        "file": one.report.source,
        "donor": one.specimen.donor,
        "sample": one.specimen.sample,
        "cells_in": one.report.n_recorded,
        "cells_out": len(one.keys),
        "steps": [asdict(step) for step in one.report.steps],
        "compensation": one.report.compensation,
        "notes": list(one.report.notes),
    }


def _donors(files: Sequence[Pooled], values: EventTable, panel: Panel) -> dict[str, Any]:
    edges = np.cumsum([0, *(len(one.keys) for one in files)])
    places: dict[str, list[int]] = {}
    for place, one in enumerate(files):
        places.setdefault(one.specimen.donor, []).append(place)
    shown = {}
    for donor, mine in places.items():
        rows = np.concatenate([np.arange(edges[place], edges[place + 1]) for place in mine])
        medians = np.median(values[rows], axis=0).tolist() if len(rows) else []
        shown[donor] = {
            **_counts([files[place] for place in mine]),
            "medians": {marker: round(float(m), 4) for marker, m in zip(panel.ids, medians, strict=False)},
        }
    return shown
