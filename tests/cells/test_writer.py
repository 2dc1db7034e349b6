"""A prepared file is the same cells, however it is stored, and every way of reading gives them."""

from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from swarmcell.cells import chunks, schema, writer
from swarmcell.cells.stored import StoredRows, open_cells
from swarmcell.cells.writer import PreparedWriter
from swarmcell.workflows.stream import PreparedFile

WAYS = {
    "gzip": {},
    "blosc": {"storage": "blosc"},
    "zarr": {"zarr": True},
    "zarr with blosc": {"zarr": True, "storage": "blosc"},
}


@pytest.fixture(params=list(WAYS))
def options(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(chunks, "CHUNK_VALUES", 7)
    monkeypatch.setattr(writer, "ZARR_CHUNK_VALUES", 7)
    return WAYS[request.param]


def _written(prepared: ad.AnnData, folder: Path, options: dict[str, Any]) -> Path:
    path = folder / ("a.zarr" if options.get("zarr") else "a.h5ad")
    made = PreparedWriter(path, prepared.n_vars, with_counts=True, **options)
    for start in range(0, prepared.n_obs, 5):
        made.add(prepared.X[start : start + 5], prepared.layers["counts"][start : start + 5])
    made.finish(prepared.obs, prepared.var, prepared.uns["swarmcell"])
    return path


@pytest.mark.filterwarnings("ignore::anndata._warnings.OldFormatWarning")
def test_what_is_written_is_read_back_whole_in_blocks_and_by_rows(
    prepared: ad.AnnData, tmp_path: Path, options: dict[str, Any]
) -> None:
    path = _written(prepared, tmp_path, options)
    whole = schema.read_prepared(path)
    assert (whole.X != prepared.X).nnz == 0
    assert (whole.layers["counts"] != prepared.layers["counts"]).nnz == 0
    assert whole.X.indptr.dtype == whole.X.indices.dtype
    left, right = (frame.astype(object) for frame in (whole.obs, prepared.obs))
    pd.testing.assert_frame_equal(left, right, check_index_type=False, check_column_type=False)
    with PreparedFile(path) as file:
        blocks = [block.cells.X for block in file.blocks(np.arange(prepared.n_obs))]
    assert (sparse.vstack(blocks) != prepared.X).nnz == 0
    _, stored = open_cells(path)
    rows = StoredRows.of(stored, np.arange(prepared.n_obs), source="a")
    assert (rows[np.array([3, 1, 20])] != prepared.X[[3, 1, 20]]).nnz == 0
