"""What a run's own ledger says of a model: the blocks, whose contributions they merged, and the head.

Rules: the peer has verified these blocks before it kept them; nothing is asked of the log. A ledger that does not hold
the model's block says nothing of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from swarmcell.errors import SwarmcellError
from swarmcell.node import ledger as ledgers
from swarmcell.swarm.body import body_digest, decode_body
from swarmcell.swarm.entries import decode_entry
from swarmcell.swarm.payloads import Statistics, Update
from swarmcell.workflows.evaluation.swarm_figures import BlockRow, Trained

LEDGER = "ledger.sqlite"


@dataclass(frozen=True, kw_only=True)
class LedgerFacts:
    """What a ledger holds: digest and height of its last block, its blocks, and what members say they trained on."""

    head: str
    head_height: int
    timeline: tuple[BlockRow, ...]
    trained: tuple[Trained, ...]


def beside(model: Path, digest: str) -> LedgerFacts | None:
    """Return what the ledger beside a model says; `None` where there is none, or none that holds this model's block."""
    if not (model.parent / LEDGER).is_file():
        return None
    try:
        with ledgers.opened_to_look(model.parent / LEDGER) as ledger:
            holds = any(decode_body(content).state.hex() == digest for content in ledger.bodies()[::-1])
            return facts(ledger) if holds else None
    except SwarmcellError:
        return None  # it is no part of the evaluation: a peer that runs, or a copy without rights, is no error here


def facts(ledger: ledgers.Ledger) -> LedgerFacts:
    """Return what a ledger holds."""
    contents = ledger.bodies()
    bodies = [decode_body(content) for content in contents]
    names = {s.member.signing_key: s.member.name for body in bodies for s in body.roster}
    rows = tuple(
        BlockRow(
            height=body.height,
            kind=body.kind,
            stage=str(body.about.get("stage", "")),
            round=body.round,
            members=tuple(standing.member.name for standing in body.roster),
            included=tuple(sorted(names.get(author, author.hex()[:8]) for author, _ in body.included)),
            left_out={names.get(author, author.hex()[:8]): why for author, _, why in body.left_out},
            digest=body_digest(content).hex(),
        )
        for body, content in zip(bodies, contents, strict=True)
    )
    head, height = (rows[-1].digest, rows[-1].height) if rows else ("", 0)
    return LedgerFacts(head=head, head_height=height, timeline=rows, trained=_trained(ledger, names))


def _trained(ledger: ledgers.Ledger, names: Mapping[bytes, str]) -> tuple[Trained, ...]:
    last: dict[str, tuple[int, int]] = {}
    updates: dict[str, int] = {}
    for _, raw in ledger.entries():
        entry = decode_entry(raw)
        said = entry.payload
        if isinstance(said, Update | Statistics) and entry.author in names:
            name = names[entry.author]
            donors, cells = last.get(name, (0, 0))
            last[name] = max(donors, said.n_donors), max(cells, said.n_cells)
            updates[name] = updates.get(name, 0) + 1
    return tuple(Trained(site=n, n_donors=last[n][0], n_cells=last[n][1], updates=updates[n]) for n in sorted(last))
