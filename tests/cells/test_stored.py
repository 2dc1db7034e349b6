"""Facts about cells that stay on disk: the same values as in memory, each row once, in runs of neighbours."""

import warnings

import anndata as ad
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scipy import sparse

from swarmcell.cells import stored
from swarmcell.cells.batches import batches, columns
from swarmcell.cells.stored import StoredRows, open_store, stack
from swarmcell.errors import CellsError, InputError

N = 300
RNG = np.random.default_rng(0)
X = sparse.csr_matrix(sparse.random_array((N, 17), density=0.3, format="csr", dtype=np.float32, rng=RNG))


@pytest.fixture(scope="module", params=["h5ad", "zarr", "dense"])
def on_disk(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    if request.param == "zarr":
        with warnings.catch_warnings():  # anndata says which zarr format will be its default
            warnings.simplefilter("ignore", UserWarning)
            ad.AnnData(X).write_zarr(folder / "x.zarr")
        return open_store(folder / "x.zarr")["X"]
    values = X.toarray() if request.param == "dense" else X
    ad.AnnData(values).write_h5ad(folder / "x.h5ad", compression="gzip")
    return open_store(folder / "x.h5ad")["X"]


def dense(values):
    return values.toarray() if sparse.issparse(values) else values


@settings(max_examples=25, suppress_health_check=[*HealthCheck])
@given(asked=st.lists(st.integers(0, N // 2 - 1), max_size=40), keep=st.lists(st.integers(0, 16), unique=True))
@example(asked=[0, 0, 1], keep=[])  # as many rows as lie between the first and the last, and not those
def test_rows_and_columns_are_those_in_memory_in_any_order(on_disk, asked, keep):
    rows = np.arange(0, N, 2)
    found = StoredRows.of(on_disk, rows, source="x")
    np.testing.assert_array_equal(dense(found[np.array(asked, np.int64)]), X[rows][asked].toarray())
    chosen = np.array(sorted(keep), np.int64)
    few = columns(found, chosen)
    assert few.shape == (len(rows), len(chosen))
    np.testing.assert_array_equal(dense(few[10:60]), X[rows][10:60][:, chosen].toarray())


def test_files_stack_in_order(on_disk):
    first, last = np.arange(20, 50), np.array([0, 3, 299])
    both = stack([StoredRows.of(on_disk, first, source="a"), StoredRows.of(on_disk, last, source="b")])
    np.testing.assert_array_equal(dense(both[28:33]), X[[48, 49, 0, 3, 299]].toarray())


def test_a_pass_visits_each_row_once_and_depends_on_its_seed_only(on_disk, monkeypatch):
    monkeypatch.setattr(stored, "RUN_ROWS", 16)
    monkeypatch.setattr(stored, "RUNS_PER_WINDOW", 3)
    cells, rows = StoredRows.of(on_disk, np.arange(N), source="x"), np.arange(5, N)
    passes = [list(batches(cells, rows, n_rows=10, rng=np.random.default_rng(seed))) for seed in (1, 1, 2)]
    orders = [np.concatenate([batch.rows for batch in batches_]) for batches_ in passes]
    np.testing.assert_array_equal(np.sort(orders[0]), rows)
    np.testing.assert_array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    for batch in passes[0]:
        np.testing.assert_array_equal(batch.X, X[batch.rows].toarray())
        assert batch.X.dtype == np.float32


def test_a_window_mixes_runs_from_anywhere():
    window = next(StoredRows.windows(np.arange(100_000), np.random.default_rng(0)))
    assert len(window) == stored.RUN_ROWS * stored.RUNS_PER_WINDOW
    assert np.ptp(window) > 50_000


def test_columns_on_disk_infinite_values_and_no_file_are_refused(tmp_path):
    ad.AnnData(X.tocsc()).write_h5ad(tmp_path / "csc.h5ad")
    with pytest.raises(CellsError, match="csc_matrix"):
        StoredRows.of(open_store(tmp_path / "csc.h5ad")["X"], np.arange(3), source="csc.h5ad")
    bad = X.copy()
    bad.data[5] = np.inf
    ad.AnnData(bad).write_h5ad(tmp_path / "bad.h5ad")
    with pytest.raises(CellsError, match=r"bad\.h5ad: X holds NaN or infinite"):
        StoredRows.of(h5py.File(tmp_path / "bad.h5ad")["X"], np.arange(N), source="bad.h5ad")[0:N]
    with pytest.raises(InputError, match="no such file"):
        open_store(tmp_path / "none.h5ad")


def test_cells_are_read_without_their_counts(make_cells, tmp_path):
    from swarmcell.cells import schema

    adata = make_cells("site-a")
    adata.layers["counts"] = adata.X.copy()
    schema.write_prepared(adata, tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        del file["layers/counts/data"]  # who reads the counts fails
    found = stored.read_cells(tmp_path / "a.h5ad")
    assert (found.X != adata.X).nnz == 0
    assert not found.layers
    assert list(found.obs["donor"].astype(str)) == list(adata.obs["donor"].astype(str))
    with pytest.raises(InputError):
        schema.read_prepared(tmp_path / "a.h5ad")
