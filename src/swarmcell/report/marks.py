"""Marks that several figures share: a point with its interval, a reliability curve."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from swarmcell.metrics.estimate import Estimate
from swarmcell.report import style
from swarmcell.workflows.evaluation.values import Reliability


def marker(index: int) -> dict[str, Any]:
    """Return how points of the model at `index` look; the one asked for lies on top."""
    look = {"marker": style.model_marker(index), "color": style.model_colour(index), "markersize": 5.5}
    return look | {"zorder": 20 - index}


def dot(axes: Axes, found: Estimate, y: float, index: int) -> None:
    """Draw a figure at height `y`, with its interval if it has one; nothing if it is undefined."""
    if found.value is None:
        return
    if found.low is not None and found.high is not None:
        look: dict[str, Any] = {"color": style.model_colour(index), "linewidth": 1.6, "alpha": 0.75}
        axes.plot([found.low, found.high], [y, y], zorder=10 - index, **look)
    axes.plot([found.value], [y], linestyle="none", **marker(index))


def reliability(axes: Axes, found: Reliability, *, colour: str, name: str, **look: Any) -> None:  # noqa: ANN401
    """Draw the share right against the mean confidence of each bin that holds rows; larger points hold more of them."""
    rows = zip(found.confidence, found.hits, found.n, strict=True)
    filled = [(c, h, n) for c, h, n in rows if c is not None and h is not None]
    x, y, n = (np.array(column, dtype=np.float64) for column in zip(*filled, strict=True))
    axes.plot(x, y, color=colour, linewidth=1.4, **look)
    axes.scatter(x, y, s=14 + 110 * n / n.max(), color=colour, linewidths=0, alpha=0.85, zorder=look.get("zorder", 2))
    axes.plot([], [], color=colour, marker="o", markersize=5.5, label=name, **look)
