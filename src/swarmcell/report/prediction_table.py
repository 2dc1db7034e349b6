"""A prediction on the console."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from swarmcell.report import names
from swarmcell.workflows.predict import Prediction

SAMPLES_MAX = 40  # rows of the table; the file holds all


def show(found: Prediction, console: Console) -> None:
    """Print cells per predicted type and cluster, and samples with their probabilities."""
    console.print(f"{found.study}: {names.counted(found.n_cells, 'cell')}", style="bold", markup=False)
    if found.cells_by_type:
        console.print(_cells("predicted type", found.cells_by_type, found.n_cells))
    if found.cells_by_cluster:
        console.print(_cells("cluster", found.cells_by_cluster, found.n_cells))
    if found.samples:
        console.print(_samples(found))


def _cells(what: str, counts: Mapping[str, int], n_cells: int) -> Table:
    table = Table(what, title="Cells", title_justify="left")
    table.add_column("cells", justify="right")
    table.add_column("share", justify="right")
    for name, n in counts.items():
        table.add_row(name, f"{n:,}", f"{n / n_cells:.1%}")
    return table


def _samples(found: Prediction) -> Table:
    rows = list(found.samples.items())
    hidden = len(rows) - SAMPLES_MAX
    table = Table("sample", "predicted", title="Samples", title_justify="left")
    table.caption = f"and {hidden} more in the file" if hidden > 0 else None
    for condition in rows[0][1]:
        table.add_column(condition, justify="right")
    for name, p in rows[:SAMPLES_MAX]:
        table.add_row(name, max(p, key=lambda condition: p[condition]), *(f"{v:.2f}" for v in p.values()))
    return table
