"""The conformance suite: facts about every engine behind the Log port."""

import asyncio
import contextlib
import time

import pytest
from waiting import LIMIT_S, until

from swarmcell.engine.log import ENTRY_BYTES_MAX, READ_ENTRIES_MAX
from swarmcell.errors import EngineError


def test_an_entry_over_the_limit_is_refused(open_log):
    async def scenario():
        async with open_log() as log:
            with pytest.raises(EngineError, match="over the limit"):
                await log.append([bytes(ENTRY_BYTES_MAX + 1)])
            assert await log.read(1) == []

    asyncio.run(scenario())


def test_positions_are_dense_from_one_and_entries_come_back_in_order(open_log):
    async def scenario():
        async with open_log() as log:
            assert await log.append([b"a", b"b"]) == [1, 2]
            assert await log.append([b"c"]) == [3]
            assert await log.read(1) == [(1, b"a"), (2, b"b"), (3, b"c")]
            assert await log.read(2, limit=1) == [(2, b"b")]
            assert await log.read(4) == []

    asyncio.run(scenario())


def test_an_entry_of_the_largest_size_is_kept_to_the_byte(open_log):
    large = bytes(range(256)) * (ENTRY_BYTES_MAX // 256)

    async def scenario():
        async with open_log() as log:
            await log.append([large])
        async with open_log() as again:
            assert await again.read(1) == [(1, large)]

    asyncio.run(scenario())


def test_what_was_appended_is_there_for_a_client_that_opens_later(open_log):
    async def scenario():
        async with open_log() as log:
            await log.append([b"a"])
        async with open_log() as again:
            assert await again.append([b"b"]) == [2]
            assert await again.read(1) == [(1, b"a"), (2, b"b")]

    asyncio.run(scenario())


def test_clients_that_append_at_once_get_different_positions_and_read_the_same(open_log):
    async def scenario():
        async with contextlib.AsyncExitStack() as stack:
            logs = [await stack.enter_async_context(open_log()) for _ in range(4)]
            wanted = [[f"{n}.{i}".encode() for i in range(10)] for n in range(4)]

            async def append_all(log, entries):
                return [position for raw in entries for position in await log.append([raw])]

            positions = await asyncio.gather(*(append_all(log, w) for log, w in zip(logs, wanted, strict=True)))
            assert sorted(p for own in positions for p in own) == list(range(1, 41))
            read = [await log.read(1) for log in logs]
            assert read[0] == read[1] == read[2] == read[3]
            for own, entries in zip(positions, wanted, strict=True):
                assert [dict(read[0])[p] for p in own] == entries

    asyncio.run(scenario())


def test_a_follower_gets_what_stands_and_what_comes_each_once_in_order(open_log):
    async def scenario():
        async with open_log() as writer, open_log() as reader:
            await writer.append([b"0", b"1"])
            got = []

            async def follow():
                async for batch in reader.follow(2):
                    got.extend(batch)
                    if len(got) == 20:
                        return

            following = asyncio.create_task(follow())
            for i in range(2, 21):
                await writer.append([str(i).encode()])
            await asyncio.wait_for(following, LIMIT_S)
            assert got == [(i + 1, str(i).encode()) for i in range(1, 21)]

    asyncio.run(scenario())


def test_a_follower_is_woken_and_does_not_look_now_and_then(open_log):
    """Who looks once a second is never quick: its second begins just before the entry comes. Benchmarks measure it."""

    async def scenario():
        async with open_log() as writer, open_log() as reader:
            follower = reader.follow(1)
            delays_s = []
            for i in range(9):
                waiting = asyncio.ensure_future(anext(follower))
                await asyncio.sleep(0.05)
                await writer.append([str(i).encode()])
                appended = time.monotonic()
                await asyncio.wait_for(waiting, LIMIT_S)
                delays_s.append(time.monotonic() - appended)
            await follower.aclose()
            assert min(delays_s) < 0.5

    asyncio.run(scenario())


def test_trimmed_entries_are_gone_and_positions_do_not_move(open_log):
    async def scenario():
        async with open_log() as log:
            await log.append([b"a", b"b", b"c"])
            await log.trim(3)
            assert await log.read(1) == [(3, b"c")]
            health = await log.health()
            assert (health.first, health.last) == (3, 3)
            await log.trim(4)
            assert await log.read(1) == []
            assert await log.append([b"d"]) == [4]

    asyncio.run(scenario())


def test_a_long_log_is_read_in_batches_without_a_gap(open_log):
    async def scenario():
        async with open_log() as log:
            count = READ_ENTRIES_MAX + 10
            for first in range(0, count, 100):
                await log.append([str(i).encode() for i in range(first, min(first + 100, count))])
            head = await log.read(1)
            tail = await log.read(head[-1][0] + 1)
            assert [raw for _, raw in head + tail] == [str(i).encode() for i in range(count)]

    asyncio.run(scenario())


def test_health_of_an_empty_log_says_so(open_log):
    async def scenario():
        async with open_log() as log:
            health = await log.health()
            assert (health.first, health.last) == (1, 0)
            assert health.about

    asyncio.run(scenario())


def test_announcements_show_who_is_up_and_are_not_in_the_log(open_log):
    async def scenario():
        async with open_log() as log, open_log() as other:
            assert await other.announcements() == {}
            await log.announce(b"a" * 32, b"first")
            await log.announce(b"a" * 32, b"second")
            await log.announce(b"b" * 32, b"")

            async def all_heard():
                seen = await other.announcements()
                said = {author: a.content for author, a in seen.items()}
                return seen if said == {b"a" * 32: b"second", b"b" * 32: b""} else None

            seen = await until(all_heard)
            assert all(0 <= a.age_s < LIMIT_S for a in seen.values())
            assert await log.read(1) == []

    asyncio.run(scenario())


def test_closing_twice_is_harmless(open_log):
    async def scenario():
        async with open_log() as log:
            await log.append([b"a"])
            await log.close()

    asyncio.run(scenario())
