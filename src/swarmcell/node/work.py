"""The long work of a peer: training, merging, opening and sealing. Runs in threads, off the loop; touches no state.

Rules: each function takes an action of `swarm.decide` and returns what the peer tells `Me`. What depends on the bytes
of a contribution alone is a reason to leave it out, equal at every peer; what depends on this site (a key it lacks, a
full disk) is raised, and the peer abstains.
"""

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from swarmcell.errors import SwarmError, TamperedError
from swarmcell.node import blobs
from swarmcell.node.blobs import Keyring
from swarmcell.node.identity import Identity
from swarmcell.node.ledger import Ledger
from swarmcell.node.task import Contribution, Task
from swarmcell.privacy import sealing
from swarmcell.privacy.sealing import Seal
from swarmcell.swarm.actions import Contribute, Merge, Open, Outcome, WriteCheckpoint
from swarmcell.swarm.payloads import Blob, Checkpoint, Statistics, Update


@dataclass(frozen=True)
class Bench:
    """What the long work is done with."""

    identity: Identity
    swarm: bytes
    task: Task
    ledger: Ledger
    keyring: Keyring

    def key(self, epoch: int) -> bytes:
        """Return the swarm key of an epoch.

        Raises
        ------
        SwarmError
            If this identity does not hold it.
        """
        key = self.keyring.of_epoch(epoch)
        if key is None:
            msg = (
                f"{self.identity.name}: the swarm key of epoch {epoch} is not here; a member must wrap it for this site"
            )
            raise SwarmError(msg)
        return key


def contribute(bench: Bench, action: Contribute, stop: threading.Event) -> list[Blob | Statistics | Update]:
    """Train from the base of a round; return what to sign, empty if there is nothing."""
    key = bench.key(action.epoch)
    made = bench.task.contribute(bench.ledger.state(action.base), stop)
    if made is None:
        return []
    where = Seal(
        swarm=bench.swarm, author=bench.identity.key, round=action.round, epoch=action.epoch, purpose=made.kind
    )
    return blobs.seal_contribution(made, key, where, action.base)


def merge(bench: Bench, action: Merge) -> Outcome:
    """Merge what a round brought, by this peer itself; the new state is stored."""
    if action.height == 0:
        return start(bench)
    opened: list[tuple[bytes, Contribution]] = []
    left_out: dict[bytes, str] = {}
    for offer in action.offers:
        sealed, key = blobs.join(bench.ledger, offer.chunks), bench.key(offer.payload.epoch)
        try:
            opened.append((offer.author, blobs.open_offer(offer, sealed, key, bench.swarm)))
        except TamperedError:
            left_out[offer.author] = "does not open"
    merged = bench.task.merge(bench.ledger.state(action.base), [contribution for _, contribution in opened])
    left_out |= {opened[index][0]: reason for index, reason in merged.left_out.items()}
    return _outcome(bench, merged.state, left_out, merged.finished, merged.failure)


def start(bench: Bench) -> Outcome:
    """Return the state before round 1."""
    return _outcome(bench, bench.task.start(), {}, False, "")


def _outcome(bench: Bench, state: bytes, left_out: Mapping[bytes, str], finished: bool, failure: str) -> Outcome:
    about = dict(bench.task.describe(state))
    digest = bench.ledger.store_state(state)
    return Outcome(state=digest, left_out=left_out, finished=finished, failure=failure, about=about)


def open_checkpoint(bench: Bench, action: Open) -> None:
    """Open a checkpoint's state and store it.

    Raises
    ------
    SwarmError
        If it does not open, or is not the state of its block.
    """
    where = Seal(swarm=bench.swarm, author=action.author, round=action.height, epoch=action.epoch, purpose="checkpoint")
    state = sealing.open_sealed(blobs.join(bench.ledger, action.chunks), bench.key(action.epoch), where)
    if hashlib.sha256(state).digest() != action.state:
        msg = f"the checkpoint of block {action.height} holds another state than the block says"
        raise TamperedError(msg)
    bench.ledger.store_state(state)


def write_checkpoint(bench: Bench, action: WriteCheckpoint) -> list[Blob | Checkpoint]:
    """Return the payloads that publish the state of a block."""
    where = Seal(
        swarm=bench.swarm,
        author=bench.identity.key,
        round=action.height,
        epoch=action.epoch,
        purpose="checkpoint",
    )
    sealed = sealing.seal(bench.ledger.state(action.state), bench.key(action.epoch), where)
    chunks = blobs.cut(sealed)
    said = Checkpoint(
        height=action.height,
        epoch=action.epoch,
        content=action.content,
        certificate=action.certificate,
        chunks=blobs.chunk_digests(chunks),
        size_bytes=len(sealed),
    )
    return [*chunks, said]
