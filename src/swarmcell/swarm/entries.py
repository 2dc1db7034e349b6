"""Entries: what stands in the log, and the bytes that their authors sign.

An entry is the canonical map `{author, kind, payload, previous, sequence, signature, swarm}`. The signature is ed25519
over `DOMAIN` and the same map without `signature`. `previous` is the digest of the author's entry before (zeros at
sequence 1). An entry's digest is the SHA-256 of its bytes.
"""

import hashlib
from dataclasses import dataclass

from swarmcell.swarm.encoding import DIGEST_BYTES, EncodingError, Plain, decode, encode
from swarmcell.swarm.payloads import SHAPES, Payload
from swarmcell.swarm.shape import DIGEST, KEY, frozen, natural, octets, plain, text

DOMAIN = b"swarmcell/entry/v1\0"
SIGNATURE_BYTES = 64
NO_DIGEST = bytes(DIGEST_BYTES)
SEQUENCE_MAX = 2**40


@dataclass(frozen=True, kw_only=True, slots=True)
class _Envelope:
    swarm: bytes
    author: bytes
    sequence: int
    previous: bytes
    kind: str
    payload: Plain
    signature: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One decoded entry; `raw` are its bytes, `digest` their SHA-256."""

    swarm: bytes
    author: bytes
    sequence: int
    previous: bytes
    payload: Payload
    signature: bytes
    raw: bytes
    digest: bytes

    @property
    def kind(self) -> str:
        """The payload's kind."""
        return self.payload.KIND

    def signed_bytes(self) -> bytes:
        """Return the bytes that the signature covers."""
        return sign_bytes(self.swarm, self.author, self.sequence, self.previous, self.payload)


def sign_bytes(swarm: bytes, author: bytes, sequence: int, previous: bytes, payload: Payload) -> bytes:
    """Return the bytes that `author` signs for this entry."""
    return DOMAIN + encode(_unsigned(swarm, author, sequence, previous, payload))


def encode_entry(
    swarm: bytes, author: bytes, sequence: int, previous: bytes, payload: Payload, signature: bytes
) -> bytes:
    """Return the bytes of a signed entry, as they stand in the log.

    Raises
    ------
    EncodingError
        If the payload does not fit into one entry.
    """
    return encode({**_unsigned(swarm, author, sequence, previous, payload), "signature": signature})


def decode_entry(raw: bytes) -> Entry:
    """Read an entry; the signature is not checked here.

    Raises
    ------
    EncodingError
        If the bytes are not those of an entry of a known kind.
    """
    envelope = _ENVELOPE(decode(raw))
    shape = SHAPES.get(envelope.kind)
    if shape is None:
        msg = f"unknown kind {envelope.kind!r}"
        raise EncodingError(msg)
    return Entry(
        swarm=envelope.swarm,
        author=envelope.author,
        sequence=envelope.sequence,
        previous=envelope.previous,
        payload=shape(envelope.payload),
        signature=envelope.signature,
        raw=raw,
        digest=hashlib.sha256(raw).digest(),
    )


def _unsigned(swarm: bytes, author: bytes, sequence: int, previous: bytes, payload: Payload) -> dict[str, Plain]:
    return {
        "swarm": swarm,
        "author": author,
        "sequence": sequence,
        "previous": previous,
        "kind": payload.KIND,
        "payload": plain(payload),
    }


_ENVELOPE = frozen(
    _Envelope,
    swarm=DIGEST,
    author=KEY,
    sequence=natural(SEQUENCE_MAX, at_least=1),
    previous=DIGEST,
    kind=text(20),
    payload=lambda value: value,
    signature=octets(SIGNATURE_BYTES, at_least=SIGNATURE_BYTES),
)
