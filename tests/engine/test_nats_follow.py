"""Facts about following a stream of which no consumer can be made, because the cluster's metadata has no leader yet."""

import asyncio
import hashlib

import pytest
from waiting import LIMIT_S

from swarmcell.engine import nats_pull


@pytest.fixture
def log(nats_cluster, request):
    return nats_cluster.log(swarm=hashlib.sha256(request.node.nodeid.encode()).digest())


@pytest.fixture
def metadata(monkeypatch):
    """Let no consumer be made until this event is set."""
    elected = asyncio.Event()
    make = nats_pull.Puller._make

    async def without_leader(puller, start, wait_s):
        if not elected.is_set():
            await asyncio.sleep(wait_s)
            raise TimeoutError
        return await make(puller, start, wait_s)

    monkeypatch.setattr(nats_pull.Puller, "_make", without_leader)
    return elected


def test_entries_are_read_from_the_streams_leader_and_each_once(log, metadata):
    async def scenario():
        seen = []
        await log.append([b"%d" % i for i in range(1, 100)])
        following = log.follow(3)
        async with asyncio.timeout(LIMIT_S):
            while len(seen) < 97:
                seen += await anext(following)
            metadata.set()  # the consumer begins where nothing had been read
            await log.append([b"100", b"101"])
            while len(seen) < 99:
                seen += await anext(following)
        await following.aclose()
        await log.close()
        return seen

    assert asyncio.run(scenario()) == [(i, b"%d" % i) for i in range(3, 102)]


def test_who_follows_a_log_without_news_goes_at_once(log, metadata):
    async def scenario():
        await log.append([b"1"])
        following = log.follow(2)
        waiting = asyncio.create_task(anext(following))
        await asyncio.sleep(3)  # the leader was asked by then, and had nothing
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(LIMIT_S):
            await following.aclose()
            await log.close()

    asyncio.run(scenario())
