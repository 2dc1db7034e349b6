"""Figures of the patient task."""

import numpy as np

from swarmcell.report import style
from swarmcell.report.marks import marker, reliability
from swarmcell.report.names import counted, value
from swarmcell.report.style import Picture
from swarmcell.workflows.evaluation.values import Curve, PatientTask

SPREAD = 0.16  # of the points of one condition, so that equal values stay visible


def patient_pictures(task: PatientTask) -> list[Picture]:
    """Draw the patient task: probabilities by condition; ROC, precision-recall and reliability where defined."""
    pictures = [probabilities(task)]
    if task.models[0].roc:
        pictures += [curves(task), reliability_picture(task)]
    return pictures


def counts(task: PatientTask) -> str:
    """Say how many donors and samples a figure of the patient task rests on."""
    per_condition = ", ".join(f"{n} {name}" for name, n in task.samples_per_condition.items() if n)
    return f"{counted(task.n_donors, 'held-out donor')}, {counted(task.n_samples, 'sample')} ({per_condition})"


def probabilities(task: PatientTask) -> Picture:
    """Draw each sample's probability of the positive condition, by true condition, one panel per model."""
    shown = task.models[:4]
    figure, panels = style.blank(min(7.4, 1.6 + 1.9 * len(shown)), 3.3, n_columns=len(shown))
    positive = task.conditions.index(task.positive)
    held = [name for name, n in task.samples_per_condition.items() if n]
    for index, (axes, found) in enumerate(zip(panels, shown, strict=True)):
        for place, condition in enumerate(held):
            p = sorted(s.probabilities[positive] for s in found.samples if s.condition == condition)
            x = place + np.linspace(-SPREAD, SPREAD, len(p)) if len(p) > 1 else [place]
            axes.plot(x, p, linestyle="none", alpha=0.85, **marker(index))
        axes.set(xlim=(-0.5, len(held) - 0.5), ylim=(-0.03, 1.03), title=found.model)
        axes.set_xticks(range(len(held)), held)
        axes.axhline(0.5, color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
        style.gridlines(axes, axis="y")
    panels[0].set_ylabel(f"probability of {task.positive}")
    return Picture(
        name="sample_probabilities",
        title=f"Probability of {task.positive}, by true condition",
        caption=f"One point per held-out sample. {counts(task)}.",
        alt=f"Probability of {task.positive} of each sample, by true condition and model.",
        figure=figure,
    )


def curves(task: PatientTask) -> Picture:
    """Draw ROC and precision-recall curves; beyond two conditions those of the model asked for, by condition."""
    figure, (left, right) = style.blank(7.2, 3.7, n_columns=2)
    left.plot([0, 1], [0, 1], color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    for index, (name, roc, precision_recall) in enumerate(_curves(task)):
        colour = style.model_colour(index)
        if index == 0 and roc.band_x:
            left.fill_between(roc.band_x, roc.low, roc.high, step="post", color=colour, alpha=0.15, linewidth=0)
        left.plot(roc.x, roc.y, color=colour, linewidth=1.8, drawstyle="steps-post", label=name)
        right.plot(precision_recall.x, precision_recall.y, color=colour, linewidth=1.8, drawstyle="steps-pre")
    prevalence = task.samples_per_condition[task.positive] / task.n_samples
    if len(task.models[0].roc) == 1:
        right.axhline(prevalence, color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    left.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC")
    right.set(xlabel="recall (sensitivity)", ylabel="precision", title="Precision-recall")
    for axes in (left, right):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        style.gridlines(axes)
    style.legend(left, loc="lower right")
    found = task.models[0]
    return Picture(
        name="roc",
        title="ROC and precision-recall",
        caption=f"Band: 95 % of resamples of donors. Dashed: chance. {counts(task)}.",
        alt=f"ROC and precision-recall curves; AUROC of the {found.model} model {value(found.figures['auroc'])}.",
        figure=figure,
    )


def _curves(task: PatientTask) -> list[tuple[str, Curve, Curve]]:
    first = task.models[0]
    if len(first.roc) > 1:
        return [(f"{name} against the rest", first.roc[name], first.precision_recall[name]) for name in first.roc]
    key = next(iter(first.roc))
    return [(f"{m.model} {value(m.figures['auroc'])}", m.roc[key], m.precision_recall[key]) for m in task.models]


def reliability_picture(task: PatientTask) -> Picture:
    """Draw the reliability of samples' probabilities."""
    figure, (axes,) = style.blank(4.2, 3.5)
    axes.plot([0, 1], [0, 1], color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    for index, found in enumerate(task.models):
        reliability(axes, found.reliability, index, found.model)
    two = len(task.conditions) == 2
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_xlabel(f"mean probability of {task.positive}" if two else "mean confidence")
    axes.set_ylabel(f"share that is {task.positive}" if two else "share right")
    style.gridlines(axes)
    style.legend(axes, loc="upper left")
    return Picture(
        name="patient_reliability",
        title="Reliability of patients' probabilities",
        caption=f"On the dashed line a probability means what it says. Bins hold few samples. {counts(task)}.",
        alt=f"Reliability curve of samples; Brier score of the {task.models[0].model} model "
        f"{value(task.models[0].figures['brier'])}.",
        figure=figure,
    )
