"""What members said that they train on: sealing this site's word, and opening the others'.

Rules: what is shared of a claim is sealed for members, as contributions are. A claim that does not open, or whose swarm
key is not at hand, is told as unread; nobody's claim stops anybody.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from swarmcell.errors import TamperedError
from swarmcell.node import memory
from swarmcell.node.blobs import Keyring
from swarmcell.node.identity import Identity, verify
from swarmcell.node.ledger import Ledger
from swarmcell.node.terms import Claim
from swarmcell.node.work import Bench
from swarmcell.privacy import sealing
from swarmcell.privacy.sealing import Seal
from swarmcell.swarm.body import decode_body
from swarmcell.swarm.entries import Entry, decode_entry
from swarmcell.swarm.genesis import Genesis
from swarmcell.swarm.me import Me
from swarmcell.swarm.payloads import TrainedOn
from swarmcell.swarm.state import State

PURPOSE = "trained"


@dataclass(frozen=True, kw_only=True)
class Others:
    """What the other members who trained said.

    Attributes
    ----------
    shared
        Name of a member -> what it shared of its claim, as it was sealed.
    silent
        Names of members who contributed to the study and shared nothing that this site can read.
    """

    shared: Mapping[str, bytes] = field(default_factory=dict)
    silent: tuple[str, ...] = ()


def seal(bench: Bench, claim: Claim, epoch: int) -> TrainedOn:
    """Return the payload that says what this site trains on.

    Raises
    ------
    SwarmError
        If something is shared, and the swarm key of the epoch is not here.
    """
    if not claim.shared:
        return TrainedOn(commitment=claim.commitment)
    where = _place(bench.swarm, bench.identity.key, epoch)
    content = sealing.seal(claim.shared, bench.key(epoch), where)
    return TrainedOn(commitment=claim.commitment, epoch=epoch, content=content)


def read_others(identity: Identity, genesis: Genesis, ledger: Ledger) -> Others:
    """Open what the other members said, from this site's own ledger."""
    state = memory.recall(ledger, genesis, Me(identity.key)).state
    bodies = [decode_body(content) for content in ledger.bodies()]
    keyring = Keyring(identity)
    for body in bodies:
        keyring.begin_epoch(body.epoch, body.key_digest)
        keyring.open(body.key_digest, state.founding.sealed_for(body.key_digest, identity.key))
    names = {standing.member.signing_key: standing.member.name for body in bodies for standing in body.roster}
    taking_part = {author for body in bodies for author, _ in body.included} - {identity.key}
    shared: dict[str, bytes] = {}
    silent = []
    for author in sorted(taking_part, key=lambda key: names.get(key, "")):
        content = _opened(state, author, keyring)
        if content:
            shared[names[author]] = content
        else:
            silent.append(names.get(author, author.hex()[:8]))
    return Others(shared=shared, silent=tuple(silent))


def newest_own(ledger: Ledger) -> TrainedOn | None:
    """Return what the owner of a ledger said last of what it trains on; `None` if it never did.

    Raises
    ------
    TamperedError
        If what it signed was changed.
    """
    swarm, author = ledger.owner()
    found: Entry | None = None
    first, kept = 1, ledger.snapshot() if ledger.is_trimmed() else None
    if kept is not None:
        found, first = memory.kept_claims(kept).get(author), kept.sequence + 1
    for raw in ledger.own(first):
        entry = decode_entry(raw)
        found = entry if isinstance(entry.payload, TrainedOn) else found
    if found is None or not isinstance(found.payload, TrainedOn):
        return None
    if (found.swarm, found.author) != (swarm, author) or not verify(author, found.signed_bytes(), found.signature):
        msg = f"own entry {found.sequence} of the ledger does not carry this site's signature: the file was changed."
        raise TamperedError(msg)
    return found.payload


def _opened(state: State, author: bytes, keyring: Keyring) -> bytes:
    said = _newest(state, author)
    if said is None or not isinstance(said.payload, TrainedOn) or not said.payload.content:
        return b""
    key = keyring.of_epoch(said.payload.epoch)
    if key is None:
        return b""
    try:
        return sealing.open_sealed(said.payload.content, key, _place(state.swarm, author, said.payload.epoch))
    except TamperedError:
        return b""


def _newest(state: State, author: bytes) -> Entry | None:
    found = state.trained.get(author)
    return None if found is None else found[1]


def _place(swarm: bytes, author: bytes, epoch: int) -> Seal:
    return Seal(swarm=swarm, author=author, round=0, epoch=epoch, purpose=PURPOSE)
