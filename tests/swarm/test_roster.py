"""Facts about who votes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import h, make_genesis, member

from swarmcell.swarm.body import Standing
from swarmcell.swarm.roster import Roster, founding, is_member


def roster(**last_rounds):
    rows = [Standing(member=member(name), last_round=number) for name, number in last_rounds.items()]
    return Roster(tuple(sorted(rows, key=lambda s: s.member.signing_key)), 0)


def test_a_key_that_is_not_in_the_roster_is_no_member():
    assert not is_member(roster(a=0), h("sign", "b"))
    assert is_member(roster(a=0), h("sign", "a"))


@pytest.mark.parametrize(("n", "f", "q", "doubt"), [(3, 0, 2, 1), (4, 1, 3, 2), (7, 2, 5, 3)])
def test_the_founders_are_the_first_roster(n, f, q, doubt):
    first = founding(make_genesis(n, f))
    keys = [s.member.signing_key for s in first.standings]
    assert keys == sorted(h("sign", f"m{i}") for i in range(n))
    assert (first.quorum, first.doubt) == (q, doubt)


@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 20)), st.integers(1, 21), st.integers(1, 9))
def test_awaited_are_those_who_contributed_to_one_of_the_last_blocks(last_rounds, number, blocks):
    expected = {h("sign", name) for name, last in last_rounds.items() if last in range(number - blocks, number + 21)}
    assert roster(**last_rounds).awaited(number, blocks) == expected


@given(st.sets(st.sampled_from("abc")))
def test_who_contributed_was_seen_and_the_others_stand_as_before(names):
    seen = roster(a=1, b=2, c=3).seen([h("sign", name) for name in names], 9)
    before = {"a": 1, "b": 2, "c": 3}
    assert {s.member.name: s.last_round for s in seen} == before | dict.fromkeys(names, 9)
