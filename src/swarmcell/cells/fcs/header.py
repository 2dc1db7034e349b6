"""HEADER segment: the version and where the other segments stand.

Rules: offsets are bytes from the start of the data set, kept here as bytes from the start of the file. A blank or zero
offset means "not given here"; what is not a number is refused. Nothing is read beyond the 58 bytes.
"""

from dataclasses import dataclass

from swarmcell.errors import InputError

HEADER_BYTES = 58
VERSIONS = ("FCS2.0", "FCS3.0", "FCS3.1", "FCS3.2")
_FIELD_BYTES = 8
_FIRST_FIELD = 10


@dataclass(frozen=True)
class Span:
    """Bytes `first` to `last` of a file, both included."""

    first: int
    last: int

    @property
    def n_bytes(self) -> int:
        """Length of the span, never negative."""
        return max(0, self.last - self.first + 1)


@dataclass(frozen=True)
class Header:
    """What the first 58 bytes of a data set say. `start` is the byte of the file at which the data set begins."""

    version: str
    start: int
    text: Span
    data: Span | None  # None: not given here, look in TEXT


def parse_header(block: bytes, *, start: int, source: str) -> Header:
    """Read a HEADER segment.

    Parameters
    ----------
    block
        The first 58 bytes of the data set.
    start
        Byte of the file at which the data set begins.
    source
        The file's name, for errors.

    Raises
    ------
    InputError
        If this is no FCS file, a version that is not read here, or TEXT has no place.
    """
    version = block[:6].decode("latin-1")
    if not version.startswith("FCS"):
        msg = f"{source}: not an FCS file: byte {start} begins with {version!r}, expected 'FCS'. Check the path."
        raise InputError(msg)
    if version not in VERSIONS:
        msg = f"{source}: version {version!r}; {', '.join(VERSIONS)} are read. Export it as FCS 3.1."
        raise InputError(msg)
    if len(block) < HEADER_BYTES:
        msg = (
            f"{source}: truncated: the header needs {HEADER_BYTES} bytes, {len(block)} are there. Copy the file again."
        )
        raise InputError(msg)
    text = _span(block, 0, start, source)
    if text is None:
        msg = f"{source}: the header gives no place for the TEXT segment. Export it from the cytometer again."
        raise InputError(msg)
    return Header(version=version, start=start, text=text, data=_span(block, 1, start, source))


def _span(block: bytes, number: int, start: int, source: str) -> Span | None:
    place = _FIRST_FIELD + 2 * number * _FIELD_BYTES
    first = _offset(block[place : place + _FIELD_BYTES], source)
    last = _offset(block[place + _FIELD_BYTES : place + 2 * _FIELD_BYTES], source)
    return None if first == 0 or last == 0 else Span(start + first, start + last)


def _offset(field: bytes, source: str) -> int:
    digits = field.strip(b" \x00")
    if not digits:
        return 0
    if not digits.isdigit():
        msg = f"{source}: the header's offset {field!r} is not a number. The file is damaged: copy or export it again."
        raise InputError(msg)
    return int(digits)
