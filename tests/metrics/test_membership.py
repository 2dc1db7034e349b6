"""Membership figures equal scikit-learn's, and their intervals are over donors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from swarmcell.metrics.membership import FALSE_SHARE, separation

FEW_SCORES = st.integers(0, 30)


def drawn(seed, n_members, n_others, shift):
    rng = np.random.default_rng(seed)
    score = np.concatenate([rng.normal(shift, 1, n_members), rng.normal(0, 1, n_others)]).round(1)
    member = np.arange(n_members + n_others) < n_members
    donor = np.where(member, rng.integers(0, 5, len(score)), 5 + rng.integers(0, 4, len(score)))
    _, donor = np.unique(donor, return_inverse=True)
    return score, member, donor


@given(seed=FEW_SCORES, n_members=st.integers(5, 200), n_others=st.integers(5, 200), shift=st.floats(-2, 2))
def test_figures_equal_scikit_learns(seed, n_members, n_others, shift):
    score, member, donor = drawn(seed, n_members, n_others, shift)
    found = separation(score, member, donor, n_resamples=0, rng=np.random.default_rng(0))
    assert found.auroc.value == pytest.approx(roc_auc_score(member, score), abs=1e-12)
    false_rate, true_rate, _ = roc_curve(member, score, drop_intermediate=False)
    assert found.caught.value == pytest.approx(np.interp(FALSE_SHARE, false_rate, true_rate), abs=1e-9)
    assert (found.n_members, found.n_others) == (n_members, n_others)


def test_many_scores_are_binned_without_harm():
    rng = np.random.default_rng(0)
    score, member = rng.normal(size=20_000), np.arange(20_000) < 8000
    score[member] += 0.3
    found = separation(score, member, np.where(member, 0, 1), n_resamples=0, rng=rng)
    assert found.auroc.value == pytest.approx(roc_auc_score(member, score), abs=1e-4)


def test_the_interval_counts_donors_and_not_cells():
    rng = np.random.default_rng(0)
    level = np.repeat(rng.normal(size=12), 500)  # donors differ, membership does not matter
    member, donor = np.repeat(np.arange(12) < 6, 500), np.repeat(np.arange(12), 500)
    found = separation(level + 0.1 * rng.normal(size=6000), member, donor, n_resamples=500, rng=rng)
    assert found.auroc.contains(0.5)
    assert found.auroc.high - found.auroc.low > 0.3
