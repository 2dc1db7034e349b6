"""Digests of cells and sketches of donors: the same cells are found whatever else differs, and other cells are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from swarmcell.cells import sketches

KEY = b"k" * 32


def counts_of(rng, n_cells, n_genes=60):
    return sparse.csr_matrix(rng.poisson(0.6, (n_cells, n_genes)))


def digests_of(X, **options):
    found, known = sketches.digests(X, options.pop("key", KEY), **options)
    return found[known]


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31))
def test_a_cells_digest_depends_on_its_counts_alone(seed):
    rng = np.random.default_rng(seed)
    X = counts_of(rng, 12)
    expected = sketches.digests(X, KEY)[0]
    order = rng.permutation(12)
    np.testing.assert_array_equal(sketches.digests(X[order], KEY)[0], expected[order])
    for other in (X.astype(np.float32), X.toarray().astype(np.float32), X.tocsc().tocsr(), X.tocoo()):
        np.testing.assert_array_equal(sketches.digests(other, KEY)[0], expected)
    changed = X.tolil()
    changed[3, 0] += 1
    differs = sketches.digests(changed.tocsr(), KEY)[0] != expected
    assert differs[3]
    assert differs.sum() == 1


def test_digests_under_two_keys_have_nothing_in_common():
    X = counts_of(np.random.default_rng(0), 500)
    assert not np.isin(digests_of(X), digests_of(X, key=b"o" * 32)).any()


def test_values_without_counts_survive_the_noise_of_float32():
    rng = np.random.default_rng(0)
    X = rng.gamma(1.0, 1.0, (400, 30))
    found = digests_of(X.astype(np.float32), steps=sketches.STEPS)
    noisy = digests_of((X * (1 + 1e-7)).astype(np.float32), steps=sketches.STEPS)
    assert np.isin(noisy, found).mean() > 0.95


def test_cells_with_few_values_are_left_out():
    X = sparse.csr_matrix(np.eye(4, 10) + 1 * (np.arange(4) == 3)[:, None])
    known = sketches.digests(X, KEY)[1]
    assert known.tolist() == [False, False, False, True]


@pytest.mark.parametrize("n_theirs", [40, 2_000, 20_000])
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_a_person_is_found_by_a_share_of_their_cells(n_theirs, share):
    """Each site kept other cells of one person; ten seeds."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        theirs = rng.integers(0, 2**63, n_theirs).astype(np.uint64)
        common = rng.choice(theirs, int(share * n_theirs), replace=False)
        mine = np.concatenate([common, rng.integers(0, 2**63, int((1 - share) * n_theirs)).astype(np.uint64)])
        known = sketches.sketch(theirs, sketches.KEPT_MAX)
        assert len(known.digests) <= sketches.KEPT_MAX
        assert known.is_of(mine)
        shared, n = known.shared_with(mine)
        assert shared / n == pytest.approx(share, abs=0.2)


def test_other_people_are_not_found_and_a_few_equal_cells_are_chance():
    rng = np.random.default_rng(0)
    theirs, mine = (rng.integers(0, 2**63, 3_000).astype(np.uint64) for _ in range(2))
    known = sketches.sketch(theirs, sketches.KEPT_MAX)
    assert not known.is_of(mine)
    mine[:2] = known.digests[:2]
    assert known.shared_with(mine)[0] == 2
    assert not known.is_of(mine)
    assert not sketches.sketch(theirs[:0], 4).is_of(mine)


def test_a_crowd_is_looked_up_as_its_donors_one_by_one():
    rng = np.random.default_rng(1)
    people = [rng.integers(0, 2**63, 400).astype(np.uint64) for _ in range(50)]
    crowd = sketches.Crowd.of([sketches.sketch(one, 64) for one in people])
    for n, mine in enumerate(people[:10]):
        assert crowd.near(mine) == (crowd.sketches[n],)
        assert crowd.near(mine)[0].is_of(mine)
    assert crowd.near(rng.integers(0, 2**63, 400).astype(np.uint64)) == ()
    assert sketches.Crowd.of([]).near(people[0]) == ()


def test_the_size_of_what_a_site_shows_is_bounded():
    for n_donors in (1, 10, 128, 1_000, 30_000):
        assert n_donors * sketches.kept_per_donor(n_donors) <= sketches.KEPT_TOTAL_MAX
