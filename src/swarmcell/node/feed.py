"""The feed: reads the engine's log into a peer, from where it left off, through every outage.

Rules: a cursor is (position, digest of the entry there). On every connection, and every few seconds, it is read again;
where the engine shows another entry, or none, the peer reads the log again from its first entry (an engine that lost a
stretch may have taken it back in another order, so no single common point proves what is before it), and appends what
the engine has lost from its own ledger. Duplicates are free, and what the ledger knows costs next to nothing. Where the
log begins beyond what was read (it was trimmed while this peer was away), `skip` goes on from a checkpoint in it.
"""

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from swarmcell.engine.log import GIVE_BACK_BYTES_MAX, READ_ENTRIES_MAX, Log
from swarmcell.errors import EngineError
from swarmcell.node.ledger import Cursor, Ledger

CHECK_EVERY_S = 5.0
MEND_EVERY_S = 0.5
BACKOFF_S_MAX = 5.0
REREAD_MS_MIN = 2_000  # chosen: gaps close by themselves within a moment while entries arrive
REREAD_MS_MAX = 3_600_000
Batch = Sequence[tuple[int, bytes]]


@dataclass
class Rereads:
    """When to read the whole log again: soon in a new view, then at growing distances (a liar's gap never closes)."""

    stage: tuple[int, int] = (-1, -1)
    wait_ms: int = REREAD_MS_MIN
    last_ms: int | None = None  # of the last reading, or since when something is lacking

    def is_due(self, now_ms: int, lacks: bool, stage: tuple[int, int]) -> bool:
        """Say whether to read again now; `stage` is the height and the view, `lacks` whether anything is missed."""
        if not lacks:
            self.last_ms = None
            return False
        if stage != self.stage:
            self.stage, self.wait_ms = stage, REREAD_MS_MIN
        self.last_ms = now_ms if self.last_ms is None else self.last_ms
        if now_ms - self.last_ms < self.wait_ms:
            return False
        self.last_ms, self.wait_ms = now_ms, min(2 * self.wait_ms, REREAD_MS_MAX)
        return True


class Feed:
    """Reads the log for ever into `take`, which stores each batch and how far it goes."""

    def __init__(
        self,
        log: Log,
        ledger: Ledger,
        take: Callable[[Batch], Awaitable[None]],
        skip: Callable[[int], Awaitable[Cursor]],
        tell_outage: Callable[[str], None],
        tell_mended: Callable[[str], None],
    ) -> None:
        self._log = log
        self._ledger = ledger
        self._take = take
        self._skip = skip
        self._checked_s = 0.0
        self._compared_s = 0.0  # when the log was last found to hold what was read
        self._wait: asyncio.Timeout | None = None
        self._read_again = False
        self._mends = True  # until the log is known to hold all that the ledger does
        self._behind = 0  # read up to this position before anything is signed
        self._tell_outage = tell_outage
        self._tell_mended = tell_mended
        self.caught_up = asyncio.Event()

    @property
    def is_whole(self) -> bool:
        """The engine's log is known to hold all that the ledger does."""
        return not self._mends

    def is_whole_since(self, then_s: float) -> bool:
        """Say whether the log was found to hold all that the ledger does after this time (of the monotonic clock)."""
        return self.is_whole and self._compared_s >= then_s

    def check_soon(self) -> None:
        """Compare the log with what was read now, not at the next turn."""
        self._checked_s = 0.0
        if self._wait is not None and not self._wait.expired():
            self._wait.reschedule(asyncio.get_running_loop().time())

    def read_again(self) -> None:
        """Read the log from its first entry again, soon: something was over a limit that has moved since."""
        self._read_again = True
        self._checked_s = 0.0

    async def run(self) -> None:
        """Read for ever, with back-off while the engine is down."""
        backoff_s = 0.1
        while True:
            try:
                await self._read()
                backoff_s = 0.1
            except EngineError as error:
                self._tell_outage(str(error))
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_S_MAX)

    async def _read(self) -> None:
        """Read until the cursor is due to be checked, or there was no news for a while."""
        position = (await self._check_cursor()).position
        self._behind = max(self._behind, (await self._log.health()).last)
        following = self._log.follow(position + 1)
        try:
            while time.monotonic() - self._checked_s < CHECK_EVERY_S:
                await self._note_progress(position)
                batch = await self._next(following)
                await self._take(batch)
                position = batch[-1][0]
        except TimeoutError:
            pass
        finally:
            await following.aclose()  # type: ignore[attr-defined]

    async def _next(self, following: AsyncIterator[list[tuple[int, bytes]]]) -> Batch:
        try:
            async with asyncio.timeout(MEND_EVERY_S if self._mends else CHECK_EVERY_S) as wait:
                self._wait = wait
                return await anext(following)  # never by wait_for: in Python 3.11 it may swallow a cancellation
        finally:
            self._wait = None

    async def _note_progress(self, position: int) -> None:
        if position < self._behind:
            return
        if self._mends:
            await self._give_back_lost(position)
        self.caught_up.set()

    async def _check_cursor(self) -> Cursor:
        """Return where to read on: after the cursor, or from the log's first entry if the cursor does not stand."""
        cursor = await asyncio.to_thread(self._ledger.cursor)
        self._checked_s = time.monotonic()
        if (first := (await self._log.health()).first) > cursor.position + 1:
            return await self._skip(first)
        again, self._read_again = self._read_again, False
        stands = await self._stands(cursor)
        if stands:
            self._compared_s = time.monotonic()
        if stands and not again:
            return cursor
        start = Cursor((await self._log.health()).first - 1, b"")
        if not stands:
            self._tell_mended(f"the engine lost what stood up to position {cursor.position}; reading it all again")
        self._behind = 0
        self._mends = True
        await asyncio.to_thread(self._ledger.rewind, start)
        return start

    async def _stands(self, cursor: Cursor) -> bool:
        if not cursor.digest:  # nothing read yet
            return True
        rows = await self._log.read(cursor.position, limit=1)
        if rows and rows[0][0] == cursor.position:
            return hashlib.sha256(rows[0][1]).digest() == cursor.digest
        return bool(rows) and rows[0][0] > cursor.position  # trimmed: nobody can say otherwise

    async def _give_back_lost(self, position: int) -> None:
        """Append entries that the engine's log no longer shows; others do the same, and duplicates are free."""
        await asyncio.sleep(random.uniform(0, 0.1))  # noqa: S311 (spreads the peers, guards nothing)
        if (await self._log.health()).last > position:
            return  # somebody else has begun: read first
        lost = await asyncio.to_thread(self._ledger.lost, READ_ENTRIES_MAX, GIVE_BACK_BYTES_MAX)
        if not lost:
            self._mends = False
            self._compared_s = time.monotonic()
            return
        await self._log.append(lost)
