"""Compensation of flow cytometry: spillover matrices, where they come from, and what they must be.

Rules: mass cytometry is never compensated; spectral data come unmixed; channels that a file says are compensated
already are not compensated again. Values are changed in place, by chunks.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from swarmcell.cells.events import EventTable, Label, chunks
from swarmcell.errors import InputError

KEYWORDS = ("$SPILLOVER", "SPILL", "SPILLOVER", "$SPILL")
OTHER_KEYWORDS = re.compile(r"\$?COMP|\$?DFC\d+TO\d+")  # FCS 2.0 / 3.0 forms that no reader agrees on
CHANNELS_MAX = 500  # chosen: ten times the widest matrix in use
CONDITION_MAX = 1e6  # chosen: beyond it a matrix amplifies float32 rounding to the size of a signal
_REMEDY = "Give a csv in the configuration: [cytometry] spillover."
_COMPENSATED = re.compile(r"^(?:FJ)?comp[-. ]|^<.+>$", re.IGNORECASE)


@dataclass(frozen=True)
class Spillover:
    """Share of each stain's signal (rows) in each detector (columns); `channels` names both."""

    channels: tuple[str, ...]
    matrix: npt.NDArray[np.float64]  # shape (n_channels, n_channels)

    @property
    def is_identity(self) -> bool:
        """Whether nothing spills over."""
        return bool(np.array_equal(self.matrix, np.eye(len(self.channels))))


def from_keywords(keywords: Mapping[str, str], source: str) -> Spillover | None:
    """Read the spillover matrix that a file carries, or None.

    Raises
    ------
    InputError
        If it is malformed or singular.
    """
    found = next((name for name in KEYWORDS if keywords.get(name, "").strip()), None)
    if found is None:
        return None
    parts = [part.strip() for part in keywords[found].split(",")]
    n = int(parts[0]) if parts[0].isascii() and parts[0].isdigit() and len(parts[0]) < 4 else 0
    if n == 0 and len(parts) == 1 and parts[0] in ("0", ""):
        return None
    if not 1 <= n <= CHANNELS_MAX or len(parts) != 1 + n + n * n:
        msg = f"{source}: {found}: expected n, n names and n x n numbers, got {len(parts)} parts. {_REMEDY}"
        raise InputError(msg)
    return _spillover(parts[1 : 1 + n], parts[1 + n :], f"{source}: {found}")


def from_csv(path: Path) -> Spillover:
    """Read a matrix from a csv file: channel names in the first line, then one line per stain (a name may lead it).

    Raises
    ------
    InputError
        If the file cannot be read, is not square, or is singular.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file) if any(cell.strip() for cell in line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{path}: the spillover matrix cannot be read ({error}). Check the path."
        raise InputError(msg) from error
    names = [cell for cell in lines[0] if cell] if lines else []
    rows = [line[-len(names) :] for line in lines[1:]] if names else []
    if not names or len(rows) != len(names) or len(names) > CHANNELS_MAX:
        msg = f"{path}: expected a line of n channel names and n lines of n numbers, got {len(names)} and {len(rows)}."
        raise InputError(msg)
    return _spillover(names, [cell for row in rows for cell in row], str(path))


def _spillover(names: Sequence[str], numbers: Sequence[str], source: str) -> Spillover:
    try:
        matrix = np.array([float(number) for number in numbers]).reshape(len(names), len(names))
    except ValueError as error:
        msg = f"{source}: the spillover matrix holds what is not a number ({error}). {_REMEDY}"
        raise InputError(msg) from error
    if len(set(names)) < len(names):
        msg = f"{source}: the spillover matrix names a channel twice ({', '.join(names)}). {_REMEDY}"
        raise InputError(msg)
    if not np.isfinite(matrix).all() or np.linalg.cond(matrix) > CONDITION_MAX:
        msg = f"{source}: the spillover matrix is singular: two stains cannot be told apart. {_REMEDY}"
        raise InputError(msg)
    return Spillover(tuple(names), matrix)


def is_compensated(labels: Sequence[Label]) -> bool:
    """Whether channel names say that the values are compensated already."""
    return any(_COMPENSATED.match(label.name) for label in labels)


def places(spillover: Spillover, labels: Sequence[Label], source: str) -> list[int]:
    """Return the column of each channel of the matrix.

    Raises
    ------
    InputError
        If the matrix names a channel that the file lacks.
    """
    by_name = {label.name: place for place, label in reversed(list(enumerate(labels)))}
    by_stain = {label.stain: place for place, label in reversed(list(enumerate(labels))) if label.stain}
    names = spillover.channels
    if all(name.isdigit() and 1 <= int(name) <= len(labels) for name in names) and not set(names) & set(by_name):
        return [int(name) - 1 for name in names]  # some writers give the channels' numbers
    found = [by_name.get(name, by_stain.get(name)) for name in names]
    absent = [name for name, place in zip(names, found, strict=True) if place is None]
    if absent:
        msg = (
            f"{source}: the spillover matrix names {', '.join(absent)}, which the file does not hold "
            f"(it has {', '.join(label.name for label in labels)}). {_REMEDY}"
        )
        raise InputError(msg)
    return [place for place in found if place is not None]


def compensate(values: EventTable, spillover: Spillover, columns: Sequence[int]) -> None:
    """Undo spillover, in place: what is observed = stains x matrix, so stains = observed x its inverse.

    Parameters
    ----------
    values
        Linear intensities, shape `(n_events, n_channels)`.
    columns
        Column of each channel of the matrix.

    References
    ----------
    Roederer 2001, Cytometry 45:194.
    """
    inverse = np.linalg.inv(spillover.matrix)
    for rows in chunks(len(values)):
        values[rows, columns] = values[rows, columns] @ inverse
