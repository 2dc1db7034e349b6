"""A body: what a block says. It alone determines where the swarm stands after its block.

Bodies hold no votes, no signatures and no log positions, so every peer that merges the same contributions computes the
same bytes. `standing` tells of each member in which round its contribution was last merged: the awaited follow from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from swarmcell.swarm.encoding import EncodingError, Plain, decode, digest, encode
from swarmcell.swarm.genesis import MEMBERS_MAX, NAME, Member
from swarmcell.swarm.payloads import ABOUT, HEIGHT_MAX, REASON
from swarmcell.swarm.shape import DIGEST, KEY, flag, frozen, many, natural, one_of, plain, row

_DOMAIN = b"swarmcell/body/v1\0"
KINDS = ("genesis", "merge", "admit", "revoke", "rotate", "end")


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """A member, and the last round with a contribution of its own (at admission: the round before)."""

    member: Member
    last_round: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """What a block says.

    Attributes
    ----------
    height, previous
        Blocks count from 0; `previous` is the digest of the body before (zeros at height 0).
    kind
        What the block did.
    round
        Merge blocks so far, this one counted.
    roster, f, epoch, key_digest
        Members after this block, ascending by signing key; liars tolerated; the swarm key that holds from here on.
    included, left_out
        Merged contributions (author, entry digest), ascending; and those left out (author, entry digest, reason).
    proposal
        Entry digest of the proposal or accept that the block carries out; empty for a merge.
    state, about
        Digest of all merged state, and what it is. `sites_needed` there binds the swarm: the next round closes with no
        fewer contributions.
    finished, failure
        The study has ended, and why if not well.
    """

    height: int
    previous: bytes
    kind: str
    round: int
    roster: tuple[Standing, ...]
    f: int
    epoch: int
    key_digest: bytes
    included: tuple[tuple[bytes, bytes], ...] = ()
    left_out: tuple[tuple[bytes, bytes, str], ...] = ()
    proposal: bytes = b""
    state: bytes
    about: Mapping[str, int | str] = field(default_factory=dict)
    finished: bool = False
    failure: str = ""

    @property
    def sites_needed(self) -> int:
        """How many sites the study needs for its next round, whatever the quorum; 0: it says nothing of that."""
        needed = self.about.get("sites_needed", 0)
        return needed if isinstance(needed, int) else 0

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        rows: Plain = [[s.member.name, s.member.signing_key, s.member.sealing_key, s.last_round] for s in self.roster]
        content = {name: plain(getattr(self, name)) for name in _BODY if name != "roster"}
        return encode({**content, "roster": rows})


def body_digest(content: bytes) -> bytes:
    """Return the digest of a body's bytes, 32 bytes."""
    return digest(_DOMAIN, content)


def _standing(value: tuple[str, bytes, bytes, int]) -> Standing:
    name, signing_key, sealing_key, last_round = value
    return Standing(member=Member(name=name, signing_key=signing_key, sealing_key=sealing_key), last_round=last_round)


_HEIGHT = natural(HEIGHT_MAX)
_ROW = row(NAME, KEY, KEY, _HEIGHT)
_BODY = {
    "height": _HEIGHT,
    "previous": DIGEST,
    "kind": one_of(*KINDS),
    "round": _HEIGHT,
    "roster": many(lambda value: _standing(_ROW(value)), MEMBERS_MAX),
    "f": natural(MEMBERS_MAX),
    "epoch": _HEIGHT,
    "key_digest": DIGEST,
    "included": many(row(KEY, DIGEST), MEMBERS_MAX, ordered=True),
    "left_out": many(row(KEY, DIGEST, REASON), MEMBERS_MAX, ordered=True),
    "proposal": lambda value: b"" if value == b"" else DIGEST(value),
    "state": DIGEST,
    "about": ABOUT,
    "finished": flag,
    "failure": REASON,
}
_SHAPE = frozen(Body, **_BODY)


@lru_cache(maxsize=64)
def decode_body(content: bytes) -> Body:
    """Read a body's bytes.

    Raises
    ------
    EncodingError
        If they are not those of a body, or its roster is empty, unordered or has one key twice.
    """
    body = _SHAPE(decode(content))
    keys = [standing.member.signing_key for standing in body.roster]
    if not keys or keys != sorted(set(keys)):
        msg = "a roster must ascend by key and hold at least one member"
        raise EncodingError(msg)
    return body
