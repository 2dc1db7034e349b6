"""No count below the floor follows from what is shown and from any total: by an attacker who tries all tables."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_strata import simulated, solved, study_of

from swarmcell.model.strata import kmeans, withheld
from swarmcell.model.strata.rounds import rows
from swarmcell.model.strata.table import SampleTable
from swarmcell.model.study import Floors

FLOOR = 3
TABLES = st.integers(2, 3).flatmap(
    lambda columns: st.lists(st.lists(st.integers(0, 6), min_size=columns, max_size=columns), min_size=2, max_size=3)
)


def consistent(shown: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> list[np.ndarray]:
    """Return all tables of counts with these totals that agree with what is shown: what an attacker is left with."""
    hidden = np.argwhere(shown == withheld.LEFT_OUT)
    free = [place for place in hidden if place[0] > hidden[:, 0].min() and place[1] > hidden[:, 1].min()]
    found = []
    for values in product(*(range(min(rows[i], columns[j]) + 1) for i, j in free)):
        one = np.where(shown == withheld.LEFT_OUT, 0, shown)
        for (i, j), value in zip(free, values, strict=True):
            one[i, j] = value
        first_row, first_column = hidden.min(axis=0)
        for i in set(hidden[:, 0].tolist()) - {int(first_row)}:  # the totals tell the first hidden row and column
            one[i, first_column] = rows[i] - one[i].sum()
        for j in set(hidden[:, 1].tolist()):
            one[first_row, j] = columns[j] - one[:, j].sum()
        if (one >= 0).all() and (one.sum(axis=1) == rows).all() and (one.sum(axis=0) == columns).all():
            found.append(one)
    return found


@given(TABLES)
def test_an_attacker_with_all_totals_cannot_tell_a_small_count_unless_the_totals_alone_tell_it(rows: list) -> None:
    counts = np.array(rows, np.int64)
    shown = withheld.table(counts, counts, FLOOR)
    small = (counts > 0) & (counts < FLOOR)
    assert (shown[small] == withheld.LEFT_OUT).all()
    if not small.any():
        np.testing.assert_array_equal(shown, counts)
        return
    left = consistent(shown, counts.sum(axis=1), counts.sum(axis=0))
    assert any((one == counts).all() for one in left)
    if not (shown == withheld.LEFT_OUT).all():
        for i, j in np.argwhere(small):
            assert len({int(one[i, j]) for one in left}) >= FLOOR


def test_a_count_that_was_left_out_alone_followed_from_the_totals_of_its_row() -> None:
    counts = np.array([[20, 2], [15, 18], [9, 30]])
    alone = np.where(counts < FLOOR, withheld.LEFT_OUT, counts)
    assert {int(one[0, 1]) for one in consistent(alone, counts.sum(axis=1), counts.sum(axis=0))} == {2}
    shown = withheld.table(counts, counts, FLOOR)
    assert shown.tolist() == [[-1, -1], [-1, -1], [9, 30]]
    assert len({int(one[0, 1]) for one in consistent(shown, counts.sum(axis=1), counts.sum(axis=0))}) >= FLOOR


def test_many_samples_of_few_donors_are_small() -> None:
    counts, donors = np.array([[8, 20], [20, 20]]), np.array([[2, 20], [20, 20]])
    assert withheld.table(counts, donors, FLOOR)[0, 0] == withheld.LEFT_OUT


@pytest.mark.parametrize(
    ("donors", "hidden"),
    [([9, 9, 9], []), ([9, 0, 9], []), ([1, 9, 5], [0, 2]), ([2, 2, 9], [0, 1]), ([1, 1, 9], [0, 1, 2]), ([2], [0])],
)
def test_a_small_group_of_a_number_is_never_left_out_alone(donors: list, hidden: list) -> None:
    floor = 4
    assert np.flatnonzero(withheld.groups(np.array(donors), floor)).tolist() == hidden
    if 0 < len(hidden) < len(donors):
        assert sum(donors[i] for i in hidden) >= floor


@pytest.mark.parametrize(("name", "axis"), [("by_site", 0), ("test_0", 1)])
def test_nobody_finds_what_a_swarm_left_out_by_subtraction_from_the_sizes_of_strata(name: str, axis: int) -> None:
    floor, study = 5, study_of()
    tables = odd_conditions().by_site()
    truth = solved(study, tables).arrays[name]
    found = solved(replace(study, floors=Floors(donors=floor, cells=1)), tables)
    shown = found.arrays[name]
    small = (truth > 0) & (truth < floor)
    assert small.any()
    np.testing.assert_array_equal(found.arrays["stratum_n"], truth.sum(axis=axis))
    for i, j in np.argwhere(small):
        line = shown[:, j] if axis == 0 else shown[i]
        assert (line == withheld.LEFT_OUT).sum() > 1
    assert found.arrays["tested_0"].tolist() == [found.n_samples]


def test_the_age_of_the_only_donor_of_a_stratum_whose_age_is_known_is_in_no_state() -> None:
    floor, study = 5, study_of()
    table = odd_conditions()
    first = solved(study, table.by_site())
    labels = kmeans.nearest(rows(table, first, study.strata).coordinates, first.arrays["stratum_centres"][None])[0]
    age = np.where(labels == 0, np.nan, table.covariates["age"])
    age[np.flatnonzero(labels == 0)[0]] = 71.0
    told = replace(table, covariates={"age": age})
    found = [solved(replace(study, floors=Floors(donors=n, cells=1)), told.by_site()) for n in (1, floor)]
    assert found[0].arrays["test_1"][0, 0] == 71 << 16
    shown = found[1].arrays["test_1"]
    assert (shown[:, 0] == withheld.LEFT_OUT).all()
    assert (shown[1] == withheld.LEFT_OUT).sum() > 1, "the mean over all would tell a single one"
    exact, rounded = (one.arrays["tests"][1, 0] / 2**24 for one in found)
    assert rounded == pytest.approx(round(exact, 2), abs=1e-6)


def odd_conditions() -> SampleTable:
    """Return a cohort in which one donor of the first planted stratum and one of the others has the other condition."""
    cohort = simulated(0)
    condition = cohort.table.condition.copy()
    for one in (0, 1):
        condition[np.flatnonzero(cohort.planted == one)[0]] ^= 1
    return replace(cohort.table, condition=condition)
