"""What was done to a site's cytometry events, for people: events in and out per donor and why, and what to know."""

from collections import Counter
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

DONORS_SHOWN = 40


def events_summary(qc: dict[str, Any]) -> list[RenderableType]:
    """Return the QC summary of `pool.summary` as what rich prints: a table of donors, compensation and transform."""
    return [_donors(qc), *(Text(line) for line in sentences(qc))]


def sentences(qc: dict[str, Any]) -> list[str]:
    """Return in words what technology was found, how values were transformed, and how files were compensated."""
    return [_done(qc), *_compensations(qc)]


def _donors(qc: dict[str, Any]) -> Table:
    reasons = list(qc["dropped"])
    table = Table(title="Events per donor", title_justify="left")
    for name in ("donor", "in", *reasons, "out"):
        table.add_column(name, justify="left" if name == "donor" else "right")
    donors = list(qc["donors"].items())
    for donor, counted in donors[:DONORS_SHOWN]:
        table.add_row(donor, *_row(counted, reasons))
    if len(donors) > DONORS_SHOWN:
        table.add_row(f"... {len(donors) - DONORS_SHOWN} more donors")
    table.add_section()
    table.add_row("all", *_row(qc, reasons))
    return table


def _row(counted: dict[str, Any], reasons: list[str]) -> list[str]:
    dropped = [counted["dropped"].get(reason, 0) for reason in reasons]
    return [f"{n:,}" for n in (counted["cells_in"], *dropped, counted["cells_out"])]


def _done(qc: dict[str, Any]) -> str:
    cofactor = "" if qc["cofactor"] is None else f" with cofactor {qc['cofactor']:g}"
    markers = sum(bool(one["marker"]) for one in qc["channels"])
    return f"{qc['technology']} cytometry, {markers} markers, transform {qc['transform']}{cofactor}"


def _compensations(qc: dict[str, Any]) -> list[str]:
    counted = Counter(one["compensation"] for one in qc["files"])
    return [f"compensation: {done} ({n} of {len(qc['files'])} files)" for done, n in counted.items()]
