"""The QC report of a prepared file: one HTML file for the site's own eyes, made of the summary and the densities.

Rules: the page computes nothing; what it says stands in the prepared file too. It names donors: it is not to be sent.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anndata as ad

from swarmcell import __version__
from swarmcell.files import writing
from swarmcell.report import cells_table, html, style
from swarmcell.report.density_pictures import marker_densities
from swarmcell.report.events_table import sentences
from swarmcell.report.rna_pictures import rna_pictures
from swarmcell.report.style import Picture
from swarmcell.workflows.preprocessing.rna import PreparedRna


def write_qc_report(
    summary: dict[str, Any], prepared: Path, path: Path, *, rna: PreparedRna | None = None, force: bool = False
) -> None:
    """Write the QC report of a prepared file, and beside it (RNA) a table of the features that did not map.

    Parameters
    ----------
    summary
        What `workflows.preprocess` returned.
    prepared
        The prepared file, of which the densities of markers are drawn (cytometry).
    rna
        What was measured of each cell, and what did not map (RNA).

    Raises
    ------
    OutputError
        If `path` exists (without `force`) or cannot be written.
    """
    with style.theme():
        if rna is not None:
            pictures = rna_pictures(rna.quality, summary["qc"].get("limits", {}))
        else:
            pictures = [marker_densities(ad.read_h5ad(prepared))]
        text = render(summary, pictures)
    with writing(path, force=force) as temporary:
        temporary.write_text(text, encoding="utf-8")
    if rna is not None:
        with writing(unmapped_path(path), force=force) as temporary:
            rna.unmapped.to_csv(temporary, sep="\t", index=False)


def unmapped_path(report: Path) -> Path:
    """Return where the table of features that did not map stands: beside the report."""
    return report.with_name(f"{report.stem}.unmapped.tsv")


def render(summary: dict[str, Any], pictures: Sequence[Picture]) -> str:
    """Return the report as HTML text."""
    qc = summary["qc"]
    is_events = "channels" in qc
    donors = qc["donors"] if is_events else qc["by_donor"]
    return (
        html.environment(number=_number)
        .get_template("qc.html.j2")
        .render(
            s=summary,
            qc=qc,
            donors=donors,
            markers=list(next(iter(donors.values())).get("medians", {})) if donors else [],
            sentences=sentences(qc) if is_events else [_kept(qc), *cells_table.sentences(qc)],
            pictures=pictures,
            cells="events" if is_events else "cells",
            features="markers" if is_events else "features",
            version=__version__,
        )
    )


def _kept(qc: dict[str, Any]) -> str:
    return f"{qc['cells_out']:,} of {qc['cells_in']:,} cells are kept."


def _number(value: float) -> str:
    return f"{value:,}"
