"""The engine of many machines: one replicated stream of a NATS JetStream cluster, behind the Log port.

Rules: what `append` returned for is kept by a majority of the replicas. Nothing is one-shot: an election, a server
that restarts and a lost connection are waited for, each call for a stated time; then an `EngineError` says so. A stream
that went back or was made anew is an `EngineError` too, upon which the peer compares its ledger with the log. Signs of
life travel beside the log and are never stored. A server that this site does not trust can withhold, and no more.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import nacl.signing
from nats.aio.client import Client

from swarmcell.engine import nats_pull
from swarmcell.engine.log import ENTRY_BYTES_MAX, READ_ENTRIES_MAX, Announcement, Health
from swarmcell.engine.nats_address import NatsAddress
from swarmcell.engine.nats_connection import Connection, Unsettled, cancel
from swarmcell.engine.nats_keys import user_key
from swarmcell.engine.nats_stream import Stream
from swarmcell.errors import EngineError

_AUTHOR_BYTES = 32
_ANNOUNCEMENT_BYTES_MAX = 1024
_AUTHORS_MAX = 4096
_ANSWER_EVERY_S = 0.25  # who just arrived asks who is up; answers are not repeated faster
_ANSWER_WAITS_MAX = 4
_QUIET_S = 2.0  # without news for so long, the stream's leader is asked
_ASK_AGAIN_S = 0.25  # once it had some, until a consumer brings them
_QUESTIONS = 5  # after each opening; later, the announcements that come by themselves are enough


class NatsLog:
    """The log of one swarm in a NATS cluster.

    Parameters
    ----------
    address
        How to reach the cluster.
    swarm
        Digest of the genesis, 32 bytes: every swarm has a stream of its own.
    engine_secret
        This site's engine secret, 32 bytes, by which the cluster knows it; `None` where the cluster asks for no key.
    """

    def __init__(self, address: NatsAddress, swarm: bytes, engine_secret: bytes | None = None) -> None:
        who = user_key(bytes(nacl.signing.SigningKey(engine_secret).verify_key)) if engine_secret else "anybody"
        self._connection = Connection(address, engine_secret, inbox=f"_INBOX.{who}")
        self._connection.on_open = self._listen
        self._stream = Stream(self._connection, swarm, who, address.replicas)
        self._alive = f"{self._stream.root}.alive.{who}"
        self._who = f"{self._stream.root}.who"
        self._is_opened = False
        self._opening = asyncio.Lock()
        self._heard: dict[bytes, tuple[bytes, float]] = {}
        self._said: dict[bytes, bytes] = {}
        self._answered_s = 0.0
        self._questions = 0
        self._patience_s = _QUIET_S

    async def append(self, entries: Sequence[bytes]) -> list[int]:
        """Append entries; see `Log.append`."""
        if any(len(raw) > ENTRY_BYTES_MAX for raw in entries):
            msg = f"an entry of {max(map(len, entries))} bytes is over the limit of {ENTRY_BYTES_MAX}"
            raise EngineError(msg)
        async with self._opened():
            return await self._stream.publish(entries)

    async def read(self, start: int, limit: int = READ_ENTRIES_MAX) -> list[tuple[int, bytes]]:
        """Return entries from a position on; see `Log.read`."""
        async with self._opened():
            if limit == 1:
                return await self._stream.get(start)
            return await nats_pull.read(self._connection, self._stream, start, limit)

    async def follow(self, start: int) -> AsyncIterator[list[tuple[int, bytes]]]:
        """Yield batches for ever; see `Log.follow`."""
        async with self._opened():
            following = nats_pull.follow(self._connection, self._stream, start)
            both = self._or_of_leader(following, start)
            try:
                async for batch in both:
                    yield batch
            finally:
                await both.aclose()  # type: ignore[attr-defined]
                await following.aclose()  # type: ignore[attr-defined]

    async def _or_of_leader(
        self, following: AsyncIterator[list[tuple[int, bytes]]], start: int
    ) -> AsyncIterator[list[tuple[int, bytes]]]:
        """Yield what a consumer brings, or, while it brings nothing, what the stream's leader holds.

        A consumer is made by the leader of the cluster's metadata. After a server's death its election may take longer
        than the stream's own, by ten seconds and more where another server had just come back: entries are taken in
        then, and nobody could read them.
        """
        waiting: asyncio.Task[list[tuple[int, bytes]]] | None = None
        try:
            while True:
                waiting = waiting or asyncio.create_task(_next(following))
                await asyncio.wait({waiting}, timeout=self._patience_s)
                if waiting.done():
                    shown, waiting, self._patience_s = waiting.result(), None, _QUIET_S
                elif shown := await _of_leader(self._stream, start):
                    self._patience_s = _ASK_AGAIN_S
                batch = [(position, raw) for position, raw in shown if position >= start]
                if batch:
                    start = batch[-1][0] + 1
                    yield batch
        finally:
            if waiting is not None:
                await cancel(waiting)
                await asyncio.gather(waiting, return_exceptions=True)

    async def trim(self, below: int) -> None:
        """Forget entries below a position; see `Log.trim`."""
        async with self._opened():
            await self._stream.purge(below)

    async def announce(self, author: bytes, content: bytes) -> None:
        """Tell all who listen now; see `Log.announce`."""
        if len(content) > _ANNOUNCEMENT_BYTES_MAX:
            msg = f"an announcement of {len(content)} bytes is over the limit of {_ANNOUNCEMENT_BYTES_MAX}"
            raise EngineError(msg)
        self._said[author] = content
        await self._say(author)

    async def announcements(self) -> Mapping[bytes, Announcement]:
        """Return what was last heard of each author; see `Log.announcements`."""
        client = await self._connection.client()
        if self._questions:
            is_first = self._questions == _QUESTIONS
            self._questions -= 1
            await self._publish(client, self._who, b"")
            if is_first:
                await self._hear_answers()
        now_s = time.monotonic()
        return {author: Announcement(content, now_s - at_s) for author, (content, at_s) in self._heard.items()}

    async def health(self) -> Health:
        """Say what is kept and how many replicas are in step; see `Log.health`."""
        info = await self._stream.info()
        state = info["state"]
        last = int(state["last_seq"])
        first = int(state["first_seq"]) if int(state["messages"]) else last + 1
        return Health("nats", first, last, int(state["bytes"]), _about(self._stream.name, info))

    async def close(self) -> None:
        """Close the connection; see `Log.close`."""
        await self._connection.close()

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[None]:
        """See that the stream is there and is what it should be: at first, and after every trouble."""
        async with self._opening:
            if not self._is_opened:
                await self._stream.info()
                self._is_opened = True
        try:
            yield
        except EngineError:
            self._is_opened = False
            raise

    # -- signs of life -----------------------------------------------------------------------------------------------

    async def _listen(self, client: Client) -> None:
        await client.subscribe(f"{self._stream.root}.alive.*", cb=self._hear)
        await client.subscribe(self._who, cb=self._answer)
        self._questions = _QUESTIONS

    async def _hear(self, message: Any) -> None:  # noqa: ANN401 (a message of nats-py)
        author, content = message.data[:_AUTHOR_BYTES], message.data[_AUTHOR_BYTES:]
        if len(author) == _AUTHOR_BYTES and (author in self._heard or len(self._heard) < _AUTHORS_MAX):
            self._heard[author] = content, time.monotonic()

    async def _hear_answers(self) -> None:
        """Wait until nobody answers any more: who looks once must not find all silent."""
        heard = -1
        for _ in range(_ANSWER_WAITS_MAX):
            if heard == len(self._heard) > 0:
                return
            heard = len(self._heard)
            await asyncio.sleep(_ANSWER_EVERY_S)

    async def _answer(self, _: Any) -> None:  # noqa: ANN401 (a message of nats-py)
        """Tell who just arrived that this site is up, unless it has just been told."""
        if time.monotonic() - self._answered_s > _ANSWER_EVERY_S:
            self._answered_s = time.monotonic()
            for author in list(self._said):
                await self._say(author)

    async def _say(self, author: bytes) -> None:
        await self._publish(await self._connection.client(), self._alive, author + self._said[author])

    async def _publish(self, client: Client, subject: str, content: bytes) -> None:
        try:
            await client.publish(subject, content)
        except Unsettled as error:
            msg = f"the engine cannot be told that this site is up ({error})"
            raise EngineError(msg) from error


async def _next(following: AsyncIterator[list[tuple[int, bytes]]]) -> list[tuple[int, bytes]]:
    return await anext(following)


async def _of_leader(stream: Stream, start: int) -> list[tuple[int, bytes]]:
    """Return what comes in a short while; nothing where the stream has no leader: the reader itself tells that."""
    found: list[tuple[int, bytes]] = []
    with contextlib.suppress(EngineError, TimeoutError):
        async with asyncio.timeout(_QUIET_S):
            async for row in stream.of_leader(start):
                found.append(row)  # noqa: PERF401 (what came before the time was up counts)
    return found


def _about(name: str, info: Mapping[str, Any]) -> str:
    """Return a line on the stream's replicas."""
    cluster = info.get("cluster")
    if cluster is None:
        return f"stream {name}, led by the only server, 1 of 1 replicas in step"
    replicas = cluster.get("replicas") or []
    in_step = sum(bool(replica.get("current")) and not replica.get("offline") for replica in replicas)
    leader = cluster.get("leader")
    if not leader:
        return f"stream {name} has no leader now"
    return f"stream {name}, led by {leader}, {in_step + 1} of {len(replicas) + 1} replicas in step"
