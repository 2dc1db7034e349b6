"""Swarm keys as the log shows them: founders' accepts, and what is sealed for each member, by the key's digest."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from swarmcell.swarm.entries import Entry
from swarmcell.swarm.payloads import Accept, Propose, Wrap, Wraps
from swarmcell.swarm.roster import Roster

KEYS_PER_AUTHOR_MAX = 64


@dataclass
class Founding:
    """Accepts in log order, the wraps of every swarm key that was shown, and who asked for one.

    Of one author one wrap per key and member is kept, so that nobody can crowd out what others sealed.
    """

    accepts: dict[bytes, tuple[Entry, Accept]] = field(default_factory=dict)
    wraps: dict[bytes, dict[bytes, dict[bytes, bytes]]] = field(default_factory=dict)
    asked: dict[bytes, dict[bytes, None]] = field(default_factory=dict)
    _shown: dict[bytes, int] = field(default_factory=dict)
    _kept: list[tuple[int, Entry]] = field(default_factory=list)

    def accept(self, entry: Entry, payload: Accept, position: int, roster: Roster, *, wanted: bool = False) -> str:
        """Take up a founder's accept, a second one only if it is wanted; return why it does not count, or nothing."""
        wraps = payload.wraps
        if wraps and [key for key, _ in wraps] != sorted(roster.members):
            return "not sealed for every founder"
        if not wanted and any(known.author == entry.author for known, _ in self.accepts.values()):
            return "accepted already"
        self.accepts[entry.digest] = (entry, payload)
        return self._take(entry, position, payload.key_digest, wraps, wanted=wanted)

    def shown_by(self, author: bytes) -> int:
        """Return how many keys an author has shown; `KEYS_PER_AUTHOR_MAX` at most, but for those that were wanted."""
        return self._shown.get(author, 0)

    def bringing(self) -> list[tuple[Entry, Accept]]:
        """Return the accepts that brought a key, in log order."""
        return [(entry, payload) for entry, payload in self.accepts.values() if payload.wraps]

    def wrap(self, entry: Entry, payload: Wrap | Propose | Accept, position: int, *, wanted: bool = False) -> str:
        """Take up a key sealed once more, or with a proposal; return why it does not count, or nothing."""
        return self._take(entry, position, payload.key_digest, payload.wraps, wanted=wanted)

    def sealed_for(self, key: bytes, member: bytes) -> tuple[bytes, ...]:
        """Return what was sealed for a member, any of which may hold the swarm key with this digest."""
        return tuple(self.wraps.get(key, {}).get(member, {}).values())

    def sealed_by(self, key: bytes, member: bytes) -> set[bytes]:
        """Return who sealed this swarm key for a member."""
        return set(self.wraps.get(key, {}).get(member, ()))

    def entries(self) -> Iterator[tuple[int, Entry]]:
        """Return the entries from which this can be built again."""
        yield from self._kept

    def _take(self, entry: Entry, position: int, key: bytes, wraps: Wraps, *, wanted: bool) -> str:
        if not wanted and self._shown.get(entry.author, 0) >= KEYS_PER_AUTHOR_MAX:
            return "too many keys"
        self._shown[entry.author] = self._shown.get(entry.author, 0) + 1
        self._kept.append((position, entry))
        boxes = self.wraps.setdefault(key, {})
        for member, sealed in wraps:
            boxes.setdefault(member, {}).setdefault(entry.author, sealed)
        if isinstance(entry.payload, Wrap) and not wraps:
            self.asked.setdefault(key, {})[entry.author] = None
        return ""
