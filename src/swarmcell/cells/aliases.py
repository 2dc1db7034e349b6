"""Other names of features: a table of them, and the panel that carries them to every site.

Rules: a name that fits two features fits none; what a table knows beyond the panel is passed over.
"""

import csv
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from swarmcell.cells.panel import Panel
from swarmcell.errors import InputError

COLUMNS = ("alias", "feature")


def read(path: Path) -> tuple[tuple[str, str], ...]:
    """Read a table (csv or tsv, with a header) of other names: the pairs (alias, feature).

    Raises
    ------
    InputError
        If the file cannot be read, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                msg = f"{path}: has columns {', '.join(rows.fieldnames or ()) or 'none'}; expected alias and feature."
                raise InputError(msg)
            pairs = [((row["alias"] or "").strip(), (row["feature"] or "").strip()) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{path}: the table of aliases cannot be read ({error}). Give a csv or tsv with columns alias, feature."
        raise InputError(msg) from error
    return tuple((alias, feature) for alias, feature in pairs if alias and feature)


def added(panel: Panel, pairs: Iterable[tuple[str, str]]) -> tuple[Panel, tuple[str, ...]]:
    """Return the panel with more aliases, and the aliases left out because they would name two of its features.

    Parameters
    ----------
    pairs
        Alias, and the feature that it means: an ID, or a symbol that one feature only has. Others are passed over: a
        table may know more than the panel.
    """
    names = _places(panel)
    meant: dict[str, set[int]] = {}
    for alias, name in pairs:
        if len(at := names.get(name, set())) == 1:
            meant.setdefault(alias, set(names.get(alias, ()))).update(at)
    added: dict[int, list[str]] = {}
    for alias, at in meant.items():
        if len(at) == 1 and alias not in names:
            added.setdefault(min(at), []).append(alias)
    features = tuple(replace(f, aliases=(*f.aliases, *added.get(i, ()))) for i, f in enumerate(panel.features))
    return replace(panel, features=features), tuple(alias for alias, at in meant.items() if len(at) > 1)


def _places(panel: Panel) -> dict[str, set[int]]:
    """Return where each ID, symbol and alias stands."""
    found: dict[str, set[int]] = {}
    for at, feature in enumerate(panel.features):
        for name in {feature.id, feature.symbol, *feature.aliases} - {""}:
            found.setdefault(name, set()).add(at)
    return found
