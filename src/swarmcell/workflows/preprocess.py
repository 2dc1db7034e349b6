"""Preprocess: a hospital's files to one prepared file.

Rules: RNA goes through `preprocess_rna`, events through `preprocess_cytometry`; nothing is written before everything
has been checked.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmcell.cells import labels, panel, schema
from swarmcell.cells.panel import Panel
from swarmcell.cells.readers import is_cytometry, rna_matrix
from swarmcell.config.preprocess import PreprocessConfig
from swarmcell.errors import UsageError
from swarmcell.files import refuse_existing, refuse_existing_folder
from swarmcell.workflows.preprocessing import prepared_labels
from swarmcell.workflows.preprocessing.cytometry import PreparedEvents, prepare_events
from swarmcell.workflows.preprocessing.prepared_labels import Observer
from swarmcell.workflows.preprocessing.rna import ZARR_MARK, PreparedRna, is_zarr_name, prepare_rna


@dataclass(frozen=True)
class Preprocessed:
    """What was prepared. `out` is `None` after a dry run; `summary` is plain values for JSON; `rna` its tables."""

    out: Path | None
    summary: dict[str, Any]
    rna: PreparedRna | None = None


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
        The prepared file to write; with the ending `.zarr` a zarr v3 folder (RNA).
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
        _refuse_target(out, config, force=force)
    universe = panel.load(config.universe) if config.universe else None
    if universe is not None and universe.modality != config.modality:
        msg = f"{config.universe}: a universe of {universe.modality}, but the modality is {config.modality}."
        raise UsageError(msg)
    _refuse_other_kind(source, config.modality)
    if config.modality == "cytometry":
        return _preprocess_cytometry(source, config, universe, None if dry_run else out, force, observer)
    made = prepare_rna(source, config, universe, None if dry_run else out, force=force, observer=observer)
    return (
        Preprocessed(None, made.summary, made)
        if dry_run
        else Preprocessed(out, {**made.summary, "out": str(out)}, made)
    )


def _refuse_other_kind(source: Path, modality: str) -> None:
    """Refuse files that are not of the kind that was asked for, before their sheet is held against them."""
    if not source.exists() or (is_cytometry(source) if modality == "cytometry" else not is_cytometry(source)):
        return
    matrix = rna_matrix(source) if modality == "cytometry" else None
    if modality == "cytometry" and matrix is None:
        return
    found, other = (f"{matrix.name} is an RNA matrix", "rna") if matrix else ("FCS files are cytometry", "cytometry")
    msg = (
        f'{source}: {found}; expected {modality}. Set modality = "{other}" in the configuration (--modality {other}), '
        f"or give the {modality} files."
    )
    raise UsageError(msg)


def _refuse_target(out: Path, config: PreprocessConfig, *, force: bool) -> None:
    if out.suffix not in {".h5ad", ".zarr"} and not out.is_dir():
        msg = f"{out}: a prepared file is .h5ad or .zarr. Name it so."
        raise UsageError(msg)
    if not is_zarr_name(out):
        refuse_existing(out, force=force)
    elif config.modality == "cytometry":
        msg = f"{out}: zarr is written of RNA only. Name an .h5ad file."
        raise UsageError(msg)
    else:
        refuse_existing_folder(out, force=force, mark=ZARR_MARK)


def _preprocess_cytometry(
    source: Path, config: PreprocessConfig, universe: Panel | None, out: Path | None, force: bool, observer: Observer
) -> Preprocessed:
    events: PreparedEvents = prepare_events(
        source,
        sheet=config.sheets[0] if config.sheets else None,
        keys=config.columns.names(),
        site=config.site or prepared_labels.site_name(source),
        settings=config.cytometry,
        universe=universe,
        seed=config.split.seed,
        observer=observer,
    )
    labelled: Any = events.adata.obs  # anndata states a wider type than it returns
    obs = labels.apply_vocabulary(labelled, config.labels, str(source))
    obs, notes = prepared_labels.assigned(obs, config)
    adata = events.adata
    adata.obs = obs
    content = {**events.qc, "notes": [*events.notes, *notes]}
    adata.uns[schema.UNS] = schema.contents(
        modality="cytometry",
        source_kind="events",
        universe=events.universe,
        qc=content,
        provenance=prepared_labels.provenance(config, events.inputs),
    )
    summary = {**prepared_labels.described(obs, events.universe), "qc": content, "notes": content["notes"]}
    if out is None:
        schema.check(adata, str(source))
        return Preprocessed(None, summary)
    schema.write_prepared(adata, out, force=force)
    return Preprocessed(out, {**summary, "out": str(out)})
