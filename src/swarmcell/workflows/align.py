"""`align`: quantile alignment of cytometry between sites, in two steps that a site does on its own files.

Rules: a site below the floors publishes no histogram. The aligned file carries another universe, whose reference names
the histograms that it was aligned to, so that a swarm of aligned files takes no other.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from swarmcell.cells import panel, quantile_alignment, schema
from swarmcell.cells.quantile_alignment import Histogram
from swarmcell.cells.split import TRAIN
from swarmcell.errors import CellsError, PanelError
from swarmcell.files import refuse_existing, write_whole
from swarmcell.model.study import Floors

if TYPE_CHECKING:
    from anndata import AnnData

    from swarmcell.cells.panel import Panel


@dataclass(frozen=True)
class AlignedFile:
    """What was written: the universe of the aligned file, and by how much each marker's median moved."""

    universe: "Panel"
    sites: tuple[str, ...]
    moved: dict[str, float]


def publish(prepared: Path, out: Path, *, floors: Floors, force: bool = False) -> Histogram:
    """Write the histogram of a prepared file's training cells.

    Raises
    ------
    CellsError
        If the file is not of one site, or is below the floors.
    PanelError
        If its values are not of a transform that can be aligned.
    OutputError
        If `out` exists (without `force`) or cannot be written.
    """
    adata = schema.read_prepared(prepared)
    mine = _histogram(adata, prepared.name)
    if mine.n_donors < floors.donors or mine.n_cells < floors.cells:
        msg = (
            f"{prepared.name}: {mine.n_cells} training cells of {mine.n_donors} donor(s); below {floors.cells} cells "
            f"and {floors.donors} donors a site publishes no histogram. Add donors, or lower the floors for research."
        )
        raise CellsError(msg)
    write_whole(out, (quantile_alignment.to_json(mine) + "\n").encode(), force=force)
    return mine


def apply(
    prepared: Path, histograms: Sequence[Path], out: Path, *, universe_out: Path | None = None, force: bool = False
) -> AlignedFile:
    """Write a prepared file whose markers are distributed as in all sites' histograms together.

    Parameters
    ----------
    prepared
        A cytometry file of one site; of a site without a histogram its own cells say how to move it.
    histograms
        Every site's, this one's included if it took part.
    universe_out
        Where to write the universe of the aligned files, for the study's configuration.

    Raises
    ------
    CellsError, PanelError
        If the file or the histograms do not fit.
    OutputError
        If a target exists (without `force`) or cannot be written.
    """
    for target_path in (out, universe_out):
        if target_path is not None:
            refuse_existing(target_path, force=force)
    adata: Any = schema.read_prepared(prepared)
    mine = _histogram(adata, prepared.name)
    everyone = [quantile_alignment.load(path) for path in histograms]
    target = quantile_alignment.reference(everyone)
    if everyone[0].universe_sha256 != mine.universe_sha256:
        msg = (
            f"{prepared.name}: prepared with the universe {mine.universe_sha256[:12]}…, the histograms are of "
            f"{everyone[0].universe_sha256[:12]}…. Prepare it with the same one."
        )
        raise PanelError(msg)
    before = _dense(adata)
    at = quantile_alignment.edges(schema.universe_of(adata))
    adata.X = quantile_alignment.aligned(before, mine.counts, target, at)
    digest = quantile_alignment.digest(target, mine.universe_sha256)
    universe = _relabel(adata, digest, tuple(one.site for one in everyone))
    schema.write_prepared(adata, out, force=force)
    if universe_out is not None:
        panel.dump(universe, universe_out, force=force)
    shift = np.median(_dense(adata), axis=0) - np.median(before, axis=0)
    moved = {name: round(float(value), 4) for name, value in zip(universe.ids, shift, strict=True)}
    return AlignedFile(universe, tuple(sorted(one.site for one in everyone)), moved)


def _histogram(adata: "AnnData", source: str) -> Histogram:
    sites = sorted(adata.obs[schema.SITE].astype(str).unique())
    if len(sites) != 1:
        msg = f"{source}: holds cells of {', '.join(sites)}; each site is aligned by itself. Split the file by site."
        raise CellsError(msg)
    universe = schema.universe_of(adata)
    at = quantile_alignment.edges(universe)
    trained = np.asarray(adata.obs[schema.SPLIT].astype(str) == TRAIN)
    rows = trained if trained.any() else np.ones(adata.n_obs, bool)
    counts = quantile_alignment.counted(_dense(adata)[rows], at)
    n_donors = adata.obs[schema.DONOR][rows].astype(str).nunique()
    return Histogram(sites[0], universe.sha256, int(n_donors), int(rows.sum()), counts)


def _relabel(adata: "AnnData", digest: str, sites: tuple[str, ...]) -> "Panel":
    """Give the cells the universe of this reference, and say so in their provenance."""
    before = schema.universe_of(adata)
    universe = replace(before, reference=f"{before.reference}; quantiles of {digest[:16]}".removeprefix("; "))
    stored = adata.uns[schema.UNS]
    provenance = json.loads(str(stored["provenance"])) | {"aligned_to": {"sha256": digest, "sites": sorted(sites)}}
    adata.uns[schema.UNS] = dict(stored) | {
        "universe": panel.to_json(universe),
        "universe_sha256": universe.sha256,
        "provenance": json.dumps(provenance, sort_keys=True),
    }
    return universe


def _dense(adata: "AnnData") -> npt.NDArray[np.float32]:
    X: Any = adata.X
    return np.asarray(X.toarray() if hasattr(X, "toarray") else X, np.float32)
