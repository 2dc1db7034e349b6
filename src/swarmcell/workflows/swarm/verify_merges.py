"""Computing a swarm's merges again, block by block, from the sealed contributions of its log.

Rules: it takes an identity of the swarm, for the keys, and a task made from the study's cells. Where the log begins at
a checkpoint, merging begins from the state that is sealed in it, if that is the one that its block names.
"""

import contextlib
import hashlib
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from swarmcell.node import ledger as ledgers
from swarmcell.node import work
from swarmcell.node.blobs import Keyring
from swarmcell.node.identity import Identity
from swarmcell.node.ledger import Cursor, Ledger, Read
from swarmcell.node.task import Task
from swarmcell.node.work import Bench
from swarmcell.swarm.actions import Merge, Open
from swarmcell.swarm.blocks import Block, Merged
from swarmcell.swarm.body import Body, body_digest, decode_body
from swarmcell.swarm.encoding import EncodingError
from swarmcell.swarm.entries import Entry, decode_entry
from swarmcell.swarm.founding import Founding
from swarmcell.swarm.genesis import Genesis
from swarmcell.swarm.payloads import Accept, Blob, Checkpoint, Commit, Propose, Wrap
from swarmcell.swarm.state import State
from swarmcell.swarm.views import retrace

_KEPT_AT_ONCE = 256  # entries in one transaction; chosen


class Merger:
    """Computes merges again, in a ledger of its own that is thrown away."""

    def __init__(self, identity: Identity, genesis: Genesis, task: Task, ledger: Ledger) -> None:
        self._identity = identity
        self._keyring = Keyring(identity)
        self._bench = Bench(identity, genesis.digest, task, ledger, self._keyring)
        self._ledger = ledger

    def keep(self, entries: Sequence[bytes]) -> None:
        """Keep the entries of a log at their positions, from 1."""
        first: dict[bytes, int] = {}
        for position, raw in enumerate(entries, start=1):
            first.setdefault(hashlib.sha256(raw).digest(), position)
        reads = [Read(position, entries[position - 1], position) for position in first.values()]
        for at in range(0, len(reads), _KEPT_AT_ONCE):
            self._ledger.store(reads[at : at + _KEPT_AT_ONCE], Cursor(len(entries), b""))

    def begin(self, entry: Entry, said: Checkpoint, final: Collection[bytes], kept: Founding) -> None:
        """Take the state that a checkpoint holds, for the merges after it.

        Parameters
        ----------
        entry, said
            The checkpoint's entry, kept with its chunks, and what it says.
        final
            Digests of the final bodies.
        kept
            Swarm keys, sealed for members, that the log's trimmed beginning held.

        Raises
        ------
        SwarmcellError
            If the swarm key is not at hand, or the checkpoint holds another state than its block says.
        """
        body, keys = decode_body(said.content), self._keys_in_log()
        for one in [body, *self._bodies(final)]:  # the key may have been renewed between a block and its checkpoint
            self._keyring.begin_epoch(one.epoch, one.key_digest)
            for founding in (kept, keys):
                self._keyring.open(one.key_digest, founding.sealed_for(one.key_digest, self._identity.key))
        opening = Open(
            digest=entry.digest,
            author=entry.author,
            height=said.height,
            epoch=said.epoch,
            state=body.state,
            chunks=self._chunks(entry.author, said.chunks),
        )
        work.open_checkpoint(self._bench, opening)

    def _keys_in_log(self) -> Founding:
        """Return the swarm keys that are sealed for members in the kept entries."""
        keys = Founding()
        for position, entry in self._kept():
            if isinstance(entry.payload, Accept | Propose | Wrap) and entry.payload.wraps:
                keys.wrap(entry, entry.payload, position, wanted=True)
        return keys

    def _bodies(self, final: Collection[bytes]) -> Iterator[Body]:
        """Return the final bodies that the kept entries show."""
        for _, entry in self._kept():
            shown = entry.payload.content if isinstance(entry.payload, Commit) else b""
            if shown and body_digest(shown) in final:
                yield decode_body(shown)

    def _chunks(self, author: bytes, wanted: Sequence[bytes]) -> tuple[int, ...]:
        """Return where an author's chunks are kept."""
        at = {}
        for position, entry in self._kept():
            if isinstance(entry.payload, Blob) and entry.author == author:
                at[hashlib.sha256(entry.payload.content).digest()] = position
        return tuple(at[chunk] for chunk in wanted if chunk in at)

    def _kept(self) -> Iterator[tuple[int, Entry]]:
        for position, raw in self._ledger.entries():
            with contextlib.suppress(EncodingError):
                yield position, decode_entry(raw)

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


@contextlib.contextmanager
def merging(identity: Identity, genesis: Genesis, task: Task) -> Iterator[Merger]:
    """Open a merger with a ledger in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder, ledgers.opened(Path(folder) / "ledger.sqlite") as ledger:
        yield Merger(identity, genesis, task, ledger)
