"""Facts about cells standardised by their own site: moved to the swarm's mean and SD, whatever way they are stored."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from swarmcell.cells.batches import batches
from swarmcell.cells.site_scaling import SiteScaled, described_rows, own_moments, sites_of
from swarmcell.cells.stored import StoredRows, open_store

N, P = 400, 6
SITE = np.arange(N) % 3
MEAN, SCALE = np.linspace(-1, 2, P), np.linspace(0.5, 3, P)


def cells():
    rng = np.random.default_rng(0)
    X = rng.gamma(1.0, 1.0 + SITE[:, None], (N, P)) * (rng.uniform(size=(N, P)) < 0.6)
    X[:, 3] = 1.5  # constant
    return X.astype(np.float32)


@pytest.fixture(params=["csr", "dense", "on disk"])
def stored(request, tmp_path):
    X = cells()
    if request.param == "dense":
        return X
    if request.param == "csr":
        return sparse.csr_matrix(X)
    ad.AnnData(sparse.csr_matrix(X)).write_h5ad(tmp_path / "x.h5ad")
    return StoredRows.of(open_store(tmp_path / "x.h5ad")["X"], np.arange(N), source="x")


def test_each_site_gets_the_mean_and_sd_of_the_swarm_and_a_constant_feature_its_mean(stored):
    X = SiteScaled.of(stored, SITE, own_moments(stored, SITE, ("a", "b", "c")), mean=MEAN, scale=SCALE)
    varies = np.arange(P) != 3
    for k in range(3):
        mine = X[np.flatnonzero(k == SITE)].astype(np.float64)
        np.testing.assert_allclose(mine.mean(axis=0), MEAN, atol=1e-5)
        np.testing.assert_allclose(mine.std(axis=0)[varies], SCALE[varies], rtol=1e-5)
        assert mine[:, 3].std() < 1e-5
    np.testing.assert_array_equal(X[10:20], X[np.arange(10, 20)])


def test_batches_are_of_standardised_cells_each_once(stored):
    X = SiteScaled.of(stored, SITE, own_moments(stored, SITE, ("a", "b", "c")), mean=MEAN, scale=SCALE)
    seen = np.zeros(N, int)
    for batch in batches(X, np.arange(N), n_rows=64, rng=np.random.default_rng(1)):
        np.testing.assert_array_equal(batch.X, X[batch.rows])
        seen[batch.rows] += 1
    assert (seen == 1).all()


def test_a_site_is_described_by_its_training_cells_or_by_all_where_it_has_none():
    obs = pd.DataFrame({"site": ["b", "b", "a", "a"], "split": ["train", "held_out", "held_out", "held_out"]})
    assert described_rows(obs).tolist() == [0, 2, 3]
    assert sites_of(obs)[0] == ("a", "b")
    assert sites_of(obs)[1].tolist() == [1, 1, 0, 0]
    assert described_rows(obs[["site"]]).tolist() == [0, 1, 2, 3]
