"""Marks that several figures share: a point with its interval, a reliability curve."""

from typing import Any

from matplotlib.axes import Axes

from swarmcell.metrics.estimate import Estimate
from swarmcell.report import style
from swarmcell.workflows.evaluation.values import Reliability


def marker(index: int) -> dict[str, Any]:
    """Return how points of the model at `index` look."""
    return {"marker": style.model_marker(index), "color": style.model_colour(index), "markersize": 5.5}


def dot(axes: Axes, found: Estimate, y: float, index: int) -> None:
    """Draw a figure at height `y`, with its interval if it has one; nothing if it is undefined."""
    if found.value is None:
        return
    if found.low is not None and found.high is not None:
        axes.plot([found.low, found.high], [y, y], color=style.model_colour(index), linewidth=1.6, alpha=0.75)
    axes.plot([found.value], [y], linestyle="none", **marker(index))


def reliability(axes: Axes, found: Reliability, index: int, name: str) -> None:
    """Draw the share right against the mean confidence of each bin that holds rows."""
    filled = [(c, h) for c, h in zip(found.confidence, found.hits, strict=True) if c is not None and h is not None]
    axes.plot(*zip(*filled, strict=True), linewidth=1.4, label=name, **marker(index))
