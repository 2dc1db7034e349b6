"""The permutation test: what may be exchanged, and that chance is found to be chance."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from swarmcell.metrics import cell, patient
from swarmcell.metrics.permutation import cells_test, conditions_test


def area(score):
    ones = np.ones((1, len(score)), dtype=np.int64)
    return lambda true: float(patient.auroc(true == 1, score, ones)[0])


def test_exact_p_is_that_of_the_rank_sum_test(rng):
    score, true = rng.normal(size=9), np.repeat([0, 1], [4, 5])
    found = conditions_test(area(score), true, np.arange(9), n_permutations=2000, rng=rng)
    expected = mannwhitneyu(score[true == 1], score[true == 0], alternative="greater", method="exact")
    assert found.exact
    assert found.p_value == pytest.approx(expected.pvalue)


def test_random_p_is_near_the_exact_one(rng):
    score, true = rng.normal(size=14) + 0.6 * np.repeat([0, 1], 7), np.repeat([0, 1], 7)
    found = conditions_test(area(score), true, np.arange(14), n_permutations=2000, rng=rng)
    expected = mannwhitneyu(score[true == 1], score[true == 0], alternative="greater", method="exact")
    assert not found.exact
    assert found.p_value == pytest.approx(expected.pvalue, abs=0.03)


def test_two_donors_a_side_cannot_reach_five_per_cent(rng):
    true = np.array([0, 0, 1, 1])
    found = conditions_test(area(np.arange(4.0)), true, np.arange(4), n_permutations=1000, rng=rng)
    assert found.p_value == pytest.approx(1 / 6)
    assert found.smallest_p_value == pytest.approx(1 / 6)


def test_a_donors_samples_of_one_condition_move_together(rng):
    true, donor = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 0, 1, 1, 1])
    found = conditions_test(area(np.arange(6.0)), true, donor, n_permutations=1000, rng=rng)
    assert found.n_arrangements == 2


def test_before_and_after_are_exchanged_within_the_donor(rng):
    true, donor = np.array([0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 2, 2])
    found = conditions_test(area(np.array([0.0, 1, 0, 1, 0, 1])), true, donor, n_permutations=1000, rng=rng)
    assert found.n_arrangements == 8
    assert found.p_value == pytest.approx(1 / 8)


def test_one_condition_cannot_be_tested(rng):
    assert conditions_test(area(np.arange(3.0)), np.zeros(3, int), np.arange(3), n_permutations=10, rng=rng) is None


def test_random_predictions_of_cells_are_chance(rng):
    p_values = []
    for _ in range(40):
        true, predicted = rng.integers(0, 3, (2, 3, 60))
        per_donor = np.stack([cell.confusion(t, p, 3) for t, p in zip(true, predicted, strict=True)])
        p_values.append(cells_test(per_donor, n_permutations=99, rng=rng).p_value)
    assert 0.3 < np.mean(p_values) < 0.7


def test_predictions_that_know_only_the_donor_are_chance(rng):
    """Each donor has one dominant type and all its cells are called that: within donors nothing is known."""
    per_donor = np.zeros((2, 2, 2), dtype=np.int64)
    per_donor[0, :, 0] = [90, 10]
    per_donor[1, :, 1] = [10, 90]
    assert cells_test(per_donor, n_permutations=99, rng=rng).p_value == 1.0


def test_good_predictions_of_cells_are_not_chance(rng):
    per_donor = np.array([[[40, 2], [3, 30]], [[20, 1], [0, 25]]])
    assert cells_test(per_donor, n_permutations=199, rng=rng).p_value == pytest.approx(1 / 200)
