"""Checks a swarm's history again, from its bytes: signatures, chains, certificates, and every merge.

Rules: nothing that a peer concluded is believed. Which block is final, and that it follows, is said by an auditor that
shares no code with the peers (`swarm.audit`); what a peer would hold final by the same bytes (`State`) must be the same
blocks, each with its certificate. The merges are computed again from the sealed contributions, which takes an identity
of the swarm and prepared cells of the study (for their features; no cell of them is used).
"""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from swarmcell.config.swarm_file import study_of
from swarmcell.errors import ConfigError, SwarmcellError
from swarmcell.node import ledger as ledgers
from swarmcell.node import work
from swarmcell.node.blobs import Keyring
from swarmcell.node.identity import Identity, verify
from swarmcell.node.ledger import Cursor, Ledger, Read
from swarmcell.node.task import Task
from swarmcell.node.work import Bench
from swarmcell.swarm.actions import Merge
from swarmcell.swarm.audit import audit
from swarmcell.swarm.blocks import Block, Merged
from swarmcell.swarm.body import body_digest
from swarmcell.swarm.encoding import EncodingError
from swarmcell.swarm.entries import NO_DIGEST, decode_entry
from swarmcell.swarm.genesis import Genesis, quorum
from swarmcell.swarm.payloads import Commit, Evaluation
from swarmcell.swarm.state import State
from swarmcell.swarm.views import retrace
from swarmcell.workflows.evaluation import site_counts

FAULTS_SHOWN = 50


@dataclass
class Verified:
    """What was checked, and what is wrong.

    Attributes
    ----------
    entries, signatures, blocks, commits, merges, evaluations
        How many of each were checked and found right.
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
    faults: list[str] = field(default_factory=list)
    strange: dict[str, int] = field(default_factory=dict)

    def fault(self, what: str) -> None:
        """Note a fault."""
        if len(self.faults) < FAULTS_SHOWN:
            self.faults.append(what)


def verify_history(genesis: Genesis, entries: Sequence[bytes], merger: "Merger | None" = None) -> Verified:
    """Check a history; with a `merger`, every merge too."""
    found = Verified()
    blocks = _Blocks(genesis, found)
    state = State(genesis, verify)
    for position, raw in enumerate(entries, start=1):
        if merger is not None:
            merger.keep(position, raw)
        for block in state.apply(position, raw).blocks:
            blocks.check(block)
            if merger is not None:
                _check_merge(merger, state, block, found)
    if state.halted:
        found.fault(state.halted)
    _check_evaluations(genesis, state, blocks.states, found)
    _check_audit(genesis, entries, {height: block.digest for height, block in state.blocks.items()}, found)
    if not found.blocks:
        found.fault(
            "no block is final: there is no history to verify yet, or its beginning was trimmed below a checkpoint. "
            "Then verify the ledger of a member that holds it all: --ledger"
        )
    return found


def _check_evaluations(genesis: Genesis, state: State, states: set[bytes], found: Verified) -> None:
    """Check that what members published is of a model of this swarm, and does not contradict itself."""
    try:
        study = study_of(genesis)
    except (ConfigError, EncodingError):
        study = None  # a swarm of something else than cells
    names = {standing.member.signing_key: standing.member.name for standing in state.roster.standings}
    for (author, of), (_, entry) in sorted(state.evaluations.items()):
        who = f"{names.get(author, author.hex()[:16])}, evaluation of {of.hex()[:16]}"
        wrong = [] if of in states else ["no final block holds this state"]
        if study is not None and isinstance(entry.payload, Evaluation):
            wrong += site_counts.faults(entry.payload.counts, study)
        for fault in wrong:
            found.fault(f"{who}: {fault}")
        found.evaluations += not wrong


def _check_audit(genesis: Genesis, entries: Sequence[bytes], held: Mapping[int, bytes], found: Verified) -> None:
    """Take up what the auditor says, and hold what a peer takes for final (`held`) to it."""
    audited = audit(genesis.encode(), entries, verify)
    found.entries, found.signatures, found.strange = audited.n_entries, audited.n_signed, dict(audited.ignored)
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

    def check(self, block: Block) -> None:
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
        self.states.add(body.state)
        self.height, self.previous = body.height, block.digest
        self.roster, self.f = frozenset(standing.member.signing_key for standing in body.roster), body.f

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


class Merger:
    """Computes merges again, in a ledger of its own that is thrown away."""

    def __init__(self, identity: Identity, genesis: Genesis, task: Task, ledger: Ledger) -> None:
        self._identity = identity
        self._keyring = Keyring(identity)
        self._bench = Bench(identity, genesis.digest, task, ledger, self._keyring)
        self._ledger = ledger
        self._seen: set[bytes] = set()

    def keep(self, position: int, raw: bytes) -> None:
        """Keep an entry at its position."""
        digest = hashlib.sha256(raw).digest()
        if digest not in self._seen:
            self._seen.add(digest)
            self._ledger.store([Read(position, raw, position)], Cursor(position, digest))

    def state_of(self, state: State, block: Block, base: bytes) -> bytes:
        """Return the digest of the merged state of a block, by this merger's own merge.

        Raises
        ------
        SwarmcellError
            If the swarm key or a contribution is not at hand.
        """
        body = block.body
        self._keyring.begin_epoch(body.epoch, body.key_digest)
        self._keyring.open(body.key_digest, state.founding.sealed_for(body.key_digest, self._identity.key))
        if body.kind != "merge":
            return work.start(self._bench).state if body.height == 0 else base
        candidate = retrace(state, body)
        offers = candidate.offers if isinstance(candidate, Merged) else ()
        merge = Merge(key=block.digest, height=body.height, round=body.round, base=base, offers=offers)
        return work.merge(self._bench, merge).state


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


@contextmanager
def merging(identity: Identity, genesis: Genesis, task: Task) -> Iterator[Merger]:
    """Open a merger with a ledger in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder, ledgers.opened(Path(folder) / "ledger.sqlite") as ledger:
        yield Merger(identity, genesis, task, ledger)
