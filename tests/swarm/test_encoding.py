"""Facts about the canonical encoding."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcell.swarm.encoding import BYTES_MAX, DEPTH_MAX, INT_MAX, EncodingError, decode, digest, encode

TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=30)
ATOMS = st.none() | st.booleans() | st.integers(-INT_MAX - 1, INT_MAX) | TEXT | st.binary(max_size=300)
PLAIN = st.recursive(ATOMS, lambda s: st.lists(s, max_size=4) | st.dictionaries(TEXT, s, max_size=4), max_leaves=12)


def decodes(content):
    try:
        decode(content)
    except EncodingError:
        return False
    return True


@pytest.mark.parametrize("value", [1.5, {1: 2}, {b"a": 1}, set(), INT_MAX + 1, -INT_MAX - 2, "\ud800", object()])
def test_what_has_no_encoding_is_refused(value):
    with pytest.raises(EncodingError):
        encode(value)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("", "nothing"),
        ("1801", "an integer longer than it need be"),
        ("190001", "an integer longer than it need be"),
        ("1a0000ffff", "an integer longer than it need be"),
        ("1b00000000ffffffff", "an integer longer than it need be"),
        ("1b8000000000000000", "an integer of more than 64 bits"),
        ("3b8000000000000000", "an integer of more than 64 bits"),
        ("5f4101ff", "an indefinite string"),
        ("9f01ff", "an indefinite list"),
        ("f7", "undefined"),
        ("f93c00", "a float"),
        ("fb3ff0000000000000", "a float"),
        ("c101", "a tag"),
        ("c24101", "a big number"),
        ("a201000200", "a key that is not text"),
        ("a2616201616100", "keys in another order"),
        ("a2616101616100", "a key twice"),
        ("62ff00", "text that is not UTF-8"),
        ("63eda080", "a surrogate"),
        ("4201", "truncated bytes"),
        ("8201", "a truncated list"),
        ("0000", "another value behind"),
        ("9bffffffffffffffff", "a list longer than its bytes"),
        ("5bffffffffffffffff", "a string longer than its bytes"),
        ("1c", "a head that is reserved"),
    ],
)
def test_what_is_not_canonical_is_refused(raw, why):
    assert not decodes(bytes.fromhex(raw)), why


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused_and_never_another_exception(content):
    if decodes(content):
        assert encode(decode(content)) == content


@given(PLAIN)
def test_what_is_encoded_decodes_to_the_same_value(value):
    assert decode(encode(value)) == value


@given(PLAIN)
def test_another_cbor_library_writes_the_same_bytes(value):
    assert cbor2.dumps(value, canonical=True) == encode(value)
    assert cbor2.loads(encode(value)) == value


@given(PLAIN, st.data())
def test_truncated_and_extended_bytes_are_refused(value, data):
    content = encode(value)
    assert not decodes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert not decodes(content + data.draw(st.binary(min_size=1, max_size=5)))


@given(PLAIN, st.data())
def test_changed_bytes_are_refused_or_another_value(value, data):
    content = bytearray(encode(value))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    if decodes(bytes(content)):
        assert encode(decode(bytes(content))) == bytes(content)


@given(st.dictionaries(TEXT, st.integers(0, 5), min_size=2, max_size=6))
def test_the_order_of_a_maps_keys_does_not_matter(value):
    assert encode(dict(reversed(value.items()))) == encode(value)


def nested(depth):
    value = 0
    for _ in range(depth):
        value = [value]
    return value


def test_depth_and_size_have_limits():
    assert decode(encode(nested(DEPTH_MAX))) == nested(DEPTH_MAX)
    with pytest.raises(EncodingError, match="nested deeper"):
        encode(nested(DEPTH_MAX + 1))
    assert not decodes(b"\x81" * (DEPTH_MAX + 1) + b"\x00")
    assert not decodes(b"\x81" * 100_000)
    with pytest.raises(EncodingError, match="at most"):
        encode(bytes(BYTES_MAX))
    with pytest.raises(EncodingError, match="at most"):
        decode(bytes(BYTES_MAX + 1))


def test_a_digest_depends_on_its_domain():
    assert digest(b"a\0", b"x") != digest(b"b\0", b"x")
