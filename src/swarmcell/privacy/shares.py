"""Shares of a seed: any `threshold` of them give it back, fewer tell nothing. Shamir's scheme, of PyCryptodome.

Rules: a share travels sealed from its dealer to its holder (libsodium's box). Whoever puts shares together checks the
result against what the dealer published, and tries other subsets where some holders lied.
"""

from collections.abc import Callable, Mapping
from itertools import combinations, islice

import nacl.exceptions
import nacl.public
from Crypto.Protocol.SecretSharing import Shamir

from swarmcell.privacy.masks import SEED_BYTES

SUBSETS_MAX = 2000  # tried where holders lied; chosen: all subsets of 4 among 16
SEALED_BYTES = nacl.public.Box.NONCE_SIZE + 16 + 2 * SEED_BYTES  # both shares of one holder, with the cipher's tag


def split(seed: bytes, threshold: int, n_holders: int) -> list[bytes]:
    """Return a share of 16 bytes for each holder, in order."""
    return [share for _, share in Shamir.split(threshold, n_holders, seed)]


def combine(shares: Mapping[int, bytes], threshold: int, is_right: Callable[[bytes], bool]) -> bytes | None:
    """Return the seed that `is_right` accepts, from the shares by holder (counted from 0); `None` if there is none."""
    holders = sorted(shares)
    for chosen in islice(combinations(holders, threshold), SUBSETS_MAX):
        seed = bytes(Shamir.combine([(holder + 1, shares[holder]) for holder in chosen]))
        if is_right(seed):
            return seed
    return None


def seal(pair_share: bytes, own_share: bytes, share_key: bytes, holder: bytes) -> bytes:
    """Seal a holder's shares of both seeds; `SEALED_BYTES` long."""
    return bytes(_box(share_key, holder).encrypt(pair_share + own_share))


def open_sealed(sealed: bytes, share_key: bytes, dealer: bytes) -> tuple[bytes, bytes] | None:
    """Return the shares of both seeds that a dealer sealed for this holder; `None` if they do not open."""
    try:
        plain = bytes(_box(share_key, dealer).decrypt(sealed))
    except (nacl.exceptions.CryptoError, ValueError, TypeError):
        return None
    return (plain[:SEED_BYTES], plain[SEED_BYTES:]) if len(plain) == 2 * SEED_BYTES else None


def _box(share_key: bytes, public: bytes) -> nacl.public.Box:
    return nacl.public.Box(nacl.public.PrivateKey(share_key), nacl.public.PublicKey(public))
