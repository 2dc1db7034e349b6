"""Checkpoints: sealed merged states in the log, who has opened them, and what may be trimmed below them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from swarmcell.swarm.entries import Entry
from swarmcell.swarm.payloads import Checkpoint
from swarmcell.swarm.roster import Roster

KEPT_PER_AUTHOR = 4


@dataclass(frozen=True, slots=True)
class Stored:
    """A checkpoint whose chunks all stand in the log; `chunks` are their ledger positions."""

    entry: Entry
    payload: Checkpoint
    position: int
    chunks: tuple[int, ...]


@dataclass
class Checkpoints:
    """The last checkpoints of every author, by entry digest, and their acknowledgements."""

    known: dict[bytes, tuple[int, Entry, Checkpoint]] = field(default_factory=dict)
    acknowledged: dict[bytes, dict[bytes, tuple[int, Entry]]] = field(default_factory=dict)

    def add(self, entry: Entry, payload: Checkpoint, position: int) -> str:
        """Take up a checkpoint; of one author the last few are kept."""
        mine = [digest for digest, (_, e, _) in self.known.items() if e.author == entry.author]
        self.known[entry.digest] = (position, entry, payload)
        if len(mine) >= KEPT_PER_AUTHOR:
            self.known.pop(mine[0])
            self.acknowledged.pop(mine[0], None)
        return ""

    def acknowledge(self, entry: Entry, checkpoint: bytes, position: int) -> str:
        """Take up an acknowledgement; return why it does not count, or nothing."""
        if checkpoint not in self.known:
            return "no such checkpoint"
        self.acknowledged.setdefault(checkpoint, {})[entry.author] = (position, entry)
        return ""

    def stored(self, chunks: Mapping[tuple[bytes, bytes], tuple[int, int]]) -> list[Stored]:
        """Return the checkpoints whose chunks are all known, by height, the newest first."""
        whole = []
        for position, entry, payload in self.known.values():
            if all((entry.author, chunk) in chunks for chunk in payload.chunks):
                at = tuple(chunks[entry.author, chunk][0] for chunk in payload.chunks)
                whole.append(Stored(entry, payload, position, at))
        return sorted(whole, key=lambda s: (-s.payload.height, s.entry.digest))

    def settled(self, stored: Stored, roster: Roster) -> bool:
        """Say whether a quorum has opened this checkpoint."""
        return sum(author in roster for author in self.acknowledged.get(stored.entry.digest, ())) >= roster.quorum

    def entries(self) -> Iterator[tuple[int, Entry]]:
        """Return the entries from which this can be built again."""
        for position, entry, _ in self.known.values():
            yield position, entry
        for votes in self.acknowledged.values():
            yield from votes.values()
