"""Facts about models of one round: any partition of the cells gives what scikit-learn gives for all of them."""

from itertools import permutations

import numpy as np
import pytest
from exact_cells import N_CELLS, N_TYPES, pool
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from swarmcell.errors import MergeError
from swarmcell.model import one_round
from swarmcell.model.classifier import Scaling
from swarmcell.model.merges import linear
from swarmcell.model.one_round import Moments

X, Y = pool()
DENSE = X.toarray().astype(np.float64)
SCALING = Scaling(DENSE.mean(0) + 0.1, DENSE.std(0))  # not quite the rows' own mean: what follows must centre by itself
SCALED = (DENSE - SCALING.mean) / SCALING.scale


def parts(sites):
    of = np.asarray(sites)
    return [one_round.site_sums(X[of == k], Y[of == k], N_TYPES, SCALING) for k in sorted(set(sites))]


WHOLE = Moments.of(parts([0] * N_CELLS))


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=N_CELLS, max_size=N_CELLS))
def test_any_partition_gives_the_same_moments(sites):
    found = Moments.of(parts(sites))
    assert found.by_class.tolist() == WHOLE.by_class.tolist()
    np.testing.assert_allclose(found.gram, WHOLE.gram, atol=1e-5)
    np.testing.assert_allclose(found.covariance, np.cov(SCALED.T), atol=1e-6)


def test_the_bits_are_the_same_in_any_order_of_the_sites():
    three = parts([i % 3 for i in range(N_CELLS)])
    made = {one_round.pca(Moments.of(order), 4).axes.tobytes() for order in permutations(three)}
    assert len(made) == 1


def test_ridge_is_scikit_learns():
    found = one_round.ridge(WHOLE, penalty=3.0)
    oracle = Ridge(alpha=3.0).fit(SCALED, np.eye(N_TYPES)[Y])
    np.testing.assert_allclose(found.weight, oracle.coef_, atol=1e-6)
    np.testing.assert_allclose(found.bias, oracle.intercept_, atol=1e-6)


def test_lda_is_scikit_learns_without_its_priors():
    found = one_round.lda(WHOLE, shrinkage=0.0)
    oracle = LinearDiscriminantAnalysis(solver="lsqr").fit(SCALED, Y)
    np.testing.assert_allclose(found.weight, oracle.coef_, atol=1e-5)
    np.testing.assert_allclose(found.bias, oracle.intercept_ - np.log(oracle.priors_), atol=1e-5)


def test_shrinkage_mixes_the_mean_variance_into_the_covariance_within_classes():
    kinds = [SCALED[np.equal(Y, k)] for k in range(N_TYPES)]
    within = sum(np.cov(rows.T, bias=True) * len(rows) for rows in kinds) / N_CELLS
    within = 0.7 * within + 0.3 * np.trace(within) / len(within) * np.eye(len(within))
    means = np.stack([rows.mean(0) for rows in kinds])
    found = one_round.lda(WHOLE, shrinkage=0.3)  # scikit-learn shrinks each class's correlations instead
    np.testing.assert_allclose(found.weight, np.linalg.solve(within, means.T).T, atol=1e-6)


def test_a_class_without_rows_never_wins():
    sums = one_round.site_sums(X[Y < 3], Y[Y < 3], N_TYPES, SCALING)
    found = one_round.lda(Moments.of([sums]), shrinkage=0.1)
    assert set((SCALED @ found.weight.T + found.bias).argmax(1)) == {0, 1, 2}


def test_pca_is_scikit_learns():
    found, oracle = one_round.pca(WHOLE, 6), PCA(6).fit(SCALED)
    np.testing.assert_allclose(found.variances, oracle.explained_variance_, rtol=1e-6)
    same = (found.axes * oracle.components_).sum(1)
    np.testing.assert_allclose(np.abs(same), 1, atol=1e-6)
    np.testing.assert_allclose(np.abs(found.project(X, SCALING)), np.abs(oracle.transform(SCALED)), atol=1e-5)
    assert np.all(found.axes[np.arange(6), np.abs(found.axes).argmax(1)] > 0)


def test_subspace_iteration_reaches_the_same_axes():
    halves = [X[: N_CELLS // 2], X[N_CELLS // 2 :]]
    columns = one_round.subspace_start(X.shape[1], 9)
    for _ in range(60):
        sums = [one_round.subspace_sums(half, SCALING, WHOLE.mean, columns) for half in halves]
        found = one_round.subspace_step(sums, N_CELLS, WHOLE.mean)
        columns = found.axes.T
    wanted = one_round.pca(WHOLE, 3)
    np.testing.assert_allclose(np.abs((found.axes[:3] * wanted.axes).sum(1)), 1, atol=1e-4)
    np.testing.assert_allclose(found.variances[:3], wanted.variances, rtol=1e-4)


@pytest.mark.parametrize(("n", "rank", "k"), [(1, 1, 1), (7, 7, 7), (120, 120, 5), (150, 12, 20), (90, 1, 3)])
def test_leading_eigenvectors_are_lapacks(n, rank, k):
    half = np.random.default_rng(n).normal(size=(n, rank)) * np.geomspace(3, 0.1, rank)
    matrix = half @ half.T
    values, vectors = linear.leading_eigenvectors(matrix, k)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix)[::-1][:k], atol=1e-9 * values[0])
    np.testing.assert_allclose(matrix @ vectors.T, vectors.T * values, atol=1e-8 * values[0])
    kept = min(k, rank)
    np.testing.assert_allclose(vectors[:kept] @ vectors[:kept].T, np.eye(kept), atol=1e-7)


def test_a_factor_and_a_solution_are_lapacks():
    half = np.random.default_rng(3).normal(size=(300, 400))
    matrix, right = half @ half.T, half[:, :3]
    np.testing.assert_allclose(linear.cholesky(matrix), np.linalg.cholesky(matrix), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(linear.solve(matrix, right), np.linalg.solve(matrix, right), rtol=1e-6)


def test_what_cannot_be_solved_is_refused():
    with pytest.raises(MergeError, match=r"not positive definite.*penalty"):
        linear.cholesky(np.ones((3, 3)))
    with pytest.raises(MergeError, match="subspace iteration"):
        linear.leading_eigenvectors(np.eye(3), 4)
    with pytest.raises(MergeError, match="no site has a row"):
        Moments.of([one_round.site_sums(X[:0], Y[:0], N_TYPES, SCALING)])


def test_sums_fit_their_slots():
    sums = parts([0] * N_CELLS)[0]
    wanted = one_round.slots(N_TYPES, X.shape[1])
    assert {name: array.shape for name, array in sums.items()} == {name: slot.shape for name, slot in wanted.items()}
