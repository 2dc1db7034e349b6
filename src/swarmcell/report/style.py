"""How figures look, and how one becomes PNG, SVG, and SVG that follows the page's light or dark colours.

Rules: figures are drawn once, in the light colours below; each colour stands for a role, and inside the HTML page it is
replaced by a CSS variable of that role. Text stays text, so it can be searched and read aloud. Colours of models are
those of Okabe and Ito, which colour-blind readers can tell apart; markers differ too.
"""

import io
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROLES: Mapping[str, str] = {
    "ink": "#1b2430",
    "muted": "#5a6675",
    "grid": "#dde3ea",
    "paper": "#ffffff",
    "on-accent": "#fefefe",
    "accent": "#0a6aa8",
    "model-1": "#0072b2",
    "model-2": "#c65a00",
    "model-3": "#007a5a",
    "model-4": "#a8467f",
    "model-5": "#7a6a00",
    "model-6": "#6a4fb3",
}
MARKERS = ("o", "s", "D", "^", "v", "P")
INK, MUTED, GRID, PAPER, ON_ACCENT, ACCENT = (
    ROLES[k] for k in ("ink", "muted", "grid", "paper", "on-accent", "accent")
)
DPI = 160
_SETTINGS: Any = {  # matplotlib types each key by name
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "savefig.facecolor": PAPER,
    "svg.fonttype": "none",
    "svg.hashsalt": "swarmcell",
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawn figure with what must stand beside it.

    Attributes
    ----------
    name
        File name without its ending.
    caption
        What is shown, with the numbers of donors, samples and cells.
    alt
        What a reader who cannot see it must know.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure


def theme() -> AbstractContextManager[None]:
    """Return the context within which figures are drawn and saved."""
    return rc_context(_SETTINGS)


def blank(width: float, height: float, *, n_columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of `width` x `height` inches with `n_columns` panels side by side."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, n_columns, squeeze=False)[0]
    return figure, list(axes)


def grid(width: float, height: float, *, n_rows: int, n_columns: int) -> tuple[Figure, list[Axes]]:
    """Return an empty figure of `width` x `height` inches with panels in rows, as one list."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, [axes for row in figure.subplots(n_rows, n_columns, squeeze=False) for axes in row]


def model_colour(index: int) -> str:
    """Return the colour of the model at `index` (the one asked for is 0)."""
    return ROLES[f"model-{index % len(MARKERS) + 1}"]


def model_marker(index: int) -> str:
    """Return the marker of the model at `index`."""
    return MARKERS[index % len(MARKERS)]


def legend(axes: Axes, *, outside: bool = False, **options: Any) -> None:  # noqa: ANN401 (matplotlib's own options)
    """Add a legend in the figure's colours; `outside` puts it above the panel, where it hides no point."""
    look: dict[str, Any] = {"labelcolor": INK, "handletextpad": 0.4, "columnspacing": 1.2}
    if outside:
        drawn = axes.get_legend_handles_labels()
        box = axes.get_figure(root=True).legend(*drawn, loc="outside upper left", ncols=3, **(look | options))  # type: ignore[union-attr]
    else:
        box = axes.legend(**(look | options))
    box.set_frame_on(False)


def gridlines(axes: Axes, *, axis: str = "both") -> None:
    """Draw faint grid lines."""
    axes.grid(visible=True, axis=axis, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
    axes.tick_params(length=0)


def settle(picture: Picture) -> None:
    """Lay the figure out once, so that saving it in several formats does not do it again each time."""
    if picture.figure.get_layout_engine() is not None:
        picture.figure.draw_without_rendering()
        picture.figure.set_layout_engine("none")


def png(picture: Picture) -> bytes:
    """Return the figure as PNG."""
    return _saved(picture, "png", dpi=DPI)


@lru_cache(maxsize=64)
def svg(picture: Picture) -> bytes:
    """Return the figure as SVG, the same bytes for the same figure."""
    return _saved(picture, "svg", metadata={"Date": None, "Creator": "swarmcell"})


def inline_svg(picture: Picture) -> str:
    """Return the figure as SVG for the page: roles for colours, its own ids, no fixed size, a title for readers."""
    text = svg(picture).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{picture.name}-\1"', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{picture.name}-", text)
    for role, colour in ROLES.items():
        text = text.replace(colour, f"var(--{role})")
    width, height = (72 * inches for inches in picture.figure.get_size_inches())
    head = f'<svg role="img" aria-labelledby="{picture.name}-name" style="max-width:{width * 1.25:.0f}px" '
    head += f'viewBox="0 0 {width:g} {height:g}" xmlns="http://www.w3.org/2000/svg" '
    head += (
        f'xmlns:xlink="http://www.w3.org/1999/xlink"><title id="{picture.name}-name">{_escaped(picture.alt)}</title>'
    )
    return re.sub(r"<svg[^>]*>", lambda _: head, text, count=1)


def _saved(picture: Picture, kind: str, **options: Any) -> bytes:  # noqa: ANN401 (matplotlib's own options)
    settle(picture)
    stream = io.BytesIO()
    picture.figure.savefig(stream, format=kind, **options)
    return stream.getvalue()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
