"""Facts about canonical bytes: one value has one encoding, and any other bytes are refused by a `MergeError`."""

import contextlib
import time

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from swarmcell.errors import MergeError
from swarmcell.model.encoding import LIMIT_ARRAYS, LIMIT_NAME, MAGIC, Named, decode, encode

WHOLE = encode(Named({"n": 3, "who": "x"}, {"a": np.arange(6, dtype=np.int32).reshape(2, 3), "b": np.array([7])}))


def framed(head, body=b""):
    content = head if isinstance(head, bytes) else cbor2.dumps(head, canonical=True)
    return MAGIC + len(content).to_bytes(4, "little") + content + body


def arrays(*entries, body=b""):
    return framed({"header": {}, "arrays": list(entries)}, body)


def with_value(cbor):
    """Return an encoding whose header is {"v": the item that these bytes are}."""
    return framed(b"\xa2" + cbor2.dumps("arrays") + b"\x80" + cbor2.dumps("header") + b"\xa1\x61v" + cbor)


MALFORMED = {
    "nothing": b"",
    "another magic": b"SCA2" + WHOLE[4:],
    "magic only": MAGIC,
    "a header longer than the whole": MAGIC + b"\xff\xff\x00\x00" + b"\xa0",
    "a header over the limit": MAGIC + b"\xff\xff\xff\xff" + b"\xa0",
    "no CBOR": framed(b"\xff\xff"),
    "CBOR that ends early": framed(b"\xa2\x66header"),
    "a list as head": framed([1, 2]),
    "an unknown key": framed({"header": {}, "arrays": [], "more": 1}),
    "a missing key": framed({"header": {}}),
    "a header that is a list": framed({"header": [], "arrays": []}),
    "arrays that are a mapping": framed({"header": {}, "arrays": {}}),
    "a key that is no text": framed({"header": {1: 2}, "arrays": []}),
    "a float": framed({"header": {"x": 1.5}, "arrays": []}),
    "null": framed({"header": {"x": None}, "arrays": []}),
    "an integer of 65 bits": framed({"header": {"x": 2**63}, "arrays": []}),
    "keys out of order": framed(b"\xa2\x66header\xa0\x66arrays\x80"),
    "an integer longer than it need be": with_value(b"\x18\x01"),
    "a list without an end": with_value(b"\x9f\x01\xff"),
    "bytes after the head": framed(cbor2.dumps({"header": {}, "arrays": []}, canonical=True) + b"\x00"),
    "text that is no UTF-8": with_value(b"\x62\xff\xfe"),
    "a big number": with_value(b"\xc2\x41\x05"),
    "a decimal fraction": with_value(b"\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x1a\xff\xff\xff\xff"),
    "a rational with divisor zero": with_value(b"\xd8\x1e\x82\x01\x00"),
    "a date": with_value(b"\xc1\xfb\x7f\xf0\0\0\0\0\0\0"),
    "a regular expression": with_value(b"\xd8\x23" + cbor2.dumps("((a{1000}){1000})*")),
    "a list of impossible length": with_value(b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff"),
    "nested a thousandfold": with_value(b"\x81" * 1000 + b"\x00"),
    "nested a hundred thousandfold": with_value(b"\x81" * 100_000 + b"\x00"),
    "an entry of two parts": arrays(["a", "i4"]),
    "an unknown kind": arrays(["a", "f4", [1]], body=bytes(4)),
    "a kind that is no text": arrays(["a", 4, [1]], body=bytes(4)),
    "a name that is no text": arrays([1, "i4", [1]], body=bytes(4)),
    "an empty name": arrays(["", "i4", [1]], body=bytes(4)),
    "a long name": arrays(["a" * (LIMIT_NAME + 1), "i4", [1]], body=bytes(4)),
    "a name twice": arrays(["a", "i4", [1]], ["a", "i4", [1]], body=bytes(8)),
    "names out of order": arrays(["b", "i4", [1]], ["a", "i4", [1]], body=bytes(8)),
    "four dimensions": arrays(["a", "i4", [1, 1, 1, 1]], body=bytes(4)),
    "a negative length": arrays(["a", "i4", [-1]]),
    "a length that is a boolean": arrays(["a", "i4", [True]], body=bytes(4)),
    "a shape that is a number": arrays(["a", "i4", 1], body=bytes(4)),
    "an empty array of impossible shape": arrays(["a", "i8", [0, 1 << 30, 1 << 30]]),
    "an array beyond the bytes": arrays(["a", "i8", [1 << 29]], body=bytes(8)),
    "bytes left over": arrays(["a", "i4", [1]], body=bytes(5)),
    "too many arrays": arrays(
        *([f"{i:04}", "i4", [1]] for i in range(LIMIT_ARRAYS + 1)), body=bytes(4 * (LIMIT_ARRAYS + 1))
    ),
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_malformed_bytes_are_refused(raw):
    with pytest.raises(MergeError, match="malformed parameters"):
        decode(raw)


def test_no_prefix_of_an_encoding_is_an_encoding():
    for length in range(len(WHOLE)):
        with pytest.raises(MergeError):
            decode(WHOLE[:length])


def test_bytes_that_follow_are_refused():
    with pytest.raises(MergeError, match="left over"):
        decode(WHOLE + b"\0")


def test_shared_references_cannot_grow_a_few_bytes_into_a_tree():
    parts = [b"\xd8\x1c\x81\x00"] + [
        b"\xd8\x1c\x98\xc8" + (b"\xd8\x1d" + cbor2.dumps(depth)) * 200 for depth in range(6)
    ]
    begun_s = time.process_time()
    with pytest.raises(MergeError):
        decode(with_value(bytes([0x80 + len(parts)]) + b"".join(parts)))
    assert time.process_time() - begun_s < 20  # the tree of a few bytes would never be done


@pytest.mark.parametrize(
    "named",
    [
        Named({"x": 1.5}),
        Named({"x": None}),
        Named({"x": 2**63}),
        Named({1: 1}),
        Named({"x": [[[[[[[[[[1]]]]]]]]]]}),
        Named({}, {"a": np.zeros(2)}),
        Named({}, {"a": np.zeros(2, np.uint8)}),
        Named({}, {"a": np.zeros((1, 1, 1, 1), np.int32)}),
        Named({}, {"": np.zeros(1, np.int32)}),
        Named({}, {"a" * (LIMIT_NAME + 1): np.zeros(1, np.int32)}),
    ],
    ids=repr,
)
def test_what_could_not_be_decoded_is_not_encoded(named):
    with pytest.raises(MergeError):
        encode(named)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_a_merge_error(raw):
    for content in (raw, MAGIC + raw, framed(raw), with_value(raw)):
        with contextlib.suppress(MergeError):
            decode(content)


@given(st.data())
@settings(max_examples=300)
def test_changed_bytes_are_another_value_in_its_own_encoding_or_none(data):
    raw = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        named = decode(bytes(raw))
    except MergeError:
        return
    assert encode(named) == bytes(raw)


plain = st.recursive(
    st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5) | st.binary(max_size=5) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
integers = st.sampled_from([np.dtype("<i4"), np.dtype("<i8")]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@given(
    st.dictionaries(st.text(max_size=5), plain, max_size=4),
    st.dictionaries(st.text(min_size=1, max_size=5), integers, max_size=4),
)
def test_a_value_survives_the_round_trip_and_has_one_encoding(header, content):
    try:
        raw = encode(Named(header, content))
    except MergeError:  # the header is nested too deep
        return
    found = decode(raw)
    assert found.header == header
    assert sorted(found.arrays) == sorted(content)
    for name, array in content.items():
        assert found.arrays[name].dtype == array.dtype
        assert np.array_equal(found.arrays[name], array)
        assert found.arrays[name].shape == array.shape
    assert encode(found) == raw


def test_the_encoding_depends_on_neither_the_order_of_keys_nor_the_layout_in_memory():
    a, b = np.arange(6, dtype=np.int32).reshape(2, 3), np.array([1, 2])
    turned = Named({"y": 2, "x": 1}, {"b": b, "a": np.asfortranarray(a)})
    assert encode(Named({"x": 1, "y": 2}, {"a": a, "b": b})) == encode(turned)
    assert encode(Named({}, {"a": a.astype(">i4")})) == encode(Named({}, {"a": a}))


def test_decoded_arrays_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        decode(WHOLE).arrays["a"][0, 0] = 1
