"""Figures that put the models side by side."""

from swarmcell.metrics.estimate import Estimate
from swarmcell.report import cell_pictures, patient_pictures, style
from swarmcell.report.marks import dot, marker
from swarmcell.report.names import BESIDE, SMALLER_IS_BETTER, label
from swarmcell.report.style import Picture
from swarmcell.workflows.evaluation.values import CellTask, Evaluation, PatientTask


def overview(evaluation: Evaluation) -> Picture:
    """Draw the summary figures of all models with their intervals."""
    rows = [*_rows(evaluation.cell, "cells"), *_rows(evaluation.patient, "patients")]
    names = [facts.name for facts in evaluation.models]
    figure, (axes,) = style.blank(5.8, 1.2 + len(rows) * (0.18 + 0.11 * len(names)))
    for y, (_, by_model) in enumerate(rows):
        for index, name in enumerate(names):
            offset = (index - (len(names) - 1) / 2) * 0.7 / max(len(names), 2)
            if name in by_model:
                dot(axes, by_model[name], y + offset, index)
    for index, name in enumerate(names):
        axes.plot([], [], linestyle="none", label=name, **marker(index))
    axes.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.5, -0.5), xlabel="value (95 % interval over donors)")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    style.gridlines(axes, axis="x")
    style.legend(axes, outside=True)
    return Picture(
        name="overview",
        title="Models side by side",
        caption=f"{_who(evaluation)} Larger is better. {'. '.join(_counts(evaluation))}.",
        alt=" ".join(evaluation.summary),
        figure=figure,
    )


def _who(evaluation: Evaluation) -> str:
    """Say what each model was trained on, where its file says so."""
    said = {facts.name: facts.card.get("sites", ()) for facts in evaluation.models}
    return " ".join(f"{name}: trained on the cells of {', '.join(sites)}." for name, sites in said.items() if sites)


def _counts(evaluation: Evaluation) -> list[str]:
    cells = [f"Cells: {cell_pictures.counts(evaluation.cell)}"] if evaluation.cell else []
    patients = [f"Patients: {patient_pictures.counts(evaluation.patient)}"] if evaluation.patient else []
    return cells + patients


def _rows(task: CellTask | PatientTask | None, unit: str) -> list[tuple[str, dict[str, Estimate]]]:
    if task is None:
        return []
    keys = [key for key in task.models[0].figures if key not in SMALLER_IS_BETTER | BESIDE]
    rows = [(f"{label(key)}, {unit}", {m.model: m.figures[key] for m in task.models}) for key in keys]
    return [(name, found) for name, found in rows if any(e.value is not None for e in found.values())]
