"""What a thread makes comes in order, its errors too, and who stops early leaves no thread behind."""

import threading

import pytest

from swarmcell.cells import background


def _readers():
    return [thread for thread in threading.enumerate() if thread.name == "reader"]


def test_items_come_in_order_from_another_thread():
    makers = set()

    def items():
        for n in range(20):
            makers.add(threading.current_thread().name)
            yield n

    assert list(background.ahead(items())) == list(range(20))
    assert makers == {"reader"}
    assert not _readers()


def test_an_error_comes_where_its_item_would_have():
    def items():
        yield 1
        msg = "broken"
        raise ValueError(msg)

    made = background.ahead(items())
    assert next(made) == 1
    with pytest.raises(ValueError, match="broken"):
        next(made)
    assert not _readers()


def test_who_stops_early_ends_the_thread_and_closes_the_file():
    closed = []

    def items():
        try:
            yield from range(1000)
        finally:
            closed.append(threading.current_thread().name)

    made = background.ahead(items())
    assert next(made) == 0
    made.close()
    assert closed == ["reader"]
    assert not _readers()
