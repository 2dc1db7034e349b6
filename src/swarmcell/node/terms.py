"""What a peer is run with, and what is left when its study has ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from swarmcell.swarm.body import Body


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a study ended at this peer.

    Attributes
    ----------
    height
        Of the last block.
    digest, state
        SHA-256 of the merged state, and its bytes: equal at every peer.
    failure
        Why the study could not go on; empty if it ended well.
    bodies
        All final bodies that this peer followed, in order; from a checkpoint's on if it began there.
    """

    height: int
    digest: bytes
    state: bytes
    failure: str
    bodies: tuple[Body, ...]


@dataclass(frozen=True)
class Claim:
    """What a site says that it trains on.

    Attributes
    ----------
    commitment
        Digest of a list that the site keeps.
    shared
        What other members may read of it; empty: nothing.
    """

    commitment: bytes
    shared: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a site decides for its own peer.

    Attributes
    ----------
    pins
        Body digests by height that an invitation vouches for; another history is refused.
    claim
        What this site says that it trains on, before its first contribution; `None`: it says nothing.
    history_bytes_max
        How much of log and ledger is kept: what is more is trimmed, never above a checkpoint that a quorum has opened.
    """

    pins: Mapping[int, bytes] = field(default_factory=dict)
    claim: Claim | None = None
    history_bytes_max: int = 8 * 2**30  # chosen: a study of some hundred rounds of 1 MB updates is kept whole


STANDARD = Terms()
