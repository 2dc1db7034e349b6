"""Reading FCS files: the data sets of a file, and the events of one as float32.

Rules: a file is opened, read and closed within one call. Events go straight into the array that is returned, by chunks:
no second copy of the data stands in memory. What is allocated is bounded by the file's size (see `layout`).

References
----------
Spidlen et al. 2010, Cytometry A 77:97 (FCS 3.1); Spidlen et al. 2021, Cytometry A 99:100 (FCS 3.2).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from swarmcell.cells.fcs.header import HEADER_BYTES, Header, Span, parse_header
from swarmcell.cells.fcs.keywords import Keywords
from swarmcell.cells.fcs.layout import Channel, Layout, plan
from swarmcell.cells.fcs.text import parse_text
from swarmcell.cells.fcs.values import fill
from swarmcell.errors import InputError

DATA_SETS_MAX = 1000  # chosen: instruments write one or two
TEXT_BYTES_MAX = 1 << 24  # chosen: 16 MiB hold the keywords and spillover of any panel a hundred times
_NEEDED = ("$PAR", "$DATATYPE")


@dataclass(frozen=True)
class DataSet:
    """One data set of an FCS file, without its events.

    `notes` say in words what was mended or guessed while reading it.
    """

    path: Path
    number: int  # from 1
    version: str
    keywords: dict[str, str]  # upper case, with their $
    layout: Layout
    notes: tuple[str, ...]

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Channels in file order."""
        return self.layout.channels

    @property
    def n_events(self) -> int:
        """Number of events."""
        return self.layout.n_events


def data_sets(path: Path) -> tuple[DataSet, ...]:
    """Read the headers and keywords of all data sets of a file.

    Raises
    ------
    InputError
        If the file cannot be opened, is no FCS file, or one of its data sets is damaged.
    """
    try:
        with path.open("rb") as file:
            return tuple(_scan(file, path))
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}). Check the path and its permissions."
        raise InputError(msg) from error


def only_data_set(path: Path, number: int | None = None) -> DataSet:
    """Read the one data set of a file, or the one of that number (from 1).

    Raises
    ------
    InputError
        As `data_sets`; or if the file holds several and none was chosen, or has none of that number.
    """
    found = data_sets(path)
    if number is None and len(found) == 1:
        return found[0]
    if number is not None and 1 <= number <= len(found):
        return found[number - 1]
    listed = "; ".join(f"{one.number}: {one.version}, {one.n_events} events x {len(one.channels)}" for one in found)
    asked = "none was chosen" if number is None else f"number {number} was asked for"
    msg = f"{path}: holds {len(found)} data sets ({listed}) and {asked}. Add a column data_set to the sample sheet."
    raise InputError(msg)


def read_events(data_set: DataSet, *, scaled: bool = True) -> npt.NDArray[np.float32]:
    """Read the events of a data set.

    Parameters
    ----------
    scaled
        Apply `$PnE` (logarithmic amplification) and `$PnG` (gain) as the standard says; otherwise channel values.

    Returns
    -------
    ndarray
        Shape `(n_events, n_channels)`, C order. A double beyond float32 becomes Inf.

    Raises
    ------
    InputError
        If the file is shorter than it was, or ASCII values are not numbers.
    """
    layout = data_set.layout
    events = np.empty((layout.n_events, len(layout.channels)), np.float32)
    try:
        with data_set.path.open("rb") as file:
            file.seek(layout.data.first)
            fill(events, file, layout, source=str(data_set.path))
    except OSError as error:
        msg = f"{data_set.path}: cannot be read ({error.strerror}). Check the path and its permissions."
        raise InputError(msg) from error
    if scaled:
        scale(events, layout.channels)
    return events


def scale(events: npt.NDArray[np.float32], channels: tuple[Channel, ...]) -> None:
    """Turn channel values into linear intensities, in place.

    Parameters
    ----------
    events
        Shape `(n_events, n_channels)`, as stored.
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # beyond float32 is Inf, which cleaning counts
        for place, channel in enumerate(channels):
            _scale_column(events[:, place], channel)


def _scale_column(column: npt.NDArray[np.float32], channel: Channel) -> None:
    if channel.decades > 0:
        np.multiply(column, channel.decades / channel.maximum, out=column)
        np.power(np.float32(10), column, out=column)
        np.multiply(column, channel.offset, out=column)
    elif channel.gain != 1.0:
        np.divide(column, channel.gain, out=column)


def _scan(file: BinaryIO, path: Path) -> list[DataSet]:
    file_bytes = file.seek(0, 2)
    found: list[DataSet] = []
    start = n_text = 0
    while len(found) < DATA_SETS_MAX and n_text <= file_bytes:
        header, words = _keywords(file, path, start, file_bytes)
        layout = plan(header, words, file_bytes=file_bytes)
        step = words.integer("$NEXTDATA") or 0
        is_last = step < HEADER_BYTES or start + step + HEADER_BYTES > file_bytes
        if step and is_last:
            words.notes.append(f"$NEXTDATA is {step}, outside the file: ignored")
        number = len(found) + 1
        found.append(DataSet(path, number, header.version, dict(words.pairs), layout, tuple(words.notes)))
        if is_last:
            return found
        start += step
        n_text += header.text.n_bytes
    msg = f"{path}: more than {DATA_SETS_MAX} data sets, or sets that share their TEXT. Export the sets one by one."
    raise InputError(msg)


def _keywords(file: BinaryIO, path: Path, start: int, file_bytes: int) -> tuple[Header, Keywords]:
    file.seek(start)
    header = parse_header(file.read(HEADER_BYTES), start=start, source=str(path))
    _check_text(header.text, str(path), file_bytes)
    for shift in (0, -1, 1):  # some writers place TEXT off by one
        pairs = parse_text(_segment(file, Span(header.text.first + shift, header.text.last)))
        if all(name in pairs for name in _NEEDED):
            return header, _with_supplement(file, header, Keywords(pairs, str(path)), file_bytes)
    msg = f"{path}: TEXT holds no {' or '.join(_NEEDED)}: it is damaged. Export the file from the cytometer again."
    raise InputError(msg)


def _check_text(text: Span, source: str, file_bytes: int) -> None:
    if text.last >= file_bytes or text.n_bytes < 2:
        msg = (
            f"{source}: truncated: TEXT stands at bytes {text.first} to {text.last}, and the file has {file_bytes}. "
            "Copy the file again."
        )
        raise InputError(msg)
    if text.n_bytes > TEXT_BYTES_MAX:
        msg = f"{source}: TEXT has {text.n_bytes} bytes; at most {TEXT_BYTES_MAX} are read. Export the file again."
        raise InputError(msg)


def _with_supplement(file: BinaryIO, header: Header, words: Keywords, file_bytes: int) -> Keywords:
    first, last = words.integer("$BEGINSTEXT") or 0, words.integer("$ENDSTEXT") or 0
    span = Span(header.start + first, header.start + last)
    if first == 0 or span.n_bytes < 2 or span == header.text:
        return words
    _check_text(span, words.source, file_bytes)
    return Keywords(parse_text(_segment(file, span)) | dict(words.pairs), words.source)


def _segment(file: BinaryIO, span: Span) -> bytes:
    file.seek(span.first)
    return file.read(span.n_bytes)
