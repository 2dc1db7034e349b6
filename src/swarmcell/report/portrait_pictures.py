"""Figures of the held-out cells as the model sees them: composition, markers, drivers, contributions, a map."""

from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from swarmcell.report import style
from swarmcell.report.marks import marker
from swarmcell.report.names import counted, rests_on
from swarmcell.report.style import Picture
from swarmcell.workflows.evaluation.portrait_values import CellMap, Composition, Drivers, Markers, TypeContribution
from swarmcell.workflows.evaluation.values import Evaluation

WIDTH = 5.7  # inches, of figures of one panel
TYPES_MAX = 30  # rows of a figure; chosen, the tables hold all
CLASSES_DRAWN = 12  # panels of drivers; chosen
DRIVERS_DRAWN = 6
N_COLUMNS = 3
TITLE_CHARACTERS = 17  # of a line of a panel's title; chosen, a third of the figure
NAME_MAX = 14  # characters of a feature's name below a dot plot; chosen, evaluation.json has it whole


def counts(evaluation: Evaluation) -> str:
    """Say how many donors, samples and cells the portrait rests on."""
    cohort = evaluation.cohort
    return rests_on(cohort.n_donors, cohort.n_samples, cohort.n_cells)


def portrait_pictures(evaluation: Evaluation) -> list[Picture]:
    """Draw what the portrait holds."""
    found, basis = evaluation.portrait, counts(evaluation)
    if found is None:
        return []
    pictures = []
    if found.composition is not None:
        pictures.append(composition(found.composition, basis))
    if found.markers is not None and found.markers.features:
        pictures.append(markers(found.markers, basis))
    if found.cell_drivers:
        pictures.append(drivers(found.cell_drivers, basis))
    if found.patient_drivers is not None and found.patient_drivers.drivers:
        pictures.append(patient_drivers(found.patient_drivers, basis))
    if found.contributions and found.patient_drivers is not None:
        pictures.append(contributions(found.contributions, found.patient_drivers.name, basis))
    if found.cell_map is not None and evaluation.cell is not None:
        pictures.append(cell_map(found.cell_map, evaluation.cell.classes, basis))
    return pictures


def composition(found: Composition, basis: str) -> Picture:
    """Draw each sample's share of every predicted type, by condition."""
    types = found.types[:TYPES_MAX]
    conditions = list(dict.fromkeys(found.conditions))
    table = np.array(found.predicted, dtype=np.float64)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, (axes,) = style.blank(WIDTH, 1.3 + len(types) * (0.2 + 0.12 * len(conditions)))
    for index, condition in enumerate(conditions):
        rows = [i for i, c in enumerate(found.conditions) if c == condition]
        offset = (index - (len(conditions) - 1) / 2) * 0.7 / max(len(conditions), 2)
        for k in range(len(types)):
            axes.plot(shares[rows, k], np.full(len(rows), k + offset), linestyle="none", alpha=0.6, **marker(index))
        axes.plot([], [], linestyle="none", label=condition or "unknown", **marker(index))
    axes.set(ylim=(len(types) - 0.5, -0.5), xlabel="share of the sample's cells (one point per sample)")
    axes.set_xlim(left=-0.02)
    axes.set_yticks(range(len(types)), types)
    style.gridlines(axes, axis="x")
    style.legend(axes, outside=True)
    shown = f" The first {len(found.samples)} samples are shown." if len(found.samples) < found.n_samples else ""
    return Picture(
        name="composition",
        title="Composition of samples, as predicted",
        caption=f"By true condition. {basis}.{shown}",
        alt="Share of each predicted cell type in every sample. " + _commonest(found, shares, conditions),
        figure=figure,
    )


def _commonest(found: Composition, shares: np.ndarray[tuple[int, ...], np.dtype[np.float64]], held: list[str]) -> str:
    words = []
    for condition in held:
        rows = [i for i, c in enumerate(found.conditions) if c == condition]
        mean = shares[rows].mean(axis=0)
        top = int(mean.argmax())
        words.append(f"{condition or 'unknown condition'}: mostly {found.types[top]} ({mean[top]:.0%} on average)")
    return "; ".join(words) + "."


def markers(found: Markers, basis: str) -> Picture:
    """Draw chosen features by predicted type: size is the share of cells that have it, shade the mean."""
    called = [k for k, n in enumerate(found.n_cells) if n][:TYPES_MAX]
    mean = np.array(found.mean)[called]
    low, span = mean.min(axis=0), np.maximum(mean.max(axis=0) - mean.min(axis=0), 1e-12)
    shade = (mean - low) / span
    share = np.clip(np.array(found.share)[called], 0, 1)
    n_features = len(found.features)
    figure, (axes,) = style.blank(1.9 + 0.24 * n_features, 1.6 + 0.28 * len(called))
    rows, columns = np.indices(shade.shape)
    look = {"s": 8 + 100 * share.ravel(), "linewidths": 0}
    axes.scatter(columns.ravel(), rows.ravel(), color=style.GRID, **look)
    axes.scatter(columns.ravel(), rows.ravel(), color=style.ACCENT, alpha=0.1 + 0.9 * shade.ravel(), **look)
    axes.set(xlim=(-0.6, n_features - 0.4), ylim=(len(called) - 0.4, -0.6), ylabel="predicted type (cells)")
    shown = [name if len(name) <= NAME_MAX else name[: NAME_MAX - 1] + "…" for name in found.features]
    axes.set_xticks(range(n_features), shown, rotation=90)
    axes.set_yticks(range(len(called)), [f"{found.types[k]} ({found.n_cells[k]:,})" for k in called])
    axes.tick_params(length=0)
    return Picture(
        name="markers",
        title="Markers by predicted type",
        caption="Textbook markers where the panel has them, then the strongest drivers of each type. Larger: more of "
        f"the cells are above 0. Darker: a higher mean, from the lowest to the highest type. {basis}.",
        alt=f"Dot plot of {n_features} features in {len(called)} predicted types; "
        + _peaks(found, called, shade.argmax(axis=0)),
        figure=figure,
    )


def _peaks(found: Markers, called: list[int], top: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> str:
    peaks = [f"{name} is highest in {found.types[called[int(k)]]}" for name, k in zip(found.features, top, strict=True)]
    return ", ".join(peaks[:8]) + "."


def drivers(found: tuple[Drivers, ...], basis: str) -> Picture:
    """Draw the strongest drivers of each type."""
    shown = found[:CLASSES_DRAWN]
    n_rows = -(-len(shown) // N_COLUMNS)
    figure, panels = style.grid(7.4, 0.5 + 1.7 * n_rows, n_rows=n_rows, n_columns=N_COLUMNS)
    for axes, one in zip(panels, shown, strict=False):
        _bars(axes, one, DRIVERS_DRAWN)
        axes.set_title("\n".join(wrap(one.name, TITLE_CHARACTERS)))
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    first = shown[0]
    strongest = ", ".join(d.feature for d in first.drivers[:3])
    return Picture(
        name="drivers",
        title="What drives each cell type",
        caption="Change of a type's log-odds per standard deviation of a feature, against the mean of the other types. "
        f"Model coefficients, which do not show causes; {basis} were given to the model.",
        alt=f"Strongest features of {len(shown)} cell types; of {first.name}: {strongest}.",
        figure=figure,
    )


def _bars(axes: Axes, found: Drivers, n_shown: int) -> None:
    rows = found.drivers[:n_shown]
    for y, one in enumerate(rows):
        colour = style.ROLES["model-1"] if one.weight > 0 else style.ROLES["model-2"]
        axes.barh(y, one.weight, height=0.7, color=colour, linewidth=0)
    axes.axvline(0, color=style.MUTED, linewidth=0.8)
    axes.set_ylim(n_shown - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [one.feature for one in rows])
    style.gridlines(axes, axis="x")


def patient_drivers(found: Drivers, basis: str) -> Picture:
    """Draw the sample features that speak most for the positive condition."""
    figure, (axes,) = style.blank(WIDTH, 0.9 + 0.26 * len(found.drivers))
    _bars(axes, found, len(found.drivers))
    axes.set_xlabel(f"log-odds of {found.name} per standard deviation")
    strongest = ", ".join(f"{d.feature} ({d.weight:+.2f})" for d in found.drivers[:3])
    return Picture(
        name="patient_drivers",
        title=f"What speaks for {found.name}",
        caption="Features of a sample: clr is the centred log-ratio of a cell type's share, mean, sd and q0.05 to "
        f"q0.95 are of a marker over all cells. Coefficients, no causes. {basis}.",
        alt=f"Sample features that move the log-odds of {found.name} most: {strongest}.",
        figure=figure,
    )


def contributions(found: tuple[TypeContribution, ...], positive: str, basis: str) -> Picture:
    """Draw how far the cells of each type move the log-odds, by true condition."""
    types = list(dict.fromkeys(one.cell_type for one in found))[:TYPES_MAX]
    conditions = list(dict.fromkeys(one.condition for one in found))
    figure, (axes,) = style.blank(WIDTH, 1.3 + len(types) * (0.16 + 0.14 * len(conditions)))
    place = {name: y for y, name in enumerate(types)}
    for one in (one for one in found if one.cell_type in place):
        index = conditions.index(one.condition)
        offset = (index - (len(conditions) - 1) / 2) * 0.7 / max(len(conditions), 2)
        axes.plot([0, one.contribution], [place[one.cell_type] + offset] * 2, color=style.GRID, linewidth=1.6)
        axes.plot([one.contribution], [place[one.cell_type] + offset], linestyle="none", **marker(index))
    for index, condition in enumerate(conditions):
        axes.plot([], [], linestyle="none", label=condition, **marker(index))
    axes.axvline(0, color=style.MUTED, linewidth=0.8)
    axes.set(ylim=(len(types) - 0.5, -0.5), xlabel=f"mean contribution to the log-odds of {positive}")
    axes.set_yticks(range(len(types)), types)
    style.gridlines(axes, axis="x")
    style.legend(axes, outside=True)
    top = max(found, key=lambda one: abs(one.contribution))
    return Picture(
        name="contributions",
        title="Which cells the answer comes from",
        caption="Log-odds beyond those of the average training sample, shared out among a sample's cells by their "
        f"influence, summed by predicted type, averaged over samples of a true condition. {basis}.",
        alt=f"Contribution of each predicted cell type to the log-odds of {positive}; the largest: {top.cell_type} in "
        f"{top.condition} samples, {top.contribution:+.2f}.",
        figure=figure,
    )


def cell_map(found: CellMap, classes: tuple[str, ...], basis: str) -> Picture:
    """Draw a UMAP of held-out cells, by true type and by predicted type."""
    figure, panels = style.blank(7.4, 4.2, n_columns=2)
    place = np.array([found.x, found.y])
    for axes, codes, title in zip(panels, (found.true, found.predicted), ("true type", "predicted type"), strict=True):
        code = np.array(codes)
        axes.plot(*place[:, code < 0], ".", color=style.GRID, markersize=3)
        for k in range(len(classes)):
            look: dict[str, Any] = {"marker": style.MARKERS[k // 6 % 6], "color": style.model_colour(k)}
            axes.plot(*place[:, code == k], linestyle="none", markersize=2.5, alpha=0.7, markeredgewidth=0, **look)
            if axes is panels[0]:
                axes.plot([], [], linestyle="none", label=classes[k], markersize=5, **look)
        axes.set(title=title, xticks=[], yticks=[])
    style.legend(panels[0], outside=True)
    same = float(np.mean(np.array(found.true) == np.array(found.predicted)))
    return Picture(
        name="map",
        title="Map of held-out cells",
        caption=f"UMAP of {counted(len(found.x), 'cell')} drawn at random from {basis}; distances between groups mean "
        "little.",
        alt=f"Two scatter plots of the same {len(found.x)} cells, by true and by predicted type; "
        f"{same:.0%} of them have the same colour in both.",
        figure=figure,
    )
