"""How figures look, and how one becomes PNG, SVG, and SVG that follows the page's light or dark colours.

Rules: figures are drawn once, in the light colours below; each colour stands for a role, and inside the HTML page it is
replaced by a CSS variable of that role. Text stays text, so it can be searched and read aloud. Colours of models are
those of Okabe and Ito, which colour-blind readers can tell apart; markers differ too.
"""

import io
import re
import textwrap
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave

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
SCALE, SCALE_MIN = 1.45, 0.82  # pixels per point in the page, and on a phone, where wider figures scroll; chosen
_SETTINGS: Any = {  # matplotlib types each key by name
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.unicode_minus": True,
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


_METADATA: Mapping[str, Any] = {"Date": None, "Creator": "swarmcell"}
TITLE_PER_INCH, CAPTION_PER_INCH = 9.0, 16.0  # characters, at 12 and at 8 points


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
        box = axes.get_figure(root=True).legend(*drawn, loc="outside upper left", **({"ncols": 3} | look | options))  # type: ignore[union-attr]
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
    """Return the figure as PNG, title and caption in it: it is read without the page."""
    settle(picture)
    around, width = _around(picture), picture.figure.get_size_inches()[0]
    top, bottom = Figure(figsize=(width, around.above)), Figure(figsize=(width, around.below))
    top.text(0.01, 0.08 / around.above, "\n".join(around.title), va="bottom", weight="bold", size=12)
    bottom.text(0.01, 1 - 0.08 / around.below, "\n".join(around.caption), va="top", color=MUTED, size=8)
    stream = io.BytesIO()
    pixels = np.vstack([_pixels(figure) for figure in (top, picture.figure, bottom)])
    imsave(stream, pixels, format="png", dpi=DPI, pil_kwargs={"compress_level": 4})
    return stream.getvalue()


def _pixels(figure: Figure) -> npt.NDArray[np.uint8]:
    figure.set_dpi(DPI)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def svg_alone(picture: Picture) -> bytes:
    """Return the figure as SVG, title and caption in it."""
    around = _around(picture)
    width, height = (72 * inches for inches in picture.figure.get_size_inches())
    above, below = 72 * around.above, 72 * around.below
    first = -above + 20
    lines = [(first + 15 * i, line, 12, INK, "bold") for i, line in enumerate(around.title)]
    lines += [(height + 15 + 10 * i, line, 8, MUTED, "normal") for i, line in enumerate(around.caption)]
    texts = "".join(
        f'<text x="5" y="{y:g}" style="font: {weight} {size}px DejaVu Sans, sans-serif; fill: {colour}">'
        f"{_escaped(line)}</text>"
        for y, line, size, colour, weight in lines
    )
    total = height + above + below
    paper = f'<rect x="0" y="{-above:g}" width="{width:g}" height="{total:g}" fill="{PAPER}"/>'
    head = f'<svg role="img" width="{width:g}pt" height="{total:g}pt" viewBox="0 {-above:g} {width:g} {total:g}" '
    head += 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1">'
    head += f"<title>{_escaped(picture.title)}</title><desc>{_escaped(picture.alt)}</desc>{paper}{texts}"
    return re.sub(r"<svg[^>]*>", lambda _: head, svg(picture).decode(), count=1).encode()


class _Around(NamedTuple):
    """Lines above and below a figure that stands alone, and the inches they take."""

    title: list[str]
    caption: list[str]
    above: float
    below: float


def _around(picture: Picture) -> _Around:
    width = picture.figure.get_size_inches()[0]
    title = textwrap.wrap(picture.title, int(width * TITLE_PER_INCH))
    caption = textwrap.wrap(picture.caption, int(width * CAPTION_PER_INCH), break_on_hyphens=False)
    return _Around(title, caption, 0.15 + 0.21 * len(title), 0.2 + 0.14 * len(caption))


@lru_cache(maxsize=64)
def svg(picture: Picture) -> bytes:
    """Return the figure as SVG, the same bytes for the same figure."""
    return _saved(picture, "svg", metadata=_METADATA)


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
    sizes = f"max-width:{width * SCALE:.0f}px;--least:{width * SCALE_MIN:.0f}px"
    head = f'<svg role="img" aria-labelledby="{picture.name}-name" style="{sizes}" '
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
