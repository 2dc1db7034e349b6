"""The table that shows what became of each channel of a cytometry file, before anything is written."""

from typing import Any

from rich.table import Table


def channels_table(about: dict[str, Any]) -> Table:
    """Return a table of channels, stains and markers.

    Parameters
    ----------
    about
        What `prepare_events` tells of `markers`: the file, and per channel its stain, marker and why.
    """
    table = Table(title=f"channels of {about['file']}", title_justify="left")
    for name in ("channel", "stain", "marker", "why"):
        table.add_column(name)
    for one in about["channels"]:
        style = None if one["marker"] else "dim"
        table.add_row(one["channel"], one["stain"], one["marker"] or "-", one["why"], style=style)
    return table
