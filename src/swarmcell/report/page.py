"""The report: one HTML file that needs nothing else, made of a result and its figures.

Rules: the page computes nothing; whatever it says stands in `evaluation.json` too. All text passes through jinja2's
escaping, figures excepted, whose text is escaped where they are drawn.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from swarmcell.report import names, style
from swarmcell.report.methods import REFERENCES, methods
from swarmcell.report.pictures import Pictures
from swarmcell.workflows.evaluation.model_card import model_card
from swarmcell.workflows.evaluation.values import Difference, Evaluation

HEADLINES = {"cell": ("macro_f1", "balanced_accuracy"), "patient": ("auroc", "balanced_accuracy")}


@dataclass(frozen=True, kw_only=True)
class Headline:
    """One large number of the summary."""

    name: str
    value: str
    interval: str
    note: str


def render(evaluation: Evaluation, pictures: Pictures) -> str:
    """Return the report as HTML text."""
    environment = Environment(
        loader=PackageLoader("swarmcell.report"),
        autoescape=select_autoescape(["html", "j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        label=names.label, value=names.value, interval=names.interval, number=_number, drawn=_drawn, short=_short
    )
    return environment.get_template("report.html.j2").render(
        e=evaluation,
        pictures=pictures,
        headlines=_headlines(evaluation),
        differences=_shown(evaluation),
        methods=methods(evaluation),
        references=REFERENCES,
        cards=[(facts, json.dumps(dict(facts.card), indent=2, sort_keys=True)) for facts in evaluation.models],
        counted=names.counted,
        card=model_card(evaluation),
    )


def _headlines(evaluation: Evaluation) -> list[Headline]:
    found = []
    for task, key, unit in ((evaluation.cell, "cell", "cell types"), (evaluation.patient, "patient", "patients")):
        for figure in HEADLINES[key] if task else ():
            estimate = task.models[0].figures[figure] if task else None
            if estimate is not None:
                span = names.interval(estimate)
                found.append(
                    Headline(
                        name=f"{names.label(figure)}, {unit}",
                        value=names.value(estimate),
                        interval=f"95 % interval {span}" if span else "",
                        note=estimate.note,
                    )
                )
    return found


def _shown(evaluation: Evaluation) -> Sequence[tuple[str, Difference]]:
    """Return the differences of the evaluated model from each other one; evaluation.json has those among the others."""
    tasks = (("cell types", evaluation.cell), ("patients", evaluation.patient))
    asked = evaluation.models[0].name
    return [(name, d) for name, task in tasks if task for d in task.differences if d.first == asked]


def _number(value: float) -> str:
    return f"{value:,}"


def _short(digest: str) -> str:
    return digest[:16]


def _drawn(picture: style.Picture) -> Markup:
    return Markup(style.inline_svg(picture))  # noqa: S704 (drawn by matplotlib, which escapes labels)
