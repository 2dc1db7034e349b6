"""How NATS writes ed25519 keys: base32 of a prefix, the key and a checksum.

Rules: a site's engine key signs nothing but the nonces of servers; it is never its signing key, because a server may
choose what its client signs.
"""

import base64
import binascii

import nkeys

_USER = nkeys.PREFIX_BYTE_USER


def user_seed(secret: bytes) -> str:
    """Return the nkey seed (a secret) of a site's 32-byte engine secret."""
    return str(nkeys.encode_seed(secret, _USER).decode())  # type: ignore[no-untyped-call]


def user_key(public: bytes) -> str:
    """Return the public nkey (56 characters, `U...`) of a site's 32-byte engine key."""
    prefixed = bytes([_USER]) + public
    checksum = binascii.crc_hqx(prefixed, 0).to_bytes(2, "little")
    return base64.b32encode(prefixed + checksum).decode().rstrip("=")
