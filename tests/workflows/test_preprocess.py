"""Preprocess: a site's files become one prepared file, equal to what scanpy makes of them, or a clear error."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from full_disk import room_for
from scipy import io, sparse
from sklearn.metrics import roc_auc_score

from swarmcell.cells import panel, schema
from swarmcell.cells.panel import Feature, Panel
from swarmcell.cells.writer import PreparedWriter
from swarmcell.config.preprocess import load
from swarmcell.errors import CellsError, InputError, OutputError, PanelError, SwarmcellError, UsageError
from swarmcell.workflows.preprocess import Preprocessed, preprocess

GENES = ["MT-CO1", "RPL3", "HBB", *(f"GENE{i}" for i in range(37))]
NO_QC = {
    "min_genes": 0, "min_counts": 0, "mads_counts": 0, "mads_genes": 0, "mads_top20": 0, "mads_mito": 0,
    "max_mito_share": 1,
}  # fmt: skip


def make_cells(n_obs: int = 240, seed: int = 0) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    depth = rng.lognormal(1.0, 0.4, (n_obs, 1))
    counts = sparse.csr_matrix(rng.poisson(depth * rng.gamma(1.0, 1.0, 40)).astype(np.float32))
    donors = [f"p{i % 6}" for i in range(n_obs)]
    obs = pd.DataFrame(
        {
            "donor": donors,
            "condition": ["ill" if int(d[1:]) % 2 else "well" for d in donors],
            "cell_type": rng.choice(["B", "T", "NK"], n_obs),
        },
        index=[f"cell{i}" for i in range(n_obs)],
    )
    return ad.AnnData(counts, obs, pd.DataFrame(index=GENES))


def run(source: Path, out: Path, *, force: bool = False, dry_run: bool = False, **overrides: Any) -> Preprocessed:
    config = load(None, {"qc": NO_QC, **overrides})
    return preprocess(source, config, out, force=force, dry_run=dry_run, observer=lambda *_: None)


def prepare(adata: ad.AnnData, folder: Path, **overrides: Any) -> ad.AnnData:
    adata.write_h5ad(folder / "site-a.h5ad")
    run(folder / "site-a.h5ad", folder / "out.h5ad", **overrides)
    return schema.read_prepared(folder / "out.h5ad")


# --- Bad input --------------------------------------------------------------------------------------------------------

Change = Callable[[ad.AnnData], None]


def _value(value: float) -> Change:
    def change(adata: ad.AnnData) -> None:
        adata.X.data[7] = value

    return change


def _normalise(adata: ad.AnnData) -> None:
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    del adata.uns["log1p"]


def _without(column: str) -> Change:
    def change(adata: ad.AnnData) -> None:
        del adata.obs[column]

    return change


def _twice(adata: ad.AnnData) -> None:
    adata.obs_names = ["same", *adata.obs_names[1:6], "same", *adata.obs_names[7:]]


def _label(column: str, value: str | None) -> Change:
    def change(adata: ad.AnnData) -> None:
        adata.obs.iloc[3, adata.obs.columns.get_loc(column)] = value

    return change


def _dates(adata: ad.AnnData) -> None:
    adata.var_names = ["1-Mar", *GENES[1:]]


def _one_donor(adata: ad.AnnData) -> None:
    adata.obs["donor"], adata.obs["condition"] = "p0", "ill"


BAD: list[tuple[str, Change, dict[str, Any], type[SwarmcellError], str]] = [
    ("normalised X", _normalise, {}, CellsError, "holds no counts.*--input lognorm"),
    ("NaN", _value(np.nan), {}, CellsError, "NaN"),
    ("infinite", _value(np.inf), {}, CellsError, "infinite"),
    ("negative", _value(-2), {}, CellsError, "negative"),
    ("counts called lognorm", lambda a: None, {"input": "lognorm"}, CellsError, "Leave out --input lognorm"),
    ("no donor", _without("donor"), {}, CellsError, "no donor.*--donor-key"),
    ("no such column", lambda a: None, {"columns": {"donor": "patient"}}, CellsError, "no column 'patient'"),
    ("a cell without donor", _label("donor", None), {}, CellsError, "1 cells have no donor"),
    ("a cell without condition", _label("condition", None), {}, CellsError, "1 cells have no condition"),
    ("a donor called NA", _label("donor", "NA"), {}, CellsError, "1 cells have no donor"),
    ("a condition called nan", _label("condition", " nan"), {}, CellsError, "1 cells have no condition"),
    ("two conditions in a sample", _label("condition", "cured"), {}, CellsError, "sample 'p3' has 2 conditions"),
    ("unknown label", _label("cell_type", "Bcell"), {"labels": {"cell_types": ["B", "T", "NK"]}}, CellsError, "Bcell"),
    ("a barcode twice", _twice, {}, CellsError, "'p0:same' is there twice"),
    ("one donor", _one_donor, {}, CellsError, "--split by-site"),
    ("dates for genes", _dates, {}, PanelError, "1-Mar.*spreadsheet"),
    ("no cell left", lambda a: None, {"qc": {}}, CellsError, "no cell is left of 240.*few_genes 240"),
]


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
@pytest.mark.parametrize(("change", "overrides", "kind", "says"), [c[1:] for c in BAD], ids=[c[0] for c in BAD])
def test_bad_cells_are_refused_and_nothing_is_written(
    tmp_path: Path, change: Change, overrides: dict[str, Any], kind: type[SwarmcellError], says: str
) -> None:
    adata = make_cells()
    change(adata)
    with pytest.raises(kind, match=says):
        prepare(adata, tmp_path, **overrides)
    assert [path.name for path in tmp_path.iterdir()] == ["site-a.h5ad"]


def test_existing_output_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "out.h5ad").write_text("mine")
    with pytest.raises(OutputError, match="--force"):
        run(tmp_path / "not there", tmp_path / "out.h5ad")
    assert (tmp_path / "out.h5ad").read_text() == "mine"


def test_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    cells = make_cells()
    (tmp_path / "in").mkdir()
    cells.write_h5ad(tmp_path / "in" / "site-a.h5ad")
    with room_for(4000), pytest.raises(OutputError, match="File too large"):
        run(tmp_path / "in" / "site-a.h5ad", tmp_path / "out.h5ad")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_fcs_is_not_read_as_rna(tmp_path: Path) -> None:
    (tmp_path / "a.fcs").write_bytes(b"FCS3.0    ")
    with pytest.raises(UsageError, match=r"a\.fcs: FCS files are cytometry; expected rna.*--modality cytometry"):
        run(tmp_path / "a.fcs", tmp_path / "out.h5ad")


def test_rna_is_not_read_as_cytometry_whatever_the_sheet_beside_it_says(tmp_path: Path) -> None:
    (tmp_path / "site-a").mkdir()
    (tmp_path / "site-a" / "lane-1.h5").write_bytes(b"")
    (tmp_path / "site-a" / "samples.csv").write_text("sample,donor\nlane-1,p0\n")
    with pytest.raises(UsageError, match=r"lane-1\.h5 is an RNA matrix; expected cytometry.*--modality rna"):
        run(tmp_path / "site-a", tmp_path / "out.h5ad", modality="cytometry")


def test_a_folder_without_files_of_events_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("files follow")
    with pytest.raises(InputError, match=r"no FCS file and no table of events.*one \.h5ad file"):
        run(tmp_path, tmp_path / "out.h5ad", modality="cytometry")


def test_what_may_be_the_other_kind_says_how_to_read_it_so(tmp_path: Path) -> None:
    genes = ad.AnnData(np.ones((6, 60), np.float32), {"donor": [f"p{i}" for i in range(6)]})
    genes.var_names = [f"GENE{i}" for i in range(60)]
    genes.write_h5ad(tmp_path / "genes.h5ad")
    channels = tuple(Feature(name) for name in ("CD3", "CD4"))
    panel.dump(Panel("markers", "cytometry", "", channels, transform="none"), tmp_path / "markers.json", force=True)
    with pytest.raises(PanelError) as as_events:
        run(
            tmp_path / "genes.h5ad",
            tmp_path / "out.h5ad",
            modality="cytometry",
            universe=str(tmp_path / "markers.json"),
        )
    assert as_events.value.__notes__ == ["These are 60 features. If they are genes: --modality rna."]
    with pytest.raises(CellsError) as as_genes:
        run(tmp_path / "genes.h5ad", tmp_path / "out.h5ad", qc={})
    assert as_genes.value.__notes__ == [
        "These are 60 features. If they are markers of cytometry: --modality cytometry."
    ]


def _universe(folder: Path, features: tuple[Feature, ...]) -> Path:
    panel.dump(Panel("study", "rna", "", features), folder / "universe.json", force=True)
    return folder / "universe.json"


def test_too_little_coverage_is_refused_with_the_features(tmp_path: Path) -> None:
    features = tuple(Feature(name) for name in (*GENES[:30], *(f"OTHER{i}" for i in range(10))))
    with pytest.raises(PanelError, match=r"30 of the universe's 40 features \(75%\).*GENE27"):
        prepare(make_cells(), tmp_path, universe=_universe(tmp_path, features))


def test_another_species_is_called_by_name(tmp_path: Path) -> None:
    adata = make_cells()
    adata.var_names = [f"ENSMUSG{i:011d}" for i in range(40)]
    features = tuple(Feature(f"ENSG{i:011d}") for i in range(40))
    with pytest.raises(PanelError, match="The universe is of human, the file of mouse"):
        prepare(adata, tmp_path, universe=_universe(tmp_path, features))


# --- Equality with scanpy ---------------------------------------------------------------------------------------------


def test_x_counts_and_metrics_equal_scanpy(tmp_path: Path) -> None:
    adata = make_cells()
    made = prepare(adata.copy(), tmp_path)
    np.testing.assert_array_equal(made.layers["counts"].toarray(), adata.X.toarray())
    adata.var["mt"] = adata.var_names.str.startswith("MT-")
    sc.pp.calculate_qc_metrics(adata, qc_vars=["mt"], percent_top=[20], log1p=False, inplace=True)
    for ours, theirs, scale in (
        ("n_counts", "total_counts", 1), ("n_genes", "n_genes_by_counts", 1),
        ("top20_share", "pct_counts_in_top_20_genes", 100), ("mito_share", "pct_counts_mt", 100),
    ):  # fmt: skip
        np.testing.assert_allclose(made.obs[ours] * scale, adata.obs[theirs], rtol=1e-5)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    np.testing.assert_allclose(made.X.toarray(), adata.X.toarray(), rtol=2e-6)


def test_features_are_mapped_by_id_symbol_and_alias_and_duplicates_are_summed(tmp_path: Path) -> None:
    features = (
        Feature("ENSG00000000001", "MT-CO1"),
        Feature("ENSG00000000002", "UL3", ("RPL3", "HBB")),
        Feature("ENSG00000000003", "ABSENT"),
        *(Feature(name) for name in GENES[3:]),
    )
    adata = make_cells()
    adata.var_names = ["ENSG00000000001.7", *GENES[1:]]
    made = prepare(adata, tmp_path, universe=_universe(tmp_path, features))
    expected = np.column_stack(
        [adata.X[:, 0].toarray(), adata.X[:, 1:3].sum(axis=1), np.zeros(240), adata.X[:, 3:].toarray()]
    )
    np.testing.assert_array_equal(made.layers["counts"].toarray(), expected)
    assert list(made.var["present"]) == [True, True, False] + [True] * 37
    assert schema.qc_of(made)["genes"]["mapped_by"] == {"id": 38, "symbol": 0, "alias": 2}


def test_lognormalised_input_is_kept_as_it_is(tmp_path: Path) -> None:
    adata = make_cells()
    _normalise(adata)
    made = prepare(adata.copy(), tmp_path, input="lognorm")
    np.testing.assert_array_equal(made.X.toarray(), adata.X.toarray())
    assert "counts" not in made.layers
    assert made.uns["swarmcell"]["input"] == "lognorm"


# --- Labels, QC and split ---------------------------------------------------------------------------------------------


def test_qc_summary_accounts_for_every_cell(tmp_path: Path) -> None:
    adata = make_cells()
    adata.obs.iloc[5, adata.obs.columns.get_loc("cell_type")] = None
    made = prepare(adata, tmp_path, qc={**NO_QC, "min_counts": 100, "max_mito_share": 0.01})
    summary = schema.qc_of(made)
    assert summary["cells_out"] == made.n_obs == 240 - sum(summary["dropped"].values())
    assert {"few_counts", "high_mito"} <= set(summary["dropped"])
    assert sum(donor["cells_in"] for donor in summary["by_donor"].values()) == 240
    assert (made.obs["n_counts"] >= 100).all()
    assert (made.obs["mito_share"] <= 0.01 + 1e-6).all()


def test_outliers_are_those_of_the_book_in_each_sample(tmp_path: Path) -> None:
    adata = make_cells()
    adata.X[0] *= 200
    made = prepare(adata, tmp_path, qc={**NO_QC, "mads_counts": 5})
    logs = np.log1p(np.asarray(adata.X.sum(axis=1)).ravel())
    expected = []
    for donor in sorted(adata.obs["donor"].unique()):
        mine = logs[adata.obs["donor"] == donor]
        mad = np.median(np.abs(mine - np.median(mine)))
        expected += list(adata.obs_names[adata.obs["donor"] == donor][np.abs(mine - np.median(mine)) > 5 * mad])
    assert set(adata.obs_names) - set(made.obs_names) == set(expected)
    assert "cell0" in expected


def test_same_seed_gives_the_same_bytes_of_values_and_split(tmp_path: Path) -> None:
    first = prepare(make_cells(), tmp_path)
    run(tmp_path / "site-a.h5ad", tmp_path / "again.h5ad")
    second = schema.read_prepared(tmp_path / "again.h5ad")
    assert (first.X != second.X).nnz == 0
    pd.testing.assert_frame_equal(first.obs, second.obs)


def test_donor_with_samples_before_and_after_is_on_one_side(tmp_path: Path) -> None:
    adata = make_cells()
    half = np.arange(240) < 120
    adata.obs["condition"] = np.where(half, "before", "after")
    adata.obs["specimen"] = adata.obs["donor"] + np.where(half, "-0", "-1")
    made = prepare(adata, tmp_path, columns={"sample": "specimen"})
    assert made.obs.groupby("donor", observed=True)["split"].nunique().eq(1).all()
    assert made.obs["sample"].nunique() == 12


def _folder(folder: Path, *, sheet: str, cells: str | None = None) -> Path:
    """Three 10x folders whose barcodes are the same."""
    adata = make_cells(60)
    for n in range(3):
        part = folder / "site-b" / f"s{n}"
        part.mkdir(parents=True)
        counts = adata.X[n * 20 : n * 20 + 20].astype(np.int64)
        io.mmwrite(part / "matrix.mtx", counts.T.tocoo(), field="integer")
        (part / "barcodes.tsv").write_text("".join(f"B{i}\n" for i in range(20)))
        (part / "genes.tsv").write_text("".join(f"{name}\t{name}\n" for name in GENES))
    (folder / "site-b" / "samples.csv").write_text(sheet)
    if cells:
        (folder / "site-b" / "cells.csv").write_text(cells)
    return folder / "site-b"


SHEET = "file,donor,sample,condition\ns0,p0,x0,ill\ns1,p1,x1,well\ns2,p2,x2,ill\n"


def test_sheets_of_samples_and_cells_label_a_folder(tmp_path: Path) -> None:
    cells = "barcode,sample,cell_type\n" + "".join(f"B{i},x{n},T{n}\n" for n in range(3) for i in range(19))
    run(_folder(tmp_path, sheet=SHEET, cells=cells), tmp_path / "out.h5ad")
    made = schema.read_prepared(tmp_path / "out.h5ad")
    assert made.n_obs == 57
    assert set(made.obs["site"]) == {"site-b"}
    assert set(zip(made.obs["donor"], made.obs["cell_type"], made.obs["condition"], strict=True)) == {
        ("p0", "T0", "ill"), ("p1", "T1", "well"), ("p2", "T2", "ill"),
    }  # fmt: skip
    assert made.obs_names[0] == "x0:B0"
    assert schema.qc_of(made)["dropped"] == {"unlabelled": 3}


@pytest.mark.parametrize(
    ("sheet", "cells", "kind", "says"),
    [
        (SHEET.replace("s2,", "s9,"), None, InputError, "names 's9', which is not there"),
        ("donor,condition\np0,ill\n", None, InputError, "neither a column 'file'"),
        ("file,donor\n", None, InputError, "no row"),
        (SHEET.replace("p1", ""), None, CellsError, "20 cells have no donor"),
        (SHEET, "barcode,cell_type\nB0,T\nB0,B\n", CellsError, "names 'B0' twice"),
        (SHEET, "barcode,cell_type\nZ,T\n", CellsError, "no cell is in the sheet"),
    ],
)
def test_bad_sheets_are_refused_by_name(
    tmp_path: Path, sheet: str, cells: str | None, kind: type[SwarmcellError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        run(_folder(tmp_path, sheet=sheet, cells=cells), tmp_path / "out.h5ad")
    assert not (tmp_path / "out.h5ad").exists()


def test_dry_run_tells_the_same_and_writes_nothing(tmp_path: Path) -> None:
    made = prepare(make_cells(), tmp_path)
    told = run(tmp_path / "site-a.h5ad", tmp_path / "other.h5ad", dry_run=True)
    assert told.out is None
    assert not (tmp_path / "other.h5ad").exists()
    assert told.summary["qc"] == schema.qc_of(made)
    json.dumps(told.summary)


def test_provenance_names_inputs_by_digest_and_no_place(tmp_path: Path) -> None:
    made = prepare(make_cells(), tmp_path)
    provenance = json.loads(made.uns["swarmcell"]["provenance"])
    assert list(provenance["inputs_sha256"]) == ["site-a.h5ad"]
    assert str(tmp_path) not in made.uns["swarmcell"]["provenance"]


# --- Doublets ---------------------------------------------------------------------------------------------------------

DOUBLETS = {**NO_QC, "doublets": "flag"}


def make_lanes(n_each: int = 150) -> ad.AnnData:
    """Four donors of one lane each, interleaved; every ninth cell is a sum of two cells of different types."""
    rng = np.random.default_rng(0)
    n_obs, kinds = 4 * n_each, np.eye(4).repeat(30, axis=1) * 5 + 0.3
    kind = rng.integers(4, size=n_obs)
    counts = rng.poisson(kinds[kind])
    twice = np.arange(n_obs) % 9 == 0
    counts[twice] += rng.poisson(kinds[(kind + 1) % 4])[twice]
    obs = pd.DataFrame(
        {
            "donor": [f"p{i % 4}" for i in range(n_obs)],
            "condition": [f"c{i % 2}" for i in range(n_obs)],
            "twice": twice,
        },
        index=[f"cell{i}" for i in range(n_obs)],
    )
    return ad.AnnData(
        sparse.csr_matrix(counts.astype(np.float32)), obs, pd.DataFrame(index=[f"G{i}" for i in range(120)])
    )


def test_doublets_are_flagged_and_no_cell_is_lost(tmp_path: Path) -> None:
    adata = make_lanes()
    made = prepare(adata.copy(), tmp_path, qc=DOUBLETS)
    assert made.n_obs == adata.n_obs
    assert made.obs["doublet"].dtype == bool
    assert roc_auc_score(adata.obs["twice"], made.obs["doublet_score"]) > 0.9
    told = schema.qc_of(made)["doublets"]
    assert told["called"] == made.obs["doublet"].sum()
    assert set(told["thresholds"]) == {"p0", "p1", "p2", "p3"}


def test_dropped_doublets_are_counted(tmp_path: Path) -> None:
    made = prepare(make_lanes(), tmp_path, qc={**DOUBLETS, "doublets": "drop"})
    summary = schema.qc_of(made)
    assert summary["dropped"] == {"doublet": summary["doublets"]["called"]}
    assert not made.obs["doublet"].any()


def test_scores_do_not_depend_on_how_much_is_held_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from swarmcell.cells.readers import source
    from swarmcell.workflows.preprocessing import rna_passes

    whole = prepare(make_lanes(), tmp_path, qc=DOUBLETS)
    monkeypatch.setattr(rna_passes, "HELD_VALUES", 1)  # a turn for each sample
    monkeypatch.setattr(source, "BLOCK_ROWS", 37)
    run(tmp_path / "site-a.h5ad", tmp_path / "again.h5ad", qc=DOUBLETS)
    again = schema.read_prepared(tmp_path / "again.h5ad")
    np.testing.assert_array_equal(whole.obs["doublet_score"], again.obs["doublet_score"])


def test_a_large_sample_is_scored_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from swarmcell.workflows.preprocessing import rna_passes

    monkeypatch.setattr(rna_passes, "PART_CELLS", 300)
    adata = make_lanes()
    adata.obs["lane"], adata.obs["donor"] = "l0", "p0"
    made = prepare(adata.copy(), tmp_path, qc=DOUBLETS, split={"kind": "none"}, columns={"condition": "lane"})
    assert made.obs["doublet_score"].notna().all()
    assert roc_auc_score(adata.obs["twice"], made.obs["doublet_score"]) > 0.9


def test_small_samples_are_not_scored(tmp_path: Path) -> None:
    made = prepare(make_cells(), tmp_path, qc=DOUBLETS)  # 40 cells per donor
    assert made.obs["doublet_score"].isna().all()
    assert schema.qc_of(made)["doublets"] == {"called": 0, "scored": 0, "thresholds": {}}


# --- Ways to store ----------------------------------------------------------------------------------------------------


def test_zarr_and_fast_files_hold_the_same_and_zarr_is_replaced_by_force_only(tmp_path: Path) -> None:
    expected, out = prepare(make_cells(), tmp_path), tmp_path / "out.zarr"
    run(tmp_path / "site-a.h5ad", tmp_path / "fast.h5ad", storage="blosc")
    run(tmp_path / "site-a.h5ad", out)
    for path in (tmp_path / "fast.h5ad", out):
        assert (schema.read_prepared(path).X != expected.X).nnz == 0
    with pytest.raises(OutputError, match=r"exists.*--force"):
        run(tmp_path / "site-a.h5ad", out)
    run(tmp_path / "site-a.h5ad", out, force=True, input="counts")
    (tmp_path / "mine.zarr").mkdir()
    with pytest.raises(OutputError, match="a folder of something else"):
        run(tmp_path / "site-a.h5ad", tmp_path / "mine.zarr", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "fast.h5ad", "mine.zarr", "out.h5ad", "out.zarr", "site-a.h5ad",
    ]  # fmt: skip


def test_a_zarr_folder_that_breaks_off_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PreparedWriter, "finish", fill)
    make_cells().write_h5ad(tmp_path / "site-a.h5ad")
    with pytest.raises(OutputError, match="No space left"):
        run(tmp_path / "site-a.h5ad", tmp_path / "out.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["site-a.h5ad"]
