"""Each engine that the conformance suite runs over, as a function that opens one more client of the same log."""

import asyncio
import contextlib
import hashlib

import pytest
from nats_cluster import NatsCluster, missing_binary

from swarmcell.engine.embedded import EmbeddedLog


@pytest.fixture(scope="session")
def nats_cluster(tmp_path_factory):
    """Three nats-servers that no test kills."""
    if why := missing_binary():
        pytest.skip(why)
    cluster = NatsCluster(tmp_path_factory.mktemp("nats"), members=[b"m" * 32], websocket=True)
    cluster.start()
    try:
        asyncio.run(cluster.ready())
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(params=["embedded", "nats"])
def open_log(request, tmp_path):
    """Return an async context manager that opens a client; all clients of a test share one log."""
    if request.param == "embedded":

        def make():
            return EmbeddedLog(tmp_path / "swarm.log")
    else:
        cluster = request.getfixturevalue("nats_cluster")
        swarm = hashlib.sha256(request.node.nodeid.encode()).digest()

        def make():
            return cluster.log(swarm=swarm)

    @contextlib.asynccontextmanager
    async def opened():
        log = make()
        try:
            yield log
        finally:
            await log.close()

    return opened
