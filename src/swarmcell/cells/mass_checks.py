"""Signs that a mass cytometry file was not processed: normalisation beads still in it, or several barcoded samples."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from swarmcell.cells.events import EventTable, Label

BEAD_METALS = ("Ce140", "Eu151", "Eu153", "Ho165", "Lu175")  # EQ four-element beads
BARCODE_METALS = ("Pd102", "Pd104", "Pd105", "Pd106", "Pd108", "Pd110")  # 6-choose-3 palladium barcodes
_BEAD_COUNTS = 200.0  # counts of each metal that no stained cell has in all of them at once; chosen
_BEAD_SHARE = 0.001  # chosen
_BARCODE_SHARE = 0.05  # of events per barcode; chosen
_SEPARATION = 3.0  # the third highest palladium signal over the fourth, in a barcoded cell; chosen
_EVENTS_MAX = 20_000  # a share needs no more


def unprocessed(values: EventTable, rows: npt.NDArray[np.intp], labels: Sequence[Label]) -> list[str]:
    """Return warnings about beads and barcodes.

    Parameters
    ----------
    values
        Counts, shape `(n_events, n_channels)`.
    rows
        Rows that stay after cleaning.
    """
    some = rows[:: max(1, len(rows) // _EVENTS_MAX)]
    return [*_beads(values, some, labels), *_barcodes(values, some, labels)]


def _columns(labels: Sequence[Label], metals: Sequence[str]) -> list[int]:
    """Columns of the metals, however they are written: `Ce140Di`, `140Ce_Beads`, `IgD(Ce140)Dd`."""
    written = [(metal, f"{metal[2:]}{metal[:2]}") for metal in metals]
    texts = [f"{label.name} {label.stain}" for label in labels]
    return [n for forms in written for n, text in enumerate(texts) if any(form in text for form in forms)]


def _beads(values: EventTable, rows: npt.NDArray[np.intp], labels: Sequence[Label]) -> list[str]:
    columns = _columns(labels, BEAD_METALS)
    if len(columns) < 4:
        return []
    share = float((values[rows[:, None], columns] > _BEAD_COUNTS).all(axis=1).mean()) if len(rows) else 0.0
    if share < _BEAD_SHARE:
        return []
    return [f"{share:.1%} of events look like normalisation beads: normalise the file, and remove them, first"]


def _barcodes(values: EventTable, rows: npt.NDArray[np.intp], labels: Sequence[Label]) -> list[str]:
    columns = _columns(labels, BARCODE_METALS)
    if len(columns) != len(BARCODE_METALS) or not len(rows):
        return []
    palladium = values[rows[:, None], columns]
    order = np.argsort(-palladium, axis=1)
    third, fourth = (np.take_along_axis(palladium, order[:, place : place + 1], axis=1)[:, 0] for place in (2, 3))
    clear = third > _SEPARATION * np.maximum(fourth, 1.0)
    codes = Counter(map(tuple, np.sort(order[clear, :3], axis=1).tolist()))
    common = [code for code, count in codes.items() if count >= _BARCODE_SHARE * len(rows)]
    if len(common) < 2:
        return []
    return [f"{len(common)} palladium barcodes in one file: it looks like several samples, not yet debarcoded"]
