"""Facts about the swarm's rules and its quorum."""

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import h, make_genesis, member

from swarmcell.swarm.encoding import EncodingError, decode, encode
from swarmcell.swarm.genesis import Genesis, Quotas, decode_genesis, quorum, tolerates

GENESIS = make_genesis(4, 1)
FOUNDERS = GENESIS.founders


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"founders": ()}, "no founder"),
        ({"founders": (*FOUNDERS, FOUNDERS[0])}, "share a name or a key"),
        ({"founders": (*FOUNDERS, replace(member("m9"), name="m0"))}, "share a name or a key"),
        ({"founders": (*FOUNDERS, replace(member("m9"), sealing_key=h("seal", "m0")))}, "share a name or a key"),
        ({"f": 2}, "needs at least 7 founders, got 4"),
        ({"min_updates": 0}, "expected 1 to 3"),
        ({"min_updates": 4}, "expected 1 to 3"),
    ],
)
def test_rules_by_which_no_swarm_could_run_are_refused(changes, why):
    with pytest.raises(EncodingError, match=why):
        replace(GENESIS, **changes)


@pytest.mark.parametrize(
    "fields", [{"patience_ms": 0}, {"awaited_blocks": 0}, {"quotas": {"entries": 1, "size_bytes": 2**30}}, {"more": 1}]
)
def test_bytes_of_no_genesis_are_refused(fields):
    with pytest.raises(EncodingError):
        decode_genesis(encode({**decode(GENESIS.encode()), **fields}))


def test_a_genesis_survives_its_bytes():
    assert decode_genesis(GENESIS.encode()) == GENESIS


@given(
    st.sampled_from(["name", "rules", "f", "min_updates", "awaited_blocks", "patience_ms", "quotas", "founders"]),
)
def test_every_rule_is_in_the_digest(name):
    other = {
        "name": "other",
        "rules": b"x",
        "f": 0,
        "min_updates": 2,
        "awaited_blocks": 4,
        "patience_ms": 7,
        "quotas": Quotas(entries=100),
        "founders": FOUNDERS[::-1],
    }
    assert replace(GENESIS, **{name: other[name]}).digest != GENESIS.digest


@pytest.mark.parametrize(("n", "f", "q"), [(1, 0, 1), (2, 0, 2), (3, 0, 2), (4, 0, 3), (4, 1, 3), (5, 1, 4), (7, 2, 5)])
def test_the_quorums_of_small_swarms(n, f, q):
    assert quorum(n, f) == q


@given(st.integers(1, 200), st.integers(0, 60))
def test_two_quorums_share_an_honest_member_and_the_honest_are_one(n, f):
    if tolerates(n, f):
        q = quorum(n, f)
        assert 2 * q - n > f
        assert q <= n - f
        assert 2 * (q - 1) - n <= f, "a smaller quorum would do"


def test_two_quorums_of_seven_with_two_liars_share_three():
    shared = min(len(set(a) & set(b)) for a in combinations(range(7), 5) for b in combinations(range(7), 5))
    assert shared == 3


def test_a_genesis_needs_no_more_than_names_and_founders():
    assert Genesis(name="n", rules=b"", founders=(member("one"),)).f == 0
