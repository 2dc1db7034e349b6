"""Facts about what an entry can say."""

import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import PAYLOADS
from world import h

from swarmcell.swarm import payloads, shape
from swarmcell.swarm.encoding import EncodingError, decode, encode
from swarmcell.swarm.payloads import CHUNK_BYTES_MAX, SHAPES, VIEW_MAX, WRAP_BYTES_MAX, Payload
from swarmcell.swarm.shape import plain

ATTEST = {"height": 0, "view": 0, "body": h(1)}
NEXT = {"height": 0, "view": 1, "certified": 0, "content": b"", "known": [], "approved": []}
ACCEPT = {"key_digest": h(1), "wraps": []}
PAIR = [[min(h(1), h(2)), b"x"], [max(h(1), h(2)), b"x"]]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("attest", {**ATTEST, "view": VIEW_MAX + 1}),
        ("attest", {**ATTEST, "height": -1}),
        ("attest", {**ATTEST, "height": True}),
        ("attest", {**ATTEST, "body": b"short"}),
        ("next", {**NEXT, "view": 0}),
        ("next", {**NEXT, "known": [h(1), h(1)]}),
        ("next", {**NEXT, "known": sorted([h(1), h(2)], reverse=True)}),
        ("accept", {**ACCEPT, "wraps": PAIR[::-1]}),
        ("accept", {**ACCEPT, "wraps": [[h(1), bytes(WRAP_BYTES_MAX + 1)]]}),
        ("accept", {**ACCEPT, "wraps": [[h(1)]]}),
        ("blob", {"content": b""}),
        ("blob", {"content": bytes(CHUNK_BYTES_MAX + 1)}),
        ("blob", {"content": "text"}),
        ("patience", {"round": 0}),
        ("evaluation", {"state": h(1), "counts": {"x": [-1]}}),
        ("evaluation", {"state": h(1), "counts": {"\x07": [1]}}),
    ],
)
def test_a_value_out_of_its_limits_is_refused(kind, value):
    with pytest.raises(EncodingError):
        SHAPES[kind](value)


def test_every_kind_has_a_shape_and_every_shape_a_kind():
    assert {cls.KIND for cls in typing.get_args(Payload)} == set(SHAPES)


def test_a_set_has_one_encoding():
    assert SHAPES["accept"]({**ACCEPT, "wraps": PAIR}).wraps == tuple(map(tuple, PAIR))


@given(PAYLOADS)
def test_a_payload_survives_its_plain_value(payload):
    assert SHAPES[payload.KIND](decode(encode(plain(payload)))) == payload


@given(PAYLOADS, st.data())
def test_a_payload_without_one_of_its_fields_or_with_one_more_is_refused(payload, data):
    value = dict(plain(payload))
    with pytest.raises(EncodingError):
        SHAPES[payload.KIND]({**value, "another": 1})
    del value[data.draw(st.sampled_from(sorted(value)))]
    with pytest.raises(EncodingError):
        SHAPES[payload.KIND](value)


ATOMS = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=40)


@given(st.recursive(ATOMS, lambda s: st.lists(s) | st.dictionaries(st.text(max_size=8), s)))
def test_every_shape_is_total(value):
    for check in (*SHAPES.values(), payloads.ABOUT, payloads.REASON, shape.scalar, shape.flag):
        try:
            check(value)
        except EncodingError:
            continue


def test_a_scalar_is_an_integer_or_a_line():
    assert shape.scalar(3) == 3
    assert shape.scalar("three") == "three"
    for value in (True, None, b"x", "a\nb", "x" * 1001, 2**63):
        with pytest.raises(EncodingError):
            shape.scalar(value)
