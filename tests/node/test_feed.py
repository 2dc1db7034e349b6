"""Facts about the feed: it reads on from its cursor, and gives back what the engine has lost."""

import asyncio
import contextlib
import hashlib
import sqlite3
import time

import pytest
from waiting import LIMIT_S, until

from swarmcell.engine.embedded import EmbeddedLog
from swarmcell.node import feed, ledger
from swarmcell.node.feed import Feed
from swarmcell.node.ledger import Cursor, Read


class Reader:
    """A ledger that reads a log, as a peer does, without a swarm: every new entry is stored."""

    def __init__(self, log, book):
        self.known = {raw for _, raw in book.entries()}
        self.book = book
        self.told = []
        self.feed = Feed(log, book, self.take, self.skip, self.told.append, self.told.append)

    async def skip(self, first):
        self.told.append(f"skipped to {first}")
        cursor = Cursor(first - 1, b"")
        self.book.rewind(cursor)
        return cursor

    async def take(self, batch):
        reads = []
        for at, raw in batch:
            position = None if raw in self.known else len(self.known) + 1
            self.known.add(raw)
            reads.append(Read(at, raw, position))
        self.book.store(reads, Cursor(batch[-1][0], hashlib.sha256(batch[-1][1]).digest()))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(feed, "CHECK_EVERY_S", 0.2)


@contextlib.asynccontextmanager
async def reading(tmp_path, name="ledger.sqlite"):
    log = EmbeddedLog(tmp_path / "swarm.log")
    with ledger.opened(tmp_path / name) as book:
        reader = Reader(log, book)
        running = asyncio.create_task(reader.feed.run())
        yield reader
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await log.close()


async def entries(tmp_path):
    log = EmbeddedLog(tmp_path / "swarm.log")
    found = [raw for _, raw in await log.read(1)]
    await log.close()
    return found


async def rewrite(tmp_path, raws):
    for path in tmp_path.glob("swarm.log*"):
        if path.is_file():
            path.unlink()
    log = EmbeddedLog(tmp_path / "swarm.log")
    await log.append(raws)
    await log.close()


@pytest.mark.parametrize(
    "left",
    [[], [b"1"], [b"1", b"2", b"3"], [b"x"], [b"1", b"x", b"y", b"z", b"w", b"v"], [b"3", b"2"]],
    ids=["all lost", "most lost", "tail lost", "other history", "forked and longer", "reordered"],
)
@pytest.mark.parametrize("running", [True, False])
def test_what_the_engine_lost_is_given_back_and_what_it_took_in_is_read(tmp_path, left, running):
    async def is_whole():
        return set(await entries(tmp_path)) == {b"1", b"2", b"3", b"4", b"5", *left}

    async def scenario():
        await rewrite(tmp_path, [b"1", b"2", b"3", b"4", b"5"])
        async with reading(tmp_path) as reader:
            await asyncio.wait_for(reader.feed.caught_up.wait(), LIMIT_S)
            await until(lambda: len(reader.known) == 5)
            if running:
                await rewrite(tmp_path, left)
                await until(is_whole)
                await until(lambda: {*left} <= reader.known and not reader.book.lost(1, 1))
                return
        await rewrite(tmp_path, left)
        async with reading(tmp_path) as reader:
            await until(is_whole)
            await until(lambda: {*left} <= reader.known and not reader.book.lost(1, 1))

    asyncio.run(scenario())


def test_a_feed_reads_on_from_its_cursor_and_not_again(tmp_path):
    async def scenario():
        await rewrite(tmp_path, [b"1", b"2"])
        async with reading(tmp_path) as reader:
            await asyncio.wait_for(reader.feed.caught_up.wait(), LIMIT_S)
            await until(lambda: len(reader.known) == 2)
        log = EmbeddedLog(tmp_path / "swarm.log")
        await log.append([b"3"])
        await log.close()
        async with reading(tmp_path) as reader:
            taken = []
            take = reader.feed._take

            async def watched(batch):
                taken.extend(batch)
                await take(batch)

            reader.feed._take = watched
            await until(lambda: len(reader.known) == 3)
            assert taken == [(3, b"3")]

    asyncio.run(scenario())


def test_the_log_is_read_again_in_a_new_view_and_ever_more_seldom_where_nothing_helps():
    """A liar can leave a gap for ever: reading a long log again and again for it would cost more than the gap."""
    rereads = feed.Rereads()
    assert not rereads.is_due(0, False, (1, 0))
    due = [now for now in range(0, 10_000_000, 500) if rereads.is_due(now, True, (1, 0))]
    assert due[:4] == [2_000, 6_000, 14_000, 30_000]
    assert len(due) < 15
    assert rereads.is_due(due[-1] + feed.REREAD_MS_MIN, True, (1, 1))


def test_what_a_server_lost_at_the_end_is_noticed_by_who_asks_before_it_leaves(tmp_path, monkeypatch):
    monkeypatch.setattr(feed, "CHECK_EVERY_S", 3600.0)

    async def scenario():
        await rewrite(tmp_path, [b"1", b"2", b"3", b"4", b"5"])
        async with reading(tmp_path) as reader:
            await until(lambda: asyncio.sleep(0, reader.feed.is_whole and len(reader.known) == 5))
            with contextlib.closing(sqlite3.connect(tmp_path / "swarm.log")) as log:
                log.execute("DELETE FROM entries WHERE position > 3")
                log.commit()
            asked_s = time.monotonic()
            reader.feed.check_soon()
            assert not reader.feed.is_whole_since(asked_s)
            await until(lambda: asyncio.sleep(0, reader.feed.is_whole_since(asked_s)))
            assert set(await entries(tmp_path)) == reader.known

    asyncio.run(scenario())
