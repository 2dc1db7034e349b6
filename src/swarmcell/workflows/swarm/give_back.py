"""Giving an engine back what its log has lost, from one site's ledger, without a running peer. Signs nothing.

Rules: entries are appended as they were signed, in the ledger's order; whoever reads an entry twice counts it once.
What lies before the first entry that a trimmed log and the ledger share stays trimmed.
"""

import asyncio
import hashlib
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from swarmcell.engine.log import GIVE_BACK_BYTES_MAX, READ_ENTRIES_MAX, Log, in_batches
from swarmcell.node import ledger as ledgers
from swarmcell.node.ledger import Ledger
from swarmcell.workflows.swarm.view import open_swarm_log


@dataclass(frozen=True, kw_only=True)
class GivenBack:
    """What an engine's log lacked of a ledger.

    Attributes
    ----------
    held
        Entries of the ledger that the log should hold.
    lacking
        How many of them it did not.
    given
        How many were appended: all that were lacking, or none where one only looked.
    """

    held: int
    lacking: int
    given: int


def give_back(
    swarm_file: Path,
    ledger: Path,
    *,
    only_look: bool = False,
    site_file: Path | None = None,
    identity: str | None = None,
) -> GivenBack:
    """Append to the engine's log what it lacks of a ledger.

    Raises
    ------
    ConfigError, InputError, TamperedError
        If a file cannot be read, or is not what was agreed on.
    SwarmError
        If the ledger is of another swarm.
    EngineError
        If the engine cannot be reached or written.
    """
    genesis, log = open_swarm_log(swarm_file, site_file=site_file, identity=identity)
    with ledgers.opened_to_look(ledger, genesis.digest) as book:
        return asyncio.run(_give_back(log, book, only_look=only_look))


async def _give_back(log: Log, book: Ledger, *, only_look: bool) -> GivenBack:
    try:
        first = (await log.health()).first
        held, lacking = lacked(book, await _shown(log, first), is_trimmed=first > 1)
        if not only_look:
            entries = map(book.entry, lacking)
            for batch in in_batches(entries, entries_max=READ_ENTRIES_MAX, bytes_max=GIVE_BACK_BYTES_MAX):
                await log.append(batch)
        return GivenBack(held=held, lacking=len(lacking), given=0 if only_look else len(lacking))
    finally:
        await log.close()


def lacked(book: Ledger, shown: Container[bytes], *, is_trimmed: bool) -> tuple[int, list[int]]:
    """Compare a ledger with a log.

    Parameters
    ----------
    shown
        SHA-256 of the log's entries.
    is_trimmed
        The log's beginning is trimmed.

    Returns
    -------
    How many of the ledger's entries the log should hold, and the ledger's positions of those that it lacks.
    """
    found = [(position, hashlib.sha256(raw).digest() in shown) for position, raw in book.entries()]
    first = next((position for position, is_there in found if is_there), 0) if is_trimmed else 0
    lacking = [position for position, is_there in found if position >= first and not is_there]
    return sum(position >= first for position, _ in found), lacking


async def _shown(log: Log, start: int) -> set[bytes]:
    """Return the digests of a log's entries."""
    shown: set[bytes] = set()
    while rows := await log.read(start):
        shown.update(hashlib.sha256(raw).digest() for _, raw in rows)
        start = rows[-1][0] + 1
    return shown
