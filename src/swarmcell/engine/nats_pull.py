"""Reading a stream in order: an ephemeral consumer that is asked for batches.

Rules: a consumer lives on one server and may vanish at any time; its reader then makes another where it left off, and
first compares the last entry it gave out with what now stands there. A consumer numbers what it sends: a hole in these
numbers is a lost message. What is under way at once is bounded by what was asked for. Its server may be a replica that
is behind or lost entries: the end of the log, and a hole in its positions, are asked of the stream's leader.
"""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, NoReturn

from swarmcell.engine.log import READ_ENTRIES_MAX
from swarmcell.engine.nats_connection import ApiError, Connection, Unsettled
from swarmcell.engine.nats_stream import API, Stream, refuse_lost
from swarmcell.errors import EngineError

READ_BYTES_MAX = 16 * 1024 * 1024
_SECOND_NS = 1_000_000_000
_HEARTBEAT_S = 0.5
_SILENCE_S = 2.0  # four heartbeats
_ASK_FOR_S = 30.0
_FORGET_AFTER_S = 15  # an idle consumer is removed by the server
_DONE = {"404", "408", "409"}  # nothing (more) to send, time is up, or over the size that was asked for


class _Ended(Exception):  # noqa: N818 (not a fault: another consumer follows)
    """The consumer is no more, or was cut off."""


class Puller:
    """One ephemeral consumer from a position on; what it sends comes to a queue of its own."""

    def __init__(self, connection: Connection, stream: Stream) -> None:
        self._connection = connection
        self._stream = stream
        self._arrived: asyncio.Queue[Any] = asyncio.Queue()
        self._subscription: Any = None
        self._name = ""
        self._number = 0

    async def open(self, start: int) -> None:
        """Make the consumer."""
        client = await self._connection.client()
        self._inbox = client.new_inbox()
        self._subscription = await client.subscribe(self._inbox, cb=self._arrived.put)
        made = await self._connection.insist("read the log", lambda wait_s: self._make(start, wait_s))
        self._name = str(made["name"])

    async def _make(self, start: int, wait_s: float) -> dict[str, Any]:
        rules = {
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": start,
            "ack_policy": "none",
            "replay_policy": "instant",
            "max_deliver": 1,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _FORGET_AFTER_S * _SECOND_NS,
        }
        content = {"stream_name": self._stream.name, "config": rules}
        try:
            return await self._connection.ask(f"{API}.CONSUMER.CREATE.{self._stream.name}", content, wait_s=wait_s)
        except ApiError as error:
            refuse_lost(error)
            raise

    async def ask(self, count: int, *, wait: bool) -> None:
        """Ask for a batch; with `wait`, also for what is yet to come."""
        content: dict[str, Any] = {"batch": count, "max_bytes": READ_BYTES_MAX}
        if wait:
            content |= {"expires": int(_ASK_FOR_S * _SECOND_NS), "idle_heartbeat": int(_HEARTBEAT_S * _SECOND_NS)}
        else:
            content |= {"no_wait": True}
        client = await self._connection.client()
        subject = f"{API}.CONSUMER.MSG.NEXT.{self._stream.name}.{self._name}"
        await client.publish(subject, json.dumps(content).encode(), reply=self._inbox)

    async def next(self, wait_s: float) -> tuple[int, bytes, int] | None:
        """Return position, bytes, and how many entries follow; `None` at the end of what was asked for.

        Raises
        ------
        _Ended
            If this consumer is of no more use.
        """
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    message = await self._arrived.get()
            except TimeoutError:
                self._end("silence")
            if message is None:
                self._end("the connection was lost")
            if (status := (message.headers or {}).get("Status")) is None or message.data:
                return self._take(message)
            if status == "100":
                continue
            text = (message.headers or {}).get("Description", "")
            if status not in _DONE or "Consumer" in text or "Leadership" in text:
                self._end(text or status)
            return None

    def _take(self, message: Any) -> tuple[int, bytes, int]:  # noqa: ANN401 (a message of nats-py)
        position, number, following = _delivery(message.reply)
        if number != self._number + 1:
            self._end("a message was lost")
        self._number = number
        return position, message.data, following

    def _end(self, why: str) -> NoReturn:
        raise _Ended(why)

    @property
    def has_more(self) -> bool:
        """Whether something has arrived already."""
        return not self._arrived.empty()

    def wake(self) -> None:
        """Say that the connection was lost: what was asked for may never come."""
        self._arrived.put_nowait(None)

    async def close(self) -> None:
        """Stop listening; the server removes the idle consumer by itself."""
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            with contextlib.suppress(*Unsettled):  # the connection is gone, and with it the subscription
                await subscription.unsubscribe()


def _delivery(reply: str) -> tuple[int, int, int]:
    """Read `$JS.ACK.[domain.account.]stream.consumer.delivered.stream-seq.consumer-seq.time.pending[.token]`."""
    parts = reply.split(".")
    skip = 2 if len(parts) >= 11 else 0
    try:
        return int(parts[5 + skip]), int(parts[6 + skip]), int(parts[8 + skip])
    except (IndexError, ValueError) as error:
        msg = f"the engine sent a message without a position ({reply!r})"
        raise EngineError(msg) from error


async def read(connection: Connection, stream: Stream, start: int, limit: int) -> list[tuple[int, bytes]]:
    """Return at most `limit` entries from a position on; fewer where they are large, none only beyond the end."""

    async def attempt(_: float) -> tuple[list[tuple[int, bytes]], int]:
        puller = Puller(connection, stream)
        try:
            await puller.open(start)
            await puller.ask(limit, wait=False)
            return await _drain(puller, limit)
        except _Ended as ended:
            raise TimeoutError(str(ended)) from ended
        finally:
            await puller.close()

    shown, following = await connection.insist("read the log", attempt)
    found = await _without_holes(stream, start, shown)
    if following or found[-1:] != shown[-1:]:
        return found[:limit]
    end = found[-1][0] + 1 if found else start
    return found + [row async for row in stream.of_leader(end, limit - len(found))]


async def _drain(puller: Puller, limit: int) -> tuple[list[tuple[int, bytes]], int]:
    """Return what one replica shows, and how many entries it has beyond."""
    found: list[tuple[int, bytes]] = []
    following = 0
    while len(found) < limit and (got := await puller.next(_SILENCE_S)) is not None:
        position, raw, following = got
        found.append((position, raw))
        if not following:
            break
    return found, following


async def _without_holes(stream: Stream, start: int, shown: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return what a replica showed from `start` on, with what it lacks in between; cut short where it lacks much."""
    found: list[tuple[int, bytes]] = []
    for position, raw in shown:
        if start < position:
            found += [row async for row in stream.of_leader(start, below=position)]
            if found and found[-1][0] + 1 < position:
                break
        found.append((position, raw))
        start = position + 1
    return found


async def follow(connection: Connection, stream: Stream, start: int) -> AsyncIterator[list[tuple[int, bytes]]]:
    """Yield batches for ever, over as many consumers as it takes.

    Raises
    ------
    EngineError
        If no consumer can be made, or the stream no longer holds the last entry that was given out.
    """
    last: tuple[int, bytes] | None = None
    while True:
        puller = Puller(connection, stream)
        try:
            with connection.waking(puller.wake):
                await _resume(puller, stream, start, last)
                while True:
                    shown = await _next_batch(puller)
                    batch = await _without_holes(stream, start, shown)
                    if batch:
                        start = batch[-1][0] + 1
                        last = batch[-1][0], hashlib.sha256(batch[-1][1]).digest()
                        yield batch
                    if batch[-1:] != shown[-1:]:
                        break
        except _Ended:
            await asyncio.sleep(0.05)
        finally:
            await puller.close()


async def _resume(puller: Puller, stream: Stream, start: int, last: tuple[int, bytes] | None) -> None:
    """Open a consumer, and see that the log still holds what was given out."""
    if last is not None:
        await _refuse_other_past(stream, *last)
    await puller.open(start)
    await puller.ask(READ_ENTRIES_MAX, wait=True)


async def _refuse_other_past(stream: Stream, position: int, digest: bytes) -> None:
    found = await stream.get(position)
    if found and found[0][0] > position:
        return  # trimmed meanwhile
    if found and hashlib.sha256(found[0][1]).digest() == digest:
        return
    msg = f"the engine's log went back: position {position} no longer holds the entry that was read there"
    raise EngineError(msg)


async def _next_batch(puller: Puller) -> list[tuple[int, bytes]]:
    """Return what has arrived, after waiting for the first; ask for more where the last request is used up."""
    batch: list[tuple[int, bytes]] = []
    size = 0
    while not batch or (puller.has_more and size < READ_BYTES_MAX and len(batch) < READ_ENTRIES_MAX):
        got = await puller.next(_SILENCE_S)
        if got is None:
            await puller.ask(READ_ENTRIES_MAX, wait=True)
            break
        batch.append(got[:2])
        size += len(got[1])
    return batch
