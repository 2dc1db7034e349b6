"""Facts about what a block says."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import NAMES, digests
from world import h, member

from swarmcell.swarm.body import KINDS, Body, Standing, body_digest, decode_body
from swarmcell.swarm.encoding import EncodingError, decode, encode


def roster(*names):
    rows = [Standing(member=member(name), last_round=0) for name in names]
    return tuple(sorted(rows, key=lambda s: s.member.signing_key))


BODY = Body(
    height=3,
    previous=h("before"),
    kind="merge",
    round=2,
    roster=roster("a", "b"),
    f=0,
    epoch=0,
    key_digest=h("key"),
    included=((h("a"), h(1)),),
    state=h("state"),
    about={"stage": "cell", "round": 2},
)


def changed(**fields):
    return encode({**decode(BODY.encode()), **fields})


ROWS = decode(BODY.encode())["roster"]


@pytest.mark.parametrize(
    "fields",
    [
        {"roster": []},
        {"roster": ROWS[::-1]},
        {"roster": [ROWS[0], ROWS[0]]},
        {"roster": [ROWS[0][:3]]},
        {"kind": "coup"},
        {"height": -1},
        {"finished": 1},
        {"failure": "two\nlines"},
        {"proposal": b"short"},
        {"included": [[h(2), h(1)], [h(1), h(1)]] if h(1) < h(2) else [[h(1), h(1)], [h(2), h(1)]]},
        {"about": {"share": [1]}},
        {"more": 1},
    ],
)
def test_bytes_of_no_body_are_refused(fields):
    with pytest.raises(EncodingError):
        decode_body(changed(**fields))


@given(
    st.builds(
        Body,
        height=st.integers(0, 2**40),
        previous=digests(),
        kind=st.sampled_from(KINDS),
        round=st.integers(0, 2**40),
        roster=st.sets(st.integers(0, 9).map(str), min_size=1).map(lambda names: roster(*names)),
        f=st.integers(0, 4000),
        epoch=st.integers(0, 2**40),
        key_digest=digests(),
        included=st.dictionaries(digests(), digests(), max_size=3).map(lambda d: tuple(sorted(d.items()))),
        left_out=st.dictionaries(digests(), digests(), max_size=3).map(
            lambda d: tuple(sorted((a, e, "not finite") for a, e in d.items()))
        ),
        proposal=st.just(b"") | digests(),
        state=digests(),
        about=st.dictionaries(NAMES, st.integers(-9, 9) | NAMES, max_size=3),
        finished=st.booleans(),
        failure=NAMES,
    )
)
def test_a_body_survives_its_bytes(body):
    assert decode_body(body.encode()) == body
    assert decode_body(body.encode()).encode() == body.encode()


@pytest.mark.parametrize("name", sorted(set(Body.__slots__)))
def test_every_field_is_in_the_digest(name):
    other = {
        "kind": "rotate",
        "roster": roster("a"),
        "included": (),
        "left_out": ((h(1), h(2), "why"),),
        "about": {},
        "finished": True,
        "failure": "why",
    }
    value = other.get(name, 7 if isinstance(getattr(BODY, name), int) else h("other"))
    assert body_digest(replace(BODY, **{name: value}).encode()) != body_digest(BODY.encode())


@given(st.binary(max_size=300))
def test_reading_a_body_is_total(content):
    with pytest.raises(EncodingError):
        decode_body(content)
