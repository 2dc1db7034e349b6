"""The report of strata: one HTML file that needs nothing else. It computes nothing; it says what `strata.json` says."""

from pathlib import Path
from typing import Any

from swarmcell import __version__
from swarmcell.files import write_whole
from swarmcell.report import html, strata_pictures, style
from swarmcell.report.style import Picture

REPORT, FIGURES = "report.html", "figures"


def write(found: dict[str, Any], folder: Path) -> Path:
    """Write `report.html` and `figures/` into the folder of the strata; return the report's path.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    with style.theme():
        pictures = strata_pictures.draw(found)
        for picture in pictures:
            write_whole(folder / FIGURES / f"{picture.name}.png", style.png(picture), force=True)
        text = render(found, pictures)
    write_whole(folder / REPORT, text.encode(), force=True)
    return folder / REPORT


def render(found: dict[str, Any], pictures: list[Picture]) -> str:
    """Return the report as HTML text."""
    return html.environment().get_template("strata.html.j2").render(f=found, pictures=pictures, version=__version__)
