"""Real counts, step by step, as scanpy does it: metrics, who is dropped, normalisation, variable genes of doublets."""

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from benchmarks.real_cases import DATA
from scipy import sparse

from swarmcell.cells import doublets, schema
from swarmcell.config.preprocess import load
from swarmcell.workflows.preprocess import preprocess

RNA = DATA / "rna"
pytestmark = pytest.mark.skipif(not RNA.is_dir(), reason="../shared/data/rna is not there")
SETS = {
    "kang2_muscat.h5ad": {"min_genes": 100, "min_counts": 200},
    "kang3_100genes.h5ad": {"min_genes": 10, "min_counts": 20},
    "mixology_celseq2.h5ad": {"min_genes": 200, "min_counts": 500},
}
KEYS = {"mixology_celseq2.h5ad": {"donor": "study"}}
METRICS = {
    "n_counts": ("total_counts", 1), "n_genes": ("n_genes_by_counts", 1),
    "top20_share": ("pct_counts_in_top_20_genes", 100), "mito_share": ("pct_counts_mt", 100),
    "ribo_share": ("pct_counts_ribo", 100),
}  # fmt: skip


@pytest.fixture(scope="module", params=list(SETS))
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ad.AnnData, ad.AnnData]:
    """What swarmcell prepared, and the same file with scanpy's metrics."""
    out: Path = tmp_path_factory.mktemp("rna") / request.param
    settings = {
        "qc": {**SETS[request.param], "doublets": "off"},
        "split": {"kind": "none"},
        "columns": KEYS.get(request.param, {}),
    }
    preprocess(RNA / request.param, load(None, settings), out, observer=lambda *_: None)
    theirs = ad.read_h5ad(RNA / request.param)
    theirs.X = sparse.csr_matrix(theirs.X)
    symbols = theirs.var.get("symbol", theirs.var_names)
    theirs.var["mt"] = [str(s).upper().startswith("MT-") for s in symbols]
    theirs.var["ribo"] = [str(s).upper().startswith(("RPS", "RPL")) for s in symbols]
    sc.pp.calculate_qc_metrics(theirs, qc_vars=["mt", "ribo"], percent_top=[20], inplace=True)
    return schema.read_prepared(out), theirs


def _dropped(theirs: ad.AnnData, sample: np.ndarray, floors: dict[str, int]) -> np.ndarray:
    """Tell who is dropped, in plain numpy after the book: floors, then outliers among those that pass, per sample."""
    obs = theirs.obs
    passing = (
        (obs["n_genes_by_counts"] >= floors["min_genes"]) & (obs["total_counts"] >= floors["min_counts"])
    ).to_numpy()
    wrong = ~passing
    for name in np.unique(sample):
        rows = np.flatnonzero(passing & (sample == name))
        for column, n_mads, both_sides in (
            ("log1p_total_counts", 5, True), ("log1p_n_genes_by_counts", 5, True),
            ("pct_counts_in_top_20_genes", 5, True), ("pct_counts_mt", 3, False),
        ):  # fmt: skip
            values = obs[column].to_numpy(dtype=np.float64)[rows]
            off = values - np.median(values)
            mad = np.median(np.abs(off))
            if mad > 0 and len(rows) >= 20:
                wrong[rows] |= (np.abs(off) if both_sides else off) > n_mads * mad
    return wrong | (obs["pct_counts_mt"].to_numpy() > 8)


def test_metrics_are_those_of_scanpy(both: tuple[ad.AnnData, ad.AnnData]) -> None:
    ours, theirs = both
    kept = theirs.obs.loc[ours.obs_names]
    for name, (column, scale) in METRICS.items():
        np.testing.assert_allclose(ours.obs[name] * scale, kept[column], rtol=2e-5, atol=1e-5)


def test_cells_are_dropped_as_the_book_says(
    both: tuple[ad.AnnData, ad.AnnData], request: pytest.FixtureRequest
) -> None:
    ours, theirs = both
    name = request.node.callspec.params["both"]
    column = KEYS.get(name, {}).get("donor") or ("sample" if "sample" in theirs.obs else "donor")
    wrong = _dropped(theirs, theirs.obs[column].astype(str).to_numpy(), SETS[name])
    assert set(theirs.obs_names[~wrong]) == set(ours.obs_names)
    assert wrong.any()


def test_counts_and_log_cp10k_are_those_of_scanpy(both: tuple[ad.AnnData, ad.AnnData]) -> None:
    ours, theirs = both
    same = theirs[ours.obs_names].copy()
    assert (sparse.csr_matrix(same.X).astype(np.int32) != ours.layers["counts"]).nnz == 0
    sc.pp.normalize_total(same, target_sum=1e4)
    sc.pp.log1p(same)
    difference = abs(sparse.csr_matrix(same.X) - ours.X)
    assert difference.max() < 1e-5


def test_variable_genes_before_doublets_are_those_of_scanpy(both: tuple[ad.AnnData, ad.AnnData]) -> None:
    ours, _ = both
    counts = ad.AnnData(ours.layers["counts"].astype(np.float64))
    sc.pp.filter_genes(counts, min_cells=3)
    sc.pp.normalize_total(counts)
    sc.pp.log1p(counts)
    sc.pp.highly_variable_genes(counts)
    theirs = set(counts.var_names[counts.var["highly_variable"]].astype(int))
    assert set(doublets.variable_genes(ours.layers["counts"])) == theirs
