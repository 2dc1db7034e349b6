"""Facts about the NATS engine alone: who may connect, what a killed server costs, and what a lossy one shows."""

import asyncio
import contextlib
import gc
import hashlib
import ssl
import time

import pytest
from nats_cluster import NatsCluster, free_ports, missing_binary
from waiting import LIMIT_S, until

from swarmcell.engine import nats_connection, nats_pull
from swarmcell.engine.nats import NatsLog
from swarmcell.engine.nats_address import NatsAddress
from swarmcell.engine.nats_stream import _windows
from swarmcell.errors import ConfigError, EngineError

MEMBER, STRANGER = b"m" * 32, b"x" * 32

# Servers die and proxies hang up here on purpose; the sockets that nats-py then drops are collected late.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def collect_dropped_sockets():
    yield
    gc.collect()


@pytest.fixture
def swarm(request):
    return hashlib.sha256(request.node.nodeid.encode()).digest()


@pytest.fixture
def own_cluster(tmp_path):
    """Three servers that the test may kill."""
    if why := missing_binary():
        pytest.skip(why)
    cluster = NatsCluster(tmp_path / "nats")
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(nats_connection, "CALL_WAIT_S", 1.0)
    monkeypatch.setattr(nats_connection, "CONNECT_WAIT_S", 1.0)


@pytest.fixture
def patient(monkeypatch):
    """On a busy machine an election takes as long as it takes."""
    monkeypatch.setattr(nats_connection, "CALL_WAIT_S", LIMIT_S)
    monkeypatch.setattr(nats_connection, "CONNECT_WAIT_S", LIMIT_S)


def run(coroutine):
    return asyncio.run(coroutine)


# -- who may connect, and do what ------------------------------------------------------------------------------------


def test_a_site_whose_key_the_cluster_does_not_know_is_refused_at_once(nats_cluster, patient):
    async def scenario():
        began = time.monotonic()
        async with nats_cluster.opened(secret=STRANGER) as log:
            with pytest.raises(EngineError, match=r"refuses this site.*Authorization Violation.*--member"):
                await log.read(1)
        assert time.monotonic() - began < LIMIT_S / 2, "it waited for what no waiting mends"

    run(scenario())


def test_a_site_without_a_key_is_refused(nats_cluster, swarm):
    async def scenario():
        log = NatsLog(nats_cluster.address(), swarm)
        with pytest.raises(EngineError, match="refuses this site"):
            await log.health()
        await log.close()

    run(scenario())


def test_a_server_with_another_certificate_is_not_spoken_to(nats_cluster, swarm, impatient):
    other = NatsAddress(servers=nats_cluster.address().servers, trust="")

    async def scenario():
        log = NatsLog(other, swarm, nats_cluster.founders[0])
        with pytest.raises(EngineError, match=r"(?i)cannot be reached.*certificate verify failed"):
            await log.read(1)
        await log.close()

    run(scenario())


def test_certificates_pass_the_strict_checks_of_newer_pythons(nats_cluster):
    card = nats_cluster.cards[0]
    context = ssl.create_default_context(cadata=nats_cluster.cluster.trust)
    context.verify_flags |= ssl.VERIFY_X509_STRICT

    async def scenario():
        reader, writer = await asyncio.open_connection(card.host, card.client_port)
        assert (await reader.readline()).startswith(b"INFO")
        await writer.start_tls(context, server_hostname=card.host)
        writer.close()
        await writer.wait_closed()

    run(scenario())


def test_the_key_of_one_server_cannot_vouch_for_another(nats_cluster):
    context = ssl.create_default_context(cadata=nats_cluster.cards[0].certificate)
    assert not context.get_ca_certs()


def test_nothing_is_said_to_a_server_that_offers_no_tls(swarm, impatient):
    heard = []

    async def scenario():
        async def serve(reader, writer):
            writer.write(b'INFO {"server_id":"x","version":"2.9.10","max_payload":1048576,"headers":true}\r\n')
            heard.append(await reader.read(100))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        log = NatsLog(NatsAddress(servers=(f"tls://127.0.0.1:{port}",)), swarm, b"s" * 32)
        with pytest.raises(EngineError, match="no TLS"):
            await log.read(1)
        await log.close()
        server.close()
        await server.wait_closed()

    run(scenario())
    assert heard
    assert set(heard) == {b""}


def test_a_member_that_is_no_founder_writes_and_reads_but_cannot_make_or_trim_a_stream(nats_cluster, swarm, impatient):
    async def scenario():
        async with nats_cluster.opened(swarm=swarm, secret=MEMBER) as member:
            with pytest.raises(EngineError, match=r"forbids this site.*permissions violation"):
                await member.append([b"too early"])
        async with nats_cluster.opened(swarm=swarm) as founder, nats_cluster.opened(swarm=swarm, secret=MEMBER) as log:
            await founder.append([b"a"])
            assert await log.append([b"b"]) == [2]
            assert await log.read(1) == [(1, b"a"), (2, b"b")]
            with pytest.raises(EngineError, match="forbids this site to trim"):
                await log.trim(2)
            assert await founder.read(1) == [(1, b"a"), (2, b"b")]

    run(scenario())


def test_a_member_cannot_write_under_the_key_of_another(nats_cluster, swarm, impatient):
    async def scenario():
        async with nats_cluster.opened(swarm=swarm) as founder, nats_cluster.opened(swarm=swarm, secret=MEMBER) as log:
            await founder.append([b"a"])
            log._stream._subject = founder._stream._subject
            with pytest.raises(EngineError, match="forbids"):
                await log.append([b"b"])

    run(scenario())


# -- ways to dial ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("websocket", [False, True])
def test_a_site_behind_a_proxy_takes_part(nats_cluster, swarm, websocket):
    asked = []

    async def pipe(reader, writer):
        while content := await reader.read(65536):
            writer.write(content)
            await writer.drain()
        writer.close()

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.decode())
        target = head.split(b" ")[1].decode()
        host, port = target.rsplit(":", 1)
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer), return_exceptions=True)

    async def scenario():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        proxy = f"http://ward:se%20cret@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with nats_cluster.opened(swarm=swarm, proxy=proxy, websocket=websocket) as log:
            large = bytes(700_000)
            assert await log.append([b"a", large]) == [1, 2]
            assert await log.read(1) == [(1, b"a"), (2, large)]
        server.close()

    run(scenario())
    port = nats_cluster.cards[0].websocket_port if websocket else nats_cluster.cards[0].client_port
    assert asked[0].startswith(f"CONNECT 127.0.0.1:{port} ")
    assert "Basic d2FyZDpzZSBjcmV0" in asked[0]


def test_a_proxy_that_refuses_is_named(nats_cluster, swarm, impatient):
    async def scenario():
        async def serve(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with nats_cluster.opened(swarm=swarm, proxy=proxy) as log:
            with pytest.raises(EngineError, match=r"proxy 127.0.0.1:.* refuses: HTTP/1.1 403"):
                await log.read(1)
        server.close()

    run(scenario())


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"servers": ()}, "no server"),
        ({"servers": ("http://a:1",)}, "expected tls://"),
        ({"servers": ("tls://a:1", "wss://a:2")}, "one scheme"),
        ({"servers": ("tls://a:1",), "replicas": 2}, "replicas = 2"),
        ({"servers": ("tls://a:1",), "certificate": "c.pem"}, "needs its key"),
        ({"servers": ("tls://a:1",), "proxy": "socks5://a:1"}, "http://host:port"),
    ],
)
def test_an_address_that_cannot_be_dialled_is_refused(options, fault):
    with pytest.raises(ConfigError, match=fault):
        NatsAddress(**options)


def test_no_server_at_all_is_said_with_its_address(swarm, impatient):
    (port,) = free_ports(1)

    async def scenario():
        log = NatsLog(NatsAddress(servers=(f"nats://127.0.0.1:{port}",)), swarm)
        for call in (log.read(1), log.append([b"a"]), log.health(), log.announce(b"a" * 32, b""), anext(log.follow(1))):
            with pytest.raises(EngineError, match=f"{port} cannot be reached.*Check"):
                await call
        await log.close()

    run(scenario())


# -- what a replica lacks --------------------------------------------------------------------------------------------


@pytest.fixture
def lost(monkeypatch):
    """Positions that the replica, from which a reader is served, does not hold."""
    positions = set()
    whole = nats_pull.Puller.next

    async def lossy(puller, wait_s):
        with contextlib.suppress(nats_pull._Ended):  # all that was asked for was sent
            while (got := await whole(puller, wait_s)) is not None and got[0] in positions:
                if not got[2]:
                    return None
            return got

    monkeypatch.setattr(nats_pull.Puller, "next", lossy)
    return positions


@pytest.mark.parametrize("lacking", [range(1, 4), range(10, 19), range(140, 151), range(1, 151), range(40, 130, 7)])
def test_what_a_replica_lacks_is_read_from_the_leader(nats_cluster, swarm, lost, lacking):
    swarm = hashlib.sha256(swarm + bytes(lacking)).digest()
    wanted = [(i, f"entry {i}".encode()) for i in range(1, 151)]

    async def scenario():
        async with nats_cluster.opened(swarm=swarm) as log:
            await log.append([raw for _, raw in wanted])
            lost.update(lacking)
            found = []
            while rows := await log.read(len(found) + 1):
                found += rows
            assert found == wanted
            assert await log.read(5, limit=20) == wanted[4:24]

    run(scenario())


def test_a_follower_is_given_what_its_replica_lacks(nats_cluster, swarm, lost):
    wanted = [(i, f"entry {i}".encode()) for i in range(1, 301)]
    lost.update({1, 2, *range(100, 200), 250})

    async def scenario():
        async with nats_cluster.opened(swarm=swarm) as log:
            await log.append([raw for _, raw in wanted])
            found = []
            async for batch in log.follow(1):
                found += batch
                if len(found) >= len(wanted):
                    break
            assert found == wanted

    run(scenario())


def test_a_replica_that_lacks_entries_shows_no_more_where_the_log_was_trimmed(nats_cluster, swarm, lost):
    async def scenario():
        async with nats_cluster.opened(swarm=swarm) as log:
            await log.append([b"a", b"b", b"c", b"d"])
            await log.trim(3)
            lost.add(3)
            assert await log.read(1) == [(3, b"c"), (4, b"d")]

    run(scenario())


# -- what is appended ------------------------------------------------------------------------------------------------


def test_the_same_entry_sent_again_is_kept_once(nats_cluster, swarm):
    async def scenario():
        async with nats_cluster.opened(swarm=swarm) as log, nats_cluster.opened(swarm=swarm, secret=MEMBER) as other:
            assert await log.append([b"a", b"b"]) == [1, 2]
            assert await other.append([b"a"]) == [1]
            assert await log.read(1) == [(1, b"a"), (2, b"b")]

    run(scenario())


def test_an_entry_that_must_come_after_another_is_kept_again_where_it_overtook_it(nats_cluster, swarm):
    async def scenario():
        async with nats_cluster.opened(swarm=swarm) as log:
            await log.append([b"update"])
            assert await log.append([b"chunk", b"update"]) == [2, 3]
            assert [raw for _, raw in await log.read(1)] == [b"update", b"chunk", b"update"]

    run(scenario())


def test_what_is_under_way_at_once_is_bounded():
    entries = [bytes(700_000)] * 20 + [b"x"] * 200
    windows = _windows(entries)
    assert [raw for window in windows for raw in window] == entries
    assert all(len(window) <= 64 and sum(map(len, window)) <= 4 * 2**20 for window in windows)
    assert _windows([]) == []


def test_trimming_beyond_the_end_moves_no_position(nats_cluster, swarm):
    async def scenario():
        async with nats_cluster.opened(swarm=swarm) as log:
            await log.trim(5)
            await log.append([b"a"])
            await log.trim(1000)
            assert await log.append([b"b"]) == [2]

    run(scenario())


def test_swarms_of_one_cluster_do_not_see_each_other(nats_cluster, swarm):
    async def scenario():
        async with nats_cluster.opened(swarm=swarm) as log, nats_cluster.opened(swarm=bytes(32)) as other:
            await log.append([b"a"])
            await log.announce(b"a" * 32, b"up")
            assert await other.read(1) == []
            assert await other.announcements() == {}

    run(scenario())


def test_who_arrives_hears_at_once_who_is_up(nats_cluster, swarm):
    async def scenario():
        async with nats_cluster.opened(swarm=swarm) as log:
            await log.announce(b"a" * 32, b"up")
            await asyncio.sleep(0.1)
            async with nats_cluster.opened(swarm=swarm, first="site-c", secret=MEMBER) as late:
                seen = await until(late.announcements)
            assert seen[b"a" * 32].content == b"up"

    run(scenario())


# -- a log that went back --------------------------------------------------------------------------------------------


def test_a_log_whose_disk_was_lost_shows_that_and_takes_entries_again(tmp_path):
    if why := missing_binary():
        pytest.skip(why)
    cluster = NatsCluster(tmp_path / "nats", size=1)
    cluster.start()

    async def scenario():
        await cluster.ready()
        async with cluster.opened() as log:
            await log.append([b"a", b"b"])
            follower = log.follow(1)
            assert [raw for _, raw in await anext(follower)] == [b"a", b"b"]
            cluster.kill("site-a")
            cluster.lose_store("site-a")
            cluster.start()
            with pytest.raises(EngineError, match="no longer has the swarm's stream"):
                await asyncio.wait_for(anext(follower), 20)
            with pytest.raises(EngineError, match="made anew"):
                await log.read(2, limit=1)
            assert await log.read(2, limit=1) == []
            assert await log.append([b"a", b"b"]) == [1, 2]

    try:
        run(scenario())
    finally:
        cluster.stop()


def test_a_follower_notices_that_its_last_entry_is_another_now(nats_cluster, swarm):
    async def scenario():
        async with nats_cluster.opened(swarm=swarm) as log:
            await log.append([b"a", b"b"])
            await nats_pull._refuse_other_past(log._stream, 2, hashlib.sha256(b"b").digest())
            for position, raw in ((2, b"x"), (3, b"c")):
                with pytest.raises(EngineError, match=f"went back: position {position}"):
                    await nats_pull._refuse_other_past(log._stream, position, hashlib.sha256(raw).digest())
            await log.append([b"c"])
            await log.trim(3)
            await nats_pull._refuse_other_past(log._stream, 2, hashlib.sha256(b"x").digest())

    run(scenario())


# -- servers that die ------------------------------------------------------------------------------------------------


def test_appends_and_a_follower_survive_the_leader_and_the_restarted_server_catches_up(own_cluster, patient):
    cluster = own_cluster

    async def scenario():
        leader = await cluster.ready()
        follower_home = next(site for site in cluster.sites if site != leader)
        async with cluster.opened(first=leader) as writer, cluster.opened(first=follower_home) as reader:
            got = []

            async def follow():
                async for batch in reader.follow(1):
                    got.extend(batch)

            following = asyncio.create_task(follow())
            for i in range(20):
                await writer.append([f"before {i}".encode()])
            cluster.kill(leader)
            assert await writer.append([b"after"]) == [21]
            for i in range(20):
                await writer.append([f"later {i}".encode()])
            await until(lambda: len(got) >= 41 or following.done())
            assert not following.done(), following.exception()
            following.cancel()
            wanted = [f"before {i}" for i in range(20)] + ["after"] + [f"later {i}" for i in range(20)]
            assert [(position, raw.decode()) for position, raw in got] == list(enumerate(wanted, 1))
            cluster.start(leader)
        await cluster.ready()
        async with cluster.opened(first=leader) as log:
            assert len(await log.read(1)) == 41

    run(scenario())


def test_below_a_majority_appends_fail_loudly_and_go_on_when_servers_return(own_cluster, patient, monkeypatch):
    cluster = own_cluster

    async def scenario():
        leader = await cluster.ready()
        gone = [site for site in cluster.sites if site != leader]
        async with cluster.opened(first=leader) as log:
            assert await log.append([b"a"]) == [1]
            for site in gone:
                cluster.kill(site)
            with monkeypatch.context() as patch:
                patch.setattr(nats_connection, "CALL_WAIT_S", 3.0)
                with pytest.raises(EngineError, match="most of its servers"):
                    await log.append([b"b"])
            cluster.start(*gone)
            (position,) = await log.append([b"c"])
            entries = await log.read(1)
            assert entries[0] == (1, b"a")
            assert dict(entries)[position] == b"c"
            assert [p for p, _ in entries] == list(range(1, len(entries) + 1))

    run(scenario())


def test_all_servers_killed_at_once_lose_nothing_that_was_acknowledged(own_cluster, patient):
    cluster = own_cluster

    async def scenario():
        await cluster.ready()
        async with cluster.opened() as log:
            wanted = [f"{i}".encode() for i in range(100)]
            await log.append(wanted)
            cluster.stop()
            cluster.start()
            found = []

            async def are_all():
                found[:] = [raw for _, raw in await log.read(1)]
                return found != wanted[: len(found)] or found == wanted

            await until(are_all)  # who has just been elected may not have read its own disk to the end
            assert found == wanted

    run(scenario())
