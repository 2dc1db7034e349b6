"""Facts about highly-variable genes: scanpy's on the pooled counts, gene for gene, for any partition of the cells."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse

from swarmcell.errors import CellsError, ModelError
from swarmcell.model import variable_genes

DATA = Path(__file__).parents[3] / "shared" / "data" / "rna"
SETS = ["kang3_100genes", "kang2_muscat", "mixology_celseq2_singlets"]


def simulated(seed, *, n_cells=300, n_genes=400):
    """Counts that vary more than Poisson, of means from 0.003 to 100; some genes are nowhere, one is constant."""
    rng = np.random.default_rng(seed)
    means = rng.lognormal(-1, 2, n_genes) * (rng.uniform(size=n_genes) > 0.05)
    spread = rng.gamma(2, 0.5, (n_cells, n_genes)) * rng.lognormal(0, 0.4, (n_cells, 1))
    counts = rng.poisson(np.minimum(means * spread, 3000))
    counts[:, 7] = 3
    return sparse.csr_matrix(counts.astype(np.float64))


def pooled_scanpy(counts, n_top):
    frame = sc.pp.highly_variable_genes(
        ad.AnnData(sparse.csr_matrix(counts, dtype=np.float64)), flavor="seurat_v3", n_top_genes=n_top, inplace=False
    )
    return frame["variances_norm"].to_numpy(), set(np.flatnonzero(frame["highly_variable"]))


def assert_scanpys(found, n_top, expected):
    """The same genes; where exactly tied genes straddle the cut, scanpy's choice depends on the processor's sort."""
    scores, genes = expected
    mine = set(variable_genes.top(found, n_top).tolist())
    assert len(mine) == len(genes) == n_top
    last = min(found[gene] for gene in mine)
    for gene in mine ^ genes:
        assert found[gene] == last, f"gene {gene}: {found[gene]} (scanpy: {scores[gene]}), the last one has {last}"


def added(parts):
    return tuple(sum(part.astype(object) for part in column) for column in zip(*parts, strict=True))


def federated(sites):
    """Return the scores that sites get from what each publishes in two passes."""
    n = sum(site.shape[0] for site in sites)
    first, second = added([variable_genes.count_sums(site) for site in sites])
    trend = variable_genes.trend(n, first, second)
    last = variable_genes.kept_last(n, first, trend)
    clipped = added([variable_genes.clipped_sums(site, last)[2:] for site in sites])
    return variable_genes.scores(n, first, trend, clipped)


@pytest.fixture(scope="module")
def counts():
    return simulated(0)


@pytest.fixture(scope="module")
def oracle(counts):
    return pooled_scanpy(counts, 100)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 300), max_size=6))
@settings(max_examples=20, deadline=None)
def test_any_partition_of_the_cells_gives_scanpys_genes_and_the_same_bits(counts, oracle, seed, cuts):
    shuffled = counts[np.random.default_rng(seed).permutation(counts.shape[0])]
    edges = [0, *sorted(cuts), counts.shape[0]]
    found = federated([shuffled[a:b] for a, b in itertools.pairwise(edges)])
    assert found == variable_genes.scores_of_cells(counts)
    assert_scanpys(found, 100, oracle)


@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("n_top", [10, 150])
def test_scores_and_genes_are_scanpys(seed, n_top):
    cells = simulated(seed)
    expected = pooled_scanpy(cells, n_top)
    found = variable_genes.scores_of_cells(cells)
    np.testing.assert_allclose(found, expected[0], rtol=1e-9, atol=1e-9)
    assert_scanpys(found, n_top, expected)


@pytest.mark.parametrize("name", SETS)
def test_real_counts_give_scanpys_genes(name):
    path = DATA / f"{name}.h5ad"
    if not path.is_file():
        pytest.skip(f"real data is not here: {path}")
    cells = sparse.csr_matrix(ad.read_h5ad(path).X, dtype=np.float64)
    site = np.random.default_rng(0).integers(0, 3, cells.shape[0])
    found = federated([cells[site == s] for s in range(3)])
    for n_top in (20, 50, 1000, 2000):
        if n_top < cells.shape[1]:
            assert_scanpys(found, n_top, pooled_scanpy(cells, n_top))


BITS = """
import hashlib
import numpy as np
from swarmcell.model import variable_genes
n, genes = 1000, range(3000)
first = np.array([1 + i * i * 7919 % 5000 for i in genes], object)
second = np.array([t + 2 * t * t // n + i * 104729 % 977 * t // 300 for i, t in enumerate(first)], object)
trend = variable_genes.trend(n, first, second)
last = variable_genes.kept_last(n, first, trend)
scores = variable_genes.scores(n, first, trend, (first % 3, first - first % 3, second // 2))
print(hashlib.sha256(trend.tobytes() + last.tobytes() + np.array(scores).tobytes()).hexdigest())
"""


@pytest.mark.parametrize("disabled", ["", "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL"])
def test_the_bits_are_the_same_on_every_processor_and_for_all_time(disabled):
    """One bit that differs between two peers would split a swarm, so this digest must never change."""
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": disabled, "PYTHONWARNINGS": "ignore"}
    run = subprocess.run([sys.executable, "-c", BITS], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "c696e2303a3114846fabf2cf3e4371eabe6057542be723aac9875ba48fba248f"


def test_dense_and_sparse_and_chosen_cells_have_the_same_sums(counts):
    rows = np.array([3, 4, 100])
    last = np.full(counts.shape[1], 2)
    for sums in (variable_genes.count_sums, lambda c, r=None: variable_genes.clipped_sums(c, last, r)):
        for dense, csr, chosen in zip(
            sums(counts[rows].toarray()), sums(counts[rows]), sums(counts, rows), strict=True
        ):
            assert np.array_equal(dense, csr)
            assert np.array_equal(csr, chosen)


def test_clipped_counts_are_counted_and_left_out_of_the_sums():
    cells = sparse.csr_matrix(np.array([[0, 5], [9, 5], [2, 6]]))
    *whole, n_clipped, kept, squares = variable_genes.clipped_sums(cells, np.array([2, 5]))
    assert np.array_equal(whole, variable_genes.count_sums(cells))
    assert (n_clipped.tolist(), kept.tolist(), squares.tolist()) == ([1, 1], [2, 10], [4, 50])


@pytest.mark.parametrize("value", [-1.0, 0.5, np.nan, np.inf, 2.0**24])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_what_is_no_count_is_refused(value, kind):
    with pytest.raises(CellsError, match=r"no counts.*top_variance"):
        variable_genes.count_sums(kind(np.array([[1.0, value]])))


def test_large_counts_are_summed_exactly():
    cells = sparse.csr_matrix(np.full((5000, 1), 2**24 - 1, np.float64))
    first, second = variable_genes.count_sums(cells)
    assert (first.tolist(), second.tolist()) == ([5000 * (2**24 - 1)], [5000 * (2**24 - 1) ** 2])


def test_genes_of_one_score_rank_by_their_place_in_the_universe():
    assert variable_genes.top([1.0, 2.0, 1.0, 2.0], 3).tolist() == [1, 3, 0]


def test_counts_without_a_trend_are_refused():
    with pytest.raises(ModelError, match=r"points are too few|one value"):
        variable_genes.scores_of_cells(sparse.csr_matrix(np.eye(50)))


@given(st.lists(st.tuples(*[st.integers(0, 2**53)] * 5), min_size=20, max_size=40), st.integers(1, 2**40))
@example([(2, 5, 0, 0, 0)] * 20, 1)
@settings(max_examples=40, deadline=None)
def test_no_sums_that_a_member_can_send_break_the_merge(sums, n):
    """They give scores, or a `ModelError` that ends the study with a text: never another exception, never NaN."""
    first, second, n_clipped, kept, squares = (np.array(column, object) for column in zip(*sums, strict=True))
    try:
        trend = variable_genes.trend(n, first, second)
    except ModelError:
        return
    assert (variable_genes.kept_last(n, first, trend) >= 0).all()
    assert np.isfinite(variable_genes.scores(n, first, trend, (n_clipped % 2**40, kept, squares))).all()
