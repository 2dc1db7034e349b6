"""Preprocess: a hospital's files to one prepared file: sniff, read, attach, QC, universe, split, write.

Rules: RNA is read twice in blocks of rows, once to measure all cells and once to write those that are kept, so memory
does not grow with the number of values. Nothing is written before everything has been checked.
"""

import hashlib
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from swarmcell.cells import genes, labels, normalise, panel, qc, schema, sheets, split
from swarmcell.cells.genes import Alignment
from swarmcell.cells.panel import Panel
from swarmcell.cells.readers import CountSource, ReadOptions, is_cytometry, open_source
from swarmcell.cells.readers.source import Block
from swarmcell.cells.schema import CELL_TYPE, CONDITION, DONOR, SAMPLE, SITE, SPLIT
from swarmcell.cells.sheets import Sheets
from swarmcell.cells.writer import PreparedWriter
from swarmcell.config.preprocess import PreprocessConfig
from swarmcell.errors import CellsError, UsageError
from swarmcell.files import refuse_existing, writing
from swarmcell.workflows.preprocess_cytometry import PreparedEvents, prepare_events

Observer = Callable[[str, dict[str, Any]], None]
UNLABELLED = "unlabelled"
UNFILTERED_SHARE = 0.5  # of empty droplets, from which a matrix is called unfiltered; chosen
WHOLE_TRANSCRIPTOME = 5000  # features, from which few counts mean an empty droplet; chosen


@dataclass(frozen=True)
class Preprocessed:
    """What was prepared. `out` is `None` after a dry run; `summary` is plain values for JSON."""

    out: Path | None
    summary: dict[str, Any]


@dataclass(frozen=True)
class _Cells:
    """All cells of the site. `reasons`: why each is dropped, `""` if kept; `metrics` is `None` without counts."""

    obs: pd.DataFrame
    metrics: pd.DataFrame | None
    reasons: npt.NDArray[np.object_]

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.reasons == qc.KEPT)


def preprocess(
    source: Path,
    config: PreprocessConfig,
    out: Path,
    *,
    force: bool = False,
    dry_run: bool = False,
    observer: Observer,
) -> Preprocessed:
    """Prepare the cells of one site.

    Parameters
    ----------
    source
        A file or a folder in one of the formats of `cells.readers`, FCS included.
    config
        What the input is, which columns hold what, what is dropped and how it is split.
    out
        The prepared file to write.
    dry_run
        Read, map, judge and split, but write nothing.
    observer
        Is told `pass` (name, number of cells) and `cells` (number done) for progress.

    Raises
    ------
    InputError
        If a file is missing, unreadable or of no known format.
    CellsError
        If the cells break the data contract, or none is left.
    PanelError
        If too little of the universe was measured.
    OutputError
        If `out` exists (without `force`) or cannot be written.
    """
    if not dry_run:
        refuse_existing(out, force=force)
    universe = panel.load(config.universe) if config.universe else None
    if universe is not None and universe.modality != config.modality:
        msg = f"{config.universe}: a universe of {universe.modality}, but the modality is {config.modality}."
        raise UsageError(msg)
    if config.modality == "cytometry":
        return _preprocess_cytometry(source, config, universe, None if dry_run else out, force, observer)
    if source.exists() and is_cytometry(source):
        msg = f'{source}: FCS files are cytometry. Set modality = "cytometry" in the configuration (--modality).'
        raise UsageError(msg)
    return _preprocess_rna(source, config, universe, None if dry_run else out, force, observer)


def _preprocess_rna(
    source: Path, config: PreprocessConfig, universe: Panel | None, out: Path | None, force: bool, observer: Observer
) -> Preprocessed:
    beside = sheets.find_sheets(source, config.sheets)
    found = sheets.units(source, beside)
    options = ReadOptions(config.input, config.reading.genome, config.reading.cells_in)
    sources = [open_source(unit.path, options) for unit in found]
    site = config.site or _site_name(source)
    obs = _labels(sources, found, beside, config, site)
    universe = universe or genes.own_universe(sources, site)
    alignments = [genes.align(one, universe) for one in sources]
    cells = _judged(sources, alignments, universe, obs, config, observer)
    present = _everywhere(alignments)
    obs, notes = _split(cells, config)
    notes = (*(note for one in sources for note in one.notes), *_said_of(cells, sources), *notes)
    summary = _summary(obs, cells, alignments, universe, notes)
    if out is None:
        return Preprocessed(None, summary)
    digests = {path.name: _sha256(path) for path in _files(sources, beside)}
    contents = schema.contents(
        modality="rna",
        source_kind=config.input,
        universe=universe,
        qc=summary["qc"],
        provenance=_provenance(config, digests),
    )
    var = _var(universe, present)
    with writing(out, force=force) as temporary:
        _write(temporary, sources, alignments, cells.kept, config, (obs, var, contents), observer)
    return Preprocessed(out, {**summary, "out": str(out)})


def _preprocess_cytometry(
    source: Path, config: PreprocessConfig, universe: Panel | None, out: Path | None, force: bool, observer: Observer
) -> Preprocessed:
    events: PreparedEvents = prepare_events(
        source,
        sheet=config.sheets[0] if config.sheets else None,
        keys=config.columns.names(),
        site=config.site or _site_name(source),
        settings=config.cytometry,
        universe=universe,
        seed=config.split.seed,
        observer=observer,
    )
    obs = labels.apply_vocabulary(_frame(events.adata.obs), config.labels, str(source))
    obs, notes = _assigned(obs, config)
    adata = events.adata
    adata.obs = obs
    content = {**events.qc, "notes": [*events.notes, *notes]}
    adata.uns[schema.UNS] = schema.contents(
        modality="cytometry",
        source_kind="events",
        universe=events.universe,
        qc=content,
        provenance=_provenance(config, events.inputs),
    )
    summary = {**_described(obs, events.universe), "qc": content, "notes": content["notes"]}
    if out is None:
        schema.check(adata, str(source))
        return Preprocessed(None, summary)
    schema.write_prepared(adata, out, force=force)
    return Preprocessed(out, {**summary, "out": str(out)})


def _labels(
    sources: list[CountSource], found: list[sheets.Unit], beside: Sheets, config: PreprocessConfig, site: str
) -> pd.DataFrame:
    alone = len(sources) == 1
    frames = [
        labels.attach(one, unit, beside, config.columns, alone=alone) for one, unit in zip(sources, found, strict=True)
    ]
    tables = [*(one.obs for one in sources), *(t for t in (beside.samples, beside.cells) if t is not None)]
    known = list(dict.fromkeys(str(name) for table in tables for name in table.columns))
    source = str(found[0].path if alone else beside.folder)
    obs = labels.complete(pd.concat(frames), config.columns, known, site=site, source=source)
    obs = labels.apply_vocabulary(obs, config.labels, source)
    obs.index = labels.cell_names(obs, source)
    schema.check_samples(obs, source)
    return obs


def _judged(
    sources: list[CountSource],
    alignments: list[Alignment],
    universe: Panel,
    obs: pd.DataFrame,
    config: PreprocessConfig,
    observer: Observer,
) -> _Cells:
    measured = _measured(sources, alignments, universe, len(obs), observer)
    reasons = np.full(len(obs), qc.KEPT, dtype=object)
    if CELL_TYPE in obs:
        reasons[obs[CELL_TYPE].isna().to_numpy()] = UNLABELLED
    if config.input == "counts":
        by_qc = qc.judge(measured, obs[SAMPLE], config.qc)
        reasons = np.where(by_qc == qc.KEPT, reasons, by_qc)
    if not (reasons == qc.KEPT).any():
        why = ", ".join(f"{name} {n}" for name, n in qc.summary(reasons, obs, None)["dropped"].items())
        msg = f"{sources[0].path}: no cell is left of {len(obs)} ({why}). Loosen the floors and limits in [qc]."
        raise CellsError(msg)
    return _Cells(obs, measured if config.input == "counts" else None, reasons)


def _measured(
    sources: list[CountSource], alignments: list[Alignment], universe: Panel, n_cells: int, observer: Observer
) -> pd.DataFrame:
    """Read everything once: values are checked on the way, counts are measured."""
    observer("pass", {"name": "measure", "n": n_cells})
    frames: list[pd.DataFrame] = []
    for one, alignment in zip(sources, alignments, strict=True):
        sets = qc.gene_sets(_symbols(one, alignment, universe))
        for block in one.blocks():
            if one.kind == "counts":
                frames.append(qc.metrics(block, sets))
            observer("cells", {"n": block.shape[0]})
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _symbols(source: CountSource, alignment: Alignment, universe: Panel) -> npt.NDArray[np.object_]:
    """Return symbols by the universe where a feature is in it: files with IDs only have none of their own."""
    known = np.array([*universe.symbols, ""], dtype=object)
    return np.where(alignment.place >= 0, known[alignment.place], source.symbols)


def _split(cells: _Cells, config: PreprocessConfig) -> tuple[pd.DataFrame, tuple[str, ...]]:
    obs = cells.obs[cells.kept]
    if cells.metrics is not None:
        for name in cells.metrics:
            column = cells.metrics[name].to_numpy()[cells.kept]
            obs = obs.assign(**{str(name): column if column.dtype.kind == "i" else column.astype(np.float32)})
    return _assigned(obs, config)


def _assigned(obs: pd.DataFrame, config: PreprocessConfig) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Add the split, site by site."""
    obs, notes = obs.copy(), list[str]()
    sites, sides = obs[SITE].astype(str).to_numpy(), np.full(len(obs), split.TRAIN, dtype=object)
    for site in sorted(set(sites)):
        rows = obs[sites == site]
        made = split.assign(labels.strata(rows), config.split, site=site)
        sides[sites == site] = [made.side[str(donor)] for donor in rows[DONOR]]
        notes += [*made.notes, *_lonely(rows, site)]
    obs[SPLIT] = sides
    for name in (*schema.LABELS, *config.columns.covariates):
        if name in obs:
            obs[name] = schema.categories(obs[name])
    obs.index = pd.Index(np.asarray(obs.index, dtype=object), dtype=object)
    schema.check_labels(obs, "the cells")
    return obs, tuple(notes)


def _lonely(obs: pd.DataFrame, site: str) -> Iterator[str]:
    if obs[DONOR].nunique() == 1:
        yield f"{site}: has one donor."
    if CONDITION in obs and obs[CONDITION].nunique() == 1:
        yield f"{site}: has one condition ({obs[CONDITION].iloc[0]}); it cannot learn the patient task alone."


def _said_of(cells: _Cells, sources: list[CountSource]) -> Iterator[str]:
    if cells.metrics is None:
        yield "Log-normalised input: no QC by counts and no selection of genes by counts."
        return
    if not cells.metrics["mito_share"].any():
        yield "No mitochondrial counts were found (symbols MT-...): their share was not judged."
    n_empty, n_cells = qc.n_empty(cells.metrics), len(cells.obs)
    if n_empty > UNFILTERED_SHARE * n_cells and len(sources[0].ids) >= WHOLE_TRANSCRIPTOME:
        yield (
            f"{sources[0].path.name}: {n_empty} of {n_cells} barcodes hold fewer than {qc.EMPTY_COUNTS_MAX} counts, "
            "as empty droplets do: this looks like an unfiltered matrix. The filtered one is the better input."
        )


def _write(
    path: Path,
    sources: list[CountSource],
    alignments: list[Alignment],
    kept: npt.NDArray[np.bool_],
    config: PreprocessConfig,
    frames: tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]],
    observer: Observer,
) -> None:
    observer("pass", {"name": "write", "n": len(kept)})
    writer = PreparedWriter(path, alignments[0].n_universe, with_counts=config.input == "counts")
    try:
        for block in _kept_blocks(sources, alignments, kept, observer):
            if config.input == "counts":
                writer.add(normalise.log1p_cp10k(block), block)
            else:
                writer.add(block, None)
        writer.finish(*frames)
    finally:
        writer.close()


def _kept_blocks(
    sources: list[CountSource], alignments: list[Alignment], kept: npt.NDArray[np.bool_], observer: Observer
) -> Iterator[Block]:
    start = 0
    for one, alignment in zip(sources, alignments, strict=True):
        for block in one.blocks():
            n_rows = block.shape[0]
            yield _aligned(block[kept[start : start + n_rows]], alignment, one.kind)
            start += n_rows
            observer("cells", {"n": n_rows})


def _aligned(block: Block, alignment: Alignment, kind: str) -> Block:
    """Bring rows to the universe; merged features are summed as counts, so log values are summed before the log."""
    if kind == "counts" or not alignment.n_merged:
        return alignment.apply(block)
    return alignment.apply(block.expm1()).log1p()


def _everywhere(alignments: list[Alignment]) -> npt.NDArray[np.bool_]:
    """Return which features every matrix of the site measured: elsewhere a zero may be a gap."""
    present = np.logical_and.reduce([alignment.present for alignment in alignments])
    return np.asarray(present, dtype=np.bool_)


def _var(universe: Panel, present: npt.NDArray[np.bool_]) -> pd.DataFrame:
    index = pd.Index(np.array(universe.ids, dtype=object), dtype=object)
    symbols = pd.Series(np.array(universe.symbols, dtype=object), index=index, dtype=object)
    return pd.DataFrame({"symbol": symbols, "present": present}, index=index)


def _summary(
    obs: pd.DataFrame, cells: _Cells, alignments: list[Alignment], universe: Panel, notes: tuple[str, ...]
) -> dict[str, Any]:
    content = qc.summary(cells.reasons, cells.obs, cells.metrics)
    present = _everywhere(alignments)
    mapped: dict[str, Any] = {
        "in_universe": len(universe.ids),
        "present": int(present.sum()),
        "absent": [name for name, there in zip(universe.symbols, present, strict=True) if not there][:100],
        "merged": max(alignment.n_merged for alignment in alignments),
        "mapped_by": {how: max(a.by.get(how, 0) for a in alignments) for how in ("id", "symbol", "alias")},
        "unmapped": max(len(alignment.unmapped) for alignment in alignments),
        "unmapped_first": list(alignments[0].unmapped[:100]),
    }
    content |= {"genes": mapped, "notes": list(notes)}
    return {**_described(obs, universe), "qc": content, "notes": list(notes)}


def _described(obs: pd.DataFrame, universe: Panel) -> dict[str, Any]:
    held = obs[obs[SPLIT] == split.HELD_OUT]
    names = {key: sorted(map(str, obs[key].unique())) for key in (SITE, CONDITION, CELL_TYPE) if key in obs}
    return {
        "cells": len(obs),
        "features": len(universe.ids),
        "universe_sha256": universe.sha256,
        "sites": names[SITE],
        "donors": int(obs[DONOR].nunique()),
        "samples": int(obs[SAMPLE].nunique()),
        "held_out_donors": sorted(map(str, held[DONOR].unique())),
        "conditions": names.get(CONDITION, []),
        "cell_types": names.get(CELL_TYPE, []),
    }


def _provenance(config: PreprocessConfig, digests: dict[str, str]) -> dict[str, Any]:
    packages = ("swarmcell", "anndata", "numpy", "scipy", "pandas")
    stated = config.model_dump(mode="json", exclude={"universe", "sheets"})
    return {
        "inputs_sha256": digests,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "config": stated,
    }


def _files(sources: list[CountSource], beside: Sheets) -> Iterator[Path]:
    for one in sources:
        yield from sorted(p for p in one.path.rglob("*") if p.is_file()) if one.path.is_dir() else [one.path]
    yield from beside.paths


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _frame(table: Any) -> pd.DataFrame:  # noqa: ANN401 (anndata states a wider type than it returns)
    return pd.DataFrame(table)


def _site_name(source: Path) -> str:
    return labels.stem(source.resolve().name)
