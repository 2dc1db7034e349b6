"""The summary of a preprocess run, for people: cells in, cells out and why, per donor."""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from swarmcell.cells.doublets import CELLS_MIN
from swarmcell.report.events_table import events_summary

DONORS_SHOWN = 40


def preprocess_summary(summary: dict[str, Any]) -> Group:
    """Return the summary of `workflows.preprocess` as something that rich prints."""
    qc = summary["qc"]
    parts: list[Any] = [Text(_headline(summary))]
    if "by_donor" in qc:
        parts += [_cells(qc, set(summary["held_out_donors"])), *map(Text, sentences(qc))]
    elif "donors" in qc:
        parts += events_summary(qc)
    parts += [Text(f"note: {note}") for note in summary["notes"]]
    return Group(*parts)


def _headline(summary: dict[str, Any]) -> str:
    labels = [f"{len(summary[key])} {key.replace('_', ' ')}" for key in ("conditions", "cell_types") if summary[key]]
    size = f"{summary['cells']} cells x {summary['features']} features"
    donors = f"{summary['donors']} donors ({len(summary['held_out_donors'])} held out), {summary['samples']} samples"
    return f"{', '.join(summary['sites'])}: {size}, {donors}, {', '.join(labels) or 'no labels'}"


def _cells(qc: dict[str, Any], held_out: set[str]) -> Table:
    reasons = sorted(qc["dropped"])
    table = Table(title="Cells per donor", padding=0)  # ten columns fit into 80 characters
    table.add_column("donor", no_wrap=True)
    table.add_column("held\nout", justify="center")
    for name in ("in", *reasons, "out"):
        table.add_column(name.replace("_", "\n"), justify="right")
    donors = list(qc["by_donor"].items())
    for donor, counted in donors[:DONORS_SHOWN]:
        table.add_row(donor, "yes" if donor in held_out else "", *_row(counted, reasons))
    if len(donors) > DONORS_SHOWN:
        table.add_row(f"... {len(donors) - DONORS_SHOWN} more donors", *("" for _ in range(len(reasons) + 3)))
    table.add_section()
    table.add_row("all", "", *_row(qc, reasons))
    return table


def _row(counted: dict[str, Any], reasons: list[str]) -> list[str]:
    return [
        str(n) for n in (counted["cells_in"], *(counted["dropped"].get(r, 0) for r in reasons), counted["cells_out"])
    ]


def sentences(qc: dict[str, Any]) -> list[str]:
    """Return in words how features mapped, and how many doublets were found."""
    said = [_genes(qc["genes"])]
    if "doublets" in qc:
        found = qc["doublets"]
        said.append(
            f"doublets: {found['called']} among {found['scored']} cells that were scored (those of samples with "
            f"{CELLS_MIN} cells or more)"
        )
    return said


def _genes(genes: dict[str, Any]) -> str:
    by = ", ".join(f"{n} by {how}" for how, n in genes["mapped_by"].items() if n)
    return (
        f"features: {genes['present']} of {genes['in_universe']} of the universe are present ({by}); "
        f"{genes['merged']} were added to another, {genes['unmapped']} of the file are not in the universe"
    )
