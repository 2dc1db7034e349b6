"""What the keywords say about the DATA segment: how many events, which channels, how each value is stored and scaled.

Rules: no byte of DATA is read here, and a layout is only made when its segment lies inside the file: `n_events` times
`n_channels` is then bounded by the file's size, so a reader may allocate it. Where HEADER and TEXT disagree about the
segment, the one that holds `$TOT` events counts; where none does, the file is refused.
"""

from dataclasses import dataclass

from swarmcell.cells.fcs.header import Header, Span
from swarmcell.cells.fcs.keywords import Keywords, as_float
from swarmcell.errors import InputError

CHANNELS_MAX = 10_000  # chosen: twenty times the widest spectral or imaging file known
BITS_MAX = 64
ASCII_CHARS_MAX = 32
DECADES_MAX = 38  # beyond float32
_FLOAT_BITS = {"F": 32, "D": 64}
_END_SLACK_BYTES = 1  # writers that count the last byte as the first one after the segment, or the reverse
_KINDS = ("A", "I", "F", "D")  # ASCII, integers, floats, doubles
LITTLE_ENDIAN = (1, 2, 3, 4)


@dataclass(frozen=True)
class Channel:
    """One parameter of a data set.

    `bits` counts characters for type A (0: delimited values). `maximum` is `$PnR`. A value v is stored linearly and
    means v / `gain`, or, with `decades` > 0, `offset` x 10 ** (`decades` x v / `maximum`).
    """

    index: int  # from 1, as in the file
    name: str  # $PnN, "" where absent
    stain: str  # $PnS, "" where absent
    kind: str  # A, I, F or D
    bits: int
    maximum: float
    decades: float = 0.0
    offset: float = 1.0
    gain: float = 1.0

    @property
    def mask(self) -> int | None:
        """Bits of an integer that count: those below the next power of two of `$PnR`; None if all."""
        if self.kind != "I" or not 1 <= self.maximum < 2.0**self.bits:
            return None
        mask = (1 << (int(self.maximum) - 1).bit_length()) - 1
        return mask if 0 < mask < (1 << self.bits) - 1 else None


@dataclass(frozen=True)
class Layout:
    """Where the events of one data set stand, and how to read them."""

    channels: tuple[Channel, ...]
    n_events: int
    byte_order: tuple[int, ...]  # significance of each stored byte, 1 = least; (1, 2, 3, 4) is little-endian
    data: Span

    @property
    def row_bits(self) -> int:
        """Bits of one event; 0 for delimited ASCII."""
        unit = 8 if self.channels and self.channels[0].kind == "A" else 1
        return sum(channel.bits for channel in self.channels) * unit


def plan(header: Header, words: Keywords, *, file_bytes: int) -> Layout:
    """Read the layout of a data set from its header and keywords.

    Raises
    ------
    InputError
        If a keyword is missing or impossible, the data type or mode is not read here, or the DATA segment lies
        outside the file or does not hold `$TOT` events.
    """
    _check_mode(words)
    channels = _channels(words)
    order = _byte_order(words, channels)
    data, n_events = _segment(header, words, channels, file_bytes)
    return Layout(channels=channels, n_events=n_events, byte_order=order, data=data)


def _check_mode(words: Keywords) -> None:
    mode = words.get("$MODE") or "L"
    if mode.upper() != "L":
        words.refuse("$MODE", "L (a list of events; histograms C and U hold no cells)", mode)


def _byte_order(words: Keywords, channels: tuple[Channel, ...]) -> tuple[int, ...]:
    text = words.get("$BYTEORD")
    if channels[0].kind == "A":
        return LITTLE_ENDIAN
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) == 1 for part in parts):
        words.refuse("$BYTEORD", "an order such as 1,2,3,4 or 4,3,2,1", text or "nothing")
    order = tuple(int(part) for part in parts)
    if sorted(order) != list(range(1, len(order) + 1)):
        words.refuse("$BYTEORD", "an order such as 1,2,3,4 or 4,3,2,1", text)
    widest = max(channel.bits for channel in channels)
    packed = any(channel.bits % 8 for channel in channels)
    if not is_monotone(order) and (packed or widest > 8 * len(order)):
        words.refuse("$BYTEORD", f"1,2,3,4 or 4,3,2,1 for values of up to {widest} bits", text)
    return order


def is_monotone(order: tuple[int, ...]) -> bool:
    """Whether the order is plainly little- or big-endian, and so says the order at any width."""
    return order in (tuple(range(1, len(order) + 1)), tuple(range(len(order), 0, -1)))


def _channels(words: Keywords) -> tuple[Channel, ...]:
    n_channels = words.required("$PAR")
    if not 1 <= n_channels <= CHANNELS_MAX:
        words.refuse("$PAR", f"1 to {CHANNELS_MAX} channels", str(n_channels))
    default = words.get("$DATATYPE").upper()
    if default not in _KINDS:
        words.refuse("$DATATYPE", "one of A, I, F, D", default)
    return tuple(_channel(words, index, default) for index in range(1, n_channels + 1))


def _channel(words: Keywords, index: int, default: str) -> Channel:
    kind = words.get(f"$P{index}DATATYPE").upper() or default
    if kind != default and (default == "A" or kind not in ("I", "F", "D")):
        words.refuse(f"$P{index}DATATYPE", f"I, F or D beside $DATATYPE {default}", kind)
    maximum = _range(words, index, kind)
    decades, offset = _amplification(words, index, kind, maximum)
    return Channel(
        index=index,
        name=words.get(f"$P{index}N"),
        stain=words.get(f"$P{index}S"),
        kind=kind,
        bits=_bits(words, index, kind),
        maximum=maximum,
        decades=decades,
        offset=offset,
        gain=1.0 if decades > 0 else _gain(words, index),
    )


def _bits(words: Keywords, index: int, kind: str) -> int:
    name = f"$P{index}B"
    if kind == "A":
        if words.get(name) == "*":
            return 0
        bits = words.required(name)
        if not 1 <= bits <= ASCII_CHARS_MAX:
            words.refuse(name, f"1 to {ASCII_CHARS_MAX} characters, or *", str(bits))
        return bits
    bits = words.required(name)
    if kind in _FLOAT_BITS and bits != _FLOAT_BITS[kind]:
        words.refuse(name, f"{_FLOAT_BITS[kind]} bits for type {kind}", str(bits))
    if not 1 <= bits <= BITS_MAX:
        words.refuse(name, f"1 to {BITS_MAX} bits", str(bits))
    return bits


def _range(words: Keywords, index: int, kind: str) -> float:
    name = f"$P{index}R"
    number = as_float(words.get(name))
    if number is not None and number >= 0:
        return number
    if kind == "I":
        words.refuse(name, "the channel's range, a number >= 0", words.get(name) or "nothing")
    words.notes.append(f"{name} is {words.get(name)!r}: no range, so no margin of this channel")
    return 0.0


def _amplification(words: Keywords, index: int, kind: str, maximum: float) -> tuple[float, float]:
    name = f"$P{index}E"
    text = words.get(name)
    if not text:
        return 0.0, 1.0
    numbers = [as_float(part) for part in text.split(",")]
    if len(numbers) != 2 or any(number is None or number < 0 for number in numbers):
        if kind in _FLOAT_BITS:
            return 0.0, 1.0
        words.refuse(name, "decades and offset, as 4,1", text)
    decades, offset = (float(number or 0.0) for number in numbers)
    if decades == 0:
        return 0.0, 1.0
    if kind in _FLOAT_BITS:
        words.notes.append(
            f"{name} is {text!r}: floating-point values are linear by the standard, so it is not applied"
        )
        return 0.0, 1.0
    if decades > DECADES_MAX:
        words.refuse(name, f"at most {DECADES_MAX} decades", text)
    if maximum <= 0:
        words.refuse(f"$P{index}R", "a range > 0 for a logarithmic channel", str(maximum))
    return decades, offset or 1.0  # "4,0" is written for "4,1" by many instruments (FCS 3.1, section 3.2.20)


def _gain(words: Keywords, index: int) -> float:
    text = words.get(f"$P{index}G")
    gain = as_float(text) if text else 1.0
    if gain is None or gain <= 0:
        words.notes.append(f"$P{index}G is {text!r}: no gain, taken as 1")
        return 1.0
    return gain


def _segment(header: Header, words: Keywords, channels: tuple[Channel, ...], file_bytes: int) -> tuple[Span, int]:
    n_events = words.integer("$TOT")
    candidates = _candidates(header, words)
    if n_events == 0 or (not candidates and n_events is None):
        return Span(0, -1), 0
    if not candidates:
        msg = (
            f"{words.source}: neither HEADER nor TEXT says where DATA stands, and $TOT is {n_events}. Export it again."
        )
        raise InputError(msg)
    if any(channel.kind == "A" and channel.bits == 0 for channel in channels):
        return _delimited(words, candidates, n_events, len(channels), file_bytes)
    unit = 8 if channels[0].kind == "A" else 1
    row_bits = sum(channel.bits for channel in channels) * unit
    if n_events is None:
        n_events = candidates[0].n_bytes * 8 // row_bits
        words.notes.append(f"$TOT is absent: {n_events} events, from the length of DATA")
    needed = -(-n_events * row_bits // 8)
    return _fitting(words, candidates, needed, n_events, file_bytes), n_events


def _candidates(header: Header, words: Keywords) -> list[Span]:
    found = [] if header.data is None else [header.data]
    first, last = words.integer("$BEGINDATA"), words.integer("$ENDDATA")
    if first and last:
        span = Span(header.start + first, header.start + last)
        if span not in found:
            found.append(span)
    return found


def _fitting(words: Keywords, candidates: list[Span], needed: int, n_events: int, file_bytes: int) -> Span:
    """Return the bytes of the segment that holds `needed` bytes; the nearest fit first, so an exact one wins."""
    inside = [span for span in candidates if span.first + needed <= file_bytes]
    for span in sorted(inside, key=lambda span: abs(span.n_bytes - needed)):
        if abs(span.n_bytes - needed) > _END_SLACK_BYTES:
            break
        if len(candidates) > 1 or span.n_bytes != needed:
            words.notes.append(
                f"offsets of DATA disagree; bytes {span.first} to {span.first + needed - 1} hold $TOT events"
            )
        return Span(span.first, span.first + needed - 1)
    shown = " or ".join(f"{span.first}-{span.last}" for span in candidates)
    if not inside:
        msg = (
            f"{words.source}: truncated: {n_events} events need {needed} bytes of DATA at {shown}, and the file has "
            f"{file_bytes} bytes. Copy the file again."
        )
        raise InputError(msg)
    msg = (
        f"{words.source}: $TOT says {n_events} events ({needed} bytes), and DATA at {shown} holds "
        f"{', '.join(str(span.n_bytes) for span in candidates)} bytes. Export it from the cytometer's software again."
    )
    raise InputError(msg)


def _delimited(
    words: Keywords, candidates: list[Span], n_events: int | None, n_channels: int, file_bytes: int
) -> tuple[Span, int]:
    """Place of delimited ASCII values: a digit and a delimiter each, so at least two bytes a value."""
    if any(bits != "*" for bits in (words.get(f"$P{index}B") for index in range(1, n_channels + 1))):
        words.refuse("$PnB", "* for all channels or for none", "a mixture")
    if n_events is None:
        words.refuse("$TOT", "the number of events, for delimited values", "nothing")
    span = next((span for span in candidates if span.last < file_bytes), None)
    if span is None or span.n_bytes < 2 * n_events * n_channels - 1:
        msg = f"{words.source}: truncated: DATA cannot hold $TOT = {n_events} events. Copy the file again."
        raise InputError(msg)
    return span, n_events
