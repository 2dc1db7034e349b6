"""Doublets that were made are found; genes are those that scanpy selects; what is too small is left alone."""

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse
from sklearn.metrics import roc_auc_score

from swarmcell.cells import doublets

N_TYPES, N_GENES = 4, 400


def _singlets(n_cells: int, seed: int) -> np.ndarray:
    """Cells of four types; each type has forty genes of its own."""
    rng = np.random.default_rng(seed)
    rate = np.full((N_TYPES, N_GENES), 0.3)
    for n in range(N_TYPES):
        rate[n, 40 * n : 40 * n + 40] = 4
    return rng.poisson(rate[rng.integers(N_TYPES, size=n_cells)] * rng.lognormal(0, 0.2, (n_cells, 1)))


@pytest.fixture(scope="module")
def cells() -> tuple[sparse.csr_matrix, np.ndarray]:
    """400 cells, and which of them are sums of two of different types (most of the last 40)."""
    single, pairs = _singlets(360, 0), _singlets(80, 1)
    counts = np.concatenate([single, pairs[:40] + pairs[40:]])
    own = pairs.reshape(80, -1)[:, : 40 * N_TYPES].reshape(80, N_TYPES, 40).sum(axis=2).argmax(axis=1)
    mixed = np.concatenate([np.zeros(360, bool), own[:40] != own[40:]])
    return sparse.csr_matrix(counts.astype(np.int32)), mixed


def test_sums_of_two_types_are_scored_higher_and_called(cells: tuple[sparse.csr_matrix, np.ndarray]) -> None:
    found = doublets.find(cells[0], seed=0)
    assert roc_auc_score(cells[1], found.score) > 0.95
    assert found.called[cells[1]].mean() > 0.8
    assert found.called[:360].mean() < 0.12
    assert ((found.score >= 0) & (found.score <= 1)).all()


def test_the_same_seed_gives_the_same_scores(cells: tuple[sparse.csr_matrix, np.ndarray]) -> None:
    first, second = (doublets.find(cells[0], seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.score, second.score)


def test_variable_genes_are_those_of_scanpy() -> None:
    rng = np.random.default_rng(0)
    counts = sparse.csr_matrix(rng.poisson(rng.gamma(0.3, 1.5, (300, 600)) * rng.lognormal(0, 1, 600)).astype(np.int32))
    adata = ad.AnnData(counts.astype(np.float64))
    sc.pp.filter_genes(adata, min_cells=3)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata)
    theirs = adata.var_names[adata.var["highly_variable"]].astype(int)
    assert list(doublets.variable_genes(counts)) == list(theirs)
    assert len(theirs) > 20


@pytest.mark.parametrize("shape", [(99, 400), (400, 3)], ids=["few cells", "few genes"])
def test_what_is_too_small_is_not_scored(shape: tuple[int, int]) -> None:
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(1, shape).astype(np.int32))
    assert doublets.find(counts, seed=0) is None


def test_the_threshold_lies_between_two_modes_and_one_mode_has_none() -> None:
    rng = np.random.default_rng(0)
    two = np.concatenate([rng.normal(0.1, 0.03, 5000), rng.normal(0.5, 0.05, 1000)])
    assert 0.2 < doublets.minimum_between_modes(two) < 0.4
    bins = np.arange(256)
    assert doublets.minimum_between_modes(np.repeat(bins / 256, 400 - 2 * np.abs(bins - 100))) is None


def test_a_threshold_that_would_call_many_cells_is_not_taken() -> None:
    same = np.random.default_rng(0).poisson(np.full((300, 200), 1.0))  # one kind of cell: no valley means anything
    found = doublets.find(sparse.csr_matrix(same.astype(np.int32)), seed=0)
    assert found.called.mean() <= doublets.CALLED_MAX
