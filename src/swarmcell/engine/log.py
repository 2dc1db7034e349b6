"""The Log port: what a peer needs of an engine. Every engine passes one conformance suite (`tests/engine`).

Rules: an engine orders and stores opaque bytes and is trusted with nothing else. Positions are dense and start at 1.
What `append` has returned for is durable and will be read by all, at that position. An engine may hold entries twice
(a retry): readers count an entry once, by its digest. Liveness (`announce`) is apart from the log and never stored.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

ENTRY_BYTES_MAX = 1_000_000  # what the encoding allows; below the 1 MiB of a NATS message, with room for headers
READ_ENTRIES_MAX = 1024
GIVE_BACK_BYTES_MAX = 8 * 1024 * 1024  # of what a log has lost, appended at once; chosen


@dataclass(frozen=True)
class Announcement:
    """The last sign of life of a peer: its bytes, and how long ago this engine saw it change (seconds)."""

    content: bytes
    age_s: float


@dataclass(frozen=True)
class Health:
    """What an engine says of itself, for `swarmcell swarm status` and `swarmcell doctor`.

    Attributes
    ----------
    first, last
        Positions of the oldest and newest entry kept; `last` is `first - 1` where none is kept.
    size_bytes
        Bytes the log takes.
    about
        A line for people: where it is, how many replicas are in step.
    """

    engine: str
    first: int
    last: int
    size_bytes: int
    about: str


class Log(Protocol):
    """An append-only log of opaque entries that several peers share."""

    async def append(self, entries: Sequence[bytes]) -> list[int]:
        """Append entries in this order, durably; return their positions.

        Raises
        ------
        EngineError
            If the engine cannot be reached or written; any prefix of the entries may have been appended.
        """
        ...

    async def read(self, start: int, limit: int = READ_ENTRIES_MAX) -> list[tuple[int, bytes]]:
        """Return at most `limit` entries from position `start` on, in order; empty beyond the end."""
        ...

    def follow(self, start: int) -> AsyncIterator[list[tuple[int, bytes]]]:
        """Yield batches of entries from position `start` on, for ever; wait where there is none yet."""
        ...

    async def trim(self, below: int) -> None:
        """Forget all entries below a position; positions do not move."""
        ...

    async def announce(self, author: bytes, content: bytes) -> None:
        """Say that this author is up, with a few bytes of progress (at most 1 KiB)."""
        ...

    async def announcements(self) -> Mapping[bytes, Announcement]:
        """Return the last announcement of each author that announced."""
        ...

    async def health(self) -> Health:
        """Return what the engine says of itself."""
        ...

    async def close(self) -> None:
        """Let go of connections and files; idempotent."""
        ...


def in_batches(entries: Iterable[bytes], *, entries_max: int, bytes_max: int) -> Iterator[list[bytes]]:
    """Cut entries, in this order, into batches of at most so many and so large; one larger entry is one of its own."""
    batch: list[bytes] = []
    size = 0
    for raw in entries:
        if batch and (size + len(raw) > bytes_max or len(batch) >= entries_max):
            yield batch
            batch, size = [], 0
        batch.append(raw)
        size += len(raw)
    if batch:
        yield batch
