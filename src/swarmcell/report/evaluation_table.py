"""An evaluation on the console: models side by side, in words and a table."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from swarmcell.metrics.estimate import Estimate
from swarmcell.report import names
from swarmcell.report.names import counted
from swarmcell.workflows.evaluation import sentences
from swarmcell.workflows.evaluation.swarm_figures import SwarmFigures
from swarmcell.workflows.evaluation.values import CellTask, Evaluation, PatientTask


def show(evaluation: Evaluation, console: Console) -> None:
    """Print summary, tables and caveats."""
    cohort = evaluation.cohort
    counts = [names.counted(cohort.n_donors, "held-out donor"), names.counted(cohort.n_samples, "sample")]
    console.print(Text(f"{evaluation.study}: {', '.join(counts)}, {names.counted(cohort.n_cells, 'cell')}", "bold"))
    for task, title in ((evaluation.cell, "Cell types"), (evaluation.patient, "Patients")):
        if task is not None:
            console.print(_table(task, title))
            console.print(_baselines(evaluation, "cell" if task is evaluation.cell else "patient"))
    if evaluation.swarm is not None:
        console.print(_swarm(evaluation.swarm))
        if blurred := sentences.blurred(evaluation.swarm):
            console.print(Text(f"! {blurred}", "yellow"))
        if evaluation.swarm.waiting:
            console.print(Text(f"nothing published yet by {', '.join(evaluation.swarm.waiting)}"))
    for sentence in evaluation.summary:
        console.print(Text(f"- {sentence}"))
    for caveat in evaluation.caveats:
        console.print(Text(f"! {caveat}", "yellow"))


def _table(task: CellTask | PatientTask, title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("figure")
    for found in task.models:
        table.add_column(f"{found.model} (95 % interval)", justify="right")
    for key in task.models[0].figures:
        table.add_row(names.label(key), *_cells(task, key))
    return table


def _baselines(evaluation: Evaluation, task: str) -> Table:
    found = [one for one in evaluation.baselines if one.task == task]
    table = Table("baseline", title="What it must beat", title_justify="left")
    for key in found[0].figures if found else ():
        table.add_column(names.label(key), justify="right")
    for one in found:
        shown = (
            f"{names.value(e)} ({names.interval(e)})" if names.interval(e) else names.value(e)
            for e in one.figures.values()
        )
        table.add_row(one.name, *shown)
    return table


def _swarm(swarm: SwarmFigures) -> Table:
    counts = f"{counted(len(swarm.sites), 'member')}, {counted(swarm.n_donors, 'held-out donor')}"
    table = Table("figure", title=f"Across the swarm: {counts}", title_justify="left", title_style="bold")
    table.add_column("swarm-wide (95 % interval)", justify="right")
    for unit, figures in (("cells", swarm.cell), ("patients", swarm.patient)):
        for key, found in figures.items():
            table.add_row(f"{names.label(key)}, {unit}", _estimate(found))
    return table


def _estimate(found: Estimate) -> str:
    beside = names.interval(found) or found.note
    return f"{names.value(found)} ({beside})" if beside else names.value(found)


def _cells(task: CellTask | PatientTask, key: str) -> Iterator[str]:
    for found in task.models:
        yield _estimate(found.figures[key]) if key in found.figures else "none"
