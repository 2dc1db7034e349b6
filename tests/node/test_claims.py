"""What a site said that it trains on is read from its own ledger, whole or trimmed; nobody else's word will do."""

import hashlib

import pytest

from swarmcell.errors import TamperedError
from swarmcell.node import claims, ledger, memory
from swarmcell.node.identity import Identity
from swarmcell.node.ledger import Cursor, Read
from swarmcell.node.memory import recall
from swarmcell.swarm.entries import NO_DIGEST, decode_entry, encode_entry, sign_bytes
from swarmcell.swarm.genesis import Genesis, Member
from swarmcell.swarm.me import Me
from swarmcell.swarm.payloads import Patience, TrainedOn

SITE, OTHER = (Identity(name, *(bytes([n + i]) * 32 for i in range(3))) for n, name in ((1, "site-a"), (5, "site-b")))
GENESIS = Genesis(
    name="t",
    rules=b"",
    founders=tuple(
        Member(name=i.card.name, signing_key=i.card.signing_key, sealing_key=i.card.sealing_key) for i in (SITE, OTHER)
    ),
)


def entries_of(signer, payloads, author=SITE):
    previous = NO_DIGEST
    for sequence, payload in enumerate(payloads, start=1):
        about = (GENESIS.digest, author.key, sequence, previous, payload)
        raw = encode_entry(*about, signer.sign(sign_bytes(*about)))
        previous = decode_entry(raw).digest
        yield raw


@pytest.fixture
def book(tmp_path):
    with ledger.opened(tmp_path / "ledger.sqlite") as opened:
        opened.bind(GENESIS.digest, SITE.key)
        yield opened


def test_the_newest_word_is_read_before_and_after_a_trim(book):
    assert claims.newest_own(book) is None
    raws = list(entries_of(SITE, [TrainedOn(commitment=b"a" * 32), TrainedOn(commitment=b"b" * 32), Patience(round=1)]))
    book.store_own(list(enumerate(raws, start=1)))
    reads = [Read(at, raw, at) for at, raw in enumerate(raws, start=1)]
    book.store(reads, Cursor(3, hashlib.sha256(raws[-1]).digest()))
    assert claims.newest_own(book).commitment == b"b" * 32
    book.store_snapshot(memory.remembered(recall(book, GENESIS, Me(SITE.key))))
    book.trim(10**9)
    assert claims.newest_own(book).commitment == b"b" * 32


def test_a_word_that_somebody_else_signed_is_refused(book):
    book.store_own(list(enumerate(entries_of(OTHER, [TrainedOn(commitment=b"a" * 32)]), start=1)))
    with pytest.raises(TamperedError, match="does not carry this site's signature"):
        claims.newest_own(book)
