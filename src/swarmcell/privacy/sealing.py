"""Sealing: what leaves a site is readable by the members of its swarm only, never by the engine.

Rules: parameters are sealed under the swarm's key with XChaCha20-Poly1305 and a random 192-bit nonce, bound to where
they belong (`Seal`), so that a sealed blob cannot be moved to another swarm, author, round or epoch. The swarm's key
travels wrapped for each member (X25519 sealed box). All of it is libsodium's, nothing home-made.
"""

import hashlib
from dataclasses import dataclass

import nacl.bindings
import nacl.exceptions
import nacl.public
import nacl.utils

from swarmcell.errors import TamperedError

KEY_BYTES = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_KEYBYTES
NONCE_BYTES = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
OVERHEAD_BYTES = NONCE_BYTES + nacl.bindings.crypto_aead_xchacha20poly1305_ietf_ABYTES
_SEAL_DOMAIN = b"swarmcell/seal/v1\0"
_KEY_DOMAIN = b"swarmcell/key/v1\0"


@dataclass(frozen=True, kw_only=True)
class Seal:
    """Where sealed bytes belong; the associated data of the cipher.

    Attributes
    ----------
    swarm, author
        32 bytes each: digest of the genesis, signing key of the author.
    round
        Round of an update, height of a checkpoint; 0 for what is of no round.
    epoch
        Epoch of the swarm's key.
    purpose
        `update`, `statistics`, `checkpoint` or `trained`: one is never taken for another.
    """

    swarm: bytes
    author: bytes
    round: int
    epoch: int
    purpose: str

    def associated(self) -> bytes:
        """Return the associated data: every field has a fixed place, so no two seals share their bytes."""
        numbers = self.round.to_bytes(8, "big") + self.epoch.to_bytes(8, "big")
        return _SEAL_DOMAIN + self.swarm + self.author + numbers + self.purpose.encode("ascii")


def new_swarm_key() -> bytes:
    """Return a fresh swarm key from the operating system's randomness."""
    return nacl.utils.random(KEY_BYTES)


def key_digest(key: bytes) -> bytes:
    """Return the digest by which blocks commit to a swarm key."""
    return hashlib.sha256(_KEY_DOMAIN + key).digest()


def wrap(key: bytes, sealing_key: bytes) -> bytes:
    """Wrap a swarm key for the member with this public sealing key."""
    return nacl.public.SealedBox(nacl.public.PublicKey(sealing_key)).encrypt(key)


def unwrap(wrapped: bytes, sealing_secret: bytes) -> bytes:
    """Open a wrapped swarm key.

    Raises
    ------
    TamperedError
        If it was wrapped for somebody else, or changed.
    """
    try:
        key = nacl.public.SealedBox(nacl.public.PrivateKey(sealing_secret)).decrypt(wrapped)
    except (nacl.exceptions.CryptoError, ValueError, TypeError) as error:
        msg = "the wrapped swarm key does not open with this identity: it was wrapped for another member, or changed"
        raise TamperedError(msg) from error
    if len(key) != KEY_BYTES:
        msg = f"the wrapped swarm key holds {len(key)} bytes, expected {KEY_BYTES}"
        raise TamperedError(msg)
    return key


def seal(plain: bytes, key: bytes, where: Seal) -> bytes:
    """Seal bytes: nonce, then ciphertext with its tag; `OVERHEAD_BYTES` longer than `plain`."""
    nonce = nacl.utils.random(NONCE_BYTES)
    cipher = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, where.associated(), nonce, key)
    return nonce + cipher


def open_sealed(sealed: bytes, key: bytes, where: Seal) -> bytes:
    """Open sealed bytes.

    Raises
    ------
    TamperedError
        If they were sealed under another key or for another place, or changed.
    """
    nonce, cipher = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
    try:
        return nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(cipher, where.associated(), nonce, key)
    except (nacl.exceptions.CryptoError, ValueError, TypeError) as error:
        msg = f"sealed bytes of round {where.round} do not open: another key, another place, or changed bytes"
        raise TamperedError(msg) from error
