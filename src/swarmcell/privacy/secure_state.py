"""Where secure aggregation stands: what is agreed on between two merged states of the study.

Rules: canonical bytes, so that its digest stands in the block like any merged state's. While no sum is under way the
state is the study's own, bare: a study begins and ends with that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Literal

import numpy as np

from swarmcell.errors import MergeError
from swarmcell.model.encoding import Array, Named, decode, encode
from swarmcell.privacy.masks import KEY_BYTES
from swarmcell.privacy.shares import SEALED_BYTES

Phase = Literal["keys", "shares", "masked", "reveal"]
PHASES: tuple[Phase, ...] = ("keys", "shares", "masked", "reveal")
MAGIC = b"SCS1"
SHARE_WORDS = SEALED_BYTES // 8


@dataclass(frozen=True, kw_only=True)
class Session:
    """The keys of one sum, from their announcement to their use.

    Attributes
    ----------
    salt
        Digest of the state that the keys were made for.
    sites
        Labels, ascending; elsewhere a site is its place in this list.
    keys
        Public keys for pairwise masks and for shares, 64 bytes per site.
    dealers
        Sites that dealt shares of their seeds: only they mask.
    commitments
        Of each dealer's own seed, 32 bytes per site; zeros for those who dealt none.
    shares
        Sealed shares, int64 of shape `(n_sites, n_sites, SHARE_WORDS)`: dealer, holder.
    """

    salt: bytes
    sites: tuple[str, ...]
    keys: bytes
    dealers: tuple[int, ...] = ()
    commitments: bytes = b""
    shares: Array = field(default_factory=lambda: np.zeros((0, 0, SHARE_WORDS), np.int64))

    def pair_key(self, site: int) -> bytes:
        """Return a site's public key for pairwise masks."""
        return self.keys[2 * KEY_BYTES * site :][:KEY_BYTES]

    def share_key(self, site: int) -> bytes:
        """Return a site's public key for shares."""
        return self.keys[2 * KEY_BYTES * site + KEY_BYTES :][:KEY_BYTES]

    def commitment(self, site: int) -> bytes:
        """Return the commitment to a dealer's own seed."""
        return self.commitments[32 * site :][:32]

    def sealed(self, dealer: int, holder: int) -> bytes:
        """Return the shares that a dealer sealed for a holder."""
        return bytes(self.shares[dealer, holder].astype("<i8").tobytes())


@dataclass(frozen=True, kw_only=True)
class SecureState:
    """A sum under way.

    Attributes
    ----------
    inner
        The study's own merged state, which the sum will move on.
    attempt
        How often this sum was begun anew.
    current, coming
        The session of the sum under way, and the one that is being prepared beside it.
    staying
        Sites whose masked vectors are in `masked`; the other dealers dropped out.
    facts
        Sums of what stands in clear: `n_cells`, `n_donors`.
    masked
        Sum of the masked vectors modulo 2**64, as int64.
    excluded
        Labels of sites whose shares gave no seed back: they lied, and take no part in this study's sums any more.
    """

    phase: Phase
    inner: bytes
    attempt: int = 0
    current: Session | None = None
    coming: Session | None = None
    staying: tuple[int, ...] = ()
    facts: Mapping[str, int] = field(default_factory=dict)
    masked: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    excluded: tuple[str, ...] = ()

    def again(self) -> "SecureState":
        """Return the state in which the sum is begun anew."""
        return SecureState(phase="keys", inner=self.inner, attempt=self.attempt + 1, excluded=self.excluded)

    def with_(self, **changes: Any) -> "SecureState":  # noqa: ANN401 (fields of several types)
        """Return the state with these fields changed."""
        return replace(self, **changes)


def to_bytes(state: SecureState) -> bytes:
    """Return canonical bytes."""
    header: dict[str, Any] = {
        "phase": state.phase,
        "attempt": state.attempt,
        "staying": list(state.staying),
        "facts": dict(state.facts),
        "excluded": list(state.excluded),
    }
    arrays: dict[str, Array] = {"masked": state.masked}
    for name, session in (("current", state.current), ("coming", state.coming)):
        if session is not None:
            header[name] = {
                "salt": session.salt,
                "sites": list(session.sites),
                "keys": session.keys,
                "dealers": list(session.dealers),
                "commitments": session.commitments,
            }
            arrays[f"{name}.shares"] = session.shares
    named = encode(Named(header, arrays))
    return MAGIC + len(named).to_bytes(8, "little") + named + state.inner


def from_bytes(raw: bytes) -> SecureState:
    """Return the state; a study's own merged state is one in which keys are to be announced.

    Raises
    ------
    MergeError
        If the bytes are of neither kind.
    """
    if raw[: len(MAGIC)] != MAGIC:
        return SecureState(phase="keys", inner=raw)
    size = int.from_bytes(raw[4:12], "little")
    named = decode(raw[12 : 12 + size])
    try:
        return _state(dict(named.header), named.arrays, raw[12 + size :])
    except (KeyError, TypeError, ValueError) as error:
        msg = "the bytes are no state of secure aggregation."
        raise MergeError(msg) from error


def _state(header: dict[str, Any], arrays: Mapping[str, Array], inner: bytes) -> SecureState:
    sessions = {name: _session(header[name], arrays[f"{name}.shares"]) for name in _SESSIONS if name in header}
    return SecureState(
        phase=header["phase"],
        inner=inner,
        attempt=header["attempt"],
        staying=tuple(header["staying"]),
        facts=header["facts"],
        masked=arrays["masked"],
        excluded=tuple(header["excluded"]),
        **sessions,
    )


_SESSIONS = ("current", "coming")


def _session(fields: Mapping[str, Any], shares: Array) -> Session:
    return Session(
        salt=fields["salt"],
        sites=tuple(fields["sites"]),
        keys=fields["keys"],
        dealers=tuple(fields["dealers"]),
        commitments=fields["commitments"],
        shares=shares,
    )


def salt_of(raw: bytes) -> bytes:
    """Return what the keys announced in the round after this state are made for."""
    return sha256(raw).digest()
