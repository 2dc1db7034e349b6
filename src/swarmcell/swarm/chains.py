"""Authors' chains and quotas: what is known of each author, whether something is missing, and who contradicts itself.

An entry counts whether or not the one before it is known: an engine may have lost or hidden that one, and a gap is how
a peer notices. Two different entries at one sequence are evidence against their author; both count where counting both
is safe (votes), and the lower digest where one must be chosen.
"""

from dataclasses import dataclass, field

from swarmcell.swarm.encoding import DIGEST_BYTES, Plain
from swarmcell.swarm.entries import Entry
from swarmcell.swarm.genesis import Quotas
from swarmcell.swarm.payloads import Attest, Commit, Next

WINDOW = 8192  # sequences per author whose digests are kept, so that a repetition is told from a contradiction
CONTRADICTIONS_MAX = 64  # per author; more are ignored


@dataclass
class Chain:
    """One author's entries: all of `1..whole` are known; `digests` holds the latest by sequence."""

    whole: int = 0
    highest: int = 0
    digests: dict[int, bytes] = field(default_factory=dict)
    others: set[bytes] = field(default_factory=set)

    def knows(self, sequence: int, digest: bytes) -> bool:
        """Say whether this very entry was applied before."""
        return self.digests.get(sequence) == digest or digest in self.others


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two entries of one author that an honest one never signs: one sequence twice, or a wrong `previous`."""

    author: bytes
    sequence: int
    first: bytes
    second: bytes


class Chains:
    """All authors' chains, and what each has used of its quota while the open height was being decided.

    `resumed`: reading began at a checkpoint, so that a chain's first known entry need not be its first.
    """

    def __init__(self, quotas: Quotas) -> None:
        self.quotas = quotas
        self.by_author: dict[bytes, Chain] = {}
        self.used: dict[tuple[bytes, bool], tuple[int, int]] = {}
        self.evidence: list[Evidence] = []
        self.resumed = False

    def refusal(self, entry: Entry) -> str:
        """Say why an entry must be ignored, whatever it says; empty if it need not."""
        chain = self.by_author.get(entry.author)
        if chain is not None:
            if chain.knows(entry.sequence, entry.digest):
                return "duplicate"
            if entry.sequence <= chain.whole - WINDOW:
                return "old"
            if entry.sequence in chain.digests and len(chain.others) >= CONTRADICTIONS_MAX:
                return "contradiction"
        count, size = self.used.get(_purse(entry), (0, 0))
        over = count + 1 > self.quotas.entries or size + len(entry.raw) > self.quotas.size_bytes
        return "over quota" if over else ""

    def record(self, entry: Entry) -> None:
        """Take up an entry whose signature holds."""
        count, size = self.used.get(_purse(entry), (0, 0))
        self.used[_purse(entry)] = (count + 1, size + len(entry.raw))
        chain = self._chain(entry)
        known = chain.digests.get(entry.sequence)
        if known is not None:
            chain.others.add(entry.digest)
            self._accuse(entry, known)
            return
        before = chain.digests.get(entry.sequence - 1)
        if before is not None and before != entry.previous:
            self._accuse(entry, before)
        chain.digests[entry.sequence] = entry.digest
        self._extend(chain, entry.sequence)

    def gaps(self) -> dict[bytes, int]:
        """Return the first missing sequence of every author of whom later entries are known."""
        return {author: chain.whole + 1 for author, chain in self.by_author.items() if chain.whole < chain.highest}

    def new_height(self) -> None:
        """Give every author its quota again."""
        self.used.clear()

    def dump(self) -> Plain:
        """Return all chains as a plain value."""
        return [
            [author, c.whole, c.highest, _runs(c.digests), sorted(c.others)]
            for author, c in sorted(self.by_author.items())
        ]

    def load(self, rows: list[list]) -> None:  # type: ignore[type-arg]
        """Take up what `dump` returned."""
        for author, whole, highest, runs, others in rows:
            self.by_author[author] = Chain(whole, highest, _from_runs(runs), set(others))

    def _chain(self, entry: Entry) -> Chain:
        if entry.author not in self.by_author:
            before = entry.sequence - 1 if self.resumed else 0
            self.by_author[entry.author] = Chain(before, before)
        return self.by_author[entry.author]

    def _extend(self, chain: Chain, sequence: int) -> None:
        chain.highest = max(chain.highest, sequence)
        self._close_up(chain)
        if len(chain.digests) > 2 * WINDOW:
            self._give_up(chain)

    def _close_up(self, chain: Chain) -> None:
        while chain.whole + 1 in chain.digests:
            chain.whole += 1
            chain.digests.pop(chain.whole - WINDOW, None)

    def _give_up(self, chain: Chain) -> None:
        """Wait no longer for gaps that nobody fills, but for those among the latest entries."""
        chain.whole = sorted(chain.digests)[-WINDOW // 2]
        self._close_up(chain)
        floor = chain.whole - WINDOW
        chain.digests = {sequence: digest for sequence, digest in chain.digests.items() if sequence > floor}

    def _accuse(self, entry: Entry, other: bytes) -> None:
        if len(self.evidence) < 1000:
            first, second = sorted((entry.digest, other))
            self.evidence.append(Evidence(entry.author, entry.sequence, first, second))


def _purse(entry: Entry) -> tuple[bytes, bool]:
    """Say what an entry's quota is counted with: its author's votes, or all else that it writes."""
    return entry.author, isinstance(entry.payload, Attest | Commit | Next)


def _runs(digests: dict[int, bytes]) -> list[list[Plain]]:
    """Return digests by sequence as runs of neighbours: the first sequence, and all digests in one string."""
    runs: list[tuple[int, list[bytes]]] = []
    for sequence in sorted(digests):
        if not runs or sequence != runs[-1][0] + len(runs[-1][1]):
            runs.append((sequence, []))
        runs[-1][1].append(digests[sequence])
    return [[first, b"".join(run)] for first, run in runs]


def _from_runs(runs: list[tuple[int, bytes]]) -> dict[int, bytes]:
    """Return what `_runs` wrote down."""
    return {
        first + at // DIGEST_BYTES: joined[at : at + DIGEST_BYTES]
        for first, joined in runs
        for at in range(0, len(joined), DIGEST_BYTES)
    }
