"""Strata for people, in the terminal: the sentences, a table of strata, and a table of what was tried."""

from typing import Any

from rich.console import Console
from rich.table import Table

MARKERS_SHOWN = 4


def show(found: dict[str, Any], console: Console) -> None:
    """Print a result of `workflows.stratify`."""
    for sentence in found["sentences"]:
        console.print(sentence, markup=False)
    if found["k"]:
        console.print(_strata(found))
    console.print(_tried(found))
    for caveat in found["caveats"]:
        console.print(f"note: {caveat}", markup=False)


def _strata(found: dict[str, Any]) -> Table:
    mine = [row["stratum"] for row in found["samples"]]
    title = (
        "Strata" if not found["placed_from"] else f"Strata of {found['placed_from']}, and the samples placed in them"
    )
    table = Table(title=title, title_justify="left")
    for name in ("stratum", "samples", "donors", "stability", "of these files", "marked by"):
        table.add_column(name, justify="left" if name == "marked by" else "right")
    for one in found["strata"]:
        marks = [f"{m['feature']} ({m['effect']:+.1f})" for m in one["markers"][:MARKERS_SHOWN]]
        counts = (str(one["stratum"]), str(one["n_samples"]), str(one["n_donors"]), f"{one['stability']:.2f}")
        table.add_row(*counts, str(mine.count(one["stratum"])), "; ".join(marks) or "nothing stands out")
    return table


def _tried(found: dict[str, Any]) -> Table:
    table = Table(title="Numbers of strata that were tried", title_justify="left")
    for name in ("strata", "stability", "within", "within, by chance", "p", "p of a split"):
        table.add_column(name, justify="right")
    for one in found["tried"]:
        mark = " *" if one["k"] == found["k"] else ""
        figures = (one["stability"], one["within"], one["within_null"], one["p_value"])
        split = "" if one["split_p"] is None else f"{one['split_p']:.3f}"
        table.add_row(f"{one['k']}{mark}", *(f"{value:.2f}" for value in figures[:3]), f"{figures[3]:.3f}", split)
    return table
