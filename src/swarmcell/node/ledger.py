"""A peer's own verified copy of the log, and what it has signed: one SQLite file that survives a crash at any step.

Rules: full sync, so what a method returned for is on the disk. What this peer signs is stored here before the engine
sees it. An entry is stored once, under an index of its own that never changes (`State.apply`'s position); where it
stands in the engine's log is kept beside it and may be forgotten when the engine turns out to have lost it. Bytes of an
own entry are kept once: here until it is read back from the log, then there. No secret key is stored.
"""

import contextlib
import hashlib
import itertools
import sqlite3
import threading
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from swarmcell import formats
from swarmcell.errors import InputError, SwarmError, TamperedError
from swarmcell.node.ledger_tables import DROP_STATES, LOST, MARK_TRIMMED, OWN, SCHEMA, TRIMMED_OWN
from swarmcell.swarm.duties import CHECKPOINT_BLOCKS

STATES_KEPT = 8  # merged states beside those of late blocks: candidates of the open height; chosen
Kept: TypeAlias = tuple[int, bytes, bytes]  # a final block: height, digest of its merged state, bytes of its body


@dataclass(frozen=True)
class Cursor:
    """The last entry read from the engine: its position there and the SHA-256 of its bytes."""

    position: int
    digest: bytes


@dataclass(frozen=True)
class Snapshot:
    """What a peer had verified: it holds all entries up to `position`, and own ones up to `sequence`."""

    position: int
    sequence: int
    content: bytes


@dataclass(frozen=True)
class Read:
    """An entry just read from the engine: `position` is the ledger's, `None` where the ledger does not store it."""

    engine_position: int
    raw: bytes
    position: int | None


class Ledger:
    """Open with `opened`; methods may be called from any thread, one at a time."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file, once what another thread does to it is done: SQLite crashes if it is closed meanwhile.

        A peer that is stopped leaves such threads behind, for nothing cancels a thread.
        """
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    with contextlib.suppress(sqlite3.Error):
                        self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise trouble(self._path, error) from error

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise trouble(self._path, error) from error

    def bind(self, swarm: bytes, author: bytes) -> None:
        """Make this the ledger of one identity in one swarm, for good.

        Raises
        ------
        SwarmError
            If it is another's.
        """
        with self._transaction() as connection:
            for name, value in (("swarm", swarm), ("author", author)):
                connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
                kept = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]
                if kept != value:
                    what = "swarm" if name == "swarm" else "identity"
                    found = f"({kept.hex()[:8]}…, not {value.hex()[:8]}…)"
                    msg = f"{self._path}: belongs to another {what} {found}. Train under another --name."
                    raise SwarmError(msg)

    def owner(self) -> tuple[bytes, bytes]:
        """Return the swarm's digest and the signing key that this ledger belongs to; empty if it was never bound."""
        kept = {name: bytes(value) for name, value in self._rows("SELECT name, value FROM meta")}
        return kept.get("swarm", b""), kept.get("author", b"")

    def note(self, name: str, value: bytes) -> None:
        """Keep a value under a name of the caller's, instead of the one before."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"note: {name}", value))

    def noted(self, name: str) -> bytes:
        """Return what was kept under a name; empty for nothing."""
        rows = self._rows("SELECT value FROM meta WHERE name = ?", (f"note: {name}",))
        return bytes(rows[0][0]) if rows else b""

    # -- the verified log --------------------------------------------------------------------------------------------

    def entries(self, after: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield the stored entries beyond a position, in the order of their positions."""
        position = after
        while rows := self._rows(
            "SELECT position, raw FROM entries WHERE position > ? ORDER BY position LIMIT 64", (position,)
        ):
            yield from ((int(position), bytes(raw)) for position, raw in rows)
            position = rows[-1][0]

    def entry(self, position: int) -> bytes:
        """Return the bytes at a position.

        Raises
        ------
        TamperedError
            If the ledger lost them.
        """
        rows = self._rows("SELECT raw FROM entries WHERE position = ?", (position,))
        if not rows:
            msg = f"{self._path}: entry {position} is gone. Restore the file from this site's disk, or join anew."
            raise TamperedError(msg)
        return bytes(rows[0][0])

    def last_position(self) -> int:
        """Return the highest position in use, 0 for an empty ledger."""
        return int(self._rows("SELECT COALESCE(MAX(position), 0) FROM entries")[0][0])

    def store(self, batch: Sequence[Read], cursor: Cursor, blocks: Sequence[Kept] = ()) -> None:
        """Store what was read from the engine, how far, and the blocks that it made final, all or nothing.

        Entries that are known already learn where they stand now.
        """
        with self._transaction() as connection:
            for read in batch:
                digest = hashlib.sha256(read.raw).digest()
                if read.position is None:
                    connection.execute(
                        "UPDATE entries SET engine_position = ? WHERE digest = ? AND engine_position IS NULL",
                        (read.engine_position, digest),
                    )
                    continue
                connection.execute(
                    "INSERT INTO entries VALUES (?, ?, ?, ?)", (read.position, digest, read.engine_position, read.raw)
                )
                connection.execute("UPDATE own SET raw = NULL WHERE digest = ?", (digest,))
            self._keep(connection, blocks)
            self._set_cursor(connection, cursor)

    def cursor(self) -> Cursor:
        """Return how far the engine was read; position 0 for not at all."""
        rows = self._rows("SELECT value FROM meta WHERE name = 'cursor'")
        if not rows:
            return Cursor(0, b"")
        value = bytes(rows[0][0])
        return Cursor(int.from_bytes(value[:8], "big"), value[8:])

    def rewind(self, cursor: Cursor) -> None:
        """Go back: forget where entries beyond this cursor stand in the engine's log."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE entries SET engine_position = NULL WHERE engine_position > ?", (cursor.position,)
            )
            self._set_cursor(connection, cursor)

    def lost(self, limit: int, bytes_max: int) -> list[bytes]:
        """Return entries that the engine's log is not known to hold, oldest first: one, or as many as fit."""
        sizes = self._rows(LOST.format("position, LENGTH(raw)"), (2**62, limit))
        totals = itertools.accumulate(int(size) for _, size in sizes)
        fitting = [at for (at, _), total in zip(sizes, totals, strict=True) if total <= bytes_max]
        last = (fitting or [at for at, _ in sizes[:1]] or [0])[-1]
        return [bytes(row[0]) for row in self._rows(LOST.format("raw"), (last, limit))]

    def known(self, digests: Sequence[bytes]) -> frozenset[bytes]:
        """Return those of these digests (at most some thousand) whose entries are stored."""
        query = f"SELECT digest FROM entries WHERE digest IN ({', '.join('?' * len(digests))})"  # noqa: S608 (marks)
        return frozenset(bytes(row[0]) for row in self._rows(query, digests))

    @staticmethod
    def _keep(connection: sqlite3.Connection, blocks: Sequence[Kept]) -> None:
        """Keep final blocks, and when this site first knew each: no clock stands in the log."""
        connection.executemany("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?)", blocks)
        now_s = int(time.time())
        connection.executemany("INSERT OR IGNORE INTO times VALUES (?, ?)", [(height, now_s) for height, *_ in blocks])

    @staticmethod
    def _set_cursor(connection: sqlite3.Connection, cursor: Cursor) -> None:
        value = cursor.position.to_bytes(8, "big") + cursor.digest
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('cursor', ?)", (value,))

    # -- what was verified, and what may be forgotten --------------------------------------------------------------

    def store_snapshot(self, snapshot: Snapshot, cursor: Cursor | None = None, blocks: Sequence[Kept] = ()) -> None:
        """Keep a snapshot instead of the one before; with `cursor`, it jumps: reading goes on from there."""
        with self._transaction() as connection:
            row = (snapshot.position, snapshot.sequence, snapshot.content)
            connection.execute("INSERT OR REPLACE INTO snapshots VALUES (1, ?, ?, ?)", row)
            self._keep(connection, blocks)
            if cursor is not None:
                connection.execute(MARK_TRIMMED)
                self._set_cursor(connection, cursor)

    def snapshot(self) -> Snapshot | None:
        """Return the last snapshot, if there is one."""
        rows = self._rows("SELECT position, sequence, content FROM snapshots")
        return Snapshot(int(rows[0][0]), int(rows[0][1]), bytes(rows[0][2])) if rows else None

    def bodies(self) -> list[bytes]:
        """Return the bytes of the final bodies that this peer has followed, by height."""
        return [bytes(row[0]) for row in self._rows("SELECT content FROM blocks ORDER BY height")]

    def known_since(self) -> dict[int, int]:
        """Return when this site first knew each block as final, by height: seconds since 1970 by its own clock."""
        return {int(height): int(unix_s) for height, unix_s in self._rows("SELECT height, unix_s FROM times")}

    def engine_position(self, position: int) -> int:
        """Return where the engine's log must be kept from, so that no entry from `position` on is lost; 0: everywhere.

        That is 0 also as long as the engine's log is not known to hold them all.
        """
        query = "SELECT MIN(engine_position), SUM(engine_position IS NULL) FROM entries WHERE position >= ?"
        first, n_lost = self._rows(query, (position,))[0]
        return 0 if n_lost else int(first or 0)

    def trim(self, below: int) -> None:
        """Forget the entries below a position that a snapshot covers; what was signed stays known by its digest."""
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM entries WHERE position < MIN(?, (SELECT COALESCE(MAX(position), 0) + 1 FROM snapshots))",
                (below,),
            )
            connection.execute(MARK_TRIMMED)

    def is_trimmed(self) -> bool:
        """Say whether the entries alone do not hold all that this peer builds on: the snapshot is needed."""
        return bool(self._rows("SELECT 1 FROM meta WHERE name = 'trimmed'"))

    def size_bytes(self) -> int:
        """Return how many bytes the stored entries take."""
        pages, free, size = (
            self._rows(f"PRAGMA {name}")[0][0] for name in ("page_count", "freelist_count", "page_size")
        )
        return (int(pages) - int(free)) * int(size)

    # -- what this peer signed ---------------------------------------------------------------------------------------

    def store_own(self, signed: Sequence[tuple[int, bytes]]) -> None:
        """Store own entries (sequence, bytes), all or none, before the engine sees any."""
        with self._transaction() as connection:
            for sequence, raw in signed:
                connection.execute("INSERT INTO own VALUES (?, ?, ?)", (sequence, hashlib.sha256(raw).digest(), raw))

    def own(self, first: int = 1, last: int = 2**62, *, without: Container[int] = ()) -> Iterator[bytes]:
        """Yield own entries with sequences `first` to `last`, in order, but for those of `without` (`trimmed_own`).

        Raises
        ------
        TamperedError
            If one of them is gone.
        """
        sequence = first
        while rows := self._rows(OWN + " LIMIT 64", (sequence, last)):
            for number, raw in rows:
                if number in without:
                    continue
                if raw is None:
                    msg = f"{self._path}: own entry {number} is gone; the file was changed. Make a new identity."
                    raise TamperedError(msg)
                yield bytes(raw)
            sequence = int(rows[-1][0]) + 1

    def trimmed_own(self) -> dict[int, bytes]:
        """Return the digests of the own entries whose bytes were trimmed, by sequence: no more is known of them."""
        kept = self.snapshot() if self.is_trimmed() else None
        rows = self._rows(TRIMMED_OWN, (kept.sequence if kept else 0,))
        return {int(sequence): bytes(digest) for sequence, digest in rows}

    def own_digests(self) -> dict[int, bytes]:
        """Return the digests of all own entries by sequence."""
        return {int(sequence): bytes(digest) for sequence, digest in self._rows("SELECT sequence, digest FROM own")}

    # -- merged states -----------------------------------------------------------------------------------------------

    def store_state(self, content: bytes) -> bytes:
        """Store a merged state and return its SHA-256; old ones that no late block names go."""
        digest = hashlib.sha256(content).digest()
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO states (digest, content) VALUES (?, ?)", (digest, content))
            connection.execute(DROP_STATES, (STATES_KEPT, CHECKPOINT_BLOCKS))
        return digest

    def state(self, digest: bytes) -> bytes:
        """Return a merged state.

        Raises
        ------
        TamperedError
            If it is not here, or changed.
        """
        rows = self._rows("SELECT content FROM states WHERE digest = ?", (digest,))
        content = bytes(rows[0][0]) if rows else b""
        if not rows or hashlib.sha256(content).digest() != digest:
            msg = f"{self._path}: merged state {digest.hex()[:16]}… is gone or changed. Join again with a new --name."
            raise TamperedError(msg)
        return content

    def states(self) -> list[bytes]:
        """Return the digests of the merged states that are here."""
        return [bytes(row[0]) for row in self._rows("SELECT digest FROM states")]


def trouble(path: Path, error: Exception) -> SwarmError:
    """Tell a fault of the disk or the file as an error with a remedy."""
    return SwarmError(
        f"{path}: the ledger cannot be read or written ({error}). Nothing was signed that is not stored: mend the disk "
        "(space, permissions), then go on with the same command."
    )


@contextlib.contextmanager
def opened_to_look(path: Path, swarm: bytes = b"") -> Iterator[Ledger]:
    """Open a run's ledger that is there; with `swarm`, a genesis' digest, only one of that swarm.

    Raises
    ------
    InputError, SwarmError
        If there is no such file; if it cannot be opened, is not a ledger, or is another swarm's.
    """
    if not path.is_file():
        msg = f"{path}: no such ledger. A run that joined a swarm has one: runs/NAME/ledger.sqlite."
        raise InputError(msg)
    with opened(path) as ledger:
        if swarm and (found := ledger.owner()[0]) not in {b"", swarm}:  # a new one is nobody's yet
            msg = f"{path}: a ledger of swarm {found.hex()[:16]}, expected one of {swarm.hex()[:16]}."
            raise SwarmError(msg)
        yield ledger


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Ledger]:
    """Open a ledger, making it (mode 0600) if there is none.

    Raises
    ------
    SwarmError
        If the file cannot be opened, is not a ledger, or one of another format.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise trouble(path, error) from error
    ledger = Ledger(connection, path)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        _check_format(connection, path)
        connection.executescript(SCHEMA)
        yield ledger
    except sqlite3.Error as error:
        raise trouble(path, error) from error
    finally:
        ledger.close()


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    """Give a new ledger its number, and refuse one of another format."""
    if not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        connection.execute(f"PRAGMA user_version = {formats.LEDGER}")
    number = connection.execute("PRAGMA user_version").fetchone()[0]
    remedy = "It remembers what this site signed: go on with the version that made it, or take another --name."
    if said := formats.of_another_format(path, number or None, formats.LEDGER, remedy=remedy):
        raise SwarmError(said)
