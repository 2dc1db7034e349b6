"""Numbers out of keywords: errors name the file, the keyword and the remedy, and every number has a stated maximum."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from swarmcell.errors import InputError

INTEGER_MAX = 1 << 62
_REMEDY = "Export the file from the cytometer's software again."


@dataclass(frozen=True)
class Keywords:
    """The keywords of one data set. `notes` collects what was mended or guessed, for the report."""

    pairs: Mapping[str, str]
    source: str
    notes: list[str] = field(default_factory=list)

    def get(self, name: str) -> str:
        """Return the value of a keyword, stripped; empty where it is absent."""
        return self.pairs.get(name, "").strip(" \t\r\n\x00")

    def integer(self, name: str) -> int | None:
        """Return a whole number >= 0, or None where the keyword is absent or empty.

        Raises
        ------
        InputError
            If the value is not a whole number, or absurdly large.
        """
        text = self.get(name)
        if not text:
            return None
        number = as_float(text)
        if number is None or number != math.floor(number) or not 0 <= number <= INTEGER_MAX:
            self.refuse(name, "a whole number", text)
        return int(text) if text.isascii() and text.isdigit() else int(number)

    def required(self, name: str) -> int:
        """Return a whole number that must be there."""
        number = self.integer(name)
        if number is None:
            self.refuse(name, "a whole number", "nothing")
        return number

    def refuse(self, name: str, expected: str, got: str) -> NoReturn:
        """Say that a keyword does not hold what it must.

        Raises
        ------
        InputError
            Always.
        """
        msg = f"{self.source}: keyword {name}: expected {expected}, got {got[:60]!r}. {_REMEDY}"
        raise InputError(msg)


def as_float(text: str) -> float | None:
    """Return a finite number, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
