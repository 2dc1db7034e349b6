"""Facts about the signed envelope."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scenes import PAYLOADS, Author
from world import fake_verify, h, make_genesis

from swarmcell.swarm.encoding import EncodingError, decode, encode
from swarmcell.swarm.entries import DOMAIN, NO_DIGEST, decode_entry, encode_entry, sign_bytes
from swarmcell.swarm.payloads import Blob, Patience

GENESIS = make_genesis(3, 0)


def entry(payload=None):
    return Author(GENESIS, "m0").entry(payload or Patience(round=1))


def changed(**fields):
    return encode({**decode(entry().raw), **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "gossip"},
        {"kind": "attest"},
        {"sequence": 0},
        {"sequence": 2**40 + 1},
        {"sequence": True},
        {"sequence": "1"},
        {"author": bytes(31)},
        {"swarm": bytes(33)},
        {"previous": b""},
        {"signature": bytes(63)},
        {"payload": {}},
        {"payload": {"round": 0}},
        {"payload": {"round": 1, "more": 1}},
        {"payload": []},
        {"more": 1},
    ],
)
def test_an_entry_with_a_wrong_field_is_refused(fields):
    with pytest.raises(EncodingError):
        decode_entry(changed(**fields))


@pytest.mark.parametrize("raw", [b"", b"\xa0", b"\x80", b"junk", encode({}), encode("entry")])
def test_what_is_no_entry_is_refused(raw):
    with pytest.raises(EncodingError):
        decode_entry(raw)


def test_a_payload_that_is_too_big_is_refused_before_it_is_signed():
    with pytest.raises(EncodingError):
        sign_bytes(GENESIS.digest, h(1), 1, NO_DIGEST, Blob(content=bytes(2_000_000)))


@given(PAYLOADS)
def test_an_entry_decodes_to_what_was_encoded_and_back(payload):
    first = entry(payload)
    again = decode_entry(first.raw)
    assert again == first
    assert again.payload == payload
    assert again.kind == payload.KIND
    parts = (again.swarm, again.author, again.sequence, again.previous, again.payload)
    assert encode_entry(*parts, again.signature) == first.raw
    assert fake_verify(again.author, again.signed_bytes(), again.signature)


@given(PAYLOADS, st.data())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_changed_byte_leaves_a_valid_signature(payload, data):
    raw = bytearray(entry(payload).raw)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = decode_entry(bytes(raw))
    except EncodingError:
        return
    assert not fake_verify(found.author, found.signed_bytes(), found.signature)


@given(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 4), st.integers(0, 3), PAYLOADS))
def test_the_signed_bytes_carry_the_domain_and_every_field(fields):
    swarm, author, sequence, previous, payload = fields
    message = sign_bytes(h(swarm), h(author), sequence, h(previous), payload)
    assert message.startswith(DOMAIN)
    for other in (
        sign_bytes(h(swarm + 1), h(author), sequence, h(previous), payload),
        sign_bytes(h(swarm), h(author + 1), sequence, h(previous), payload),
        sign_bytes(h(swarm), h(author), sequence + 1, h(previous), payload),
        sign_bytes(h(swarm), h(author), sequence, h(previous + 1), payload),
    ):
        assert other != message
