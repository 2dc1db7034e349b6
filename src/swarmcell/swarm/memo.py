"""A memo of one height: what follows from the same values is computed once, however often `decide` asks.

Bodies of a large roster are large, and every decision looks at them. Values are told apart by identity, and are kept
alive by the memo, so no identity is ever used twice. What is remembered is only ever what a pure function gave.
"""

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
KEPT_MAX = 64  # candidates of one height: one, or few more where views were needed


class Memo:
    """Results of pure functions, by the identity of their arguments."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], tuple[tuple[object, ...], Any]] = {}

    def once(self, make: Callable[..., T], *parts: object) -> T:
        """Return `make(*parts)`, computed once for these very objects."""
        key = (make, *map(id, parts))
        if key not in self._kept:
            if len(self._kept) >= KEPT_MAX:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = (parts, make(*parts))
        found: T = self._kept[key][1]
        return found
