"""Named integer arrays as canonical bytes: what a site contributes, what a merge returns, what a digest is taken of.

Rules: one value has one encoding. `decode` is total: any bytes give a value or a `MergeError`, never another
exception, and never more memory than `LIMIT_BYTES`. No floats: a header holds integers, texts, bytes and booleans.

Layout: the 4 bytes `SCA1`, the header's length (4 bytes, little-endian), the header (canonical CBOR:
``{"header": {...}, "arrays": [[name, dtype, [shape]], ...]}``, names ascending), the arrays' little-endian bytes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import cbor2
import numpy as np
import numpy.typing as npt

from swarmcell.errors import MergeError

Array = npt.NDArray[Any]

MAGIC = b"SCA1"
DTYPES: dict[str, np.dtype[Any]] = {"i4": np.dtype("<i4"), "i8": np.dtype("<i8")}
LIMIT_BYTES = 1 << 30  # of one encoding; chosen: four times the largest state of a 60,000-gene, 100-type linear model
LIMIT_HEADER_BYTES = 1 << 20
LIMIT_ARRAYS = 256
LIMIT_DIMENSIONS = 3
LIMIT_NAME = 64  # characters
LIMIT_DEPTH = 8


@dataclass(frozen=True)
class Named:
    """A header and integer arrays by name.

    Attributes
    ----------
    header
        Text keys to integers (64 bits, signed), texts, bytes, booleans, lists and mappings of these.
    arrays
        int32 or int64 arrays of at most three dimensions.
    """

    header: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)


def encode(named: Named) -> bytes:
    """Return the canonical bytes of `named`.

    Raises
    ------
    MergeError
        If a header value or an array is of a kind that has no canonical bytes.
    """
    names = sorted(named.arrays)
    arrays: list[list[Any]] = [
        [name, _dtype_code(named.arrays[name]), list(named.arrays[name].shape)] for name in names
    ]
    for entry, before in zip(arrays, ["", *names], strict=False):
        _check_entry(entry, after=before)
    _check_plain(named.header, depth=0)
    head = cbor2.dumps({"header": dict(named.header), "arrays": arrays}, canonical=True)
    parts = [MAGIC, len(head).to_bytes(4, "little"), head]
    parts += [np.ascontiguousarray(named.arrays[n], DTYPES[code]).tobytes() for n, code, _ in arrays]
    return b"".join(parts)


def decode(raw: bytes) -> Named:
    """Return the value whose canonical bytes `raw` is.

    Raises
    ------
    MergeError
        If `raw` is not the canonical encoding of anything, or is larger than the limits.
    """
    if len(raw) > LIMIT_BYTES or raw[:4] != MAGIC or len(raw) < 8:
        _refuse("not an encoding of arrays")
    length = int.from_bytes(raw[4:8], "little")
    if length > LIMIT_HEADER_BYTES or 8 + length > len(raw):
        _refuse("its header is cut off or too long")
    head = _decode_head(raw[8 : 8 + length])
    return Named(head["header"], _decode_arrays(head["arrays"], memoryview(raw)[8 + length :]))


def _decode_head(raw: bytes) -> dict[str, Any]:
    _check_items(raw)
    try:
        head = cbor2.loads(raw)
    except (cbor2.CBORError, ValueError, TypeError, RecursionError, OverflowError, MemoryError):
        _refuse("its header is not CBOR")
    if not isinstance(head, dict) or set(head) != {"header", "arrays"}:
        _refuse("its header has other keys")
    if not isinstance(head["header"], dict) or not isinstance(head["arrays"], list):
        _refuse("its header has other kinds")
    _check_plain(head, depth=0)
    if cbor2.dumps(head, canonical=True) != raw:
        _refuse("its header is not canonical")
    return head


def _check_items(raw: bytes) -> None:
    """Refuse CBOR tags before a decoder sees them: shared references grow a few bytes into more than any memory."""
    at = 0
    while at < len(raw):
        major, info = raw[at] >> 5, raw[at] & 31
        size = 1 << (info - 24) if 24 <= info < 28 else 0
        if major == 6 or info >= 28:
            _refuse("its header has tags or indefinite lengths")
        argument = int.from_bytes(raw[at + 1 : at + 1 + size], "big") if size else info
        at += 1 + size + (argument if major in (2, 3) else 0)


def _decode_arrays(entries: list[Any], body: memoryview) -> dict[str, Array]:
    if len(entries) > LIMIT_ARRAYS:
        _refuse("too many arrays")
    arrays: dict[str, Array] = {}
    offset = 0
    for entry in entries:
        name, dtype, shape = _check_entry(entry, after=max(arrays, default=""))
        size = math.prod(shape) * dtype.itemsize
        if offset + size > len(body):
            _refuse(f"{name!r} is cut off")
        array = np.frombuffer(body[offset : offset + size], dtype).reshape(shape)
        array.flags.writeable = False
        arrays[name] = array
        offset += size
    if offset != len(body):
        _refuse("bytes are left over")
    return arrays


def _check_entry(entry: Any, *, after: str) -> tuple[str, np.dtype[Any], tuple[int, ...]]:  # noqa: ANN401 (decoded)
    if not isinstance(entry, list) or len(entry) != 3:
        _refuse("an array's entry is not [name, dtype, shape]")
    name, code, shape = entry
    if not isinstance(name, str) or not after < name or len(name) > LIMIT_NAME:
        _refuse("array names are not ascending texts")
    if not isinstance(code, str) or code not in DTYPES:
        _refuse("an array is neither int32 nor int64")
    if not isinstance(shape, list) or len(shape) > LIMIT_DIMENSIONS:
        _refuse("an array has too many dimensions")
    if not all(type(n) is int and n >= 0 for n in shape) or math.prod(max(n, 1) for n in shape) > LIMIT_BYTES:
        _refuse("an array's shape is impossible")
    return name, DTYPES[code], tuple(shape)


def _check_plain(value: Any, *, depth: int) -> None:  # noqa: ANN401 (a tree of plain values)
    if depth > LIMIT_DEPTH:
        _refuse("its header is nested too deep")
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            _refuse("a key is not a text")
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            _check_plain(item, depth=depth + 1)
    elif type(value) is int:
        if not -(2**63) <= value < 2**63:
            _refuse("an integer is beyond 64 bits")
    elif type(value) not in (str, bytes, bool):
        _refuse(f"a value is of kind {type(value).__name__}")


def _dtype_code(array: Array) -> str:
    code = f"{array.dtype.kind}{array.dtype.itemsize}"
    if code not in DTYPES or array.ndim > LIMIT_DIMENSIONS:
        _refuse(f"an array is {array.dtype} of {array.ndim} dimensions, not int32 or int64 of at most 3")
    return code


def _refuse(why: str) -> NoReturn:
    msg = f"malformed parameters: {why}"
    raise MergeError(msg)
