"""The signer: the one place where this peer's entries are made.

Rules: one at a time, so that sequences are dense; stored before anybody else may see it; several payloads that belong
together (chunks and their update) are stored in one transaction, so that no crash leaves half of them.
"""

import asyncio
from collections.abc import Sequence

from swarmcell.node.identity import Identity
from swarmcell.node.ledger import Ledger
from swarmcell.node.outbox import Outbox
from swarmcell.swarm.entries import Entry, decode_entry, encode_entry, sign_bytes
from swarmcell.swarm.me import Me
from swarmcell.swarm.payloads import Payload


class Signer:
    """Signs, stores, remembers and sends, in this order."""

    def __init__(self, identity: Identity, swarm: bytes, me: Me, ledger: Ledger, outbox: Outbox) -> None:
        self._identity = identity
        self._swarm = swarm
        self._me = me
        self._ledger = ledger
        self._outbox = outbox
        self._turn = asyncio.Lock()

    async def sign(self, payloads: Sequence[Payload]) -> None:
        """Make these payloads this peer's next entries."""
        async with self._turn:
            entries = self._chain(payloads)
            await asyncio.to_thread(self._ledger.store_own, [(entry.sequence, entry.raw) for entry in entries])
            for entry in entries:
                self._me.remember(entry)
            self._outbox.put([(entry.sequence, entry.raw) for entry in entries])

    async def resend(self, sequences: Sequence[int]) -> None:
        """Send the stored bytes of own entries once more, unless they are on their way."""
        for sequence in self._outbox.due(sequences):
            for raw in await asyncio.to_thread(lambda s=sequence: list(self._ledger.own(s, s))):  # type: ignore[misc]
                self._outbox.put([(sequence, raw)])

    def _chain(self, payloads: Sequence[Payload]) -> list[Entry]:
        sequence, previous = self._me.sequence, self._me.previous
        entries = []
        for payload in payloads:
            sequence += 1
            message = sign_bytes(self._swarm, self._identity.key, sequence, previous, payload)
            signature = self._identity.sign(message)
            raw = encode_entry(self._swarm, self._identity.key, sequence, previous, payload, signature)
            entry = decode_entry(raw)
            previous = entry.digest
            entries.append(entry)
        return entries
