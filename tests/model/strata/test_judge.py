import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from swarmcell.model.strata import describe, judge


def test_agreement_of_two_partitions_is_scikit_learns_adjusted_rand_index() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 3, 50), rng.integers(0, 4, 50)
    table = np.zeros((3, 4), np.int64)
    np.add.at(table, (first, second), 1)
    assert judge.adjusted_rand(table) == pytest.approx(adjusted_rand_score(first, second), abs=1e-12)
    assert judge.adjusted_rand(np.diag([5, 5])) == 1


def test_a_stratum_that_is_split_has_the_jaccard_index_of_its_larger_part() -> None:
    assert judge.jaccard(np.array([[10, 0, 0], [0, 6, 4]])) == [1, 0.6]


def verdict(k: int, jaccard: float, within: float, donors: int = 9) -> judge.Verdict:
    nulls = tuple(0.5 + 0.01 * i for i in range(39))
    at_least = sum(one <= within for one in nulls)
    return judge.Verdict(k, (jaccard,) * k, 1.0, within, nulls, (1 + at_least) / 40, (donors,) * k)


def test_the_largest_number_of_strata_that_passes_is_taken() -> None:
    good = {2: verdict(2, 0.9, 0.2), 3: verdict(3, 0.8, 0.2), 4: verdict(4, 0.7, 0.2)}
    assert judge.choose(good, {3: 0.01}, donors_min=3) == 3


def test_a_split_that_chance_would_make_is_not_taken_for_one_more_stratum() -> None:
    both = {2: verdict(2, 0.9, 0.2), 3: verdict(3, 0.9, 0.2)}
    assert judge.candidates(both, donors_min=3) == [2, 3]
    assert judge.choose(both, {3: 0.3}, donors_min=3) == 2
    three = {2: verdict(2, 0.6, 0.2), 3: verdict(3, 0.9, 0.2)}
    assert judge.choose(three, {3: 0.3}, donors_min=3) == 0
    assert "chance split of 2 (p = 0.3)" in judge.why_not(three, {3: 0.3}, donors_min=3)
    assert judge.split_p(0.5, [0.5, 0.6, 0.7]) == 0.5


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (verdict(2, 1.0, 0.6), "no tighter"),
        (verdict(2, 0.6, 0.2), "comes back"),
        (verdict(2, 1.0, 0.2, 2), "fewer than 3"),
    ],
)
def test_there_are_no_strata_for_a_reason_that_is_said(one: judge.Verdict, says: str) -> None:
    assert judge.choose({2: one}, {}, donors_min=3) == 0
    assert says in judge.why_not({2: one}, {}, donors_min=3)


def test_a_stratum_of_one_site_is_called_the_site_in_disguise_unless_it_may_be_chance() -> None:
    def told(by_site: list[list[int]]) -> list[list[int]]:
        table = np.array(by_site)
        return [describe.is_disguise(row, table.sum(axis=0), int(table.sum())).tolist() for row in table]

    assert told([[20, 1], [0, 20]]) == [[1, 0], [0, 1]]
    assert told([[20, 19], [1, 2]]) == [[0, 0], [0, 0]]  # one site has nearly all samples anyway
    assert told([[2, 3], [0, 2]]) == [[0, 0], [0, 0]]  # so few may be chance
    assert told([[20, 20]]) == [[0, 0]]  # the only site
