"""Waiting for what must come: by a condition, with a limit that only a hang reaches, for a busy machine is no fault."""

import asyncio
import time

LIMIT_S = 300.0  # what tests wait for takes seconds on a quiet machine


def wait_until(fits, what, *, check=lambda: None):
    """Return what `fits` gives once that is true; `check` may end the wait, `what` is text or a call that gives it."""
    until = time.monotonic() + LIMIT_S
    while not (found := fits()):
        check()
        assert time.monotonic() < until, f"{what() if callable(what) else what} never came"
        time.sleep(0.03)
    return found


async def until(fits):
    """Return what the call `fits` gives once that is true, while the event loop goes on; it may be a coroutine."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            found = fits()
            found = await found if asyncio.iscoroutine(found) else found
            if found:
                return found
            await asyncio.sleep(0.01)
