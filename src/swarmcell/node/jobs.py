"""The long work under way: each job once, in threads, with its fault told instead of raised."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from swarmcell.errors import SwarmcellError
from swarmcell.swarm.encoding import EncodingError

THREADS = 3  # a training that goes on, a merge, a checkpoint
T = TypeVar("T")


class Jobs:
    """Jobs of one peer, by name."""

    def __init__(self, when_done: Callable[[], None]) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "peer-work")
        self._running: dict[object, asyncio.Task[None]] = {}
        self._when_done = when_done
        self.training = 0  # the round trained for
        self.stop = threading.Event()

    @property
    def is_idle(self) -> bool:
        """No job is under way."""
        return not self._running

    def runs(self, name: object) -> bool:
        """Say whether this job is under way."""
        return name in self._running

    def train_for(self, number: int) -> threading.Event:
        """Return the event that stops the training for this round; that for another round stops now."""
        if number != self.training:
            self.stop.set()
            self.stop, self.training = threading.Event(), number
        return self.stop

    def begin(self, name: object, job: Coroutine[Any, Any, None], on_fault: Callable[[str], None]) -> None:
        """Start a job unless it runs; a site's own fault is told, never raised."""
        if name in self._running:
            job.close()
            return
        self._running[name] = asyncio.create_task(self._guard(name, job, on_fault))

    async def _guard(self, name: object, job: Coroutine[Any, Any, None], on_fault: Callable[[str], None]) -> None:
        try:
            await job
        except (SwarmcellError, EncodingError, OSError, MemoryError) as error:
            on_fault(str(error) or type(error).__name__)
        finally:
            del self._running[name]
            self._when_done()

    async def in_thread(self, call: Callable[..., T], *values: object) -> T:
        """Run a blocking call in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *values)

    async def close(self) -> None:
        """Stop training and wait until no thread runs."""
        self.stop.set()
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)
