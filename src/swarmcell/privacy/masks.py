"""Masks of secure aggregation: pairwise ones that cancel in the sum, and a site's own, both of one round only.

Rules: vectors are integers modulo 2**64. Keys of a round are derived from a site's secret and the state that they are
made for, so a peer that crashes makes the same ones again, and no two rounds share any. X25519, HKDF and ChaCha20 are
those of `cryptography`.

References
----------
Bonawitz et al. 2017, CCS, doi 10.1145/3133956.3133982 (the double masking; its round structure is in `secure_sum`).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

Vector = npt.NDArray[np.uint64]

KEY_BYTES = 32
SEED_BYTES = 16  # of a mask, and of the key that pairwise masks come from: what a Shamir share holds
_DOMAIN = b"swarmcell/secure-sum/v1/"


@dataclass(frozen=True)
class RoundKeys:
    """A site's secrets of one round, from its secret and the digest of the state that they are made for.

    Attributes
    ----------
    pair_seed
        Seed of the X25519 key that pairwise masks come from; shared out, and revealed if the site drops out.
    own_seed
        Seed of the site's own mask; shared out, and revealed if the site stays.
    share_key
        X25519 secret of the channels on which shares are sent; never leaves the site.
    """

    pair_seed: bytes
    own_seed: bytes
    share_key: bytes

    @cached_property
    def public(self) -> tuple[bytes, bytes]:
        """The public keys for pairwise masks and for shares, 32 bytes each."""
        return public_of_seed(self.pair_seed), _public(X25519PrivateKey.from_private_bytes(self.share_key))


def round_keys(secret: bytes, state_digest: bytes) -> RoundKeys:
    """Derive a site's keys of the round that follows the state with this digest."""
    pair, own, share = (_derive(secret, state_digest, name) for name in (b"pair", b"own", b"share"))
    return RoundKeys(pair[:SEED_BYTES], own[:SEED_BYTES], share)


def public_of_seed(seed: bytes) -> bytes:
    """Return the public key for pairwise masks that belongs to a revealed seed."""
    return _public(_pair_key(seed))


def commitment(seed: bytes) -> bytes:
    """Return what a site publishes beside its masked vector, so that a false share of its own seed shows."""
    return hashlib.sha256(_DOMAIN + b"commit" + seed).digest()


def is_public_key(key: object) -> bool:
    """Say whether a stranger's value can serve as a public key (a point of low order gives everybody one secret)."""
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        return False
    try:
        X25519PrivateKey.from_private_bytes(bytes(range(KEY_BYTES))).exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError:
        return False
    return True


def own_mask(seed: bytes, n: int) -> Vector:
    """Return a site's own mask, shape `(n,)`."""
    return key_stream(_derive(seed, b"", b"own-mask"), n)


def pair_mask(seed: bytes, other: bytes, n: int, *, is_first: bool) -> Vector:
    """Return what the site with `seed` adds for the pair with `other`: the other one adds its negative.

    Parameters
    ----------
    seed
        Seed of a site's key for pairwise masks.
    other
        Public key of the other site.
    is_first
        Whether the site stands before the other one in the list of sites.
    """
    key = _pair_key(seed)
    low, high = sorted((_public(key), other))
    mask = key_stream(_derive(key.exchange(X25519PublicKey.from_public_bytes(other)), low + high, b"pair-mask"), n)
    return mask if is_first else np.negative(mask)


def total(parts: Iterable[Vector], n: int) -> Vector:
    """Return the sum modulo 2**64."""
    found = np.zeros(n, np.uint64)
    for part in parts:
        found += part
    return found


def key_stream(key: bytes, n: int) -> Vector:
    """Return `n` words of the ChaCha20 key stream; each key serves one purpose, so the nonce is fixed."""
    encryptor = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
    return np.frombuffer(encryptor.update(bytes(8 * n)), "<u8").astype(np.uint64)


def _pair_key(seed: bytes) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(_derive(seed, b"", b"pair-key"))


def _public(key: X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def _derive(secret: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_BYTES, salt or None, _DOMAIN + purpose).derive(secret)
