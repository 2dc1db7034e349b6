"""Running an iterator in a thread of its own, a bounded number of items ahead: so files are read off the main thread.

Rules: items keep their order; an error in the thread is raised where the item would have come; who stops early stops
the thread.
"""

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any

AHEAD_MAX = 1  # items that wait besides the one that is made and the one that is used; chosen


_END = object()


def ahead(items: Iterator[Any]) -> Generator[Any, None, None]:
    """Yield what `items` yields, while a thread makes the next."""
    made: queue.Queue[tuple[object, BaseException | None]] = queue.Queue(AHEAD_MAX)
    stopped = threading.Event()
    maker = threading.Thread(target=_make, args=(items, made, stopped), name="reader", daemon=True)
    maker.start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
            del item
    finally:
        stopped.set()
        while maker.is_alive():
            _discard(made)
            maker.join(timeout=0.05)


def _make(
    items: Iterator[Any], made: "queue.Queue[tuple[object, BaseException | None]]", stopped: threading.Event
) -> None:
    try:
        for item in items:
            made.put((item, None))
            if stopped.is_set():
                return
        made.put((_END, None))
    except BaseException as error:  # noqa: BLE001 (raised again where the item is awaited)
        made.put((None, error))
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


def _discard(made: "queue.Queue[tuple[object, BaseException | None]]") -> None:
    try:
        made.get_nowait()
    except queue.Empty:
        return
