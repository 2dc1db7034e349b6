"""What `decide` asks of a peer. The node performs each and tells `Me` the result; nothing here is ever fatal twice.

Asking is idempotent: as long as an action's result has not been told to `Me`, every `decide` asks again, so the node
starts each long one (`Contribute`, `Merge`, `OpenKey`, `Open`, `WriteCheckpoint`) once and drops repetitions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from swarmcell.swarm.genesis import Member
from swarmcell.swarm.payloads import Payload, Statistics, Update


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A valid contribution as this peer's ledger holds it.

    Attributes
    ----------
    author, digest
        Signing key of its author, and the digest of its entry.
    payload
        The entry's payload: epoch of the key, digests, counts.
    position, chunks
        Where the entry and its chunks stand in this peer's ledger (the positions given to `State.apply`).
    """

    author: bytes
    digest: bytes
    payload: Statistics | Update
    position: int
    chunks: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a merge gave, as the node tells it: `me.merged(key, outcome)`.

    Attributes
    ----------
    state
        Digest of all merged state.
    left_out
        Reason per author whose contribution was not merged; a total function of the contributions' bytes.
    finished, failure, about
        As `node.task.Merge` and `Task.describe` say.
    """

    state: bytes
    left_out: Mapping[bytes, str] = field(default_factory=dict)
    finished: bool = False
    failure: str = ""
    about: Mapping[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sign:
    """Sign this payload as the author's next entry, store it, `me.remember` it, append it. In this order."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class Resend:
    """Append the stored bytes of this peer's own entries with these sequences once more: the log does not show them."""

    sequences: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class BringKey:
    """Sign an `Accept` with a fresh swarm key, sealed for every founder (keep the key)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenKey:
    """Open a swarm key; then `me.opened_key(key_digest)`, or `me.refuse(key_digest, why)` if none of the wraps serves.

    `wraps` are the ciphertexts sealed for this peer, any of which may hold the key.
    """

    epoch: int
    key_digest: bytes
    wraps: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class WrapKey:
    """Sign a `Wrap` of this swarm key, which is at hand, sealed for a member who asked for it."""

    key_digest: bytes
    member: Member


@dataclass(frozen=True, kw_only=True, slots=True)
class Contribute:
    """Train from the state `base` for `round`; then sign the blobs and the update.

    If this site has nothing to add: `me.refuse(contribution_key(round), why)`.
    """

    round: int
    epoch: int
    base: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Merge:
    """Merge `offers` (ascending by author) into the state `base`; keep the new state; `me.merged(key, outcome)`.

    At height 0 there are no offers and `base` is empty: the outcome is that of `task.start()`. If a blob cannot be
    opened: `me.refuse(key, why)`; the peer then abstains.
    """

    key: bytes
    height: int
    round: int
    base: bytes
    offers: tuple[Offer, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Open:
    """Open a checkpoint's sealed state and check its digest; then `me.holds(state)` or `me.refuse(digest, why)`.

    `digest` is that of the checkpoint's entry; `chunks` are positions in this peer's ledger.
    """

    digest: bytes
    author: bytes
    height: int
    epoch: int
    state: bytes
    chunks: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteCheckpoint:
    """Seal the state of block `height`, sign its blobs and the `Checkpoint` (with this body and these raw commits)."""

    height: int
    epoch: int
    state: bytes
    content: bytes
    certificate: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do now, and why: for whom (signing keys) and since when (this peer's clock)."""

    reason: str
    who: tuple[bytes, ...]
    since_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Finish:
    """The study has ended; `failure` is empty if it ended well. Asked for as long as the peer runs."""

    state: bytes
    failure: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Sign nothing any more, and tell the operator why."""

    reason: str


Action: TypeAlias = (
    Sign | Resend | BringKey | OpenKey | WrapKey | Contribute | Merge | Open | WriteCheckpoint | Wait | Finish | Stop
)
