"""Preprocess RNA: open, label, map to the universe, judge, look for doublets, split, and write what is kept.

Rules: everything that can be wrong is found before the first byte is written. Values are read in passes of blocks
(`rna_passes`), so memory does not grow with their number.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from swarmcell.cells import genes, labels, qc, schema, sheets
from swarmcell.cells.panel import Panel
from swarmcell.cells.readers import CountSource, ReadOptions, open_source
from swarmcell.cells.schema import CELL_TYPE, DONOR, SAMPLE
from swarmcell.cells.sheets import Sheets
from swarmcell.config.preprocess import PreprocessConfig
from swarmcell.errors import CellsError
from swarmcell.files import writing, writing_folder
from swarmcell.workflows.preprocessing import prepared_labels, rna_passes
from swarmcell.workflows.preprocessing.prepared_labels import Observer
from swarmcell.workflows.preprocessing.rna_passes import Aligned, Scored

ZARR_MARK = "zarr.json"  # every zarr v3 group holds it
UNLABELLED, DOUBLET = "unlabelled", "doublet"
UNFILTERED_SHARE = 0.5  # of empty droplets, from which a matrix is called unfiltered; chosen
MARKERS_MAX = 100  # features, up to which a file may be one of cytometry; chosen: about twice the largest panels
WHOLE_TRANSCRIPTOME = 5000  # features, from which few counts mean an empty droplet; chosen


@dataclass(frozen=True)
class PreparedRna:
    """What was prepared, or would be.

    Attributes
    ----------
    summary
        Plain values for JSON.
    quality
        One row per cell that was read: donor, sample, `reason` (`""`: kept), and its metrics, where there are counts.
    unmapped
        One row per feature that is not in the universe: `file`, `id`, `symbol`, `why`.
    """

    summary: dict[str, Any]
    quality: pd.DataFrame
    unmapped: pd.DataFrame


@dataclass(frozen=True)
class _Cells:
    """All cells of the site. `reasons`: why each is dropped, `""` if kept; `metrics` is `None` without counts."""

    obs: pd.DataFrame
    metrics: pd.DataFrame | None
    reasons: npt.NDArray[np.object_]
    found: Scored | None = None

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.reasons == qc.KEPT)


def prepare_rna(
    source: Path, config: PreprocessConfig, universe: Panel | None, out: Path | None, *, force: bool, observer: Observer
) -> PreparedRna:
    """Prepare a site's RNA; `out` is `None` in a dry run.

    Raises
    ------
    InputError, CellsError, PanelError, OutputError
        As `workflows.preprocess`.
    """
    beside = sheets.find_sheets(source, config.sheets)
    found = sheets.units(source, beside)
    options = ReadOptions(config.input, config.reading.genome, config.reading.cells_in)
    sources = [open_source(unit.path, options) for unit in found]
    site = config.site or prepared_labels.site_name(source)
    obs = _labels(sources, found, beside, config, site)
    universe = universe or genes.own_universe(sources, site)
    aligned = Aligned(sources, [genes.align(one, universe) for one in sources], universe)
    cells = _judged(aligned, obs, config, observer)
    kept, notes = prepared_labels.assigned(cells.obs[cells.kept], config)
    kept = kept.assign(**_measured_of(cells))
    notes = (*(note for one in sources for note in one.notes), *_said_of(cells, sources), *notes)
    summary = _summary(kept, cells, aligned, notes)
    if config.input == "counts":
        summary["qc"]["limits"] = config.qc.limits
    quality, is_kept = _quality(cells), cells.kept
    del cells, obs  # a hundred bytes per cell, before the pass that writes
    if out is not None:
        contents = schema.contents(
            modality="rna",
            source_kind=config.input,
            universe=universe,
            qc=summary["qc"],
            provenance=prepared_labels.provenance(config, _digests(sources, beside)),
        )
        frames = (kept, _var(aligned), contents)
        with _opened(out, force) as temporary:
            rna_passes.write(
                temporary, aligned, is_kept, frames, observer, storage=config.storage, zarr=is_zarr_name(out)
            )
    return PreparedRna(summary, quality, genes.unmapped_table(sources, aligned.alignments, universe))


def is_zarr_name(out: Path) -> bool:
    """Tell whether the prepared file is to be a zarr folder."""
    return out.suffix == ".zarr"


def _opened(out: Path, force: bool) -> AbstractContextManager[Path]:
    return writing_folder(out, force=force, mark=ZARR_MARK) if is_zarr_name(out) else writing(out, force=force)


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
    for name in schema.LABELS:
        if name in obs:
            obs[name] = schema.categories(obs[name])  # a byte or two per cell
    schema.check_samples(obs, source)
    return obs


def _judged(aligned: Aligned, obs: pd.DataFrame, config: PreprocessConfig, observer: Observer) -> _Cells:
    measured = rna_passes.measured(aligned, len(obs), observer)
    reasons = np.full(len(obs), qc.KEPT, dtype=object)
    if CELL_TYPE in obs:
        reasons[obs[CELL_TYPE].isna().to_numpy()] = UNLABELLED
    if config.input == "lognorm":
        _refuse_none_left(reasons, obs, aligned)
        return _Cells(obs, None, reasons)
    by_qc = qc.judge(measured, obs[SAMPLE], config.qc)
    reasons = np.where(by_qc == qc.KEPT, reasons, by_qc)
    _refuse_none_left(reasons, obs, aligned)
    found = None
    if config.qc.doublets != "off":
        samples, passed = obs[SAMPLE].astype(str).to_numpy(dtype=object), np.asarray(by_qc == qc.KEPT)
        found = rna_passes.scored(aligned, samples, passed, measured, seed=config.split.seed, observer=observer)
        if config.qc.doublets == "drop":
            reasons[found.called & (reasons == qc.KEPT)] = DOUBLET
    return _Cells(obs, measured, reasons, found)


def _refuse_none_left(reasons: npt.NDArray[np.object_], obs: pd.DataFrame, aligned: Aligned) -> None:
    if not (reasons == qc.KEPT).any():
        why = ", ".join(f"{name} {n}" for name, n in qc.summary(reasons, obs, None)["dropped"].items())
        msg = f"{aligned.sources[0].path}: no cell is left of {len(obs)} ({why}). Loosen the floors and limits in [qc]."
        error = CellsError(msg)
        if (n_vars := len(aligned.universe.ids)) <= MARKERS_MAX:
            error.add_note(f"These are {n_vars} features. If they are markers of cytometry: --modality cytometry.")
        raise error


def _measured_of(cells: _Cells) -> dict[str, npt.NDArray[Any]]:
    """Return columns of obs for the cells that are kept: what was measured of them."""
    added: dict[str, npt.NDArray[Any]] = {}
    metrics = pd.DataFrame() if cells.metrics is None else cells.metrics
    for name in metrics:
        column = metrics[name].to_numpy()[cells.kept]
        added[str(name)] = column if column.dtype.kind == "i" else column.astype(np.float32)
    if cells.found is not None:
        added |= {"doublet_score": cells.found.score[cells.kept], "doublet": cells.found.called[cells.kept]}
    return added


def _quality(cells: _Cells) -> pd.DataFrame:
    columns = {} if cells.metrics is None else {str(name): cells.metrics[name] for name in cells.metrics}
    frame = pd.DataFrame({name: column.to_numpy(dtype=np.float32) for name, column in columns.items()})
    frame["reason"] = pd.Categorical(cells.reasons)
    for name in (DONOR, SAMPLE):
        frame[name] = schema.categories(cells.obs[name]).array
    if cells.found is not None:
        frame["doublet_score"] = cells.found.score
    return frame


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
    if cells.found is not None and (vague := [s for s, t in cells.found.thresholds.items() if t is None]):
        yield (
            f"Doublets: the scores of {len(vague)} samples have no second mode ({', '.join(vague[:5])}): none is "
            "called there. Look at obs['doublet_score']."
        )


def _var(aligned: Aligned) -> pd.DataFrame:
    index = pd.Index(np.array(aligned.universe.ids, dtype=object), dtype=object)
    symbols = pd.Series(np.array(aligned.universe.symbols, dtype=object), index=index, dtype=object)
    return pd.DataFrame({"symbol": symbols, "present": aligned.present}, index=index)


def _summary(obs: pd.DataFrame, cells: _Cells, aligned: Aligned, notes: tuple[str, ...]) -> dict[str, Any]:
    content = qc.summary(cells.reasons, cells.obs, cells.metrics)
    present, universe = aligned.present, aligned.universe
    mapped: dict[str, Any] = {
        "in_universe": len(universe.ids),
        "present": int(present.sum()),
        "absent": [name for name, there in zip(universe.symbols, present, strict=True) if not there][:100],
        "merged": max(alignment.n_merged for alignment in aligned.alignments),
        "mapped_by": {how: max(a.by.get(how, 0) for a in aligned.alignments) for how in ("id", "symbol", "alias")},
        "unmapped": max(len(alignment.unmapped) for alignment in aligned.alignments),
        "unmapped_first": list(aligned.alignments[0].unmapped[:100]),
    }
    content |= {"genes": mapped, "notes": list(notes)}
    if cells.found is not None:
        content["doublets"] = {
            "called": int(cells.found.called.sum()),
            "scored": int(np.isfinite(cells.found.score).sum()),
            "thresholds": {sample: cells.found.thresholds[sample] for sample in sorted(cells.found.thresholds)},
        }
    return {**prepared_labels.described(obs, universe), "qc": content, "notes": list(notes)}


def _digests(sources: list[CountSource], beside: Sheets) -> dict[str, str]:
    return {path.name: prepared_labels.sha256(path) for path in _files(sources, beside)}


def _files(sources: list[CountSource], beside: Sheets) -> Iterator[Path]:
    for one in sources:
        yield from sorted(p for p in one.path.rglob("*") if p.is_file()) if one.path.is_dir() else [one.path]
    yield from beside.paths
