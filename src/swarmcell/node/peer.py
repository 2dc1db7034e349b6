"""One running peer: reads the log, asks the pure core what to do, and does it.

Theory of operation: the loop reads batches from the engine (`feed`), applies each entry to `State`, stores it in the
ledger, and then asks `decide`. Short actions (sign, resend) are done at once; long ones (train, merge, open) run in
threads, each once, and tell `Me` when they are done. `State` and `Me` are touched by the loop only; nothing is decided
between applying an entry and storing it, so whatever an action names can be read from the ledger.

Rules: nothing is signed before the log was read to its end, nor before it is stored. The loop never waits for training.
An engine that is away is retried for ever; one peer's fault (its own training fails, say) makes it abstain, never the
swarm. Only `Stop` (somebody else signs with this key) and a broken disk end a peer.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Coroutine, Iterable
from functools import partial
from typing import Any, assert_never

from swarmcell.engine.log import Log
from swarmcell.errors import EngineError, SwarmError
from swarmcell.node import claims, memory, presence, work
from swarmcell.node.blobs import Keyring
from swarmcell.node.feed import Batch, Feed, Rereads
from swarmcell.node.identity import Identity, verify
from swarmcell.node.jobs import Jobs
from swarmcell.node.ledger import Cursor, Ledger, Read
from swarmcell.node.memory import Memory
from swarmcell.node.orders import LOOK_EVERY_S, Clerk, Orders
from swarmcell.node.outbox import Outbox
from swarmcell.node.signer import Signer
from swarmcell.node.task import Task
from swarmcell.node.telling import Observer, Teller
from swarmcell.node.terms import STANDARD, Ended, Terms
from swarmcell.swarm import actions as ask
from swarmcell.swarm.adopt import trim_below
from swarmcell.swarm.blocks import Block
from swarmcell.swarm.body import decode_body
from swarmcell.swarm.decide import decide
from swarmcell.swarm.genesis import Genesis
from swarmcell.swarm.me import Me, contribution_key
from swarmcell.swarm.payloads import TrainedOn
from swarmcell.swarm.state import State

TICK_S = 0.25
RETRY_REFUSED_S = 60.0
MENDING_S = 30.0  # after the end, while the log is being given back what a server lost; chosen
LINGER_S = 10.0  # after the end, for a checkpoint and the log's echo of this peer's last entries; chosen


class Peer:
    """A member of a swarm, from its first entry to the end of the study."""

    def __init__(
        self,
        identity: Identity,
        genesis: Genesis,
        log: Log,
        ledger: Ledger,
        task: Task,
        observer: Observer,
        terms: Terms = STANDARD,
    ) -> None:
        self._identity = identity
        self._swarm = genesis.digest
        self._log = log
        self._ledger = ledger
        self._teller = Teller(genesis, observer)
        self._keyring = Keyring(identity)
        self._orders = Orders(identity, self._swarm)
        self._clerk = Clerk(self._orders, self._keyring, lambda why: self._teller.tell("abstains", {"why": why}))
        self._bench = work.Bench(identity, self._swarm, task, ledger, self._keyring)
        self._terms = terms
        self._me = Me(identity.key)
        self._outbox = Outbox(log, self._teller.outage)
        self._signer = Signer(identity, self._swarm, self._me, ledger, self._outbox)
        self._feed = Feed(log, ledger, self._take, self._skip, self._teller.outage, self._teller.mended)
        self._memory = Memory(State(genesis, verify), self._me, 0)
        self._stored = asyncio.Lock()
        self._stir = asyncio.Event()
        self._jobs = Jobs(self._stir.set)
        self._ended: Ended | None = None
        self._finished_s = 0.0
        self._settled_s = 0.0  # since when the log has shown all that this peer had to say
        self._rereads = Rereads()

    async def run(self) -> Ended:
        """Take part until the study has ended.

        Raises
        ------
        SwarmError
            If this identity must not sign any more, or the ledger's disk is broken.
        """
        self._ledger.bind(self._swarm, self._identity.key)
        self._recall()
        loops = (self._drive(), self._feed.run(), self._outbox.run(), self._announce_forever(), self._obey_forever())
        tasks = [asyncio.create_task(loop) for loop in loops]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._jobs.close()
        if self._ended is None:
            msg = "the peer stopped before the study had ended; go on with --resume"
            raise SwarmError(msg)
        return self._ended

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def _state(self) -> State:
        return self._memory.state

    def _recall(self) -> None:
        """Rebuild what this peer knows from its ledger."""
        self._memory = memory.recall(self._ledger, self._state.genesis, self._me, self._terms.pins)
        self._begin_epochs(self._state.blocks.values())

    def _begin_epochs(self, blocks: Iterable[Block]) -> None:
        for block in blocks:
            self._keyring.begin_epoch(block.body.epoch, block.body.key_digest)
            self._teller.learn_names(block.body)

    async def _take(self, batch: Batch) -> None:
        """Apply a batch of the engine and store what the ledger lacks; then look what is to be done."""
        cursor = Cursor(batch[-1][0], hashlib.sha256(batch[-1][1]).digest())
        async with self._stored:
            blocks: list[Block] = []
            known = await self._known(batch)
            reads = [
                Read(at, raw, None if at in known and self._state.is_settled else self._apply(raw, blocks))
                for at, raw in batch
            ]
            await asyncio.to_thread(self._ledger.store, reads, cursor, [*map(memory.kept_block, blocks)])
            for block in blocks:
                self._teller.block(block)
            if self._memory.is_due:
                await self._tidy()
        self._stir.set()

    async def _known(self, batch: Batch) -> frozenset[int]:
        """Return the positions of what the ledger holds; looked up only where this may be the whole log once more."""
        if self._feed.is_whole:
            return frozenset()
        digests = {at: hashlib.sha256(raw).digest() for at, raw in batch}
        held = await asyncio.to_thread(self._ledger.known, [*digests.values()])
        return frozenset(at for at, digest in digests.items() if digest in held)

    def _apply(self, raw: bytes, blocks: list[Block]) -> int | None:
        """Apply one entry; return its position if it is to be stored, and add the blocks that it makes final."""
        position = self._memory.position + 1
        applied = self._state.apply(position, raw)
        if applied.entry is not None and applied.signed:  # a forged entry must not stop the peer that it names
            self._me.meet(applied.entry)
        self._begin_epochs(applied.blocks)
        blocks.extend(applied.blocks)
        if not applied.stored:
            return None
        self._memory.position = position
        return position

    async def _skip(self, first: int) -> Cursor:
        """Go on from the newest checkpoint of a log whose beginning is trimmed, since this peer has not read it."""
        state = await memory.newest_checkpoint(self._log, self._state)
        if state is None:
            msg = (
                f"the log begins at entry {first}, which this site has not read up to, and members that it knows vouch "
                "for no checkpoint in it. Ask a member for a new invitation: swarmcell swarm invite."
            )
            raise EngineError(msg)
        async with self._stored:
            cursor = Cursor(first - 1, b"")
            self._memory = await asyncio.to_thread(memory.jump, self._memory, state, self._ledger, cursor)
            self._begin_epochs(state.blocks.values())
        self._teller.mended(
            f"the log begins at entry {first}: going on from the checkpoint of block {state.height - 1}"
        )
        return cursor

    async def _tidy(self) -> None:
        """Keep a snapshot, so that the next start is quick, and trim what is too much."""
        kept = memory.remembered(self._memory)
        await asyncio.to_thread(self._ledger.store_snapshot, kept)
        await self._trim()

    async def _trim(self) -> None:
        """Trim log and ledger below the last settled checkpoint, each once it is over the limit."""
        below = trim_below(self._state)
        if not below:
            return
        with contextlib.suppress(EngineError):  # some engines let nobody trim, or are away: there is a next time
            too_much = (await self._log.health()).size_bytes > self._terms.history_bytes_max
            if too_much and (at := await asyncio.to_thread(self._ledger.engine_position, below)):
                await self._log.trim(at)
        if await asyncio.to_thread(self._ledger.size_bytes) > self._terms.history_bytes_max:
            await asyncio.to_thread(self._ledger.trim, below)

    # -- doing -------------------------------------------------------------------------------------------------------

    async def _drive(self) -> None:
        """Do what the core asks for, at every piece of news and every tick, until the study has ended."""
        await self._feed.caught_up.wait()
        await self._signer.resend(tuple(self._me.unseen))  # stored before a crash, and never appended
        while self._ended is None:
            self._stir.clear()
            async with self._stored:
                await self._turn()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._stir.wait()

    def _read_again(self, now_ms: int) -> None:
        """Read the whole log again where something that was ignored may count now, or is missing; not too often."""
        lacks = self._state.reread or bool(self._state.chains.gaps())
        if self._rereads.is_due(now_ms, lacks, (self._state.height, self._state.ballot.view)):
            self._state.reread = False
            self._feed.read_again()

    async def _turn(self) -> None:
        now_ms = _now_ms()
        self._read_again(now_ms)
        self._me.observe(self._state, now_ms)
        for action in decide(self._state, self._me, now_ms):
            await self._perform(action)

    async def _perform(self, action: ask.Action) -> None:  # noqa: C901, PLR0912 (one short case each)
        match action:
            case ask.Sign(payload=payload):
                await self._signer.sign([payload])
                self._stir.set()
            case ask.BringKey():
                await self._signer.sign([self._keyring.bring(self._state.genesis.founders)])
                self._stir.set()
            case ask.Resend(sequences=sequences):
                await self._signer.resend(sequences)
                self._me.resent(_now_ms())
            case ask.OpenKey():
                self._open_key(action)
            case ask.WrapKey(key_digest=key_digest, member=member):
                await self._signer.sign([self._keyring.wrap_for(key_digest, member)])
                self._stir.set()
            case ask.Contribute():
                if not self._finishes_late():
                    self._begin(("train", action.round), contribution_key(action.round), self._contribute(action))
            case ask.Merge():
                self._begin(action.key, action.key, self._merge(action))
            case ask.Open():
                self._begin(action.digest, action.digest, self._open_checkpoint(action))
            case ask.WriteCheckpoint():
                self._begin(("checkpoint", action.height), action.state, self._write_checkpoint(action))
            case ask.Wait():
                self._teller.waits(action, self._me.up and self._me.up | {self._me.key})
            case ask.Finish():
                await self._finish(action)
            case ask.Stop(reason=reason):
                msg = f"{self._identity.name}: {reason}"
                raise SwarmError(msg)
            case _:
                assert_never(action)

    def _begin(self, name: object, key: bytes, job: Coroutine[Any, Any, None]) -> None:
        self._jobs.begin(name, job, partial(self._refuse, key))

    def _open_key(self, action: ask.OpenKey) -> None:
        if self._keyring.open(action.key_digest, action.wraps):
            self._me.opened_key(action.key_digest)
        else:
            why = f"this site cannot open the swarm key of epoch {action.epoch}: none of its wraps is for this identity"
            self._me.cannot_open(action.key_digest, len(action.wraps), why)
            self._teller.tell("abstains", {"why": f"{why}; asking the members for another"})
        self._stir.set()

    def _refuse(self, key: bytes, why: str) -> None:
        """Abstain from something, say why, and try again later: a full disk may have been mended."""
        self._me.refuse(key, why)
        self._teller.tell("abstains", {"why": why})
        asyncio.get_running_loop().call_later(RETRY_REFUSED_S, self._me.retry, key)

    def _finishes_late(self) -> bool:
        """Say whether a training for a past round goes on: published late, it makes this site awaited again."""
        closing, number = self._state.closing, self._jobs.training
        under_way = self._jobs.runs(("train", number)) and number < self._state.rounds.number
        return under_way and closing is not None and self._me.key not in closing.awaited

    async def _contribute(self, action: ask.Contribute) -> None:
        stop = self._jobs.train_for(action.round)
        self._teller.tell("training", {"round": action.round})
        payloads = await self._jobs.in_thread(work.contribute, self._bench, action, stop)
        if stop.is_set():
            return
        if not payloads:
            self._refuse(contribution_key(action.round), "this site has nothing to add to this round")
            return
        await self._signer.sign([*self._claim(action.epoch), *payloads])
        self._teller.tell("contributed", {"round": action.round})

    def _claim(self, epoch: int) -> list[TrainedOn]:
        """Return what to sign of what this site trains on, ahead of its contribution; nothing if that is said."""
        claim = self._terms.claim
        if claim is None or ("trained", claim.commitment) in self._me.done:
            return []
        return [claims.seal(self._bench, claim, epoch)]

    async def _merge(self, action: ask.Merge) -> None:
        self._me.merged(action.key, await self._jobs.in_thread(work.merge, self._bench, action))

    async def _open_checkpoint(self, action: ask.Open) -> None:
        await self._jobs.in_thread(work.open_checkpoint, self._bench, action)
        self._me.opened_checkpoint(action.digest, action.state)

    async def _write_checkpoint(self, action: ask.WriteCheckpoint) -> None:
        await self._signer.sign(await self._jobs.in_thread(work.write_checkpoint, self._bench, action))

    async def _finish(self, action: ask.Finish) -> None:
        """End once the others have all that they need of this peer: its entries in the log, and a checkpoint.

        The log is compared with the ledger once more: what a server lost by now, nobody would give back later.
        """
        height = self._state.height - 1
        now_s = time.monotonic()
        self._finished_s = self._finished_s or now_s
        settled = ("acknowledge", height) in self._me.done and not self._me.unseen
        if settled and not self._settled_s:
            self._settled_s = now_s
            self._feed.check_soon()
        settled = settled and self._feed.is_whole_since(self._settled_s)
        lingers = not settled and now_s - self._finished_s < (LINGER_S if self._feed.is_whole else MENDING_S)
        if lingers or not (self._jobs.is_idle and self._outbox.is_empty):
            return
        await self._announce()
        state = await asyncio.to_thread(self._ledger.state, action.state)
        bodies = tuple(map(decode_body, await asyncio.to_thread(self._ledger.bodies)))
        self._ended = Ended(height=height, digest=action.state, state=state, failure=action.failure, bodies=bodies)

    async def _obey_forever(self) -> None:
        """Take up what this site's operator decided."""
        await self._feed.caught_up.wait()
        while True:
            if waiting := await asyncio.to_thread(self._orders.waiting):
                async with self._stored:
                    self._clerk.carry_out(waiting, self._state, self._me)
                self._stir.set()
            await asyncio.sleep(LOOK_EVERY_S)

    # -- presence ----------------------------------------------------------------------------------------------------

    async def _announce_forever(self) -> None:
        while True:
            await self._announce()
            with contextlib.suppress(EngineError):
                heard = presence.read(self._swarm, await self._log.announcements())
                self._me.up = frozenset(author for author, said in heard.items() if said.is_up)
            await asyncio.sleep(presence.ANNOUNCE_EVERY_S)

    async def _announce(self) -> None:
        with contextlib.suppress(EngineError):
            await self._log.announce(self._identity.key, self._sign_of_life())

    def _doing(self) -> str:
        if self._state.finished:
            return "ended"
        return "training" if self._jobs.runs(("train", self._jobs.training)) else self._teller.doing or "taking part"

    def _sign_of_life(self) -> bytes:
        body = self._state.body
        return presence.announcement(
            self._identity,
            self._swarm,
            height=body.height if body else -1,
            round_number=body.round if body else 0,
            doing=self._doing(),
        )


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
