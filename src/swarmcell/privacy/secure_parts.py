"""What a site says in a round of secure aggregation, and the screening of it.

Rules: screening is a total function of the contribution's bytes and of the agreed state; every peer leaves out the same
contributions for the same reasons. A site that has nothing to say in a round says so, and nobody waits for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from swarmcell.errors import MergeError
from swarmcell.model.contribution import Contribution
from swarmcell.model.encoding import Array, Named, decode, encode
from swarmcell.privacy.masks import KEY_BYTES, is_public_key
from swarmcell.privacy.secure_state import SHARE_WORDS, SecureState, Session

COMMITMENT_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Part:
    """One site's part of a round; what it does not hold is empty.

    Attributes
    ----------
    keys
        Public keys for the sum after the present one, 64 bytes.
    commitment, shares
        To its own seed, and its sealed shares, int64 of shape `(n_sites, SHARE_WORDS)`.
    masked
        Its masked vector, as int64.
    revealed
        Shares that it holds, int64 of shape `(n_sites, 2)`: of the own seed of who stays, of the pair seed of who left.
    """

    author: str = ""
    n_cells: int = 0
    n_donors: int = 0
    keys: bytes = b""
    commitment: bytes = b""
    shares: Array | None = None
    masked: Array | None = None
    revealed: Array | None = None


def said(part: Part, state: SecureState, salt: bytes) -> Contribution:
    """Return a site's part as a contribution to the round after `state`, whose bytes have the digest `salt`."""
    header: dict[str, Any] = {"phase": state.phase, "salt": salt, "keys": part.keys, "commitment": part.commitment}
    arrays = {name: getattr(part, name) for name in _ARRAYS if getattr(part, name) is not None}
    return Contribution(
        kind="statistics", parameters=encode(Named(header, arrays)), n_cells=part.n_cells, n_donors=part.n_donors
    )


_ARRAYS = ("masked", "revealed", "shares")


def screen(
    state: SecureState, salt: bytes, n_values: int, contributions: Sequence[Contribution]
) -> tuple[list[Part], dict[int, str]]:
    """Return the parts that count, by label, and why the others do not, by index."""
    parts: dict[str, Part] = {}
    reasons: dict[int, str] = {}
    order = sorted(range(len(contributions)), key=lambda i: (contributions[i].author, contributions[i].parameters))
    for index in order:
        try:
            part = _opened(state, salt, n_values, contributions[index])
        except MergeError as error:
            reasons[index] = str(error)
            continue
        if part.author in parts:
            reasons[index] = "is the second one of its site"
        else:
            parts[part.author] = part
    return [parts[author] for author in sorted(parts)], reasons


def _opened(state: SecureState, salt: bytes, n_values: int, contribution: Contribution) -> Part:
    if not contribution.author or contribution.author in state.excluded:
        _refuse("is of no site that takes part")
    named = decode(contribution.parameters)
    header = dict(named.header)
    if (header.get("phase"), header.get("salt")) != (state.phase, salt):
        _refuse("belongs to another round")
    if sorted(header) != ["commitment", "keys", "phase", "salt"] or not set(named.arrays) <= set(_ARRAYS):
        _refuse("holds what no part of a secure sum holds")
    part = Part(
        author=contribution.author,
        n_cells=contribution.n_cells,
        n_donors=contribution.n_donors,
        keys=header["keys"],
        commitment=header["commitment"],
        **named.arrays,
    )
    _check(part, state, n_values)
    return part


def _check(part: Part, state: SecureState, n_values: int) -> None:
    held = {name for name in ("keys", "shares", "masked", "revealed") if _is_there(getattr(part, name))}
    allowed = {"keys": {"keys"}, "shares": {"shares"}, "masked": {"keys", "masked"}, "reveal": {"revealed", "shares"}}
    if not held <= allowed[state.phase]:
        _refuse(f"holds {', '.join(sorted(held))} in a round of {state.phase}")
    if part.keys and not _are_keys(part.keys):
        _refuse("its keys are none")
    if "shares" in held:
        _check_dealt(part, state.coming)
    if "masked" in held:
        _check_place(part.author, state.current, "masked")
        _check_shape(part.masked, (n_values,), "masked vector")
    if "revealed" in held:
        n_sites = _check_place(part.author, state.current, "revealed")
        _check_shape(part.revealed, (n_sites, 2), "revealed shares")


def _is_there(value: object) -> bool:
    return value is not None and value != b"" if isinstance(value, bytes) else value is not None


def _are_keys(keys: object) -> bool:
    right = isinstance(keys, bytes) and len(keys) == 2 * KEY_BYTES
    return right and is_public_key(keys[:KEY_BYTES]) and is_public_key(keys[KEY_BYTES:])  # type: ignore[index]


def _check_dealt(part: Part, session: Session | None) -> None:
    n_sites = _check_place(part.author, session, "shared")
    _check_shape(part.shares, (n_sites, SHARE_WORDS), "shares")
    if not isinstance(part.commitment, bytes) or len(part.commitment) != COMMITMENT_BYTES:
        _refuse("commits to no seed")


def _check_place(author: str, session: Session | None, what: str) -> int:
    """Return the number of the session's sites, one of which the author must be: a dealer, if it masked."""
    if session is None or author not in session.sites:
        _refuse(f"{what} something, and announced no keys")
    if what == "masked" and session.sites.index(author) not in session.dealers:
        _refuse("masked something, and dealt no shares")
    return len(session.sites)


def _check_shape(array: Array | None, shape: tuple[int, ...], what: str) -> None:
    if array is None or array.dtype.itemsize != 8 or array.shape != shape:
        found = "nothing" if array is None else f"int{array.dtype.itemsize * 8} {array.shape}"
        _refuse(f"its {what} are {found}, expected int64 {shape}")


def _refuse(why: str) -> NoReturn:
    raise MergeError(why)


def flat(arrays: Mapping[str, Array], facts: Sequence[int]) -> Array:
    """Return arrays (by name) and single integers as one int64 vector."""
    parts = [arrays[name].reshape(-1).astype(np.int64) for name in sorted(arrays)]
    return np.concatenate([*parts, np.array(facts, np.int64)])
