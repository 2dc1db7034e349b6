"""Blobs: parameters on their way through the log, sealed and cut into chunks; and the swarm keys that open them.

Rules: a chunk is known by the SHA-256 of its content. Whoever holds the right key and still cannot open a blob knows
that nobody can; that is a fact of its bytes, and a reason to leave it out. Who lacks the key abstains.
"""

import hashlib
from collections.abc import Sequence

from swarmcell.errors import TamperedError
from swarmcell.node.identity import Identity
from swarmcell.node.ledger import Ledger
from swarmcell.node.task import Contribution
from swarmcell.privacy import sealing
from swarmcell.privacy.sealing import Seal
from swarmcell.swarm.actions import Offer
from swarmcell.swarm.entries import decode_entry
from swarmcell.swarm.genesis import Member
from swarmcell.swarm.payloads import CHUNK_BYTES_MAX, Accept, Blob, Statistics, Update, Wrap, Wraps


class Keyring:
    """The swarm keys that this identity holds, by digest; in memory only, opened anew from the log at each start."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._keys: dict[bytes, bytes] = {}
        self._epochs: dict[int, bytes] = {}

    def bring(self, members: Sequence[Member]) -> Accept:
        """Make a fresh swarm key, keep it, and return it sealed for every member."""
        key = sealing.new_swarm_key()
        digest = sealing.key_digest(key)
        self._keys[digest] = key
        return Accept(key_digest=digest, wraps=wraps(key, members))

    def open(self, digest: bytes, wrapped: Sequence[bytes]) -> bool:
        """Open the swarm key with this digest; false if none of these ciphertexts holds it."""
        for ciphertext in wrapped:
            try:
                key = sealing.unwrap(ciphertext, self._identity.sealing_secret)
            except TamperedError:
                continue
            if sealing.key_digest(key) == digest:
                self._keys[digest] = key
        return digest in self._keys

    def wrap_for(self, digest: bytes, member: Member) -> Wrap:
        """Return a swarm key that is held here, sealed for one more member."""
        return Wrap(key_digest=digest, wraps=wraps(self._keys[digest], [member]))

    def begin_epoch(self, epoch: int, digest: bytes) -> None:
        """Note which key a final block made that of an epoch."""
        self._epochs[epoch] = digest

    def of_epoch(self, epoch: int) -> bytes | None:
        """Return the key of an epoch, if this identity holds it."""
        return self._keys.get(self._epochs.get(epoch, b""))


def wraps(key: bytes, members: Sequence[Member]) -> Wraps:
    """Seal a swarm key for each of these members, ascending by signing key."""
    return tuple(sorted((member.signing_key, sealing.wrap(key, member.sealing_key)) for member in members))


def cut(sealed: bytes) -> list[Blob]:
    """Cut sealed bytes into chunks."""
    return [Blob(content=sealed[i : i + CHUNK_BYTES_MAX]) for i in range(0, len(sealed), CHUNK_BYTES_MAX)]


def chunk_digests(chunks: Sequence[Blob]) -> tuple[bytes, ...]:
    """Return what chunks are known by."""
    return tuple(hashlib.sha256(chunk.content).digest() for chunk in chunks)


def join(ledger: Ledger, positions: Sequence[int]) -> bytes:
    """Return sealed bytes from their chunks at these positions of the ledger."""
    payloads = [decode_entry(ledger.entry(position)).payload for position in positions]
    return b"".join(payload.content for payload in payloads if isinstance(payload, Blob))


def seal_contribution(made: Contribution, key: bytes, where: Seal, base: bytes) -> list[Blob | Statistics | Update]:
    """Return the payloads that publish a contribution: its chunks, then what it is."""
    sealed = sealing.seal(made.parameters, key, where)
    chunks = cut(sealed)
    kind = Statistics if made.kind == "statistics" else Update
    said = kind(
        round=where.round,
        epoch=where.epoch,
        base=base,
        parameters=hashlib.sha256(made.parameters).digest(),
        chunks=chunk_digests(chunks),
        size_bytes=len(sealed),
        n_cells=made.n_cells,
        n_donors=made.n_donors,
        figures=made.figures,
    )
    return [*chunks, said]


def open_offer(offer: Offer, sealed: bytes, key: bytes, swarm: bytes) -> Contribution:
    """Open a contribution of the log.

    Raises
    ------
    TamperedError
        If its bytes are not what its entry says; with the right key, that is so for everybody.
    """
    said = offer.payload
    kind = "statistics" if isinstance(said, Statistics) else "update"
    where = Seal(swarm=swarm, author=offer.author, round=said.round, epoch=said.epoch, purpose=kind)
    parameters = sealing.open_sealed(sealed, key, where)
    if hashlib.sha256(parameters).digest() != said.parameters:
        msg = "the parameters are not those whose digest was signed"
        raise TamperedError(msg)
    return Contribution(
        kind="statistics" if isinstance(said, Statistics) else "update",
        parameters=parameters,
        n_cells=said.n_cells,
        n_donors=said.n_donors,
        figures=dict(said.figures),
        author=offer.author.hex(),
    )
