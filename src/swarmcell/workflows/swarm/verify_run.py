"""`swarm verify`: where the entries, the identity and the study's merge come from."""

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from swarmcell.config import swarm_file as swarm_files
from swarmcell.engine.log import Log
from swarmcell.errors import SwarmError
from swarmcell.model import released
from swarmcell.model.study import Study
from swarmcell.node import ledger as ledgers
from swarmcell.node import memory
from swarmcell.node.ledger import Ledger
from swarmcell.node.task import Task
from swarmcell.swarm.entries import NO_DIGEST
from swarmcell.swarm.genesis import Genesis
from swarmcell.swarm.me import Me
from swarmcell.workflows import strata_task
from swarmcell.workflows.join import LEDGER, Seat, take_seat
from swarmcell.workflows.swarm.give_back import lacked
from swarmcell.workflows.swarm.verify import Verified, verify_history
from swarmcell.workflows.swarm.verify_merges import merging
from swarmcell.workflows.swarm.verify_start import Known
from swarmcell.workflows.swarm.view import open_swarm_log
from swarmcell.workflows.task import Place, prepare_task

RUNS = Path("runs")  # where `train` and `stratify` put them


def verify_swarm(
    swarm_file: Path,
    *,
    ledger: Path | None = None,
    cells: Sequence[Path] = (),
    site_file: Path | None = None,
    identity: str | None = None,
    start: Path | None = None,
) -> Verified:
    """Check a swarm's history, from the engine or from one peer's ledger.

    Parameters
    ----------
    cells
        Prepared files of the study; with them every merge is computed again.
    start
        The model that the study started from, if it did.

    Raises
    ------
    ConfigError, TamperedError, SwarmError, CellsError
        If a file cannot be read, or is not what was agreed on.
    """
    genesis, log = open_swarm_log(swarm_file, site_file=site_file, identity=identity)
    known = Known(pins=swarm_files.load(swarm_file).pins)
    lacking: dict[str, int] = {}
    if ledger is not None:
        with ledgers.opened_to_look(ledger, genesis.digest) as book:
            entries = [raw for _, raw in book.entries()]
            known = kept_of_trimmed(book, genesis, known)
    else:
        entries, is_trimmed = asyncio.run(_read_all(log))
        lacking = _lacked_of_runs(genesis, entries, is_trimmed=is_trimmed)
    if not cells:
        return replace(verify_history(genesis, entries, known=known), lacking=lacking)
    seat: Seat = take_seat(swarm_file, identity=identity, site_file=site_file)
    place = Place(f=seat.swarm.swarm.f)
    task = _task(cells, seat.swarm.study, place, start)
    with merging(seat.identity, genesis, task) as merger:
        return replace(verify_history(genesis, entries, merger, known), lacking=lacking)


def kept_of_trimmed(book: Ledger, genesis: Genesis, known: Known) -> Known:
    """Return also what a trimmed ledger keeps of what it forgot."""
    if not book.is_trimmed():
        return known
    founding = memory.recall(book, genesis, Me(NO_DIGEST)).state.founding
    return replace(known, bodies=book.bodies(), founding=founding)


def _task(cells: Sequence[Path], study: Study, place: Place, start: Path | None) -> Task:
    if study.strata is not None:
        return strata_task.merging_task(cells, study, place=place)
    return prepare_task(cells, study, place=place, start=released.load(start) if start else None)


def _lacked_of_runs(genesis: Genesis, entries: Sequence[bytes], *, is_trimmed: bool) -> dict[str, int]:
    """Return how many entries of the ledgers of this folder's runs are not among these, by path, if any is not."""
    found: dict[str, int] = {}
    shown = {hashlib.sha256(raw).digest() for raw in entries}
    for path in sorted(RUNS.glob(f"*/{LEDGER}")):
        with contextlib.suppress(SwarmError), ledgers.opened_to_look(path, genesis.digest) as book:
            found[str(path)] = len(lacked(book, shown, is_trimmed=is_trimmed)[1])
    return {path: n for path, n in found.items() if n}


async def _read_all(log: Log) -> tuple[list[bytes], bool]:
    """Return all entries of a log, and whether its beginning is trimmed."""
    entries: list[bytes] = []
    start = 1
    try:
        is_trimmed = (await log.health()).first > 1
        while batch := await log.read(start):
            entries += [raw for _, raw in batch]
            start = batch[-1][0] + 1
    finally:
        await log.close()
    return entries, is_trimmed
