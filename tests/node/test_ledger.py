"""Facts about the ledger."""

import hashlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from waiting import LIMIT_S

from swarmcell.errors import SwarmError, TamperedError
from swarmcell.node import ledger
from swarmcell.node.ledger import Cursor, Read


def digest(raw):
    return hashlib.sha256(raw).digest()


@pytest.fixture
def book(tmp_path):
    with ledger.opened(tmp_path / "ledger.sqlite") as opened:
        yield opened


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"no ledger" * 1000)
    with pytest.raises(SwarmError, match="cannot be read"), ledger.opened(path):
        pass


@pytest.mark.parametrize(("number", "said"), [(0, "without a format number.*go on with the version"), (9, "Update")])
def test_a_ledger_of_another_format_says_so(tmp_path, number, said):
    path = tmp_path / "ledger.sqlite"
    with ledger.opened(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {number}")
    connection.close()
    with pytest.raises(SwarmError, match=said), ledger.opened(path):
        pass


def test_a_ledger_serves_one_identity_in_one_swarm(book):
    book.bind(b"s" * 32, b"a" * 32)
    book.bind(b"s" * 32, b"a" * 32)
    with pytest.raises(SwarmError, match="another swarm"):
        book.bind(b"t" * 32, b"a" * 32)
    with pytest.raises(SwarmError, match="another identity"):
        book.bind(b"s" * 32, b"b" * 32)


def test_a_ledger_is_closed_only_after_what_another_thread_does_to_it(tmp_path):
    """A peer that is stopped leaves threads behind; SQLite closed under one of them ended the whole process."""
    began, go_on = threading.Event(), threading.Event()

    def batch():
        began.set()
        assert go_on.wait(LIMIT_S)
        yield Read(1, b"raw", 1)

    with ThreadPoolExecutor() as threads:
        with ledger.opened(tmp_path / "ledger.sqlite") as book:
            storing = threads.submit(book.store, batch(), Cursor(1, digest(b"raw")))
            assert began.wait(LIMIT_S)
            threads.submit(lambda: (threading.Event().wait(0.3), go_on.set()))
        storing.result()
    with ledger.opened(tmp_path / "ledger.sqlite") as book:
        assert list(book.entries()) == [(1, b"raw")]


def test_a_state_whose_bytes_changed_is_refused(book):
    name = book.store_state(b"state")
    book._connection.execute("UPDATE states SET content = ?", (b"stale",))
    with pytest.raises(TamperedError):
        book.state(name)
    with pytest.raises(TamperedError):
        book.state(digest(b"never stored"))


def test_own_entries_are_stored_all_or_none(book):
    book.store_own([(1, b"one")])
    with pytest.raises(SwarmError):
        book.store_own([(2, b"two"), (1, b"other one")])
    assert list(book.own()) == [b"one"]


def test_own_entries_come_back_before_and_after_the_log_showed_them(book):
    book.store_own([(1, b"one"), (2, b"two"), (3, b"three")])
    book.store([Read(5, b"two", 1)], Cursor(5, digest(b"two")))
    assert list(book.own()) == [b"one", b"two", b"three"]
    assert list(book.own(2, 2)) == [b"two"]
    kept = book._connection.execute("SELECT raw FROM own ORDER BY sequence").fetchall()
    assert kept == [(b"one",), (None,), (b"three",)]


def test_entries_and_cursor_come_back_after_reopening(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with ledger.opened(path) as book:
        assert book.cursor() == Cursor(0, b"")
        assert book.last_position() == 0
        book.store([Read(i, str(i).encode(), i) for i in range(1, 201)], Cursor(200, digest(b"200")))
    with ledger.opened(path) as book:
        assert list(book.entries()) == [(i, str(i).encode()) for i in range(1, 201)]
        assert book.cursor() == Cursor(200, digest(b"200"))
        assert book.last_position() == 200
        assert book.entry(7) == b"7"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_after_a_rewind_what_the_log_does_not_show_again_is_lost(book):
    book.store([Read(i, str(i).encode(), i) for i in range(1, 6)], Cursor(5, digest(b"5")))
    book.rewind(Cursor(2, b""))
    book.store([Read(3, b"4", None)], Cursor(3, digest(b"4")))
    assert book.lost(10, 2**20) == book.lost(2, 2) == [b"3", b"5"]
    assert book.lost(1, 2**20) == book.lost(10, 1) == book.lost(10, 0) == [b"3"], "one is given back, however large"
    digests = [hashlib.sha256(raw).digest() for raw in (b"3", b"9", b"5")]
    assert book.known(digests) == {digests[0], digests[2]}
    assert book.cursor() == Cursor(3, digest(b"4"))


def test_only_the_newest_states_are_kept(book):
    names = [book.store_state(str(i).encode()) for i in range(ledger.STATES_KEPT)]
    book.store_state(b"0")  # again the newest
    for i in range(100, 103):
        book.store_state(str(i).encode())
    assert names[0] in book.states()
    assert names[1] not in book.states()
    assert len(book.states()) == ledger.STATES_KEPT


def test_what_store_own_returned_for_survives_sigkill(tmp_path):
    code = (
        "import pathlib, sys\nfrom swarmcell.node import ledger\n"
        "with ledger.opened(pathlib.Path(sys.argv[1])) as book:\n"
        "    for i in range(1, 10**6):\n"
        "        book.store_own([(i, b'x' * 1000)])\n"
        "        print(i, flush=True)\n"
    )
    path = tmp_path / "ledger.sqlite"
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
    for _ in range(20):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    last = int((process.stdout.read().split() or ["20"])[-1])
    process.wait()
    process.stdout.close()
    with ledger.opened(path) as book:
        assert len(list(book.own())) in {last, last + 1}
