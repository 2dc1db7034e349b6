"""The DATA segment's bytes into float32: every type, width and byte order.

Rules: rows are read by chunks of at most `CHUNK_BYTES`; the caller's array is the only one as large as the data. Files
of type F, big- or little-endian, are read into it directly.
"""

import sys
from collections.abc import Iterator
from itertools import groupby, pairwise
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from swarmcell.cells.fcs.layout import ASCII_CHARS_MAX, Channel, Layout, is_monotone
from swarmcell.errors import InputError

CHUNK_BYTES = 1 << 21  # chosen: fits the second-level cache of most machines, and is far above a disk's block
_SEPARATORS = bytes.maketrans(b",\t\r\n\x00", b"     ")
_NATIVE_WIDTHS = (1, 2, 4, 8)

Events = npt.NDArray[np.float32]
Rows = npt.NDArray[np.uint8]  # shape (n_rows, row_bytes)


def fill(events: Events, file: BinaryIO, layout: Layout, *, source: str) -> None:
    """Read `len(events)` events from where `file` stands.

    Raises
    ------
    InputError
        If the file ends too early, or ASCII values are not numbers.
    """
    if not events.size:
        return
    kinds = {channel.kind for channel in layout.channels}
    if kinds == {"A"}:
        (_fill_ascii if layout.row_bits else _fill_delimited)(events, file, layout, source)
    elif kinds == {"F"} and is_monotone(layout.byte_order):
        _fill_float32(events, file, layout, source)
    elif any(channel.bits % 8 for channel in layout.channels):
        _fill_bits(events, file, layout, source)
    else:
        _fill_bytes(events, file, layout, source)


def _fill_float32(events: Events, file: BinaryIO, layout: Layout, source: str) -> None:
    _read_into(file, events.reshape(-1).view(np.uint8).data, source)
    if (layout.byte_order[0] == 1) != (sys.byteorder == "little"):
        events.byteswap(inplace=True)


def _fill_bytes(events: Events, file: BinaryIO, layout: Layout, source: str) -> None:
    runs = list(_runs(layout))
    with np.errstate(over="ignore"):  # a double beyond float32 is Inf, which cleaning counts
        for start, rows in _chunks(events, file, layout.row_bits // 8, source):
            target = events[start : start + len(rows)]
            for first_column, first_byte, channels in runs:
                _convert(target[:, first_column : first_column + len(channels)], rows, first_byte, channels, layout)


def _runs(layout: Layout) -> Iterator[tuple[int, int, tuple[Channel, ...]]]:
    """Yield neighbours of one type and width: their first column, first byte of the row, and channels."""
    column = byte = 0
    for (_, bits), group in groupby(layout.channels, key=lambda channel: (channel.kind, channel.bits)):
        channels = tuple(group)
        yield column, byte, channels
        column += len(channels)
        byte += len(channels) * bits // 8


def _convert(target: Events, rows: Rows, first: int, channels: tuple[Channel, ...], layout: Layout) -> None:
    width = channels[0].bits // 8
    block = rows[:, first : first + width * len(channels)].reshape(len(rows), len(channels), width)
    if channels[0].kind == "I":
        numbers = _integers(block, layout.byte_order)
        masks = _masks(channels, numbers.dtype)
        target[...] = numbers if masks is None else numbers & masks
    else:
        target[...] = _typed(block, layout.byte_order, f"f{width}")


def _integers(block: npt.NDArray[np.uint8], order: tuple[int, ...]) -> npt.NDArray[np.unsignedinteger]:
    """Join bytes of shape `(n_rows, n_channels, width)` into unsigned integers of shape `(n_rows, n_channels)`."""
    width = block.shape[-1]
    if width in _NATIVE_WIDTHS:
        return _typed(block, order, f"u{width}")
    ranks = _significance(order, width)
    numbers = np.zeros(block.shape[:2], np.uint32 if width < 4 else np.uint64)
    for place, rank in enumerate(ranks):
        numbers |= block[..., place].astype(numbers.dtype) << numbers.dtype.type(8 * (rank - 1))
    return numbers


def _typed(block: npt.NDArray[np.uint8], order: tuple[int, ...], kind: str) -> npt.NDArray[Any]:
    """View bytes of shape `(n_rows, n_channels, width)` as numbers of shape `(n_rows, n_channels)`."""
    if is_monotone(order):
        endian = "<" if order[0] == 1 else ">"
        return np.ascontiguousarray(block).view(endian + kind)[..., 0]
    places = np.argsort(_significance(order, block.shape[-1]))  # least significant byte first
    return np.ascontiguousarray(block[..., places]).view(f"<{kind}")[..., 0]


def _significance(order: tuple[int, ...], width: int) -> tuple[int, ...]:
    """Return the significance of each byte of a value that is `width` bytes wide.

    A file states one order for all widths: a monotone one is big- or little-endian at any width, another one holds for
    its own width and, by the bytes that are left, for narrower values.
    """
    if order == tuple(range(1, len(order) + 1)):
        return tuple(range(1, width + 1))
    if is_monotone(order):
        return tuple(range(width, 0, -1))
    return tuple(rank for rank in order if rank <= width)


def _masks(
    channels: tuple[Channel, ...], dtype: np.dtype[np.unsignedinteger]
) -> npt.NDArray[np.unsignedinteger] | None:
    if all(channel.mask is None for channel in channels):
        return None
    everything = int(np.iinfo(dtype).max)
    return np.array([everything if channel.mask is None else channel.mask for channel in channels], dtype)


def _fill_bits(events: Events, file: BinaryIO, layout: Layout, source: str) -> None:
    """Read values packed without gaps, most significant bit first (or least, in little-endian files)."""
    little = layout.byte_order[0] == 1 and len(layout.byte_order) > 1
    edges = np.cumsum([0, *(channel.bits for channel in layout.channels)])
    for start, n_rows, block in _bit_chunks(events, file, layout.row_bits, source):
        bits = np.unpackbits(block, bitorder="little" if little else "big")[: n_rows * layout.row_bits]
        table = bits.reshape(n_rows, layout.row_bits)
        for channel, (first, last) in zip(layout.channels, pairwise(edges), strict=True):
            places = np.arange(channel.bits, dtype=np.uint64)
            weights = np.uint64(1) << (places if little else places[::-1])
            numbers = table[:, first:last].astype(np.uint64) @ weights
            events[start : start + n_rows, channel.index - 1] = _unpacked(numbers, channel)


def _unpacked(numbers: npt.NDArray[np.uint64], channel: Channel) -> npt.NDArray[Any]:
    """Take joined bits for what they are: an integer, masked, or a float beside packed integers (FCS 3.2)."""
    if channel.kind != "I":
        return numbers.astype(f"u{channel.bits // 8}").view(f"f{channel.bits // 8}")
    return numbers if channel.mask is None else numbers & np.uint64(channel.mask)


def _bit_chunks(events: Events, file: BinaryIO, row_bits: int, source: str) -> Iterator[tuple[int, int, Rows]]:
    step = max(1, CHUNK_BYTES // 16 // row_bits) * 8  # eight rows end on a byte; a bit takes up to 9 bytes on its way
    for start in range(0, len(events), step):
        n_rows = min(step, len(events) - start)
        block = np.empty(-(-n_rows * row_bits // 8), np.uint8)
        _read_into(file, block.data, source)
        yield start, n_rows, block


def _fill_ascii(events: Events, file: BinaryIO, layout: Layout, source: str) -> None:
    edges = np.cumsum([0, *(channel.bits for channel in layout.channels)])
    for start, rows in _chunks(events, file, layout.row_bits // 8, source):
        for column, (first, last) in enumerate(pairwise(edges)):
            text = np.ascontiguousarray(rows[:, first:last]).view(f"S{last - first}")[:, 0]
            events[start : start + len(rows), column] = _numbers(text, source)


def _fill_delimited(events: Events, file: BinaryIO, layout: Layout, source: str) -> None:
    flat = events.reshape(-1)
    done, rest, left = 0, b"", layout.data.n_bytes
    while left:
        block = file.read(min(CHUNK_BYTES, left))
        if not block:
            raise _too_short(source)
        left -= len(block)
        parts = (rest + block).translate(_SEPARATORS).split(b" ")
        rest = parts.pop() if left else b""
        values = [part for part in parts if part]
        if len(rest) > ASCII_CHARS_MAX or any(len(value) > ASCII_CHARS_MAX for value in values):
            msg = (
                f"{source}: type A, and DATA holds a value of more than {ASCII_CHARS_MAX} characters. Export it again."
            )
            raise InputError(msg)
        if done + len(values) > len(flat):
            msg = f"{source}: DATA holds more values than $TOT says ({layout.n_events} events). Export it again."
            raise InputError(msg)
        flat[done : done + len(values)] = _numbers(np.array(values, "S"), source) if values else ()
        done += len(values)
    if done < len(flat):
        msg = f"{source}: DATA holds {done} values, $TOT says {len(flat)}. Export it again."
        raise InputError(msg)


def _numbers(text: npt.NDArray[np.bytes_], source: str) -> npt.NDArray[np.float64]:
    try:
        return text.astype(np.float64)
    except ValueError as error:
        msg = f"{source}: type A, and DATA holds what is not a number ({error}). Export it from the cytometer again."
        raise InputError(msg) from error


def _chunks(events: Events, file: BinaryIO, row_bytes: int, source: str) -> Iterator[tuple[int, Rows]]:
    step = max(1, CHUNK_BYTES // row_bytes)
    buffer = np.empty((min(step, len(events)), row_bytes), np.uint8)
    for start in range(0, len(events), step):
        rows = buffer[: len(events) - start]
        _read_into(file, rows.reshape(-1).data, source)
        yield start, rows


def _read_into(file: BinaryIO, view: memoryview, source: str) -> None:
    place = 0
    while place < len(view):
        n_read = file.readinto(view[place:])  # type: ignore[attr-defined]
        if not n_read:
            raise _too_short(source)
        place += n_read


def _too_short(source: str) -> InputError:
    return InputError(f"{source}: truncated: DATA ends before the last event. Copy the file again.")
