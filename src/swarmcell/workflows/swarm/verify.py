"""Checks a swarm's history again, from its bytes: signatures, chains, certificates, and every merge.

Rules: nothing that a peer concluded is believed. Which block is final, and that it follows, is said by an auditor that
shares no code with the peers (`swarm.audit`); what a peer would hold final by the same bytes (`State`) must be the same
blocks, each with its certificate. Where the log's beginning is trimmed both begin at a checkpoint (`verify_start`), and
what is proven and what is taken on trust is said. The merges are computed again from the sealed contributions
(`verify_merges`), which takes an identity of the swarm and prepared cells of the study (for their features; no cell of
them is used).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from swarmcell.config.swarm_file import study_of
from swarmcell.errors import ConfigError, SwarmcellError, TamperedError
from swarmcell.node.identity import verify
from swarmcell.swarm.audit import Audit, audit
from swarmcell.swarm.blocks import Block
from swarmcell.swarm.body import body_digest
from swarmcell.swarm.encoding import EncodingError
from swarmcell.swarm.entries import NO_DIGEST, decode_entry
from swarmcell.swarm.genesis import Genesis, quorum
from swarmcell.swarm.payloads import Commit, Evaluation
from swarmcell.swarm.state import State
from swarmcell.workflows.evaluation import site_counts
from swarmcell.workflows.swarm.verify_merges import Merger
from swarmcell.workflows.swarm.verify_start import (
    Known,
    Start,
    begin,
    bodies_by_height,
    body_faults,
    on_trust,
    proven,
)

NOTHING_MORE = Known()
FAULTS_SHOWN = 50


@dataclass
class Verified:
    """What was checked, and what is wrong.

    Attributes
    ----------
    entries, signatures, blocks, commits, merges, evaluations
        How many of each were checked and found right.
    begins
        Height of the first block: over 0 where the log's beginning is trimmed, and a checkpoint's block comes first.
    proven, on_trust
        Where it begins at a checkpoint: what that proves, and what is taken on trust; in words.
    lacking
        How many entries the engine's log lacks of those that this site's ledgers hold, by the ledger's path.
    faults
        What is wrong with the history; empty if nothing is.
    strange
        How many entries of the log count for nothing, by reason; anybody who can write to an engine can make such.
    """

    entries: int = 0
    signatures: int = 0
    blocks: int = 0
    commits: int = 0
    merges: int = 0
    evaluations: int = 0
    begins: int = 0
    proven: list[str] = field(default_factory=list)
    on_trust: list[str] = field(default_factory=list)
    lacking: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    strange: dict[str, int] = field(default_factory=dict)

    def fault(self, what: str) -> None:
        """Note a fault."""
        if len(self.faults) < FAULTS_SHOWN:
            self.faults.append(what)


def verify_history(
    genesis: Genesis, entries: Sequence[bytes], merger: Merger | None = None, known: Known = NOTHING_MORE
) -> Verified:
    """Check a history; with a `merger`, every merge too."""
    found = Verified()
    audited, by_ledger = _audit(genesis, entries, known)
    try:
        start = begin(genesis, entries, audited, known, by_ledger=by_ledger)
    except TamperedError as error:
        found.fault(str(error))
        return found
    state, blocks = start.state, _Blocks(genesis, found)
    if start.first is not None:
        blocks.begin_at(start.first)
    merger = None if merger is None else _ready(merger, entries, audited, start, known, found)
    for position, raw in enumerate(entries, start=1):
        for block in state.apply(position, raw).blocks:
            blocks.check(block)
            if merger is not None:
                _check_merge(merger, state, block, found)
    if state.halted:
        found.fault(state.halted)
    _say_start(genesis, start, blocks, known, found)
    _check_evaluations(genesis, state, blocks.states, found)
    _take_up(audited, {height: block.digest for height, block in state.blocks.items()}, found)
    if not audited.blocks:
        found.fault(_nothing_final(audited))
    return found


def _audit(genesis: Genesis, entries: Sequence[bytes], known: Known) -> tuple[Audit, bool]:
    """Audit the entries; if nobody vouches for a checkpoint, the ledger's own word (true) will do."""
    audited = audit(genesis.encode(), entries, verify, known.pins)
    if audited.blocks or not known.bodies:
        return audited, False
    return audit(genesis.encode(), entries, verify, {**bodies_by_height(known), **known.pins}), True


def _nothing_final(audited: Audit) -> str:
    if audited.n_checkpoints:
        return (
            "the log's beginning is trimmed, and neither a quorum of the founders nor the swarm file vouches for a "
            "checkpoint in it: members have changed since. Take the swarm file of a fresh invitation (swarm invite), "
            "or verify the ledger of a member: --ledger"
        )
    return (
        "no block is final: there is no history to verify yet, or its beginning was trimmed below a checkpoint. "
        "Then verify the ledger of a member that holds it all: --ledger"
    )


def _ready(
    merger: Merger, entries: Sequence[bytes], audited: Audit, start: Start, known: Known, found: Verified
) -> Merger | None:
    """Give a merger all entries, and the state to begin from; `None` (a fault) if that cannot be opened."""
    merger.keep(entries)
    try:
        if start.checkpoint is not None:
            merger.begin(*start.checkpoint, audited.blocks.values(), known.founding)
    except SwarmcellError as error:
        found.fault(
            f"no merge can be computed again: the checkpoint of block {start.height} does not open ({error}). The "
            "swarm's key may be trimmed from the log: verify the ledger of this identity's own peer, --ledger"
        )
        return None
    return merger


def _check_merge(merger: Merger, state: State, block: Block, found: Verified) -> None:
    before = state.blocks.get(block.body.height - 1)
    base = b"" if before is None else before.body.state
    try:
        merged = merger.state_of(state, block, base)
    except SwarmcellError as error:
        found.fault(f"block {block.body.height}: its merge cannot be computed again ({error})")
        return
    if merged != block.body.state:
        found.fault(f"block {block.body.height}: merging again gives another state ({merged.hex()[:16]}…)")
        return
    found.merges += 1


def _say_start(genesis: Genesis, start: Start, blocks: "_Blocks", known: Known, found: Verified) -> None:
    """Say what is proven and what is not, if the verification did not begin at the genesis."""
    if start.checkpoint is None:
        return
    found.begins = start.height
    faults, bodies = body_faults(genesis, known, start)
    for fault in faults:
        found.fault(fault)
    blocks.states.update(body.state for body in bodies)
    merged = found.merges > 0 and found.merges == blocks.height - start.height
    found.proven, found.on_trust = proven(start, blocks.height, bodies, merged=merged), on_trust(start)


def _check_evaluations(genesis: Genesis, state: State, states: set[bytes], found: Verified) -> None:
    """Check that what members published is of a model of this swarm, and does not contradict itself."""
    try:
        study = study_of(genesis)
    except (ConfigError, EncodingError):
        study = None  # a swarm of something else than cells
    names = {standing.member.signing_key: standing.member.name for standing in state.roster.standings}
    for (author, of), (_, entry) in sorted(state.evaluations.items()):
        who = f"{names.get(author, author.hex()[:16])}, evaluation of {of.hex()[:16]}"
        if found.begins and of not in states:
            found.strange["an evaluation of a state whose block is trimmed"] = (
                found.strange.get("an evaluation of a state whose block is trimmed", 0) + 1
            )
            continue
        wrong = [] if of in states else ["no final block holds this state"]
        if study is not None and isinstance(entry.payload, Evaluation):
            wrong += site_counts.faults(entry.payload.counts, study)
        for fault in wrong:
            found.fault(f"{who}: {fault}")
        found.evaluations += not wrong


def _take_up(audited: Audit, held: Mapping[int, bytes], found: Verified) -> None:
    """Take up what the auditor says, and hold what a peer takes for final (`held`) to it."""
    found.entries, found.signatures = audited.n_entries, audited.n_signed
    found.strange |= audited.ignored
    for fault in audited.faults:
        found.fault(fault)
    for height in sorted(audited.blocks.keys() | held.keys()):
        if audited.blocks.get(height) != held.get(height):
            found.fault(f"block {height}: the auditor and a peer's reading of the same log hold different blocks final")


@dataclass
class _Blocks:
    """The chain of blocks: each names the one before, and a quorum of the roster before it signed its digest."""

    genesis: Genesis
    found: Verified
    previous: bytes = NO_DIGEST
    height: int = -1
    roster: frozenset[bytes] = frozenset()
    f: int = 0
    states: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.roster = frozenset(member.signing_key for member in self.genesis.founders)
        self.f = self.genesis.f

    def begin_at(self, block: Block) -> None:
        """Take up a checkpoint's block, for which somebody known vouches."""
        self.found.blocks += 1
        self._follow(block)

    def _follow(self, block: Block) -> None:
        body = block.body
        self.states.add(body.state)
        self.height, self.previous = body.height, block.digest
        self.roster, self.f = frozenset(standing.member.signing_key for standing in body.roster), body.f

    def check(self, block: Block) -> None:
        """Check a block, the next one."""
        body = block.body
        wrong = {
            "its height does not follow": body.height != self.height + 1,
            "it names another block before it": body.previous != self.previous,
            "its digest is not that of its bytes": body_digest(block.content) != block.digest,
        }
        for what, is_wrong in wrong.items():
            if is_wrong:
                self.found.fault(f"block {body.height}: {what}")
        signers = {key for raw in block.certificate if (key := self._signer(raw, block)) is not None}
        needed = quorum(len(self.roster), self.f)
        if len(signers) < needed:
            self.found.fault(f"block {body.height}: {len(signers)} members committed to it, {needed} are needed")
        self.found.commits += len(signers)
        self.found.blocks += 1
        self._follow(block)

    def _signer(self, raw: bytes, block: Block) -> bytes | None:
        """Return who signed this commit, if it is one of a member to this block in its view."""
        try:
            entry = decode_entry(raw)
        except EncodingError:
            return None
        said = entry.payload
        if not isinstance(said, Commit) or entry.swarm != self.genesis.digest or entry.author not in self.roster:
            return None
        to_this = (said.height, said.view, said.body) == (block.body.height, block.view, block.digest)
        return entry.author if to_this and verify(entry.author, entry.signed_bytes(), entry.signature) else None
