"""Donors are held out whole, by seed, and alike in every condition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcell.cells.split import HELD_OUT, TRAIN, SplitRule, assign, hold_out, inner_validation
from swarmcell.errors import CellsError

STRATA = st.dictionaries(
    st.text(min_size=1, max_size=6), st.sampled_from(["ill", "well", "cured"]), min_size=2, max_size=30
)
SHARE = st.floats(0.05, 0.9)


def test_one_donor_cannot_be_split_within_its_site() -> None:
    with pytest.raises(CellsError, match=r"site-a: 1 donor.*--split by-site"):
        assign({"d1": "ill"}, SplitRule(), site="site-a")


def test_one_donor_cannot_be_held_out() -> None:
    with pytest.raises(CellsError, match="at least 2"):
        hold_out({"d1": "ill"}, share=0.5, seed=0)


@given(STRATA, SHARE, st.integers(0, 1000))
def test_some_donors_are_held_out_and_some_are_trained_on(strata: dict[str, str], share: float, seed: int) -> None:
    held = hold_out(strata, share=share, seed=seed)
    assert held <= set(strata)
    assert 0 < len(held) < len(strata)


@given(STRATA, SHARE, st.integers(0, 1000))
def test_split_is_independent_of_the_order_of_donors(strata: dict[str, str], share: float, seed: int) -> None:
    backwards = dict(reversed(strata.items()))
    assert hold_out(strata, share=share, seed=seed) == hold_out(backwards, share=share, seed=seed)


@given(STRATA, SHARE, st.integers(0, 1000))
def test_every_stratum_of_two_donors_keeps_one_for_training(strata: dict[str, str], share: float, seed: int) -> None:
    held = hold_out(strata, share=share, seed=seed)
    kinds = list(strata.values())
    for stratum in set(kinds):
        if kinds.count(stratum) > 1:
            assert any(strata[d] == stratum for d in strata if d not in held)


@given(st.integers(2, 10), st.integers(2, 10), st.integers(0, 100))
def test_held_out_donors_are_stratified(n_ill: int, n_well: int, seed: int) -> None:
    strata = {f"i{i}": "ill" for i in range(n_ill)} | {f"w{i}": "well" for i in range(n_well)}
    held = hold_out(strata, share=0.5, seed=seed)
    for stratum, n in (("ill", n_ill), ("well", n_well)):
        assert abs(sum(strata[d] == stratum for d in held) - n / 2) < 1


def test_four_mice_at_half_hold_out_one_of_each_condition() -> None:
    strata = {"m1": "mock", "m2": "mock", "m3": "wnv", "m4": "wnv"}
    held = hold_out(strata, share=0.5, seed=0)
    assert sorted(strata[d] for d in held) == ["mock", "wnv"]


def test_another_seed_gives_another_split() -> None:
    strata = {f"d{i}": "" for i in range(20)}
    assert len({hold_out(strata, share=0.3, seed=seed) for seed in range(5)}) == 5


def test_two_donors_of_two_conditions_are_split_with_a_note() -> None:
    split = assign({"d1": "ill", "d2": "well"}, SplitRule(), site="site-a")
    assert sorted(split.side.values()) == [HELD_OUT, TRAIN]
    assert any("no donor of" in note for note in split.notes)
    assert any("too few for inner validation" in note for note in split.notes)


@pytest.mark.parametrize(("site", "side"), [("site-a", HELD_OUT), ("site-b", TRAIN)])
def test_by_site_trains_or_tests_whole(site: str, side: str) -> None:
    rule = SplitRule(kind="by-site", held_out_sites=("site-a",))
    assert set(assign({"d1": "ill", "d2": "well"}, rule, site=site).side.values()) == {side}


def test_no_split_trains_on_all() -> None:
    assert assign({"d1": "ill"}, SplitRule(kind="none"), site="site-a").side == {"d1": TRAIN}


def test_inner_validation_needs_three_donors() -> None:
    assert inner_validation(["d1", "d2"], {}, 0) == frozenset()
    assert len(inner_validation(["d1", "d2", "d3"], {}, 0)) == 1
    assert len(inner_validation([f"d{i}" for i in range(10)], {}, 0)) == 2


def test_a_site_that_holds_none_of_the_named_donors_says_so() -> None:
    rule = SplitRule(kind="by-donor", held_out_donors=("d-2",))
    found = assign({"d1": "", "d2": ""}, rule, site="site-a")
    assert set(found.side.values()) == {"train"}
    assert "site-a: none of the 1 donor(s)" in found.notes[0]


def test_named_donors_are_held_out_and_names_of_other_sites_mean_nothing() -> None:
    rule = SplitRule(kind="by-donor", held_out_donors=("d2", "elsewhere"))
    assert assign({"d1": "ill", "d2": "well"}, rule, site="site-a").side == {"d1": TRAIN, "d2": HELD_OUT}
