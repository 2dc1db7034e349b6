"""`swarm show --mine --contents`: what stood sealed in a site's own entries, opened with its own identity.

Rules: opened from the ledger alone, with the swarm keys that were sealed for this identity in it; nothing is asked of
anybody. What is shown are names, kinds and shapes of the arrays, which say what of a site the other members could read.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from swarmcell.config import swarm_file as swarm_files
from swarmcell.errors import MergeError, SwarmError, TamperedError
from swarmcell.model.encoding import decode
from swarmcell.node import identity as identities
from swarmcell.node import ledger as ledgers
from swarmcell.node.blobs import Keyring
from swarmcell.node.identity import Identity
from swarmcell.node.ledger import Ledger
from swarmcell.privacy import sealing
from swarmcell.privacy.sealing import Seal
from swarmcell.swarm.body import decode_body
from swarmcell.swarm.entries import Entry, decode_entry
from swarmcell.swarm.payloads import Accept, Blob, Checkpoint, Propose, Statistics, Update, Wrap

Contents = Mapping[str, str]


def contents(swarm_file: Path, ledger: Path, identity: str) -> dict[int, Contents]:
    """Return, by sequence of the own entries that carried something sealed, what each array in it is.

    Parameters
    ----------
    identity
        Name or secret file of the identity whose ledger it is.

    Raises
    ------
    SwarmError
        If the ledger is another identity's.
    ConfigError, TamperedError, InputError
        If a file cannot be read, or does not open.
    """
    swarm, me = bytes.fromhex(swarm_files.load(swarm_file).digest), identities.load(identity)
    with ledgers.opened_to_look(ledger) as book:
        if book.owner()[1] != me.key:
            msg = f"{ledger}: is not {me.name}'s ledger, so it does not open with that identity. Give --identity."
            raise SwarmError(msg)
        keyring = _keys(book, me)
        own = [decode_entry(raw) for raw in book.own(without=book.trimmed_own())]
        blobs = [entry.payload.content for entry in own if isinstance(entry.payload, Blob)]
        chunks = {hashlib.sha256(content).digest(): content for content in blobs}
        return {entry.sequence: _opened(entry, swarm, keyring, chunks) for entry in own if _is_carrier(entry)}


def _is_carrier(entry: Entry) -> bool:
    return isinstance(entry.payload, Statistics | Update | Checkpoint)


def _keys(book: Ledger, me: Identity) -> Keyring:
    """Return the swarm keys of the ledger's epochs, as far as they were sealed for this identity."""
    sealed: dict[bytes, list[bytes]] = {}
    for digest, wrapped in _wraps(book, me.key):
        sealed.setdefault(digest, []).append(wrapped)
    keyring = Keyring(me)
    for content in book.bodies():
        body = decode_body(content)
        keyring.open(body.key_digest, sealed.pop(body.key_digest, []))
        keyring.begin_epoch(body.epoch, body.key_digest)
    return keyring


def _wraps(book: Ledger, key: bytes) -> Iterator[tuple[bytes, bytes]]:
    for raw in [*(raw for _, raw in book.entries()), *book.own(without=book.trimmed_own())]:
        payload = decode_entry(raw).payload
        if isinstance(payload, Accept | Propose | Wrap):
            yield from ((payload.key_digest, wrapped) for member, wrapped in payload.wraps if member == key)


def _opened(entry: Entry, swarm: bytes, keyring: Keyring, chunks: Mapping[bytes, bytes]) -> Contents:
    payload = entry.payload
    assert isinstance(payload, Statistics | Update | Checkpoint)  # noqa: S101 (`_is_carrier`)
    number = payload.height if isinstance(payload, Checkpoint) else payload.round
    where = Seal(swarm=swarm, author=entry.author, round=number, epoch=payload.epoch, purpose=payload.KIND)
    key = keyring.of_epoch(payload.epoch)
    if key is None:
        return {"not opened": f"the swarm key of epoch {payload.epoch} is not in this ledger"}
    try:
        plain = sealing.open_sealed(b"".join(chunks.get(chunk, b"") for chunk in payload.chunks), key, where)
        if isinstance(payload, Checkpoint):
            return {"the merged state": f"{len(plain):,} bytes, the same that every member computes"}
        named = decode(plain)
    except (MergeError, TamperedError) as error:
        return {"not opened": str(error)}
    kinds = {name: f"int{array.dtype.itemsize * 8} " for name, array in named.arrays.items()}
    arrays = {name: kinds[name] + " x ".join(map(str, named.arrays[name].shape)) for name in sorted(kinds)}
    return arrays | {"header": ", ".join(sorted(named.header))}
