"""One swarm's stream: its name, its rules, and what can be asked of it.

Rules: a position is the stream's own sequence number, which JetStream gives densely from 1 and never moves. Old
entries are never dropped by the server (`discard: new`), and none can be deleted by itself (`deny_delete`): the log
only grows at its end and is trimmed at its start. A publication is acknowledged by a majority of the replicas; a second
one of the same bytes within two minutes is recognised and gives the first one's position.
"""

import asyncio
import base64
import hashlib
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from swarmcell.engine.log import in_batches
from swarmcell.engine.nats_connection import ApiError, Connection, read_answer
from swarmcell.errors import EngineError

API = "$JS.API"
WINDOW_BYTES_MAX = 4 * 1024 * 1024  # sent ahead of their acknowledgements; chosen
WINDOW_ENTRIES_MAX = 64
FROM_LEADER_MAX = 64  # entries at a time, for they are asked for one by one; a reader asks again for more
_NO_END = 2**63
_FIRST_WAIT_S = 2.0
_WINDOW_BYTES_PER_S, _BYTES_PER_S = 4_000_000, 500_000  # a slow line is not a dead server: 4 Mbit/s at least; chosen
_SECOND_NS = 1_000_000_000
_DUPLICATES_S = 120
_STREAM_MISSING, _MESSAGE_MISSING = 10059, 10037
_NAME_TAKEN = 10058


class Stream:
    """The stream of one swarm, over one connection."""

    def __init__(self, connection: Connection, swarm: bytes, author: str, replicas: int) -> None:
        self.name = f"swarmcell-{swarm.hex()[:16]}"
        self.root = f"swarmcell.{swarm.hex()[:16]}"
        self._subject = f"{self.root}.entry.{author}"
        self._connection = connection
        self._replicas = replicas
        self._created = ""

    # -- the stream itself -------------------------------------------------------------------------------------------

    async def info(self) -> dict[str, Any]:
        """Return what the stream says of itself; make it where there is none.

        Raises
        ------
        EngineError
            If it cannot be reached or made, or was made anew since it was first seen.
        """
        found = await self._connection.insist("open the swarm's stream", self._find_or_make)
        created = str(found.get("created", ""))
        if self._created and created != self._created:
            self._created = created
            msg = "the engine's stream was deleted and made anew: what it held is lost there"
            raise EngineError(msg)
        self._created = created
        return found

    async def _find_or_make(self, wait_s: float) -> dict[str, Any]:
        try:
            found = await self._connection.ask(f"{API}.STREAM.INFO.{self.name}", {}, wait_s=wait_s)
        except ApiError as error:
            if error.code != _STREAM_MISSING:
                raise
            found = await self._make(wait_s)
        self._refuse_other_rules(found.get("config", {}))
        return found

    async def _make(self, wait_s: float) -> dict[str, Any]:
        try:
            return await self._connection.ask(f"{API}.STREAM.CREATE.{self.name}", self._rules(), wait_s=wait_s)
        except ApiError as error:
            if error.code != _NAME_TAKEN:
                raise
            return await self._connection.ask(f"{API}.STREAM.INFO.{self.name}", {}, wait_s=wait_s)

    def _rules(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "subjects": [f"{self.root}.entry.*"],
            "retention": "limits",
            "discard": "new",
            "storage": "file",
            "num_replicas": self._replicas,
            "duplicate_window": _DUPLICATES_S * _SECOND_NS,
            "deny_delete": True,
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": -1,
            "max_age": 0,
        }

    def _refuse_other_rules(self, found: dict[str, Any]) -> None:
        """Refuse a stream that would drop entries by itself."""
        wanted = self._rules()
        for key in ("subjects", "retention", "discard", "storage", "max_msgs", "max_age"):
            if found.get(key, 0) != wanted[key]:
                msg = (
                    f"the engine's stream {self.name} has {key} = {found.get(key)!r}, expected {wanted[key]!r}: "
                    "somebody else made it. Ask the founding hospitals to delete it."
                )
                raise EngineError(msg)

    # -- entries -----------------------------------------------------------------------------------------------------

    async def publish(self, entries: Sequence[bytes]) -> list[int]:
        """Append entries in this order; return their positions."""
        positions: list[int] = []
        for window in _windows(entries):
            positions += await self._publish_window(window, positions[-1] if positions else 0)
        return positions

    async def _publish_window(self, entries: Sequence[bytes], last: int) -> list[int]:
        """Send all, then mend in order: one that was lost is sent again, and so is what overtook it."""
        names = [hashlib.sha256(raw).hexdigest() for raw in entries]
        wait_s = _FIRST_WAIT_S + sum(map(len, entries)) / _WINDOW_BYTES_PER_S
        first_tries = (self._publish(raw, name, wait_s) for raw, name in zip(entries, names, strict=True))
        answers = await asyncio.gather(*first_tries, return_exceptions=True)
        positions = []
        for raw, name, answer in zip(entries, names, answers, strict=True):
            position = answer if isinstance(answer, int) else await self._insist(raw, name)
            if position <= last:
                position = await self._insist(raw, f"{name}.{uuid.uuid4().hex}")
            positions.append(position)
            last = position
        return positions

    async def _insist(self, raw: bytes, name: str) -> int:
        sending_s = len(raw) / _BYTES_PER_S
        return await self._connection.insist(
            "append an entry", lambda wait_s: self._publish(raw, name, wait_s + sending_s)
        )

    async def _publish(self, raw: bytes, name: str, wait_s: float) -> int:
        message = await self._connection.request(self._subject, raw, wait_s=wait_s, headers={"Nats-Msg-Id": name})
        return _acknowledged(message.data)

    async def get(self, position: int) -> list[tuple[int, bytes]]:
        """Return the first entry at or after a position, from the stream's leader; nothing beyond the end."""

        async def attempt(wait_s: float) -> list[tuple[int, bytes]]:
            content = {"seq": position, "next_by_subj": f"{self.root}.entry.*"}
            try:
                answer = await self._connection.ask(f"{API}.STREAM.MSG.GET.{self.name}", content, wait_s=wait_s)
            except ApiError as error:
                refuse_lost(error)
                if error.code != _MESSAGE_MISSING:
                    raise
                return []
            return [read_stored(answer)]

        return await self._connection.insist("read the log", attempt)

    async def of_leader(
        self, start: int, limit: int = FROM_LEADER_MAX, *, below: int = _NO_END
    ) -> AsyncIterator[tuple[int, bytes]]:
        """Yield entries of the stream's leader from one position on and below another; none where it was trimmed."""
        for _ in range(min(limit, FROM_LEADER_MAX)):
            rows = await self.get(start) if start < below else []
            if not rows or rows[0][0] >= below:
                break
            yield rows[0]
            start = rows[0][0] + 1

    async def purge(self, below: int) -> None:
        """Forget all entries below a position; what lies beyond the end is left alone."""
        state = (await self.info())["state"]
        sequence = min(below, int(state["last_seq"]) + 1)
        if sequence <= 1:
            return
        subject = f"{API}.STREAM.PURGE.{self.name}"
        await self._connection.insist(
            "trim the log", lambda wait_s: self._connection.ask(subject, {"seq": sequence}, wait_s=wait_s)
        )


def refuse_lost(error: ApiError) -> None:
    """Raise `EngineError` if what is wrong is that there is no stream any more: no waiting mends that."""
    if error.code == _STREAM_MISSING:
        msg = "the engine no longer has the swarm's stream: what it held is lost there"
        raise EngineError(msg) from error


def _windows(entries: Sequence[bytes]) -> list[list[bytes]]:
    """Cut entries into what may be under way at once."""
    return list(in_batches(entries, entries_max=WINDOW_ENTRIES_MAX, bytes_max=WINDOW_BYTES_MAX))


def _acknowledged(content: bytes) -> int:
    position = read_answer(content).get("seq", 0)
    if not isinstance(position, int) or position < 1:
        raise ApiError(500, "an acknowledgement without a position")  # a duplicate of one still under way
    return position


def read_stored(answer: dict[str, Any]) -> tuple[int, bytes]:
    """Return position and bytes of a stored message as JetStream's interface gives it."""
    try:
        message = answer["message"]
        return int(message["seq"]), base64.b64decode(message.get("data", ""))
    except (KeyError, TypeError, ValueError) as error:
        raise ApiError(500, "a message that cannot be read") from error
