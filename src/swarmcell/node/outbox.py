"""The outbox: own entries on their way to the engine, retried for ever.

Rules: only what the ledger already holds comes in here; entries leave in the order they came; a retry sends the same
bytes. An engine that is down delays, and is told to the observer once per outage.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from swarmcell.engine.log import Log
from swarmcell.errors import EngineError

BATCH_BYTES_MAX = 8 * 1024 * 1024
BACKOFF_S_MAX = 5.0
RESEND_AFTER_S = 3.0


class Outbox:
    """Own entries on their way to the engine; `run` sends them for ever."""

    def __init__(self, log: Log, tell_outage: Callable[[str], None]) -> None:
        self._log = log
        self._tell_outage = tell_outage
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._sent_s: dict[int, float] = {}
        self._news = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        """Nothing waits to be sent."""
        return not self._waiting

    def put(self, entries: Sequence[tuple[int, bytes]]) -> None:
        """Take own entries (sequence, bytes) to send."""
        self._waiting.extend(entries)
        self._news.set()

    def due(self, sequences: Sequence[int]) -> list[int]:
        """Return those of these sequences that neither wait here nor were sent a moment ago."""
        waiting = {sequence for sequence, _ in self._waiting}
        past = time.monotonic() - RESEND_AFTER_S
        return [s for s in sequences if s not in waiting and self._sent_s.get(s, past) <= past]

    async def run(self) -> None:
        """Send for ever."""
        backoff_s = 0.1
        while True:
            self._news.clear()
            if not self._waiting:
                await self._news.wait()
            batch = self._batch()
            try:
                await self._log.append([raw for _, raw in batch])
            except EngineError as error:
                self._tell_outage(str(error))
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_S_MAX)
                continue
            backoff_s = 0.1
            self._sent(batch)

    def _batch(self) -> list[tuple[int, bytes]]:
        batch: list[tuple[int, bytes]] = []
        size = 0
        for sequence, raw in self._waiting:
            size += len(raw)
            if batch and size > BATCH_BYTES_MAX:
                break
            batch.append((sequence, raw))
        return batch

    def _sent(self, batch: Sequence[tuple[int, bytes]]) -> None:
        now_s = time.monotonic()
        for sequence, _ in batch:
            self._waiting.popleft()
            self._sent_s[sequence] = now_s
        past = now_s - RESEND_AFTER_S
        self._sent_s = {sequence: at for sequence, at in self._sent_s.items() if at > past}
