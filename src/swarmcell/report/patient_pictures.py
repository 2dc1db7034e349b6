"""Figures of the patient task."""

from typing import Any

import numpy as np

from swarmcell.metrics.score_intervals import wilson
from swarmcell.report import style
from swarmcell.report.marks import marker, reliability
from swarmcell.report.names import calibration_errors, interval, rests_on, value
from swarmcell.report.style import Picture
from swarmcell.workflows.evaluation.values import Curve, PatientFigures, PatientTask

MODELS_MAX = 6  # panels; chosen
SPREAD = 0.16  # of the points of one condition, so that equal values stay visible


def patient_pictures(task: PatientTask) -> list[Picture]:
    """Draw the patient task: probabilities by condition; ROC, precision-recall and reliability where defined."""
    pictures = [probabilities(task)]
    if task.models[0].roc:
        pictures += [curves(task), reliability_picture(task)]
    return pictures


def counts(task: PatientTask) -> str:
    """Say how many donors, samples and cells a figure of the patient task rests on."""
    per_condition = ", ".join(f"{n} {name}" for name, n in task.samples_per_condition.items() if n)
    return rests_on(task.n_donors, task.n_samples, task.n_cells, samples=per_condition)


def probabilities(task: PatientTask) -> Picture:
    """Draw each sample's probability of the positive condition, by true condition, one panel per model."""
    shown = task.models[:MODELS_MAX]
    n_columns = len(shown) if len(shown) <= 4 else 3
    n_rows = -(-len(shown) // n_columns)
    figure, panels = style.grid(min(7.4, 1.6 + 1.9 * n_columns), 2.9 * n_rows, n_rows=n_rows, n_columns=n_columns)
    positive = task.conditions.index(task.positive)
    held = [name for name, n in task.samples_per_condition.items() if n]
    for index, (axes, found) in enumerate(zip(panels, shown, strict=False)):
        for place, condition in enumerate(held):
            p = sorted(s.probabilities[positive] for s in found.samples if s.condition == condition)
            x = place + np.linspace(-SPREAD, SPREAD, len(p)) if len(p) > 1 else [place]
            axes.plot(x, p, linestyle="none", alpha=0.85, **marker(index))
        axes.set(xlim=(-0.5, len(held) - 0.5), ylim=(-0.03, 1.03), title=found.model)
        axes.set_xticks(range(len(held)), held)
        axes.axhline(0.5, color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
        style.gridlines(axes, axis="y")
        if index % n_columns == 0:
            axes.set_ylabel(f"probability of {task.positive}")
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    left_out = f" The first {MODELS_MAX} models are shown." if len(task.models) > MODELS_MAX else ""
    return Picture(
        name="sample_probabilities",
        title=f"Probability of {task.positive}, by true condition",
        caption=f"One point per held-out sample. {counts(task)}.{left_out}",
        alt=f"Probability of {task.positive} of each sample, by true condition. {_apart(task, positive, held)}",
        figure=figure,
    )


def _apart(task: PatientTask, positive: int, held: list[str]) -> str:
    """Say where the samples of each condition lie, by the model that was asked for."""
    first, words = task.models[0], []
    for condition in held:
        p = [s.probabilities[positive] for s in first.samples if s.condition == condition]
        words.append(f"{condition} from {min(p):.2f} to {max(p):.2f}")
    return f"By the {first.model} model: {', '.join(words)}."


def curves(task: PatientTask) -> Picture:
    """Draw ROC and precision-recall curves; beyond two conditions those of the model asked for, by condition."""
    named = _curves(task)
    figure, (left, right) = style.blank(7.2, 3.6 + 0.2 * (len(named) // 2), n_columns=2)
    left.plot([0, 1], [0, 1], color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    for index, (name, roc, precision_recall) in enumerate(named):
        colour = style.model_colour(index)
        if index == 0 and roc.band_x:
            left.fill_between(roc.band_x, roc.low, roc.high, step="post", color=colour, alpha=0.15, linewidth=0)
        look: dict[str, Any] = {"color": colour, "linewidth": 1.4 if index else 2.6, "zorder": 20 - index}
        left.plot(roc.x, roc.y, drawstyle="steps-post", label=name, **look)
        right.plot(
            (0.0, *precision_recall.x), (precision_recall.y[0], *precision_recall.y), drawstyle="steps-pre", **look
        )
    prevalence = task.samples_per_condition[task.positive] / task.n_samples
    if len(task.models[0].roc) == 1:
        right.axhline(prevalence, color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    left.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC")
    right.set(xlabel="recall (sensitivity)", ylabel="precision", title="Precision-recall")
    for axes in (left, right):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        style.gridlines(axes)
    style.legend(left, outside=True, ncols=2)
    found = first = task.models[0]
    return Picture(
        name="roc",
        title="ROC and precision-recall",
        caption=f"In the legend: {'AUROC with its 95 % interval' if len(first.roc) == 1 else 'the condition'}. Band: "
        f"95 % of resamples of donors{_no_band(first)}. Dashed: chance. {counts(task)}.",
        alt=f"ROC and precision-recall curves; AUROC of the {found.model} model {_area(found)}.",
        figure=figure,
    )


def _curves(task: PatientTask) -> list[tuple[str, Curve, Curve]]:
    first = task.models[0]
    if len(first.roc) > 1:
        return [(f"{name} against the rest", first.roc[name], first.precision_recall[name]) for name in first.roc]
    key = next(iter(first.roc))
    return [(f"{m.model} {_area(m)}", m.roc[key], m.precision_recall[key]) for m in task.models]


def _area(found: PatientFigures) -> str:
    area = found.figures["auroc"]
    return f"{value(area)} ({interval(area)})" if interval(area) else value(area)


def _no_band(found: PatientFigures) -> str:
    return "" if any(curve.band_x for curve in found.roc.values()) else " (too few here)"


def reliability_picture(task: PatientTask) -> Picture:
    """Draw the reliability of samples' probabilities by the model asked for: a point per bin, with its interval."""
    figure, (axes,) = style.blank(4.6, 3.7)
    axes.plot([0, 1], [0, 1], color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    first, colour = task.models[0], style.model_colour(0)
    if first.uncalibrated is not None:
        look: dict[str, Any] = {"linestyle": (0, (2, 2)), "zorder": 2}
        reliability(axes, first.uncalibrated, colour=style.model_colour(1), name="before temperature", **look)
        axes.plot([], [], linestyle="none", label="after", **marker(0))
        style.legend(axes, loc="upper left")
    for mean, hits, n in zip(first.reliability.confidence, first.reliability.hits, first.reliability.n, strict=True):
        if mean is not None and hits is not None:
            axes.plot([mean, mean], wilson(hits, n), color=colour, linewidth=1.4, alpha=0.6)
            axes.plot([mean], [hits], linestyle="none", **marker(0))
            axes.annotate(f" {n}", (mean, hits), xytext=(3, 4), textcoords="offset points", fontsize=8)
    two = len(task.conditions) == 2
    axes.set(xlim=(-0.02, 1.06), ylim=(-0.02, 1.06))
    axes.set_xlabel(f"mean probability of {task.positive}" if two else "mean confidence")
    axes.set_ylabel(f"share that is {task.positive}" if two else "share right")
    style.gridlines(axes)
    brier, errors = first.figures["brier"], calibration_errors(first.figures)
    said = f"{value(brier)} ({interval(brier)})" if interval(brier) else value(brier)
    return Picture(
        name="patient_reliability",
        title=f"Reliability of patients' probabilities, {first.model} model",
        caption="On the dashed line a probability means what it says. Beside each point: its samples; bars: "
        f"95 % (Wilson), as if each were of another donor. {errors} {counts(task)}.",
        alt=f"Reliability of samples by the {first.model} model, in bins of few samples; Brier score {said}. {errors}",
        figure=figure,
    )
