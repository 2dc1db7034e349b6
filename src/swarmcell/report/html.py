"""How every report becomes one HTML file: the folder of templates, strict about names, with figures drawn inline."""

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from swarmcell.report.style import Picture, inline_svg


def environment(**filters: Callable[..., Any]) -> Environment:
    """Return the templates of the reports, with `drawn` (a picture as SVG) and these filters."""
    found = Environment(
        loader=PackageLoader("swarmcell.report"),
        autoescape=select_autoescape(["html", "j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(drawn=_drawn, **filters)
    return found


def _drawn(picture: Picture) -> Markup:
    return Markup(inline_svg(picture))  # noqa: S704 (drawn by matplotlib, which escapes labels)
