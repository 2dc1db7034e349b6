"""Events from csv, tsv and parquet exports: a column per channel, a row per event."""

from pathlib import Path

import numpy as np
import pandas as pd

from swarmcell.cells.events import Events, Label
from swarmcell.errors import InputError

_REMEDY = "Export it again, with one column per channel and one line per event."


def read_table(path: Path) -> Events:
    """Read a table of events.

    A header such as `Comp-FITC-A :: CD3` gives a channel and its stain. Columns that are no numbers are left out,
    with a note.

    Raises
    ------
    InputError
        If the file cannot be read, or no column holds numbers.
    """
    frame = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    numeric = [name for name in frame.columns if pd.api.types.is_numeric_dtype(frame[name])]
    numeric = [name for name in numeric if not _is_index(str(name), frame[name])]
    if not numeric:
        msg = f"{path}: no column holds numbers. {_REMEDY}"
        raise InputError(msg)
    left = [str(name) for name in frame.columns if name not in numeric]
    notes = (f"columns without intensities left out: {', '.join(left)}",) if left else ()
    values = np.empty((len(frame), len(numeric)), np.float32)
    for place, name in enumerate(numeric):
        with np.errstate(over="ignore"):
            values[:, place] = frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
    return Events(path.name, tuple(label_of(str(name)) for name in numeric), values, notes=notes)


def label_of(name: str) -> Label:
    """Split a column's name as FlowJo writes it: `Comp-FITC-A :: CD3`."""
    channel, separator, stain = name.partition("::")
    return Label(channel.strip(), stain.strip()) if separator else Label(name.strip())


def _is_index(name: str, column: "pd.Series[float]") -> bool:
    return name in ("", "Unnamed: 0") and bool(column.is_monotonic_increasing)


def _csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, sep="\t" if path.suffix.lower() == ".tsv" else _separator(path), encoding="utf-8-sig")
    except (OSError, ValueError, pd.errors.ParserError) as error:
        msg = f"{path}: not a table of events ({error}). {_REMEDY}"
        raise InputError(msg) from error


def _separator(path: Path) -> str:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = file.readline()
    return max(",;\t", key=first.count)


def _parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except ImportError as error:
        msg = f"{path}: reading parquet needs pyarrow. Install it: pip install 'swarmcell[parquet]'; or export csv."
        raise InputError(msg) from error
    except (OSError, ValueError) as error:
        msg = f"{path}: not a parquet file ({error}). {_REMEDY}"
        raise InputError(msg) from error
