"""The report: one HTML file that needs nothing else, made of a result and its figures.

Rules: the page computes nothing; whatever it says stands in `evaluation.json` too. All text passes through jinja2's
escaping, figures excepted, whose text is escaped where they are drawn.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from swarmcell.metrics.estimate import Estimate
from swarmcell.report import html, names
from swarmcell.report.methods import REFERENCES, methods
from swarmcell.report.pictures import Pictures
from swarmcell.workflows.evaluation import sentences
from swarmcell.workflows.evaluation.model_card import model_card
from swarmcell.workflows.evaluation.values import (
    CellFigures,
    CellTask,
    Difference,
    Evaluation,
    PatientFigures,
    PatientTask,
)

HEADLINES = {"cell": ("macro_f1", "balanced_accuracy"), "patient": ("auroc", "balanced_accuracy")}
TESTED = {"cell": "balanced_accuracy", "patient": "auroc"}  # the figure that was held to chance


@dataclass(frozen=True, kw_only=True)
class Headline:
    """One large number of the summary; `verdict` says whether chance can be told apart, where that was asked."""

    name: str
    value: str
    interval: str
    note: str
    basis: str
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The model that was asked for beside another: one figure of each task, `None` where one model has no such task."""

    other: str
    figures: tuple[Difference | None, ...]


def render(evaluation: Evaluation, pictures: Pictures) -> str:
    """Return the report as HTML text."""
    templates = html.environment(
        brief=_brief,
        in_short=_in_short,
        reasons=_reasons,
        values_of=lambda figures: list(figures.values()),
        label=names.label,
        value=names.value,
        interval=names.interval,
        number=_number,
        short=_short,
        verdict=_verdict,
    )
    return templates.get_template("report.html.j2").render(
        e=evaluation,
        pictures=pictures,
        headlines=_headlines(evaluation),
        findings=evaluation.summary[: sum(task is not None for task in (evaluation.cell, evaluation.patient))],
        compared=_comparisons(evaluation),
        differences=_shown(evaluation),
        methods=methods(evaluation),
        references=REFERENCES,
        cards=[(facts, json.dumps(dict(facts.card), indent=2, sort_keys=True)) for facts in evaluation.models],
        counted=names.counted,
        card=model_card(evaluation),
        blurred=sentences.blurred(evaluation.swarm) if evaluation.swarm else "",
    )


def _headlines(evaluation: Evaluation) -> list[Headline]:
    found: list[Headline] = []
    if evaluation.cell is not None:
        cells = evaluation.cell
        basis = f"{names.counted(cells.n_donors, 'donor')}, {names.counted(cells.n_cells, 'cell')}"
        found += _numbers(cells.models[0], "cell", "cell types", basis)
    if evaluation.patient is not None:
        patients = evaluation.patient
        basis = f"{names.counted(patients.n_donors, 'donor')}, {names.counted(patients.n_samples, 'sample')}"
        found += _numbers(patients.models[0], "patient", "patients", basis)
    return found


def _numbers(model: CellFigures | PatientFigures, task: str, unit: str, basis: str) -> Iterator[Headline]:
    for figure in HEADLINES[task]:
        estimate = model.figures[figure]
        span = names.interval(estimate)
        yield Headline(
            name=f"{names.label(figure)}, {unit}",
            value=names.value(estimate),
            interval=f"95 % interval {span}" if span else "",
            note="" if span else estimate.note,
            basis=basis,
            verdict=_verdict(model.verdict) if figure == TESTED[task] else "",
        )


def _verdict(said: str) -> str:
    """Return the part of a verdict that needs no number: `better than chance`."""
    return said.partition(":")[0].partition(" is ")[2] or said.partition(":")[0]


def _comparisons(evaluation: Evaluation) -> tuple[list[str], list[Comparison]]:
    """Return the names of the figures that models are compared by, and a row per other model."""
    tasks = [(task, key) for task, key in ((evaluation.cell, "macro_f1"), (evaluation.patient, "auroc")) if task]
    units = {"macro_f1": "cell types", "auroc": "patients"}
    rows = []
    for facts in evaluation.models[1:]:
        found = tuple(_between(task, evaluation.models[0].name, facts.name, key) for task, key in tasks)
        rows.append(Comparison(other=facts.name, figures=found))
    return [f"{names.label(key)}, {units[key]}" for _, key in tasks], rows


def _between(task: CellTask | PatientTask, first: str, second: str, figure: str) -> Difference | None:
    found = (d for d in task.differences if (d.first, d.second, d.figure) == (first, second, figure))
    return next(found, None)


def _brief(note: str) -> str:
    """Return a note as a table has room for it: `no interval`; its reason stands below the table."""
    return "no interval" if note.startswith("no interval") else note


def _reasons(estimates: Sequence[Estimate]) -> list[str]:
    """Return why some of these have no interval, each reason once."""
    without = (found.note for found in estimates if found.value is not None and not found.has_interval)
    return list(dict.fromkeys(note for note in without if note.startswith("no interval")))


def _in_short(difference: Difference) -> str:
    """Return what a difference says of the first model: `better`, `worse`, `no difference shown`, `equal`."""
    if difference.estimate.value is not None and not difference.estimate.has_interval:
        return "no interval"
    for said, short in (
        ("is better", "better"),
        ("is worse", "worse"),
        ("are equal", "equal"),
        ("undefined", "undefined"),
    ):
        if said in difference.verdict.partition(":")[0]:
            return short
    return "no difference shown"


def _shown(evaluation: Evaluation) -> Sequence[tuple[str, Difference]]:
    """Return the differences of the evaluated model from each other one; evaluation.json has those among the others."""
    tasks = (("cell types", evaluation.cell), ("patients", evaluation.patient))
    asked = evaluation.models[0].name
    return [(name, d) for name, task in tasks if task for d in task.differences if d.first == asked]


def _number(value: float) -> str:
    return f"{value:,}"


def _short(digest: str) -> str:
    return digest[:16]
