"""Facts about what a connection says when no server will have it."""

import pytest

from swarmcell.engine.nats_address import NatsAddress
from swarmcell.engine.nats_connection import Connection


@pytest.mark.parametrize(
    ("heard", "remedy"),
    [
        ("certificate verify failed: certificate is not yet valid (_ssl.c:1006)", "days behind: set it"),
        ("certificate verify failed: certificate has expired (_ssl.c:1006)", "a new engine card"),
        ("connection refused", "that the servers run"),
    ],
)
def test_a_server_that_cannot_be_reached_is_told_with_a_remedy_that_fits(heard, remedy):
    connection = Connection(NatsAddress(servers=("nats://127.0.0.1:4222",), replicas=1), None, inbox="_INBOX.x")
    connection._note(OSError(heard))
    error = str(connection._unreachable(refused=False))
    assert heard in error
    assert remedy in error
