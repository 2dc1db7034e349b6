"""Deterministic CBOR without floats: one value, one string of bytes.

Rules: only 64-bit integers, text, bytes, booleans, null, lists, and maps with text keys (RFC 8949, section 4.2.1,
core deterministic encoding); what would not re-encode to the same bytes is refused; every size has a limit; decoding is
total: any bytes give a value or `EncodingError`, never another exception.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Plain: TypeAlias = "int | str | bytes | bool | Sequence[Plain] | Mapping[str, Plain] | None"

BYTES_MAX = 1_000_000  # of one encoded value; below the 1 MiB that nats-server takes by default
DEPTH_MAX = 8
INT_MAX = 2**63 - 1
DIGEST_BYTES = 32

_SIMPLE: dict[int, bool | None] = {0xF4: False, 0xF5: True, 0xF6: None}


class EncodingError(ValueError):
    """These bytes, or this value, have no place in the canonical encoding."""


def digest(domain: bytes, content: bytes) -> bytes:
    """SHA-256 of `content` under a domain prefix, 32 bytes."""
    return hashlib.sha256(domain + content).digest()


def encode(value: Plain, *, bytes_max: int = BYTES_MAX) -> bytes:
    """Encode a plain value of at most `bytes_max` bytes.

    Raises
    ------
    EncodingError
        For a type, size or depth that the encoding does not have.
    """
    parts: list[bytes] = []
    _write(value, parts, DEPTH_MAX)
    content = b"".join(parts)
    if len(content) > bytes_max:
        msg = f"{len(content)} bytes, at most {bytes_max} fit here"
        raise EncodingError(msg)
    return content


def decode(content: bytes, *, bytes_max: int = BYTES_MAX) -> Plain:
    """Decode canonical bytes, at most `bytes_max` of them.

    Raises
    ------
    EncodingError
        If the bytes are too many, truncated, followed by others, not canonical, or of a type that is not allowed.
    """
    if len(content) > bytes_max:
        msg = f"{len(content)} bytes, at most {bytes_max} expected"
        raise EncodingError(msg)
    value, end = _read(content, 0, DEPTH_MAX)
    if end != len(content):
        msg = f"{len(content) - end} bytes follow the value"
        raise EncodingError(msg)
    return value


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes((major << 5 | argument,))
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << (8 * size):
            return bytes((major << 5 | code,)) + argument.to_bytes(size, "big")
    msg = f"{argument} needs more than 64 bits"
    raise EncodingError(msg)


def _write(value: Plain, parts: list[bytes], depth: int) -> None:
    match value:
        case bool() | None:
            parts.append(b"\xf6" if value is None else b"\xf5" if value else b"\xf4")
        case int():
            _write_int(value, parts)
        case str():
            text = _utf8(value)
            parts.extend((_head(3, len(text)), text))
        case bytes():
            parts.extend((_head(2, len(value)), value))
        case list() | tuple() | Mapping():
            _write_container(value, parts, depth)
        case _:
            msg = f"{type(value).__name__} cannot be encoded"
            raise EncodingError(msg)


def _write_int(value: int, parts: list[bytes]) -> None:
    if not -INT_MAX - 1 <= value <= INT_MAX:
        msg = f"{value} needs more than 64 bits"
        raise EncodingError(msg)
    parts.append(_head(0, value) if value >= 0 else _head(1, -1 - value))


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        msg = f"text that is not Unicode ({error.reason})"
        raise EncodingError(msg) from error


def _write_container(value: Sequence[Plain] | Mapping[str, Plain], parts: list[bytes], depth: int) -> None:
    if depth == 0:
        msg = f"nested deeper than {DEPTH_MAX}"
        raise EncodingError(msg)
    if isinstance(value, Mapping):
        parts.append(_head(5, len(value)))
        for key, item in sorted((_key(key), item) for key, item in value.items()):
            parts.append(key)
            _write(item, parts, depth - 1)
    else:
        parts.append(_head(4, len(value)))
        for item in value:
            _write(item, parts, depth - 1)


def _key(key: str) -> bytes:
    if not isinstance(key, str):
        msg = f"a map's key is {type(key).__name__}, expected text"
        raise EncodingError(msg)
    text = _utf8(key)
    return _head(3, len(text)) + text


def _read_head(content: bytes, at: int) -> tuple[int, int, int]:
    """Return the major type, the argument and the next position."""
    if at >= len(content):
        msg = "truncated"
        raise EncodingError(msg)
    major, code = content[at] >> 5, content[at] & 31
    if code < 24:
        return major, code, at + 1
    if code > 27:
        msg = f"head {content[at]:#x} is not canonical"
        raise EncodingError(msg)
    end = at + 1 + (1 << (code - 24))
    argument = int.from_bytes(content[at + 1 : end], "big")
    if end > len(content) or argument < (24 if code == 24 else 1 << (4 << (code - 24))):
        msg = "truncated, or an integer that is longer than it need be"
        raise EncodingError(msg)
    return major, argument, end


def _read(content: bytes, at: int, depth: int) -> tuple[Plain, int]:
    if at < len(content) and content[at] in _SIMPLE:
        return _SIMPLE[content[at]], at + 1
    major, argument, at = _read_head(content, at)
    match major:
        case 0 | 1:
            return _read_int(major, argument), at
        case 2 | 3:
            return _read_string(content, major, argument, at)
        case 4 | 5 if depth > 0 and argument <= len(content) - at:
            return _read_list(content, argument, at, depth) if major == 4 else _read_map(content, argument, at, depth)
    msg = f"major type {major} with argument {argument} is not allowed here"
    raise EncodingError(msg)


def _read_int(major: int, argument: int) -> int:
    if argument > INT_MAX:
        msg = "an integer of more than 64 bits"
        raise EncodingError(msg)
    return argument if major == 0 else -1 - argument


def _read_string(content: bytes, major: int, size: int, at: int) -> tuple[bytes | str, int]:
    end = at + size
    if end > len(content):
        msg = "truncated"
        raise EncodingError(msg)
    raw = content[at:end]
    if major == 2:
        return raw, end
    try:
        return raw.decode("utf-8"), end
    except UnicodeDecodeError as error:
        msg = "text that is not UTF-8"
        raise EncodingError(msg) from error


def _read_list(content: bytes, size: int, at: int, depth: int) -> tuple[list[Plain], int]:
    items: list[Plain] = []
    for _ in range(size):
        item, at = _read(content, at, depth - 1)
        items.append(item)
    return items, at


def _read_map(content: bytes, size: int, at: int, depth: int) -> tuple[dict[str, Plain], int]:
    items: dict[str, Plain] = {}
    last = b""
    for _ in range(size):
        start = at
        key, at = _read(content, at, 0)
        if not isinstance(key, str) or content[start:at] <= last:
            msg = "a map's keys are not text in canonical order"
            raise EncodingError(msg)
        last = content[start:at]
        items[key], at = _read(content, at, depth - 1)
    return items, at
