"""The swarm file's canonical form: who founds a swarm, and by which rules it runs.

The digest of the genesis names the swarm; it stands in every entry, so an entry of one swarm means nothing in another.
"""

from dataclasses import dataclass, field

from swarmcell.swarm.encoding import EncodingError, decode, digest, encode
from swarmcell.swarm.shape import KEY, frozen, many, natural, octets, plain, text

MEMBERS_MAX = 4000
NAME_CHARS_MAX = 64
NAME = text(NAME_CHARS_MAX)
_DOMAIN = b"swarmcell/genesis/v1\0"


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A hospital in the roster: a readable name and its two public keys, 32 bytes each."""

    name: str
    signing_key: bytes
    sealing_key: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Quotas:
    """The most that one author may write while one block is being decided; what is over is ignored by all.

    Votes and all else are counted apart, so that nobody's chunks starve its own votes.
    """

    entries: int = 10_240  # chosen: two updates of 2 GB in chunks of 512 KiB, and all else
    size_bytes: int = 4 * 2**30  # chosen: two updates of 2 GB


@dataclass(frozen=True, kw_only=True, slots=True)
class Genesis:
    """The rules of one swarm.

    Attributes
    ----------
    name
        The study's name.
    rules
        Canonical bytes of the study and its model; never opened here.
    founders
        The first members, in the order of the swarm file.
    f
        Lying members that the swarm tolerates: 0, or more with `n >= 3f + 1`.
    min_updates
        A round never closes with fewer updates (or the quorum, where a shrunken roster makes that less).
    awaited_blocks
        A member with an update in one of the last so many merge blocks is awaited.
    patience_ms
        How long a peer waits for an awaited member beyond the others, before it says so in the log.
    """

    name: str
    rules: bytes
    founders: tuple[Member, ...]
    f: int = 0
    min_updates: int = 1
    awaited_blocks: int = 3
    patience_ms: int = 60_000
    quotas: Quotas = field(default_factory=Quotas)

    def __post_init__(self) -> None:
        """Refuse rules by which no swarm could run."""
        n = len(self.founders)
        faults = {
            "no founder": n == 0,
            "two founders share a name or a key": any(
                len({getattr(m, name) for m in self.founders}) < n for name in ("name", "signing_key", "sealing_key")
            ),
            f"f = {self.f} needs at least {3 * self.f + 1} founders, got {n}": not tolerates(n, self.f),
            f"min_updates = {self.min_updates}, expected 1 to {quorum(n, self.f)}": not (
                1 <= self.min_updates <= quorum(n, self.f)
            ),
        }
        for fault, present in faults.items():
            if present:
                raise EncodingError(fault)

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return encode(plain(self))

    @property
    def digest(self) -> bytes:
        """Name of the swarm, 32 bytes."""
        return digest(_DOMAIN, self.encode())


def quorum(n: int, f: int) -> int:
    """Return how many members' votes decide: any two such groups share more than `f` members."""
    return (n + f) // 2 + 1


def tolerates(n: int, f: int) -> bool:
    """Say whether a swarm of `n` members can tolerate `f` liars."""
    return f == 0 or n >= 3 * f + 1


MEMBER = frozen(Member, name=NAME, signing_key=KEY, sealing_key=KEY)

_GENESIS = frozen(
    Genesis,
    name=NAME,
    rules=octets(500_000),
    founders=many(MEMBER, MEMBERS_MAX),
    f=natural(MEMBERS_MAX),
    min_updates=natural(MEMBERS_MAX),
    awaited_blocks=natural(10_000, at_least=1),
    patience_ms=natural(10**9, at_least=1),
    quotas=frozen(Quotas, entries=natural(10**9, at_least=64), size_bytes=natural(2**50, at_least=2**20)),
)


def decode_genesis(content: bytes) -> Genesis:
    """Read canonical bytes.

    Raises
    ------
    EncodingError
        If they are not those of a genesis by which a swarm can run.
    """
    return _GENESIS(decode(content))
