"""Contributions: which stand in the log with all their chunks, who has waited long enough, and when a round closes.

A contribution counts from the entry by which it and all its chunks stand in the log: what is available is a fact of
the log, not an opinion. Awaited are the members whose contribution was merged in one of the last rounds, newcomers, and
whoever's contribution to one of the last rounds came too late for it: else a slow member that was away would never be
waited for again. A round closes at the first entry by which every awaited member's valid contribution counts,
or a quorum has waited long enough; and at least `min_updates` must count in both cases (`State.min_updates`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from swarmcell.swarm.actions import Offer
from swarmcell.swarm.encoding import Plain
from swarmcell.swarm.entries import Entry
from swarmcell.swarm.payloads import Statistics, Update

KEPT_ROUNDS = 16  # a peer that is further behind takes a checkpoint (written every 10 blocks)
AHEAD_MAX = 4096  # rounds beyond the open one; more are ignored, and the log is to be read again
OFFERS_PER_ROUND_MAX = 4  # of one author: an honest one makes one


@dataclass
class _Pending:
    entry: Entry
    payload: Statistics | Update
    position: int
    missing: set[bytes]


@dataclass
class Rounds:
    """Contributions by round, chunks by author, patience by round; `number` is the open round."""

    number: int = 1
    offers: dict[int, dict[bytes, list[Offer]]] = field(default_factory=dict)
    by_digest: dict[bytes, Offer] = field(default_factory=dict)
    patient: dict[int, dict[bytes, None]] = field(default_factory=dict)
    chunks: dict[tuple[bytes, bytes], tuple[int, int]] = field(default_factory=dict)
    _waiting: dict[tuple[bytes, bytes], list[_Pending]] = field(default_factory=dict)
    _kept: dict[int, list[tuple[int, Entry]]] = field(default_factory=dict)
    _seen: dict[tuple[int, bytes], int] = field(default_factory=dict)

    def add_chunk(self, author: bytes, chunk: bytes, position: int) -> list[Offer]:
        """Take up a chunk; return the contributions that count from here on."""
        if (author, chunk) in self.chunks:
            return []
        self.chunks[author, chunk] = (position, self.number)
        whole: list[Offer] = []
        for pending in self._waiting.pop((author, chunk), ()):
            pending.missing.discard(chunk)
            if not pending.missing:
                whole.append(self._offer(pending.entry, pending.payload, pending.position))
        return whole

    def add(self, entry: Entry, payload: Statistics | Update, position: int, *, wanted: bool = False) -> Offer | str:
        """Take up a contribution, beyond the limit if it is wanted; return it if it counts, else why not (yet)."""
        if fault := self._place(payload.round):
            return fault
        seen = self._seen.get((payload.round, entry.author), 0)
        if seen >= OFFERS_PER_ROUND_MAX and not wanted:
            return "too many contributions"
        self._seen[payload.round, entry.author] = seen + 1
        self._kept.setdefault(payload.round, []).append((position, entry))
        missing = {chunk for chunk in payload.chunks if (entry.author, chunk) not in self.chunks}
        if not missing:
            return self._offer(entry, payload, position)
        pending = _Pending(entry, payload, position, missing)
        for chunk in missing:
            self._waiting.setdefault((entry.author, chunk), []).append(pending)
        return ""

    def add_patience(self, entry: Entry, number: int, position: int) -> str:
        """Take up a `patience`; return why it does not count, or nothing."""
        if number < self.number:
            return "past"
        if fault := self._place(number):
            return fault
        members = self.patient.setdefault(number, {})
        if entry.author not in members:
            members[entry.author] = None
            self._kept.setdefault(number, []).append((position, entry))
        return ""

    def advance(self, number: int) -> None:
        """Open round `number`; forget what lies long behind."""
        self.number = number
        floor = number - KEPT_ROUNDS
        for old in [r for r in self._kept if r < floor]:
            self._forget(old)
        for key in [key for key, (_, since) in self.chunks.items() if since < floor]:
            del self.chunks[key]

    def known(self, digest: bytes) -> Entry | None:
        """Return a contribution to the open round or a late one, whether or not its chunks are all known."""
        return next((entry for kept in self._kept.values() for _, entry in kept if entry.digest == digest), None)

    def of_last(self, count: int) -> Iterator[Offer]:
        """Return the contributions that are known to the last `count` rounds before the open one."""
        for number in range(max(1, self.number - min(count, KEPT_ROUNDS)), self.number):
            for offers in self.offers.get(number, {}).values():
                yield from offers

    def entries(self) -> Iterator[tuple[int, Entry]]:
        """Return the entries from which this can be built again."""
        for kept in self._kept.values():
            yield from kept

    def dump_chunks(self) -> Plain:
        """Return the known chunks as a plain value."""
        return [[author, chunk, position, since] for (author, chunk), (position, since) in self.chunks.items()]

    def _place(self, number: int) -> str:
        if number < self.number - KEPT_ROUNDS:
            return "past"
        return "ahead" if number > self.number + AHEAD_MAX else ""

    def _offer(self, entry: Entry, payload: Statistics | Update, position: int) -> Offer:
        chunks = tuple(self.chunks[entry.author, chunk][0] for chunk in payload.chunks)
        offer = Offer(author=entry.author, digest=entry.digest, payload=payload, position=position, chunks=chunks)
        self.offers.setdefault(payload.round, {}).setdefault(entry.author, []).append(offer)
        self.by_digest[entry.digest] = offer
        return offer

    def _forget(self, number: int) -> None:
        for _, entry in self._kept.pop(number):
            self.by_digest.pop(entry.digest, None)
            self._seen.pop((number, entry.author), None)
        self.offers.pop(number, None)
        self.patient.pop(number, None)
        for key in [k for k, all_of in self._waiting.items() if all(p.payload.round == number for p in all_of)]:
            del self._waiting[key]


@dataclass
class Closing:
    """The open round at the open height: what counts so far, and what is still awaited."""

    roster_quorum: int
    min_updates: int
    awaited: set[bytes]
    valid: dict[bytes, Offer] = field(default_factory=dict)
    patient: dict[bytes, None] = field(default_factory=dict)

    def add(self, offer: Offer) -> None:
        """Count a valid contribution; of one author the first in the log."""
        self.valid.setdefault(offer.author, offer)
        self.awaited.discard(offer.author)

    def await_also(self, author: bytes) -> None:
        """Await a member whose contribution to one of the last rounds came too late for it."""
        if author not in self.valid:
            self.awaited.add(author)

    @property
    def enough(self) -> bool:
        """Whether the least number of contributions counts."""
        return len(self.valid) >= self.min_updates

    @property
    def closed(self) -> bool:
        """Whether the round closes here."""
        return self.enough and (not self.awaited or len(self.patient) >= self.roster_quorum)
