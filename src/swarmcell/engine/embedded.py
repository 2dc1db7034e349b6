"""The engine of one machine: one SQLite file (WAL, full sync) that many processes append to and follow.

Rules: what `append` returned for is on the disk. Followers are woken by a bell (`engine/bell.py`) and look by
themselves once a second. Announcements are small files beside the log, stamped by the machine's monotonic clock, so
that a wrong wall clock makes nobody look dead. Both are made for this user only; who shares a log among several users
of one machine opens them to their group. A file that is not there is a log without entries: who only looks makes none.
If the log's file is deleted or replaced under a running peer, reading raises `EngineError` and the peer opens it anew.
"""

import asyncio
import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from swarmcell.engine.bell import Bell, ring
from swarmcell.engine.log import ENTRY_BYTES_MAX, READ_ENTRIES_MAX, Announcement, Health
from swarmcell.errors import EngineError

READ_BYTES_MAX = 16 * 1024 * 1024
_LOOK_EVERY_S = 1.0
_BUSY_MS = 30_000
_SCHEMA = "CREATE TABLE IF NOT EXISTS entries (position INTEGER PRIMARY KEY AUTOINCREMENT, raw BLOB NOT NULL)"
_STAMP_BYTES = 8
T = TypeVar("T")


class EmbeddedLog:
    """A log in one SQLite file; open as many as there are peers, in any process of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._live = self._path.with_name(self._path.name + ".live")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded-log")
        self._connection: sqlite3.Connection | None = None
        self._files: tuple[int, ...] = ()
        self._losses = 0

    async def append(self, entries: Sequence[bytes]) -> list[int]:
        """Append entries in one transaction; see `Log.append`."""
        if any(len(raw) > ENTRY_BYTES_MAX for raw in entries):
            msg = f"an entry of {max(map(len, entries))} bytes is over the limit of {ENTRY_BYTES_MAX}"
            raise EngineError(msg)
        positions = await self._run(lambda: self._insert(entries))
        ring(self._live)
        return positions

    async def read(self, start: int, limit: int = READ_ENTRIES_MAX) -> list[tuple[int, bytes]]:
        """Return entries from a position on; see `Log.read`."""
        return await self._run(lambda: self._select(start, limit))

    async def follow(self, start: int) -> AsyncIterator[list[tuple[int, bytes]]]:
        """Yield batches for ever; see `Log.follow`."""
        bell = await self._listen()
        losses = self._losses
        try:
            while True:
                bell.forget()
                batch = await self.read(start)
                if losses != self._losses:
                    msg = f"{self._path} was deleted or replaced; another call noticed"
                    raise EngineError(msg)
                if batch:
                    start = batch[-1][0] + 1
                    yield batch
                else:
                    await bell.wait(_LOOK_EVERY_S)
        finally:
            bell.close()

    async def trim(self, below: int) -> None:
        """Forget entries below a position; see `Log.trim`."""
        await self._run(lambda: self._delete(below))

    async def announce(self, author: bytes, content: bytes) -> None:
        """Leave a sign of life beside the log; see `Log.announce`."""
        await self._run(lambda: self._write_announcement(author, content))

    async def announcements(self) -> Mapping[bytes, Announcement]:
        """Read the signs of life; see `Log.announcements`."""
        return await self._run(self._read_announcements)

    async def health(self) -> Health:
        """Say what is kept; see `Log.health`."""
        return await self._run(self._health)

    async def close(self) -> None:
        """Close the file; see `Log.close`."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await asyncio.get_running_loop().run_in_executor(self._thread, connection.close)
        self._thread.shutdown(wait=False)

    async def _listen(self) -> Bell:
        try:
            return Bell(self._live)
        except OSError as error:
            raise self._trouble(error) from error

    async def _run(self, work: Callable[[], T]) -> T:
        """Run SQLite's blocking work in this log's own thread, and tell its troubles as `EngineError`."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as error:
            raise self._trouble(error) from error

    def _trouble(self, error: Exception) -> EngineError:
        remedy = "Check the disk's space, the folder's permissions, and that the file is swarmcell's log."
        return EngineError(f"{self._path}: the log cannot be read or written ({error}). {remedy}")

    # -- in the log's own thread from here on ------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._is_replaced():
            self._connection.close()
            self._connection = None
            self._losses += 1
            msg = f"{self._path} was deleted or replaced while it was open"
            raise EngineError(msg)
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._connect()
            self._files = self._inodes()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600)  # SQLite gives its -wal and -shm files the mode of this one
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False, cached_statements=16
        )
        try:
            _switch_to_wal(connection)
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(_SCHEMA)
            connection.execute("SELECT MAX(position) FROM entries").fetchone()  # makes the -wal file
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _is_replaced(self) -> bool:
        try:
            return self._inodes() != self._files
        except FileNotFoundError:
            return True

    def _inodes(self) -> tuple[int, ...]:
        """Name the files that are open: while one connection lives, nobody else removes them."""
        return tuple(Path(f"{self._path}{suffix}").stat().st_ino for suffix in ("", "-wal"))

    def _insert(self, entries: Sequence[bytes]) -> list[int]:
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        try:
            cursor = connection.cursor()
            positions = []
            for raw in entries:
                cursor.execute("INSERT INTO entries (raw) VALUES (?)", (raw,))
                positions.append(cursor.lastrowid or 0)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return positions

    def _is_begun(self) -> bool:
        """Say whether anybody has written yet; where nobody could, that is trouble."""
        if self._connection is not None or self._path.exists():
            return True
        folder = next(parent for parent in self._path.parents if parent.exists())
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return False

    def _select(self, start: int, limit: int) -> list[tuple[int, bytes]]:
        if not self._is_begun():
            return []
        query = "SELECT position, raw FROM entries WHERE position >= ? ORDER BY position LIMIT ?"
        found: list[tuple[int, bytes]] = []
        size = 0
        for position, raw in self._open().execute(query, (start, limit)):
            found.append((position, raw))
            size += len(raw)
            if size >= READ_BYTES_MAX:
                break
        return found

    def _delete(self, below: int) -> None:
        self._open().execute("DELETE FROM entries WHERE position < ?", (below,))

    def _write_announcement(self, author: bytes, content: bytes) -> None:
        self._live.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = self._live / f".{author.hex()}.{os.getpid()}"
        beside.write_bytes(time.monotonic_ns().to_bytes(_STAMP_BYTES, "big") + content)
        beside.replace(self._live / f"{author.hex()}.alive")

    def _read_announcements(self) -> dict[bytes, Announcement]:
        now_ns = time.monotonic_ns()
        found = {}
        for path in self._live.glob("*.alive"):
            stamped = path.read_bytes()
            age_s = (now_ns - int.from_bytes(stamped[:_STAMP_BYTES], "big")) / 1e9
            if age_s >= 0:  # else it was left before the machine last started
                found[bytes.fromhex(path.stem)] = Announcement(stamped[_STAMP_BYTES:], age_s)
        return found

    def _health(self) -> Health:
        if not self._is_begun():
            return Health("embedded", 1, 0, 0, str(self._path))
        connection = self._open()
        first, last = connection.execute("SELECT MIN(position), MAX(position) FROM entries").fetchone()
        ended = connection.execute("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence").fetchone()[0]
        size = sum(path.stat().st_size for path in (self._path, Path(f"{self._path}-wal")) if path.exists())
        return Health("embedded", first or ended + 1, last or ended, size, str(self._path))


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to write-ahead logging; SQLite does not wait by itself while another process does the same."""
    deadline_s = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline_s:
                raise
            time.sleep(0.01)
        else:
            return
