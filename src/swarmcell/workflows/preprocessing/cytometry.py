"""Preprocess cytometry: files of events to one table of markers, cleaned, compensated, capped and transformed.

Rules: the events of one file stand in memory at a time, besides those that are kept; nothing is written here.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd

from swarmcell.cells import compensation, fcs, pool, specimens
from swarmcell.cells.cytometry import CytometrySettings, FileReport, to_markers, transform_for
from swarmcell.cells.event_h5ad import read_groups
from swarmcell.cells.events import Events, from_fcs
from swarmcell.cells.panel import Feature, Panel
from swarmcell.cells.pool import Pooled
from swarmcell.cells.specimens import Specimen
from swarmcell.cells.tables import read_table
from swarmcell.cells.transforms import Transform
from swarmcell.errors import InputError

Observer = Callable[[str, dict[str, Any]], None]
_Source = tuple[Specimen, Callable[[], Events]]


@dataclass(frozen=True)
class PreparedEvents:
    """Cells of one site, without a split.

    `adata.X` is dense float32, shape `(n_cells, n_markers)`, transformed, in the order of `universe`; obs holds the
    labels, var `symbol` and `present`. `qc` says what happened to events and channels (plain values, for JSON);
    `inputs` is file name -> SHA-256.
    """

    adata: ad.AnnData
    universe: Panel
    qc: dict[str, Any]
    inputs: dict[str, str]
    notes: tuple[str, ...]


def prepare_events(
    source: Path,
    *,
    sheet: Path | None,
    keys: Mapping[str, str],
    site: str | None,
    settings: CytometrySettings,
    universe: Panel | None,
    seed: int,
    observer: Observer,
) -> PreparedEvents:
    """Read, clean, compensate, cap and transform the cytometry events of one site.

    Parameters
    ----------
    source
        A folder of FCS files or tables with a sample sheet, one such file, or an .h5ad of events.
    sheet
        The sample sheet; None: `samples.csv` of the folder.
    keys
        Label (`donor`, `sample`, `site`, `condition`, `cell_type`) to the column that holds it.
    site
        The site's name for rows that state none; None: the name of the source.
    universe
        The study's panel; None: the markers of the files themselves, by name.
    seed
        Seed of the cap of events per donor.
    observer
        Is told `markers` (each new mapping of channels to markers) and `file` (each file that is done).

    Raises
    ------
    InputError
        If a file or the sheet cannot be read, or they do not fit each other.
    PanelError
        If files hold different markers, one is ambiguous, or markers of the panel are missing.
    CellsError
        If donors are missing, technologies are mixed, or a file has no event left.
    """
    sources = _sources(source, sheet, keys)
    files = _pooled(sources, settings, universe, seed, observer)
    reports = [one.report for one in files]
    transform = transform_for(settings, reports[0].technology, universe)
    panel = universe or _own_panel(reports[0], transform, source.stem)
    values = pool.table(files, panel, transform)
    adata = ad.AnnData(values, obs=pool.labels(files, site or source.stem), var=_var(panel, reports[0].markers))
    return PreparedEvents(
        adata=adata,
        universe=panel,
        qc=pool.summary(files, values, panel, transform),
        inputs={path.name: _sha256(path) for path in sorted({one.path for one, _ in sources})},
        notes=tuple(_notes(reports)),
    )


def _sources(source: Path, sheet: Path | None, keys: Mapping[str, str]) -> list[_Source]:
    if not source.exists():
        msg = f"{source}: no such file or folder. Check the path."
        raise InputError(msg)
    if source.suffix.lower() == ".h5ad":
        return [(specimen, _returning(events)) for specimen, events in read_groups(source, keys)]
    folder = source if source.is_dir() else source.parent
    only = None if source.is_dir() else source
    if only is None and not specimens.event_files(folder):
        msg = f"{folder}: no FCS file and no table of events in it. Give the folder that holds them, or one .h5ad file."
        raise InputError(msg)
    rows = specimens.read_sheet(sheet or folder / specimens.SHEET, folder, keys, only=only)
    return [(one, _reading(one)) for one in rows]


def _returning(events: Events) -> Callable[[], Events]:
    return lambda: events


def _reading(specimen: Specimen) -> Callable[[], Events]:
    if specimen.path.suffix.lower() in specimens.TABLE_SUFFIXES:
        return lambda: read_table(specimen.path)
    return lambda: from_fcs(fcs.only_data_set(specimen.path, specimen.data_set))


def _pooled(
    sources: list[_Source], settings: CytometrySettings, universe: Panel | None, seed: int, observer: Observer
) -> list[Pooled]:
    spillover = None if settings.spillover is None else compensation.from_csv(settings.spillover)
    told: set[tuple[tuple[str, str | None], ...]] = set()
    kept: list[Pooled] = []
    first: FileReport | None = None
    for _, group in groupby(sources, key=lambda one: one[0].donor):
        of_donor = []
        for specimen, read in group:
            events = read()
            cleaned = to_markers(events, settings=settings, panel=universe, spillover=spillover)
            _tell(cleaned.report, specimen, told, observer)
            first = first or cleaned.report
            pool.check_alike(first, cleaned.report)
            of_donor.append(pool.pooled(specimen, events, cleaned, cap=settings.events_per_donor, seed=seed))
        kept += pool.share(of_donor, settings.events_per_donor)
    return kept


def _tell(
    report: FileReport, specimen: Specimen, told: set[tuple[tuple[str, str | None], ...]], observer: Observer
) -> None:
    names = tuple((str(one.label), one.marker) for one in report.assignments)
    if names not in told:
        told.add(names)
        observer("markers", {"file": report.source, "channels": pool.mapping(report.assignments)})
    counts = {"n_in": report.n_recorded, "n_out": report.n_cleaned}
    observer("file", {"file": report.source, "donor": specimen.donor, **counts})


def _notes(reports: list[FileReport]) -> Iterator[str]:
    """Yield each note once, with the files that it is about."""
    about: dict[str, list[str]] = {}
    for report in reports:
        for note in report.notes:
            about.setdefault(note, []).append(report.source)
    for note, files in about.items():
        others = f" and {len(files) - 1} others" if len(files) > 1 else ""
        yield f"{files[0]}{others}: {note}"


def _own_panel(report: FileReport, transform: Transform, name: str) -> Panel:
    features = tuple(Feature(marker, marker) for marker in report.markers)
    return Panel(name, "cytometry", "the files' own markers", features, transform.name, transform.cofactor)


def _var(panel: Panel, found: tuple[str, ...]) -> pd.DataFrame:
    present = set(found)
    columns = {"symbol": list(panel.symbols), "present": [marker in present for marker in panel.ids]}
    return pd.DataFrame(columns, index=pd.Index(panel.ids, dtype=object))


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}). Check the path and its permissions."
        raise InputError(msg) from error
