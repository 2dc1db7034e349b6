"""Each engine that the conformance suite runs over, as a function that opens one more client of the same log."""

import contextlib

import pytest

from swarmcell.engine.embedded import EmbeddedLog


@pytest.fixture(params=["embedded"])
def open_log(request, tmp_path):
    """Return an async context manager that opens a client; all clients of a test share one log."""
    make = {"embedded": lambda: EmbeddedLog(tmp_path / "swarm.log")}[request.param]

    @contextlib.asynccontextmanager
    async def opened():
        log = make()
        try:
            yield log
        finally:
            await log.close()

    return opened
