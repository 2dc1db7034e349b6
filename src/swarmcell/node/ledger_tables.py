"""The tables of a ledger, and what is asked of several of them at once (`node/ledger.py`)."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS entries (
    position INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, engine_position INTEGER, raw BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS by_engine_position ON entries (engine_position);
CREATE TABLE IF NOT EXISTS own (sequence INTEGER PRIMARY KEY, digest BLOB NOT NULL, raw BLOB);
CREATE TABLE IF NOT EXISTS blocks (height INTEGER PRIMARY KEY, state BLOB NOT NULL, content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS times (height INTEGER PRIMARY KEY, unix_s INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS snapshots (
    number INTEGER PRIMARY KEY CHECK (number = 1), position INTEGER NOT NULL, sequence INTEGER NOT NULL,
    content BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS states (number INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, content BLOB NOT NULL);
"""
OWN = (
    "SELECT own.sequence, COALESCE(own.raw, entries.raw) FROM own LEFT JOIN entries ON entries.digest = own.digest "
    "WHERE own.sequence >= ? AND own.sequence <= ? ORDER BY own.sequence"
)
TRIMMED_OWN = (
    "SELECT own.sequence, own.digest FROM own LEFT JOIN entries ON entries.digest = own.digest "
    "WHERE own.sequence <= ? AND own.raw IS NULL AND entries.raw IS NULL ORDER BY own.sequence"
)
DROP_STATES = (
    "DELETE FROM states WHERE number <= (SELECT MAX(number) FROM states) - ? "
    "AND digest NOT IN (SELECT state FROM blocks, (SELECT MAX(height) AS last FROM blocks) "
    "WHERE height > last - 3 OR height = last - last % ?)"  # the open base, a due checkpoint
)
LOST = "SELECT {} FROM entries WHERE engine_position IS NULL AND position <= ? ORDER BY position LIMIT ?"
MARK_TRIMMED = "INSERT OR REPLACE INTO meta VALUES ('trimmed', x'01')"
