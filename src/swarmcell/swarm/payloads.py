"""What an entry can say: one frozen record and one shape per kind. `Payload` is their union.

Heights, views, rounds and epochs count from 0 (round 1 is the first merge). Digests are 32 bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from swarmcell.swarm.encoding import BYTES_MAX
from swarmcell.swarm.genesis import MEMBER, MEMBERS_MAX, Member
from swarmcell.swarm.shape import DIGEST, KEY, Shape, frozen, many, natural, octets, one_of, row, scalar, table, text

CHUNK_BYTES_MAX = 512 * 1024
CHUNKS_MAX = 16_384  # 8 GiB of sealed parameters
TRAINED_BYTES_MAX = 320 * 1024  # of sealed digests of cells
VIEW_MAX = 10_000
HEIGHT_MAX = 2**40
WRAP_BYTES_MAX = 200  # a sealed box around a 32-byte key takes 80
Wraps: TypeAlias = tuple[tuple[bytes, bytes], ...]  # (a member's signing key, the swarm key sealed to it), ascending


@dataclass(frozen=True, kw_only=True, slots=True)
class Accept:
    """A founder accepts the genesis, and brings the swarm's first key or names the one that it accepts.

    `wraps` seals a fresh key for every founder, or is empty: then `key_digest` names an earlier accept's key.
    """

    KIND: ClassVar[str] = "accept"
    key_digest: bytes
    wraps: Wraps = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """One chunk of sealed bytes, known by the SHA-256 of its content; counts only for its author."""

    KIND: ClassVar[str] = "blob"
    content: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class _Contribution:
    round: int
    epoch: int
    base: bytes
    parameters: bytes
    chunks: tuple[bytes, ...]
    size_bytes: int
    n_cells: int
    n_donors: int
    figures: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics(_Contribution):
    """A site's exact integer sums for one round; the fields are those of `Update`."""

    KIND: ClassVar[str] = "statistics"


@dataclass(frozen=True, kw_only=True, slots=True)
class Update(_Contribution):
    """A site's trained parameters for one round.

    Attributes
    ----------
    round, epoch
        The round, and the epoch of the swarm key that sealed the chunks.
    base
        Digest of the merged state that training started from.
    parameters
        Digest of the plain parameters.
    chunks
        Digests of the sealed chunks in order; joined they are the sealed parameters, `size_bytes` long.
    n_cells, n_donors, figures
        What it was trained on, and validation figures in integers.
    """

    KIND: ClassVar[str] = "update"


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """I have waited long enough for round `round`."""

    KIND: ClassVar[str] = "patience"
    round: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Attest:
    """By my own merge, the body with this digest is right. One per height and view."""

    KIND: ClassVar[str] = "attest"
    height: int
    view: int
    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """I hold a certificate (a quorum of attests of this view) for the body. `content`: its bytes, if new to the log."""

    KIND: ClassVar[str] = "commit"
    height: int
    view: int
    body: bytes
    content: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class Next:
    """Let us open view `view`; I sign in none below it any more.

    Attributes
    ----------
    certified
        View of my highest certificate plus one; 0 if I hold none.
    content
        Bytes of the certified body; empty if there is none.
    known
        Entry digests of the valid contributions that I know (at height 0: of the accepts whose key I can open).
    approved
        Entry digests of the proposals that a quorum approved. Both lists ascend.
    """

    KIND: ClassVar[str] = "next"
    height: int
    view: int
    certified: int = 0
    content: bytes = b""
    known: tuple[bytes, ...] = ()
    approved: tuple[bytes, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Propose:
    """A change of the roster, of the swarm's key, or the end of the study; proposing is approving.

    Attributes
    ----------
    change
        `admit` (member; `wraps` holds the present key for it alone), `revoke` (member; a fresh key for all who stay),
        `rotate` (a fresh key for all) or `end`.
    member
        Whom it is about; for `rotate` and `end` the proposer.
    f
        Liars tolerated from then on.
    key_digest, wraps
        The swarm key that holds from then on.
    """

    KIND: ClassVar[str] = "propose"
    change: str
    member: Member
    f: int
    key_digest: bytes
    wraps: Wraps = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Approve:
    """I approve the proposal with this entry digest."""

    KIND: ClassVar[str] = "approve"
    proposal: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Wrap:
    """A swarm key, sealed for members who could not open theirs; checkable by its digest in the body.

    Without `wraps` it asks: I cannot open this key, seal it for me.
    """

    KIND: ClassVar[str] = "wrap"
    key_digest: bytes
    wraps: Wraps


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """The merged state of block `height`, sealed in chunks, with the body and the commits that made it final."""

    KIND: ClassVar[str] = "checkpoint"
    height: int
    epoch: int
    content: bytes
    certificate: tuple[bytes, ...]
    chunks: tuple[bytes, ...]
    size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Acknowledge:
    """I have opened this checkpoint, and it holds the state of its block: what is below may be trimmed."""

    KIND: ClassVar[str] = "acknowledge"
    height: int
    checkpoint: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """A site's held-out results for a merged state: counts only."""

    KIND: ClassVar[str] = "evaluation"
    state: bytes
    counts: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedOn:
    """What this site trains on, said before its first contribution: a member's newest one counts.

    Attributes
    ----------
    commitment
        Digest of a list that only the site holds, and can show later.
    epoch, content
        Where the study's rules allow it: digests of some cells of each donor, sealed under the swarm key of an epoch.
    """

    KIND: ClassVar[str] = "trained"
    commitment: bytes
    epoch: int = 0
    content: bytes = b""


Payload: TypeAlias = (
    Accept
    | Blob
    | Statistics
    | Update
    | Patience
    | Attest
    | Commit
    | Next
    | Propose
    | Approve
    | Wrap
    | Checkpoint
    | Acknowledge
    | Evaluation
    | TrainedOn
)

_HEIGHT = natural(HEIGHT_MAX)
_VIEW = natural(VIEW_MAX)
_WRAPS = many(row(KEY, octets(WRAP_BYTES_MAX)), MEMBERS_MAX, ordered=True)
_DIGESTS = many(DIGEST, 2 * MEMBERS_MAX, ordered=True)
_CONTENT = octets(BYTES_MAX)
_CHUNKS = many(DIGEST, CHUNKS_MAX)
_CONTRIBUTION: dict[str, Shape] = {
    "round": natural(HEIGHT_MAX, at_least=1),
    "epoch": _HEIGHT,
    "base": DIGEST,
    "parameters": DIGEST,
    "chunks": _CHUNKS,
    "size_bytes": natural(CHUNKS_MAX * CHUNK_BYTES_MAX),
    "n_cells": natural(2**50),
    "n_donors": natural(2**50),
    "figures": table(natural(at_least=-(2**63)), 64),
}
SHAPES: Mapping[str, Shape] = {
    "accept": frozen(Accept, key_digest=DIGEST, wraps=_WRAPS),
    "blob": frozen(Blob, content=octets(CHUNK_BYTES_MAX, at_least=1)),
    "statistics": frozen(Statistics, **_CONTRIBUTION),
    "update": frozen(Update, **_CONTRIBUTION),
    "patience": frozen(Patience, round=natural(HEIGHT_MAX, at_least=1)),
    "attest": frozen(Attest, height=_HEIGHT, view=_VIEW, body=DIGEST),
    "commit": frozen(Commit, height=_HEIGHT, view=_VIEW, body=DIGEST, content=_CONTENT),
    "next": frozen(
        Next,
        height=_HEIGHT,
        view=natural(VIEW_MAX, at_least=1),
        certified=_VIEW,
        content=_CONTENT,
        known=_DIGESTS,
        approved=_DIGESTS,
    ),
    "propose": frozen(
        Propose,
        change=one_of("admit", "revoke", "rotate", "end"),
        member=MEMBER,
        f=natural(MEMBERS_MAX),
        key_digest=DIGEST,
        wraps=_WRAPS,
    ),
    "approve": frozen(Approve, proposal=DIGEST),
    "wrap": frozen(Wrap, key_digest=DIGEST, wraps=_WRAPS),
    "checkpoint": frozen(
        Checkpoint,
        height=_HEIGHT,
        epoch=_HEIGHT,
        content=_CONTENT,
        certificate=many(_CONTENT, MEMBERS_MAX),
        chunks=_CHUNKS,
        size_bytes=natural(CHUNKS_MAX * CHUNK_BYTES_MAX),
    ),
    "acknowledge": frozen(Acknowledge, height=_HEIGHT, checkpoint=DIGEST),
    "evaluation": frozen(Evaluation, state=DIGEST, counts=table(many(natural(2**50), 10_000), 64)),
    "trained": frozen(TrainedOn, commitment=DIGEST, epoch=_HEIGHT, content=octets(TRAINED_BYTES_MAX)),
}
REASON = text(200)
ABOUT = table(scalar, 32)
