"""Whether a prepared file fits a study: the checks that a site makes before it joins, each with its remedy."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from swarmcell.cells import schema
from swarmcell.cells.split import TRAIN
from swarmcell.cells.stored import NO_COUNTS
from swarmcell.errors import CellsError, PanelError, SwarmcellError
from swarmcell.model.study import Study

if TYPE_CHECKING:
    from anndata import AnnData

_SHOWN = 5


def faults(adata: "AnnData", study: Study, *, source: str) -> Iterator[SwarmcellError]:
    """Yield every reason why these cells cannot take part in this study.

    Parameters
    ----------
    adata
        A prepared file's cells, shape `(n_obs, n_vars)`.
    study
        The rules of the study.
    source
        The name that a message shows.
    """
    yield from _universe(adata, study, source)
    yield from _counts(adata, study, source)
    types, conditions = "cell" in study.stages, "patient" in study.stages
    if study.strata is not None:  # it counts the files' own types unless a model tells them, and tests known conditions
        types = bool(study.cell_types) and not study.strata.cell_model
        conditions = schema.CONDITION in adata.obs
    yield from _labels(adata, schema.CELL_TYPE, study.cell_types, types, source)
    yield from _labels(adata, schema.CONDITION, study.conditions, conditions, source)
    yield from _floors(adata, study, source)


def refuse_unfit(adata: "AnnData", study: Study, *, source: str) -> None:
    """Raise the first reason why these cells cannot take part.

    Raises
    ------
    PanelError
        If they were prepared with another universe.
    CellsError
        If the modality, a label or a floor does not fit.
    """
    for fault in faults(adata, study, source=source):
        raise fault


def refuse_other_universe(adata: "AnnData", study: Study, *, source: str) -> None:
    """Raise if the cells are of another modality or universe than the study; floors and labels are not looked at.

    Raises
    ------
    PanelError
        If they were prepared with another universe.
    CellsError
        If the modality is another.
    """
    for fault in _universe(adata, study, source):
        raise fault


def _universe(adata: "AnnData", study: Study, source: str) -> Iterator[SwarmcellError]:
    stored = adata.uns[schema.UNS]
    if stored["modality"] != study.modality:
        yield CellsError(
            f"{source}: holds {stored['modality']} cells, and study {study.name!r} learns from {study.modality}. "
            "Join with the right file."
        )
    if study.universe_sha256 and stored["universe_sha256"] != study.universe_sha256:
        yield PanelError(
            f"{source}: prepared with the universe {stored['universe_sha256'][:12]}…; study {study.name!r} asks for "
            f"{study.universe_sha256[:12]}…. Prepare it again with the study's universe (swarmcell panel diff)."
        )


def _counts(adata: "AnnData", study: Study, source: str) -> Iterator[SwarmcellError]:
    if study.features.needs_counts and adata.uns[schema.UNS]["input"] != "counts":
        yield CellsError(f"{source}: {NO_COUNTS}")


def _labels(
    adata: "AnnData", column: str, vocabulary: tuple[str, ...], needed: bool, source: str
) -> Iterator[SwarmcellError]:
    if not needed:
        return
    if column not in adata.obs:
        yield CellsError(
            f"{source}: has no {column}, and the study has a stage that learns it. Attach it by the sheet."
        )
        return
    unknown = sorted(set(adata.obs[column].astype(str)) - set(vocabulary)) if vocabulary else []
    if unknown:
        yield CellsError(
            f"{source}: {column} {', '.join(map(repr, unknown[:_SHOWN]))} not in the study's vocabulary "
            f"({', '.join(vocabulary)}). Rename the labels in the sheet, and prepare it again."
        )


def _floors(adata: "AnnData", study: Study, source: str) -> Iterator[SwarmcellError]:
    taken = np.asarray(adata.obs[schema.SPLIT].astype(str) == TRAIN) | (study.strata is not None)
    n_donors = adata.obs[schema.DONOR][taken].astype(str).nunique()
    n_cells = int(taken.sum())
    if n_donors < study.floors.donors or n_cells < study.floors.cells:
        yield CellsError(
            f"{source}: takes part with {n_donors} donors and {n_cells} cells; below the study's floors of "
            f"{study.floors.donors} donors and {study.floors.cells} cells a site publishes no sum. Add donors, or "
            "agree on other floors in a new swarm."
        )
