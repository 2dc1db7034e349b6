"""Cytometry files to cells: what is refused, and what comes out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import flowio
import numpy as np
import pandas as pd
import pytest

from swarmcell.cells.cleaning import CleaningRules
from swarmcell.cells.cytometry import CytometrySettings
from swarmcell.cells.event_h5ad import read_groups
from swarmcell.cells.labels import Columns
from swarmcell.cells.panel import Feature, Panel
from swarmcell.errors import CellsError, ConfigError, InputError, PanelError, SwarmcellError
from swarmcell.workflows.preprocessing.cytometry import PreparedEvents, prepare_events

NAMES = ["FSC-A", "FSC-H", "FL1-A", "FL2-A"]
STAINS = ["", "", "CD4 FITC", "CD8 PE"]
PANEL = Panel("study", "cytometry", "", (Feature("CD8"), Feature("CD4")), "arcsinh", 150.0)
N_EVENTS = 300


def events(seed: int, n_events: int = N_EVENTS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    height = rng.uniform(50_000, 100_000, n_events)
    return np.column_stack([height * rng.normal(1, 0.02, n_events), height, *rng.exponential(900, (2, n_events))])


def write(
    path: Path,
    values: np.ndarray,
    *,
    names: list[str] = NAMES,
    stains: list[str] = STAINS,
    metadata: dict[str, str] | None = None,
) -> None:
    with path.open("wb") as file:
        flowio.create_fcs(file, values.ravel(), names, stains, metadata or {})


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Three donors, the third with two samples."""
    folder = tmp_path / "site-a"
    folder.mkdir()
    rows = ["file,donor,sample,condition"]
    for seed, (donor, sample) in enumerate([("d1", "s1"), ("d2", "s2"), ("d3", "s3"), ("d3", "s4")]):
        write(folder / f"{sample}.fcs", events(seed))
        rows.append(f"{sample}.fcs,{donor},{sample},{'sick' if seed % 2 else 'well'}")
    (folder / "samples.csv").write_text("\n".join(rows))
    return folder


def prepared(source: Path, **options: Any) -> PreparedEvents:
    plain: dict[str, Any] = {
        "sheet": None,
        "keys": {},
        "site": None,
        "settings": CytometrySettings(),
        "universe": None,
        "seed": 0,
        "observer": lambda _kind, _shown: None,
    }
    return prepare_events(source, **(plain | options))


def truncate(folder: Path) -> None:
    whole = (folder / "s2.fcs").read_bytes()
    (folder / "s2.fcs").write_bytes(whole[:-100])


def wrong_magic(folder: Path) -> None:
    (folder / "s2.fcs").write_bytes(b"PK\x03\x04" + b"\x00" * 500)


def offsets_outside(folder: Path) -> None:
    whole = (folder / "s2.fcs").read_bytes()
    (folder / "s2.fcs").write_bytes(whole[:10] + b"99999998" + b"99999999" + whole[26:])


def wrong_total(folder: Path) -> None:
    whole = (folder / "s2.fcs").read_bytes()
    (folder / "s2.fcs").write_bytes(whole.replace(b"/300/", b"/200/", 1).replace(b"TOT\x0c300", b"TOT\x0c200"))


def spillover(value: str) -> Callable[[Path], None]:
    return lambda folder: write(folder / "s2.fcs", events(1), metadata={"spillover": value})


def other_panel(folder: Path) -> None:
    write(folder / "s2.fcs", events(1), stains=["", "", "CD4", "CD19"])


def mass_file(folder: Path) -> None:
    write(folder / "s2.fcs", events(1), names=["Time", "Eu153Di", "Nd142Di", "Gd154Di"], stains=["", "x", "CD4", "CD8"])


def ambiguous(folder: Path) -> None:
    write(folder / "s2.fcs", events(1), stains=["", "", "CD4 FITC", "CD4 PE"])


def no_stain(folder: Path) -> None:
    write(folder / "s2.fcs", events(1), stains=[""] * 4)


def all_nan(folder: Path) -> None:
    write(folder / "s2.fcs", np.full((10, 4), np.nan))


def no_event(folder: Path) -> None:
    write(folder / "s2.fcs", np.empty((0, 4)))


def transformed(folder: Path) -> None:
    write(folder / "s2.fcs", np.arcsinh(events(1) / 150))


def extra_file(folder: Path) -> None:
    write(folder / "s9.fcs", events(1))


def extra_row(folder: Path) -> None:
    (folder / "s2.fcs").unlink()


def raw_spectral(folder: Path) -> None:
    names = [f"V{n}-A" for n in range(1, 31)]
    write(folder / "s1.fcs", np.ones((5, 30)), names=names, stains=["CD4", *[""] * 29])


BAD: list[tuple[Callable[[Path], None], type[SwarmcellError], str]] = [
    (truncate, InputError, r"s2\.fcs: truncated"),
    (wrong_magic, InputError, r"s2\.fcs: not an FCS file"),
    (offsets_outside, InputError, r"s2\.fcs: truncated: TEXT stands at"),
    (wrong_total, InputError, r"s2\.fcs: \$TOT says 200 events"),
    (spillover("2,FL1-A,FL9-A,1,0.1,0.1,1"), InputError, r"s2\.fcs.*FL9-A, which the file does not hold"),
    (spillover("2,FL1-A,FL2-A,1,1,1,1"), InputError, r"s2\.fcs.*singular"),
    (spillover("3,FL1-A,FL2-A,1,1"), InputError, r"s2\.fcs.*expected n, n names"),
    (other_panel, PanelError, r"s2\.fcs has another panel than s1\.fcs: it lacks CD8 and adds CD19"),
    (mass_file, CellsError, r"s2\.fcs is mass cytometry, s1\.fcs is flow"),
    (ambiguous, PanelError, r"s2\.fcs: 2 channels are CD4"),
    (no_stain, PanelError, r"s2\.fcs: no channel is a marker"),
    (all_nan, CellsError, r"s2\.fcs: no event is left after cleaning \(finite dropped 10 of 10\)"),
    (no_event, CellsError, r"s2\.fcs: holds no event"),
    (transformed, CellsError, r"s2\.fcs: the largest intensity is .*transformed already"),
    (extra_file, InputError, r"no row for s9\.fcs"),
    (extra_row, InputError, r"names s2\.fcs, which is not in"),
    (raw_spectral, CellsError, r"s1\.fcs: a spectral cytometer's raw detectors.*[Uu]nmix"),
]


@pytest.mark.parametrize(("spoil", "kind", "said"), BAD, ids=lambda value: getattr(value, "__name__", ""))
def test_bad_input_is_a_clear_error_with_the_file(
    cohort: Path, spoil: Callable[[Path], None], kind: type[SwarmcellError], said: str
) -> None:
    spoil(cohort)
    with pytest.raises(kind, match=said) as caught:
        prepared(cohort)
    assert str(caught.value).endswith((".", ")")) or '"' in str(caught.value)  # it ends with a remedy


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        prepared(tmp_path / "absent")


def test_a_marker_of_the_panel_that_is_missing_is_refused_with_the_remedy(cohort: Path) -> None:
    panel = replace(PANEL, features=(*PANEL.features, Feature("CD19")))
    with pytest.raises(PanelError, match=r"1 of the panel's 3 markers are missing: CD19.*\[cytometry.markers\]"):
        prepared(cohort, universe=panel)


def test_a_site_may_accept_a_missing_marker_which_is_zero_and_not_present(cohort: Path) -> None:
    panel = replace(PANEL, features=(*PANEL.features, Feature("CD19")))
    adata = prepared(cohort, universe=panel, settings=CytometrySettings(min_coverage=0.6)).adata
    assert adata.var["present"].tolist() == [True, True, False]
    assert (adata.X[:, 2] == 0).all()


def test_a_cofactor_that_is_not_the_panels_is_refused(cohort: Path) -> None:
    with pytest.raises(ConfigError, match="cofactor is 5"):
        prepared(cohort, universe=PANEL, settings=CytometrySettings(cofactor=5.0))


def test_cells_carry_the_markers_of_the_panel_in_its_order_and_the_labels_of_the_sheet(cohort: Path) -> None:
    result = prepared(cohort, universe=PANEL, settings=CytometrySettings(cleaning=CleaningRules(singlets=False)))
    adata = result.adata
    assert result.universe is PANEL
    assert list(adata.var_names) == ["CD8", "CD4"]
    assert adata.X.dtype == np.float32
    np.testing.assert_allclose(adata.X[:N_EVENTS], np.arcsinh(events(0)[:, [3, 2]] / 150), rtol=1e-4, atol=1e-5)
    assert adata.obs.groupby("sample", observed=True).size().to_dict() == dict.fromkeys(["s1", "s2", "s3", "s4"], 300)
    assert adata.obs["condition"].unique().tolist() == ["well", "sick"]
    assert set(adata.obs["site"]) == {"site-a"}
    assert adata.obs_names.is_unique


def test_without_a_panel_the_files_own_markers_are_the_universe_by_name(cohort: Path) -> None:
    universe = prepared(cohort).universe
    assert universe.ids == ("CD4", "CD8")
    assert (universe.transform, universe.cofactor) == ("arcsinh", 150.0)


def test_a_panel_fixes_the_transform(cohort: Path) -> None:
    plain = prepared(cohort, universe=replace(PANEL, transform="none", cofactor=None)).adata
    assert plain.X.max() > 1000
    scaled = prepared(cohort, universe=replace(PANEL, transform="logicle(262144,0.5,4.5,0)", cofactor=None)).adata
    assert 0 < scaled.X.max() < 1


def test_the_qc_summary_adds_up(cohort: Path) -> None:
    qc = prepared(cohort, settings=CytometrySettings(events_per_donor=100)).qc
    assert qc["cells_in"] == 4 * N_EVENTS
    assert qc["cells_out"] == 300
    assert qc["cells_in"] - sum(qc["dropped"].values()) == qc["cells_out"]
    assert {donor: one["cells_out"] for donor, one in qc["donors"].items()} == {"d1": 100, "d2": 100, "d3": 100}
    assert qc["donors"]["d3"]["cells_in"] == 2 * N_EVENTS
    assert [one["cells_out"] for one in qc["files"]] == [100, 100, 50, 50]
    assert set(qc["donors"]["d1"]["medians"]) == {"CD4", "CD8"}
    assert {one["marker"] for one in qc["channels"]} == {"", "CD4", "CD8"}


def test_the_cap_is_seeded_and_independent_of_other_donors(cohort: Path) -> None:
    settings = CytometrySettings(events_per_donor=50)
    names = [list(prepared(cohort, settings=settings, seed=seed).adata.obs_names) for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
    sheet = (cohort / "samples.csv").read_text().splitlines()
    (cohort / "s1.fcs").unlink()
    (cohort / "samples.csv").write_text("\n".join([sheet[0], *sheet[2:]]))
    assert list(prepared(cohort, settings=settings).adata.obs_names) == names[0][50:]


def test_the_mapping_of_channels_is_told_before_a_file_is_done(cohort: Path) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    prepared(cohort, observer=lambda kind, shown: told.append((kind, shown)))
    assert [kind for kind, _ in told] == ["markers", "file", "file", "file", "file"]
    assert {"channel": "FL1-A", "stain": "CD4 FITC", "marker": "CD4", "why": "stain"} in told[0][1]["channels"]


def test_flow_is_compensated_by_the_files_matrix_or_by_the_given_csv(cohort: Path, tmp_path: Path) -> None:
    stains = np.random.default_rng(0).exponential(900, (N_EVENTS, 2))
    spill = np.array([[1, 0.2], [0.1, 1]])
    values = np.column_stack([events(0)[:, :2], stains @ spill])
    write(cohort / "s1.fcs", values, metadata={"spillover": "2,FL1-A,FL2-A,1,0.2,0.1,1"})
    settings = CytometrySettings(cleaning=CleaningRules(singlets=False))
    adata = prepared(cohort, settings=settings).adata
    np.testing.assert_allclose(adata.X[:N_EVENTS], np.arcsinh(stains / 150), rtol=1e-2, atol=1e-3)
    write(cohort / "s1.fcs", values)
    (tmp_path / "spill.csv").write_text("FL1-A,FL2-A\n1,0.2\n0.1,1\n")
    result = prepared(cohort, settings=replace(settings, spillover=tmp_path / "spill.csv"))
    np.testing.assert_allclose(result.adata.X[:N_EVENTS], np.arcsinh(stains / 150), rtol=1e-2, atol=1e-3)
    assert "the given csv" in result.qc["files"][0]["compensation"]


def test_compensation_is_left_out_where_it_would_be_wrong(cohort: Path) -> None:
    matrix = {"spillover": "2,FL1-A,FL2-A,1,0.2,0.1,1"}
    write(cohort / "s1.fcs", events(0), metadata=matrix)
    off = prepared(cohort, settings=CytometrySettings(compensate=False)).qc["files"][0]["compensation"]
    assert off == "none: switched off"
    mass = prepared(cohort, settings=CytometrySettings(technology="mass")).qc["files"][0]["compensation"]
    assert mass == "none: mass cytometry"
    write(cohort / "s1.fcs", events(0), names=["FSC-A", "FSC-H", "Comp-FL1-A", "Comp-FL2-A"], metadata=matrix)
    assert "already" in prepared(cohort).qc["files"][0]["compensation"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_tables_of_events_take_the_same_path(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame(events(0), columns=["FSC-A", "FSC-H", "Comp-FL1-A :: CD4", "Comp-FL2-A :: CD8"])
    frame["Population"] = "all"
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    (tmp_path / "samples.csv").write_text(f"file,donor\na{suffix},d1\n")
    result = prepared(tmp_path, settings=CytometrySettings(cleaning=CleaningRules(singlets=False)))
    np.testing.assert_allclose(result.adata.X, np.arcsinh(events(0)[:, 2:] / 150), rtol=1e-4)
    assert "Population" in result.notes[0]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_that_is_none_is_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_text("x\nno number\n")
    (tmp_path / "samples.csv").write_text(f"file,donor\na{suffix},d1\n")
    with pytest.raises(InputError, match=rf"a\{suffix}"):
        prepared(tmp_path)


@pytest.fixture
def event_file(tmp_path: Path) -> Path:
    """An .h5ad of two mice, with cell types."""
    obs = pd.DataFrame({"mouse": ["m2", "m1"] * 50, "group": ["b", "a"] * 50, "cell_type": ["T", "B"] * 50})
    obs.index = obs.index.astype(str)
    adata = ad.AnnData(events(0, 100).astype(np.float32), obs=obs)
    adata.var_names = ["FSC.A", "FSC.W", "PE.CD4", "APC.CD8"]
    adata.write_h5ad(tmp_path / "events.h5ad")
    return tmp_path / "events.h5ad"


def test_events_of_an_h5ad_take_the_same_path(event_file: Path) -> None:
    adata = prepared(event_file, keys={"donor": "mouse", "condition": "group"}, site="a").adata
    assert list(adata.var_names) == ["CD4", "CD8"]
    np.testing.assert_allclose(adata.X[:50], np.arcsinh(events(0, 100)[1::2, 2:] / 150), rtol=1e-4)
    assert adata.obs["donor"].tolist() == ["m1"] * 50 + ["m2"] * 50
    assert adata.obs["sample"].tolist() == adata.obs["donor"].tolist()
    assert adata.obs["cell_type"].tolist() == ["B"] * 50 + ["T"] * 50
    assert list(adata.obs_names[:2]) == ["1", "3"]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "obs has no donor"),
        ({"donor": "patient"}, "no column 'patient'"),
        ({"donor": "mouse", "condition": "cell_type", "sample": "constant"}, "no column 'constant'"),
    ],
)
def test_an_h5ad_without_its_labels_is_refused(event_file: Path, keys: dict[str, str], said: str) -> None:
    with pytest.raises(CellsError, match=said):
        prepared(event_file, keys=keys)


def test_an_h5ad_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.h5ad").write_bytes(b"no hdf5")
    with pytest.raises(InputError, match=r"cannot be read as \.h5ad"):
        prepared(tmp_path / "a.h5ad")


def test_covariates_of_the_sheet_stand_by_every_event_of_their_sample(cohort: Path) -> None:
    sheet = cohort / "samples.csv"
    ages = {"s1": "54", "s2": "", "s3": "31", "s4": "32"}
    head, *rows = sheet.read_text().splitlines()
    sheet.write_text("\n".join([f"{head},age", *(f"{row},{ages[row.split(',')[2]]}" for row in rows)]))
    keys = Columns(covariates=("age",)).names()
    obs = prepared(cohort, keys=keys).adata.obs
    found = obs.groupby("sample", observed=True)["age"].agg(lambda one: set(one.astype(object).fillna("")))
    assert found.to_dict() == {sample: {age} for sample, age in ages.items()}
    with pytest.raises(CellsError, match=r"no column 'sex' for the covariate.*file, donor, sample, condition, age"):
        prepared(cohort, keys=Columns(covariates=("sex",)).names())


def test_covariates_of_an_h5ad_are_one_per_sample(tmp_path: Path) -> None:
    obs = pd.DataFrame({"donor": ["d1", "d1", "d2", "d2"], "age": ["54", "54", "31", "31"]}, index=list("abcd"))
    values = np.arange(8, dtype=np.float32).reshape(4, 2) * 100
    adata = ad.AnnData(values, obs=obs, var=pd.DataFrame(index=["CD4", "CD8"]))
    adata.write_h5ad(tmp_path / "events.h5ad")
    keys = Columns(covariates=("age",)).names()
    assert [one.covariates for one, _ in read_groups(tmp_path / "events.h5ad", keys)] == [{"age": "54"}, {"age": "31"}]
    adata.obs["age"] = ["54", "55", "31", "31"]
    adata.write_h5ad(tmp_path / "events.h5ad")
    with pytest.raises(CellsError, match="sample 'd1' has 2 ages"):
        read_groups(tmp_path / "events.h5ad", keys)
