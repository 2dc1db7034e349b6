"""A word after the end: one more signed entry of a member whose peer no longer runs, and what the others have said.

Rules: those of a peer. The log is read to its end before anything is signed; what is signed is stored first; an own
entry of unknown origin stops it; it ends once its entry was read back from the log. The caller holds the identity.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable

from swarmcell.engine.log import Log
from swarmcell.errors import EngineError, SwarmError
from swarmcell.node import memory
from swarmcell.node.feed import Batch, Feed
from swarmcell.node.identity import Identity
from swarmcell.node.ledger import Cursor, Ledger, Read
from swarmcell.node.outbox import Outbox
from swarmcell.node.signer import Signer
from swarmcell.swarm.genesis import Genesis
from swarmcell.swarm.me import Me
from swarmcell.swarm.payloads import Payload
from swarmcell.swarm.state import State

ENGINE_S_MAX = 60.0  # chosen: an engine that is away longer is told to the user
POLL_S = 0.05
Choose = Callable[[State], Payload | None]


class Postscript:
    """Reads the log through this site's ledger, and adds an entry."""

    def __init__(self, identity: Identity, genesis: Genesis, log: Log, ledger: Ledger) -> None:
        self._identity, self._genesis, self._log, self._ledger = identity, genesis, log, ledger
        self._me = Me(identity.key)
        self._outage = ""
        self._outbox = Outbox(log, self._away)
        self._signer = Signer(identity, genesis.digest, self._me, ledger, self._outbox)
        self._feed = Feed(log, ledger, self._take, self._skip, self._away, lambda _: None)

    async def add(self, choose: Choose, *, wait_for: Callable[[State], bool], wait_s: float) -> State:
        """Read the log, sign what `choose` says of it (or nothing), and wait for others.

        Parameters
        ----------
        choose
            Of the state at the log's end: the payload to sign, or `None`.
        wait_for, wait_s
            Afterwards the log is read on until `wait_for` holds, for so long at most.

        Raises
        ------
        SwarmError
            If the ledger is another's, or somebody else signed with this key.
        EngineError
            If the engine cannot be reached for a minute.
        """
        self._ledger.bind(self._genesis.digest, self._identity.key)
        self._memory = memory.recall(self._ledger, self._genesis, self._me)
        loops = [asyncio.create_task(self._feed.run()), asyncio.create_task(self._outbox.run())]
        try:
            await self._until(self._feed.caught_up.is_set, ENGINE_S_MAX, loops)
            self._check()
            await self._signer.resend(tuple(self._me.unseen))
            payload = choose(self._memory.state)
            if payload is not None:
                await self._signer.sign([payload])
            await self._until(lambda: not self._me.unseen, ENGINE_S_MAX, loops)
            with contextlib.suppress(EngineError):
                await self._until(lambda: wait_for(self._memory.state), wait_s, loops)
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
        self._check()
        return self._memory.state

    def _check(self) -> None:
        if self._me.stranger:
            msg = f"{self._identity.name}: {self._me.stranger}"
            raise SwarmError(msg)
        if self._memory.state.halted:
            raise SwarmError(self._memory.state.halted)

    async def _until(self, holds: Callable[[], bool], limit_s: float, loops: list[asyncio.Task[None]]) -> None:
        try:
            async with asyncio.timeout(limit_s):
                while not holds():
                    for loop in loops:
                        if loop.done():
                            loop.result()
                    await asyncio.sleep(POLL_S)
        except TimeoutError as error:
            msg = f"the engine did not answer for {limit_s:.0f} s ({self._outage or 'no fault was told'}). Try again."
            raise EngineError(msg) from error

    def _away(self, why: str) -> None:
        self._outage = why

    async def _take(self, batch: Batch) -> None:
        cursor = Cursor(batch[-1][0], hashlib.sha256(batch[-1][1]).digest())
        blocks: list[tuple[int, bytes, bytes]] = []
        reads = [Read(at, raw, self._apply(raw, blocks)) for at, raw in batch]
        await asyncio.to_thread(self._ledger.store, reads, cursor, blocks)

    def _apply(self, raw: bytes, blocks: list[tuple[int, bytes, bytes]]) -> int | None:
        position = self._memory.position + 1
        applied = self._memory.state.apply(position, raw)
        if applied.entry is not None and applied.signed:
            self._me.meet(applied.entry)
        blocks += [memory.kept_block(block) for block in applied.blocks]
        if not applied.stored:
            return None
        self._memory.position = position
        return position

    async def _skip(self, first: int) -> Cursor:
        msg = (
            f"the log begins at entry {first}, which this site has not read up to. Run the peer once more "
            "(swarmcell train --join): it goes on from a checkpoint."
        )
        raise SwarmError(msg)
