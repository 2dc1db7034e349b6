"""Figures of the cell task."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from swarmcell.report import style
from swarmcell.report.marks import dot, marker, reliability
from swarmcell.report.names import calibration_errors, counted, rests_on
from swarmcell.report.style import Picture
from swarmcell.workflows.evaluation.scores import UNKNOWN_RATE
from swarmcell.workflows.evaluation.values import CellFigures, CellTask, GroupFigures

WIDTH = 5.7  # inches, of figures of one panel: on a phone their text is still read
DONORS_MAX = 60  # rows of the figure by donor; chosen, the table holds all
LABELLED_CLASSES_MAX = 14  # above it cells of the matrix are too small for numbers


def cell_pictures(task: CellTask) -> list[Picture]:
    """Draw the cell task: confusion, by class, by donor, by site, calibration."""
    pictures = [confusion(task, task.models[0]), by_class(task), by_donor(task)]
    if len(task.models[0].per_site) > 1:
        pictures.append(by_site(task))
    return [*pictures, calibration(task)]


def counts(task: CellTask) -> str:
    """Say how many donors, samples and cells a figure of the cell task rests on."""
    return rests_on(task.n_donors, task.n_samples, task.n_cells)


def confusion(task: CellTask, found: CellFigures) -> Picture:
    """Draw the confusion matrix of one model, rows as shares of the true class."""
    matrix = np.array(found.confusion)
    total = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, total, out=np.zeros(matrix.shape), where=total > 0)
    n = len(task.classes)
    side = min(7.2, 2.4 + 0.42 * n)
    figure, (axes,) = style.blank(side + 0.6, side)
    for row, column in np.ndindex(n, n):
        _square(axes, row, column, float(shares[row, column]), label_it=n <= LABELLED_CLASSES_MAX)
    axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), xlabel="predicted", aspect="equal")
    axes.set_xticks(range(n), task.classes, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(n), [f"{name} ({int(t):,})" for name, t in zip(task.classes, total[:, 0], strict=True)])
    axes.tick_params(length=0)
    wrong = shares.copy()
    np.fill_diagonal(wrong, 0)
    at = np.unravel_index(wrong.argmax(), wrong.shape)
    worst = f"The commonest confusion: {wrong[at]:.0%} of {task.classes[at[0]]} called {task.classes[at[1]]}."
    return Picture(
        name="confusion_matrix",
        title=f"Confusion matrix, {found.model} model",
        caption="Rows: true type, with the number of its cells; columns: predicted type. Per cent of the row, adding "
        f"up to 100. {counts(task)}.",
        alt=f"Confusion matrix of {n} cell types. {worst if wrong[at] > 0 else 'No cell was given a wrong type.'}",
        figure=figure,
    )


def _square(axes: Axes, row: int, column: int, share: float, *, label_it: bool) -> None:
    axes.add_patch(Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, facecolor=style.GRID, alpha=0.35, linewidth=0))
    if share <= 0:
        return
    square = Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, facecolor=style.ACCENT, alpha=share, linewidth=0)
    axes.add_patch(square)
    if label_it and share >= 0.005:
        colour = style.ON_ACCENT if share > 0.55 else style.INK
        axes.text(column, row, f"{share:.0%}".rstrip("%"), ha="center", va="center", color=colour, fontsize=8.5)


def by_class(task: CellTask) -> Picture:
    """Draw F1 of each class with its interval, by model."""
    n, models = len(task.classes), task.models
    figure, (axes,) = style.blank(WIDTH, 1.2 + n * (0.18 + 0.1 * len(models)))
    for index, found in enumerate(models):
        offset = (index - (len(models) - 1) / 2) * 0.7 / max(len(models), 2)
        for row, class_figures in enumerate(found.per_class):
            dot(axes, class_figures.f1, row + offset, index)
        axes.plot([], [], linestyle="none", label=found.model, **marker(index))
    axes.set(xlim=(-0.02, 1.02), ylim=(n - 0.5, -0.5), xlabel="F1 (95 % interval over donors)")
    support = [f"{c.name} ({c.n_cells:,})" for c in models[0].per_class]
    axes.set_yticks(range(n), support)
    style.gridlines(axes, axis="x")
    style.legend(axes, outside=True)
    scored = [c for c in models[0].per_class if c.f1.value is not None]
    lowest = min(scored, key=lambda c: c.f1.value or 0.0)
    return Picture(
        name="f1_by_class",
        title="F1 by cell type",
        caption=f"Cells of each type in brackets; a type that no held-out cell has is left out. {counts(task)}.",
        alt=f"F1 of {n} cell types by model; the lowest of the {models[0].model} model is {lowest.name}, "
        f"{lowest.f1.value:.2f}.",
        figure=figure,
    )


def by_donor(task: CellTask) -> Picture:
    """Draw balanced accuracy of each donor, by model, donors grouped by site."""
    order = sorted(task.models[0].per_donor, key=lambda d: (d.site, d.donor))[:DONORS_MAX]
    figure, (axes,) = style.blank(WIDTH, 1.3 + 0.24 * len(order))
    for index, found in enumerate(task.models):
        of_donor = {(d.site, d.donor): d for d in found.per_donor}
        values = [of_donor[d.site, d.donor].figures["balanced_accuracy"].value or 0.0 for d in order]
        axes.plot(values, range(len(order)), linestyle="none", label=found.model, **marker(index))
    axes.axvline(task.chance_balanced_accuracy, color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(xlim=(-0.02, 1.02), ylim=(len(order) - 0.5, -0.5), xlabel="balanced accuracy (dashed: chance)")
    axes.set_yticks(range(len(order)), [f"{d.site} / {d.donor} ({d.n_cells:,})" for d in order])
    style.gridlines(axes)
    style.legend(axes, outside=True)
    return Picture(
        name="by_donor",
        title="Balanced accuracy by donor",
        caption=f"One point per donor and model, cells of the donor in brackets. {counts(task)}."
        + (f" The first {DONORS_MAX} donors are shown." if len(task.models[0].per_donor) > DONORS_MAX else ""),
        alt=_donor_words(order, task.models[0].model),
        figure=figure,
    )


def _donor_words(donors: Sequence[GroupFigures], model: str) -> str:
    values = [d.figures["balanced_accuracy"].value or 0.0 for d in donors]
    spread = f"from {min(values):.2f} to {max(values):.2f}"
    return f"Balanced accuracy of each of {counted(len(donors), 'donor')}; {model} model: {spread}."


def by_site(task: CellTask) -> Picture:
    """Draw balanced accuracy on each site's held-out donors, with intervals, by model."""
    sites = [s.site for s in task.models[0].per_site]
    figure, (axes,) = style.blank(WIDTH, 1.2 + len(sites) * (0.2 + 0.11 * len(task.models)))
    for index, found in enumerate(task.models):
        offset = (index - (len(task.models) - 1) / 2) * 0.7 / max(len(task.models), 2)
        for row, group in enumerate(found.per_site):
            dot(axes, group.figures["balanced_accuracy"], row + offset, index)
        axes.plot([], [], linestyle="none", label=found.model, **marker(index))
    axes.axvline(task.chance_balanced_accuracy, color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(xlim=(-0.02, 1.02), ylim=(len(sites) - 0.5, -0.5))
    axes.set_xlabel("balanced accuracy (95 % interval over donors; dashed: chance)")
    axes.set_yticks(range(len(sites)), [f"{s.site} ({s.n_cells:,})" for s in task.models[0].per_site])
    style.gridlines(axes, axis="x")
    style.legend(axes, outside=True)
    values = [(s.site, s.figures["balanced_accuracy"].value) for s in task.models[0].per_site]
    words = ", ".join(f"{site} {value:.2f}" for site, value in values if value is not None)
    return Picture(
        name="by_site",
        title="Balanced accuracy by site",
        caption=f"Cells of each site in brackets; a mean of recalls over the types that the site has. {counts(task)}.",
        alt=f"Balanced accuracy by site, {task.models[0].model} model: {words}.",
        figure=figure,
    )


def calibration(task: CellTask) -> Picture:
    """Draw reliability before and after temperature, and accuracy against the share of cells that keep a name."""
    figure, (left, right) = style.blank(7.2, 3.7, n_columns=2)
    first = task.models[0]
    errors = calibration_errors(first.figures)
    left.plot([0, 1], [0, 1], color=style.MUTED, linewidth=1, linestyle=(0, (4, 3)))
    if first.uncalibrated is not None:
        look: dict[str, Any] = {"linestyle": (0, (2, 2)), "zorder": 2}
        reliability(left, first.uncalibrated, colour=style.model_colour(1), name="before temperature", **look)
    reliability(left, first.reliability, colour=style.model_colour(0), name="after", zorder=3)
    _kept(right, task)
    left.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="mean confidence", ylabel="share right")
    left.set_title(f"Reliability, {first.model}")
    right.set(xlabel="share of cells that keep a name", ylabel="accuracy of those", title="When some stay unnamed")
    right.set(xlim=(-0.02, 1.02))
    for axes in (left, right):
        style.gridlines(axes)
    style.legend(left, loc="upper left")
    style.legend(right, loc="lower left", fontsize=8.5)
    return Picture(
        name="calibration",
        title="Calibration of cell types",
        caption="Left: on the dashed line a confidence of 0.8 is right in 80 % of cells; larger points hold more "
        "cells. Right: accuracy when cells below a confidence are left unnamed, towards the left ever more"
        + (
            f", and of the {first.model} model when cells like no known type are called unknown, as predict does (the "
            f"large mark: by its default). "
            if first.unknown
            else ". "
        )
        + f"{errors} {counts(task)}.",
        alt=f"Reliability curve before and after temperature, and accuracy against coverage. {errors}",
        figure=figure,
    )


def _kept(axes: Axes, task: CellTask) -> None:
    for index, found in enumerate(task.models):
        kept = [(share, accuracy) for _, share, accuracy in found.coverage if accuracy is not None]
        look: dict[str, Any] = {"color": style.model_colour(index), "linewidth": 1.6, "zorder": 20 - index}
        axes.plot(*zip(*kept, strict=True), label=f"{found.model}, by confidence", **look)
        axes.plot(*kept[0], linestyle="none", **marker(index))
    unknown = [(share, accuracy, rate) for rate, share, accuracy in task.models[0].unknown if accuracy is not None]
    if unknown:
        shares, accuracies, rates = zip(*unknown, strict=True)
        look = {"color": style.INK, "linewidth": 1.4, "linestyle": (0, (2, 2)), "marker": "o", "markersize": 3}
        axes.plot(shares, accuracies, label=f"{task.models[0].model}, by novelty", zorder=30, **look)
        at = rates.index(UNKNOWN_RATE) if UNKNOWN_RATE in rates else 0
        axes.plot(shares[at], accuracies[at], linestyle="none", marker="o", markersize=8, color=style.INK, zorder=31)
