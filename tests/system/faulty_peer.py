"""A peer in a process of its own with a fault: it lies, or its engine shows it the log in another order.

Usage: FAULT=liar|twisted, then the arguments of sums_peer.py.
liar       Every update travels in a blob that nobody can open; every attest and commit is for a body that nobody else
           got; and each of its attests stands twice, with two bodies at one sequence.
twisted    The engine hides what this peer needs at height 2: all attests of view 0, and one other site's update, until
           somebody calls for another view.
"""

import asyncio
import hashlib
import os
from dataclasses import replace

import sums_peer

from swarmcell.engine.embedded import EmbeddedLog
from swarmcell.node.signer import Signer
from swarmcell.swarm.encoding import EncodingError
from swarmcell.swarm.entries import decode_entry, encode_entry, sign_bytes
from swarmcell.swarm.payloads import Attest, Blob, Commit, Update

TWISTED_HEIGHT = 2


def lie(payload):
    match payload:
        case Blob():
            return Blob(content=hashlib.sha512(payload.content).digest() * 4)
        case Update(chunks=chunks):
            return replace(payload, chunks=tuple(lies[chunk] for chunk in chunks))
        case Attest() | Commit():
            return type(payload)(
                height=payload.height, view=payload.view, body=hashlib.sha256(b"lie" + payload.body).digest()
            )
    return payload


lies = {}


def make_liar():
    chain = Signer._chain

    def lying_chain(self, payloads):
        lied = []
        for payload in payloads:
            said = lie(payload)
            if isinstance(payload, Blob):
                lies[hashlib.sha256(payload.content).digest()] = hashlib.sha256(said.content).digest()
            lied.append(said)
        entries = chain(self, lied)
        for entry, payload in zip(entries, payloads, strict=True):
            if isinstance(payload, Attest):
                place = (self._swarm, self._identity.key, entry.sequence, entry.previous, payload)
                twin = encode_entry(*place, self._identity.sign(sign_bytes(*place)))
                asyncio.get_running_loop().create_task(self._outbox._log.append([twin]))
        return entries

    Signer._chain = lying_chain
    from swarmcell.swarm.me import Me

    Me.meet = lambda self, entry: self.unseen.pop(entry.sequence, None)  # it does not stop at its own contradictions


def make_twisted(name):
    """Hide entries of one height from this process until a `next` of that height is read."""
    read = EmbeddedLog._select
    hidden, shown = {}, []

    def kind_of(raw):
        try:
            entry = decode_entry(raw)
        except EncodingError:
            return None
        return entry.payload, entry.author

    def is_hidden(raw):
        found = kind_of(raw)
        if found is None or shown:
            return False
        payload, author = found
        if isinstance(payload, Attest):
            return payload.height == TWISTED_HEIGHT and payload.view == 0
        return isinstance(payload, Update) and payload.round == TWISTED_HEIGHT and author == victim

    victim = bytes.fromhex(os.environ["HIDDEN_AUTHOR"]) if os.environ.get("HIDDEN_AUTHOR") else b""

    def select(self, start, limit):
        kept = []
        for position, raw in read(self, start, limit):
            found = kind_of(raw)
            if found is not None and found[0].KIND == "next" and found[0].height == TWISTED_HEIGHT:
                kept += [] if shown else sorted(hidden.items())
                shown.append(position)
            if is_hidden(raw):
                hidden[position] = raw
            else:
                kept.append((position, raw))
        return kept

    EmbeddedLog._select = select


if __name__ == "__main__":
    {"liar": make_liar, "twisted": lambda: make_twisted(os.environ.get("HIDDEN_AUTHOR"))}[os.environ["FAULT"]]()
    sums_peer.main()
