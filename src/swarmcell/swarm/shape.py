"""Shapes of plain values: what a field of a message may hold. Total: a value fits, or `EncodingError` is raised.

A shape is a function from a plain value to a checked, frozen one. `frozen(...)` reads a map into a dataclass whose
field names are the map's keys, exactly.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from itertools import pairwise
from typing import Any, TypeAlias, TypeVar

from swarmcell.swarm.encoding import DIGEST_BYTES, INT_MAX, EncodingError, Plain

Shape: TypeAlias = Callable[[Plain], Any]
Record = TypeVar("Record")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def natural(at_most: int = INT_MAX, *, at_least: int = 0) -> Shape:
    """Make the shape of an integer from `at_least` to `at_most`."""

    def check(value: Plain) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value <= at_most:
            msg = f"expected an integer from {at_least} to {at_most}"
            raise EncodingError(msg)
        return value

    return check


def octets(at_most: int, *, at_least: int = 0) -> Shape:
    """Make the shape of `at_least` to `at_most` bytes."""

    def check(value: Plain) -> bytes:
        if not isinstance(value, bytes) or not at_least <= len(value) <= at_most:
            msg = f"expected {at_least} to {at_most} bytes"
            raise EncodingError(msg)
        return value

    return check


def text(at_most: int) -> Shape:
    """Make the shape of text of at most `at_most` characters, none of them a control character.

    Never ask Unicode tables here: they change with the Python version, and peers must agree.
    """

    def check(value: Plain) -> str:
        if not isinstance(value, str) or len(value) > at_most or _CONTROL.search(value):
            msg = f"expected at most {at_most} printable characters"
            raise EncodingError(msg)
        return value

    return check


def flag(value: Plain) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        msg = "expected true or false"
        raise EncodingError(msg)
    return value


def one_of(*words: str) -> Shape:
    """Make the shape of one of a few words."""

    def check(value: Plain) -> str:
        if not isinstance(value, str) or value not in words:
            msg = f"expected one of {', '.join(words)}"
            raise EncodingError(msg)
        return value

    return check


def many(shape: Shape, at_most: int, *, ordered: bool = False) -> Shape:
    """Make the shape of a list; `ordered`: strictly ascending, so that a set has one encoding."""

    def check(value: Plain) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or len(value) > at_most:
            msg = f"expected a list of at most {at_most}"
            raise EncodingError(msg)
        items = tuple(shape(item) for item in value)
        if ordered and any(a >= b for a, b in pairwise(items)):
            msg = "a list that must ascend does not"
            raise EncodingError(msg)
        return items

    return check


def row(*shapes: Shape) -> Shape:
    """Make the shape of a list with one value per shape."""

    def check(value: Plain) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or len(value) != len(shapes):
            msg = f"expected a list of {len(shapes)}"
            raise EncodingError(msg)
        return tuple(shape(item) for shape, item in zip(shapes, value, strict=True))

    return check


def table(shape: Shape, at_most: int) -> Shape:
    """Make the shape of a map from short text to a value."""

    def check(value: Plain) -> dict[str, Any]:
        if not isinstance(value, Mapping) or len(value) > at_most:
            msg = f"expected a map of at most {at_most}"
            raise EncodingError(msg)
        key = text(100)
        return {key(name): shape(item) for name, item in value.items()}

    return check


def scalar(value: Plain) -> int | str:
    """Read an integer or a short text."""
    return _ANY_INT(value) if isinstance(value, int) else _LINE(value)  # type: ignore[no-any-return]


def frozen(cls: type[Record], **shapes: Shape) -> Callable[[Plain], Record]:
    """Make the shape of a map with exactly these keys, read into `cls`."""

    def check(value: Plain) -> Record:
        if not isinstance(value, Mapping) or value.keys() != shapes.keys():
            msg = f"expected a map with the keys {', '.join(sorted(shapes))}"
            raise EncodingError(msg)
        return cls(**{name: shape(value[name]) for name, shape in shapes.items()})

    return check


def plain(value: Any) -> Plain:  # noqa: ANN401 (the inverse of every shape)
    """Return the plain value of a frozen record, for `encoding.encode`."""
    if hasattr(value, "__dataclass_fields__"):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return value  # type: ignore[no-any-return]


_ANY_INT = natural(at_least=-INT_MAX - 1)
_LINE = text(1000)
KEY = octets(DIGEST_BYTES, at_least=DIGEST_BYTES)  # an ed25519 or X25519 public key
DIGEST = octets(DIGEST_BYTES, at_least=DIGEST_BYTES)
