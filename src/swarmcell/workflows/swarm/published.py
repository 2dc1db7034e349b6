"""`swarm show --mine`: every entry that a site ever signed in a swarm, from its own ledger.

Rules: the ledger holds what is signed before any engine sees it, so nothing was published that is not listed here. Of
entries that were trimmed (`history_gb_max`) it still holds the digests, and they are listed as such.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from swarmcell.config import swarm_file as swarm_files
from swarmcell.errors import TamperedError
from swarmcell.node import ledger as ledgers
from swarmcell.node.identity import verify
from swarmcell.swarm.body import Body, decode_body
from swarmcell.swarm.entries import Entry, decode_entry
from swarmcell.swarm.payloads import Blob, Evaluation, Propose, Statistics, TrainedOn, Update

TRIMMED = "trimmed"


@dataclass(frozen=True, kw_only=True)
class Published:
    """One entry of this site.

    Attributes
    ----------
    sequence, kind, digest
        Which entry it is; the kind is `TRIMMED` where its bytes are no longer kept, so that only its digest is known.
    size_bytes
        As it went to the engine; 0 where it was trimmed.
    clear
        What stands in it readable by whoever runs the engine, apart from digests, keys and signatures.
    sealed
        Whether it holds bytes that members only can open.
    contents
        What stood sealed in what the entry names (`published_contents`); empty where it was not opened.
    """

    sequence: int
    kind: str
    digest: str
    size_bytes: int
    clear: dict[str, int | str]
    sealed: bool
    contents: Mapping[str, str] = field(default_factory=dict)


def published(swarm_file: Path, ledger: Path) -> tuple[Published, ...]:
    """Return what the owner of a ledger signed, in order.

    Raises
    ------
    ConfigError, TamperedError, SwarmError
        If a file cannot be read, is not what was agreed on, or an entry's signature does not hold.
    """
    return published_in(bytes.fromhex(swarm_files.load(swarm_file).digest), ledger)


def published_in(swarm: bytes, ledger: Path) -> tuple[Published, ...]:
    """Return what the owner of a ledger signed in the swarm with this digest, in order.

    Raises
    ------
    TamperedError, SwarmError
        As `published`.
    """
    with ledgers.opened_to_look(ledger) as book:
        trimmed = book.trimmed_own()
        kept = [_listed(decode_entry(raw), swarm, ledger) for raw in book.own(without=trimmed)]
    gone = [
        Published(sequence=sequence, kind=TRIMMED, digest=digest.hex(), size_bytes=0, clear={}, sealed=False)
        for sequence, digest in trimmed.items()
    ]
    return tuple(sorted([*gone, *kept], key=lambda one: one.sequence))


def _listed(entry: Entry, swarm: bytes, ledger: Path) -> Published:
    if entry.swarm != swarm or not verify(entry.author, entry.signed_bytes(), entry.signature):
        msg = (
            f"{ledger}: entry {entry.sequence} was not signed for this swarm, or was changed. Give the swarm file "
            "that this run joined, or a copy of the ledger that is whole."
        )
        raise TamperedError(msg)
    return Published(
        sequence=entry.sequence,
        kind=entry.kind,
        digest=entry.digest.hex(),
        size_bytes=len(entry.raw),
        clear=_clear(entry),
        sealed=isinstance(entry.payload, Blob)
        or bool(getattr(entry.payload, "wraps", ()))
        or (isinstance(entry.payload, TrainedOn) and bool(entry.payload.content)),
    )


def _clear(entry: Entry) -> dict[str, int | str]:
    payload = entry.payload
    found = {name: getattr(payload, name) for name in ("round", "height", "view", "change") if hasattr(payload, name)}
    if isinstance(payload, Statistics | Update):
        found |= {"n_cells": payload.n_cells, "n_donors": payload.n_donors, **payload.figures}
    if isinstance(payload, Evaluation):
        found |= {key: f"{len(values)} count(s), {sum(values)} in all" for key, values in payload.counts.items()}
    if isinstance(payload, Propose):
        found["member"] = payload.member.name
    if body := _body(entry):
        roster = ", ".join(standing.member.name for standing in body.roster)
        found |= {"about": ", ".join(f"{key} {value}" for key, value in body.about.items()), "roster": roster}
    return found


def _body(entry: Entry) -> Body | None:
    """Return the block's body that an entry shows, if it shows one."""
    content = b"" if isinstance(entry.payload, Blob | TrainedOn) else getattr(entry.payload, "content", b"")
    return decode_body(content) if content else None


def published_json(found: tuple[Published, ...]) -> list[dict[str, Any]]:
    """Return the entries as plain values, for programs."""
    return [asdict(one) for one in found]
