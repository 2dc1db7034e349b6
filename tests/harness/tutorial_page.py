"""Reads docs/tutorial.md as the steps that its reader takes: what is typed where, and what is sent to whom."""

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
_FENCE = re.compile(r"```sh ([a-z-]+)( stays)?\n(.*?)```\n", re.DOTALL)
_SEND = re.compile(r"\*\*Send\*\* (.*?) from (\S+) to (.*?)\.\n")


@dataclass(frozen=True)
class Typed:
    """A block of commands, typed at a site (or at `each`); `stays`: in a terminal that stays open."""

    at: str
    stays: bool
    commands: str


@dataclass(frozen=True)
class Sent:
    """Files on their way; `each` means every founding site."""

    files: tuple[str, ...]
    sender: str
    receivers: tuple[str, ...]


def chapters(page=PAGE):
    """Return the steps by the number of their chapter."""
    parts = re.split(r"^## (\d+)\. .*$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {int(number): list(_steps(text)) for number, text in zip(parts[1::2], parts[2::2], strict=True)}


def _steps(text):
    found = [(m.start(), Typed(m[1], bool(m[2]), m[3])) for m in _FENCE.finditer(text)]
    found += [
        (m.start(), Sent(tuple(re.findall(r"`([^`]+)`", m[1])), m[2], tuple(m[3].split(", "))))
        for m in _SEND.finditer(text)
    ]
    return [step for _, step in sorted(found, key=lambda pair: pair[0])]
