"""`swarmcell stratify` on prepared files: what is written, what is placed, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from swarmcell.cells import schema
from swarmcell.cells.panel import from_ids, to_json
from swarmcell.cli.app import app
from swarmcell.errors import CellsError, InputError, ModelError, OutputError, PanelError, SwarmcellError, UsageError
from swarmcell.model.released import load as load_model
from swarmcell.model.strata import released
from swarmcell.model.study import ClusterRule, StrataRule, Study
from swarmcell.workflows import sample_table
from swarmcell.workflows.predict import predict
from swarmcell.workflows.stratify import Options, Stratified, place_new, stratify_alone
from swarmcell.workflows.train import Options as TrainOptions
from swarmcell.workflows.train import train_alone

RULE = StrataRule(k_max=3, starts=8, resamples=10, nulls=39, permutations=199)
OPTIONS = Options(rule=RULE)


def quiet(_event: str, _facts: dict) -> None:
    pass


def alone(files: list[Path], folder: Path, options: Options = OPTIONS) -> Stratified:
    return stratify_alone(files, folder, options, observer=quiet)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, make_cells) -> list[Path]:
    """Two sites of eight donors, half of them ill, which shows in their T cells and in how many there are."""
    folder = tmp_path_factory.mktemp("sites")
    files = []
    for site in ("site-a", "site-b"):
        adata = make_cells(site, n_cells=120, effect=4.0)
        drop = (adata.obs["condition"] == "ill") & (adata.obs["cell_type"] == "NK")
        kept = adata[~(drop & (np.arange(adata.n_obs) % 5 > 0)).to_numpy()].copy()
        path = folder / f"{site}.h5ad"
        schema.write_prepared(kept, path)
        files.append(path)
    rows = [f"p{d},{40 + d},{'f' if d % 3 else 'm'}" for d in range(8)]
    (folder / "sheet.csv").write_text("donor,age,sex\n" + "\n".join(rows))
    return files


@pytest.fixture(scope="module")
def found(sites: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Stratified:
    options = replace(OPTIONS, sheet=sites[0].parent / "sheet.csv", covariates=("age", "sex"))
    return alone(sites, tmp_path_factory.mktemp("found") / "strata", options)


def test_ill_donors_are_a_stratum_and_what_marks_it_is_said(found: Stratified) -> None:
    result = json.loads((found.folder / "strata.json").read_text())
    assert result["k"] == 2
    samples = pd.read_csv(found.folder / "samples.csv")
    assert pd.crosstab(samples["condition"], samples["stratum"]).max(axis=1).tolist() == [8, 8]
    assert samples["membership"].between(0.8, 1).all()
    tests = {one["name"]: one for one in result["associations"]}
    assert list(tests) == ["condition", "age", "sex"]
    assert (tests["condition"]["effect"], tests["condition"]["measure"]) == (1.0, "Cramér's V")
    assert tests["condition"]["p_value"] <= 0.05 < tests["sex"]["p_value"]
    marks = {mark["feature"] for one in result["strata"] for mark in one["markers"]}
    assert "share of NK" in marks
    assert marks & {f"mean G{i}" for i in range(16, 20)}
    assert [one["site_in_disguise"] for one in result["strata"]] == ["", ""]
    assert sum(result["strata"][0]["composition"].values()) == pytest.approx(1, abs=1e-4)
    assert 0 <= result["site_share"] < 0.3


def test_strata_are_written_into_copies_of_the_prepared_files(found: Stratified, sites: list[Path]) -> None:
    samples = pd.read_csv(found.folder / "samples.csv").set_index(["site", "sample"])
    copy = ad.read_h5ad(found.folder / "site-b.h5ad")
    assert list(copy.obs["stratum"].cat.categories) == ["1", "2"]
    for (site, sample), cells in copy.obs.groupby(["site", "sample"], observed=True):
        assert set(cells["stratum"].astype(int)) == {samples.loc[(site, sample), "stratum"]}
        assert cells["stratum_membership"].iloc[0] == pytest.approx(samples.loc[(site, sample), "membership"], abs=1e-4)
    assert "stratum" not in ad.read_h5ad(sites[1], backed="r").obs


def test_samples_are_placed_where_they_were_found(found: Stratified, sites: list[Path], tmp_path: Path) -> None:
    placed = place_new(
        found.folder / "strata.safetensors", sites[1:], tmp_path / "p", OPTIONS, force=False, observer=quiet
    )
    before = pd.read_csv(found.folder / "samples.csv").query("site == 'site-b'")
    after = pd.read_csv(placed.folder / "samples.csv")
    assert after["stratum"].tolist() == before["stratum"].tolist()
    assert after["membership"].tolist() == before["membership"].tolist()
    assert placed.result["placed_from"]


def test_the_same_files_give_the_same_bytes(found: Stratified, sites: list[Path], tmp_path: Path) -> None:
    options = replace(OPTIONS, sheet=sites[0].parent / "sheet.csv", covariates=("age", "sex"), annotate=False)
    again = alone(sites[::-1], tmp_path / "again", options)
    first = (found.folder / "strata.safetensors").read_bytes()
    assert (again.folder / "strata.safetensors").read_bytes() == first
    assert not (again.folder / "site-a.h5ad").exists()


def test_a_model_tells_the_types_and_must_be_the_same_when_patients_are_placed(study_files, tmp_path: Path) -> None:
    options = replace(OPTIONS, cells=study_files.merged, annotate=False)
    made = alone(list(study_files.files), tmp_path / "s", options)
    assert made.strata.rule.cell_model
    assert made.strata.study.cell_types == ("B", "NK", "T")
    path = tmp_path / "s" / "strata.safetensors"
    if made.strata.state.k:
        with pytest.raises(ModelError, match="--cells"):
            place_new(path, list(study_files.files), tmp_path / "p", OPTIONS, force=False, observer=quiet)


def test_a_swarm_that_counts_the_types_of_a_model_in_another_order_is_refused(study_files) -> None:
    model = load_model(study_files.merged)
    rule = replace(RULE, cell_model=model.digest)
    study = Study(name="s", modality="rna", stages=("features",), cell_types=model.cell_types, strata=rule)
    sample_table.check_model(study, model, study_files.merged)
    for types in (model.cell_types[::-1], model.cell_types[:2], ()):
        with pytest.raises(ModelError, match="cell_types must be the model's, in its order"):
            sample_table.check_model(replace(study, cell_types=types), model, study_files.merged)


def test_clusters_that_a_model_holds_are_counted_for_types(sites: list[Path], tmp_path: Path) -> None:
    rule = ClusterRule(n=3, starts=4)
    study = Study(name="c", modality="rna", stages=("features", "clusters"), clusters=rule)
    about = {"runs": tmp_path, "name": "c", "options": TrainOptions(threads=1), "observer": quiet}
    model = train_alone(sites, study=study, **about).models["local"]
    options = replace(OPTIONS, cells=model, annotate=False)
    made = alone(sites, tmp_path / "s", options)
    assert made.strata.study.counted_types == ("cluster 1", "cluster 2", "cluster 3")
    assert made.result["k"] == 2
    by_labels = alone(sites, tmp_path / "l", replace(OPTIONS, annotate=False))
    first, other = (pd.read_csv(one.folder / "samples.csv")["stratum"] for one in (made, by_labels))
    assert first.tolist() == other.tolist()
    predict(model, sites[0], tmp_path / "p.h5ad")
    shares = ad.read_h5ad(tmp_path / "p.h5ad").obs.query("sample == 'p0-1'")["predicted_cluster"].value_counts()
    table = sample_table.read(
        sites[:1],
        made.strata.study,
        sample_table.CellTypes(made.strata.study.counted_types, load_model(model), model),
        covariates={},
        observer=quiet,
    )
    logs = np.log(shares[list(made.strata.study.counted_types)].to_numpy() + 0.5)
    np.testing.assert_allclose(table.features[0, :3], logs - logs.mean(), rtol=1e-6)


def test_clusters_of_cells_are_counted_where_no_types_are_told(sites: list[Path], tmp_path: Path) -> None:
    files = []
    for path in sites:
        adata = ad.read_h5ad(path)
        del adata.obs["cell_type"]
        files.append(tmp_path / path.name)
        schema.write_prepared(adata, files[-1])
    made = alone(files, tmp_path / "s", replace(OPTIONS, clusters=4, annotate=False))
    state = made.strata.state
    assert made.strata.study.counted_types == tuple(f"cluster {i}" for i in range(1, 5))
    assert state.cells["clusters.count"].sum() == state.n_cells
    assert state.k == 2
    samples = pd.read_csv(tmp_path / "s" / "samples.csv")
    assert pd.crosstab(samples["condition"], samples["stratum"]).max(axis=1).tolist() == [8, 8]
    assert next(iter(made.result["strata"][0]["composition"])).startswith("cluster 1")
    assert any("clusters of cells, not types" in one for one in made.result["caveats"])
    placed = place_new(
        tmp_path / "s" / "strata.safetensors", files[1:], tmp_path / "p", OPTIONS, force=False, observer=quiet
    )
    after = pd.read_csv(placed.folder / "samples.csv")
    assert after["stratum"].tolist() == samples.query("site == 'site-b'")["stratum"].tolist()
    none = alone(files, tmp_path / "n", replace(OPTIONS, clusters=0, annotate=False))
    assert any("Composition does not count" in one for one in none.result["caveats"])


def test_no_strata_are_drawn_where_there_are_none_and_nobody_is_placed(make_cells, tmp_path: Path) -> None:
    path = tmp_path / "plain.h5ad"
    schema.write_prepared(make_cells("site-a", n_donors=12, effect=0.0), path)
    made = alone([path], tmp_path / "s")
    assert made.result["k"] == 0
    assert made.result["sentences"][0].startswith("No stable strata among 12 samples of 12 donors")
    assert "stratum" not in pd.read_csv(tmp_path / "s" / "samples.csv")
    assert not (tmp_path / "s" / "plain.h5ad").exists()
    with pytest.raises(ModelError, match="no stable strata"):
        place_new(tmp_path / "s" / "strata.safetensors", [path], tmp_path / "p", OPTIONS, force=False, observer=quiet)


def few(make_cells, folder: Path) -> tuple[list[Path], Options]:
    path = folder / "few.h5ad"
    schema.write_prepared(make_cells("site-a", n_donors=5), path)
    return [path], OPTIONS


def unlike(make_cells, folder: Path) -> tuple[list[Path], Options]:
    files = [folder / "a.h5ad", folder / "b.h5ad"]
    for path, names in zip(files, ("G", "H"), strict=True):
        adata = make_cells("site-a" if names == "G" else "site-b")
        adata.uns["swarmcell"]["universe_sha256"] = (
            names * 64 if names == "H" else adata.uns["swarmcell"]["universe_sha256"]
        )
        adata.write_h5ad(path)
    return files, OPTIONS


def sheet(text: str, *names: str):
    def spoil(make_cells, folder: Path) -> tuple[list[Path], Options]:
        files, _ = few(make_cells, folder)
        (folder / "sheet.csv").write_text(text)
        return files, replace(OPTIONS, sheet=folder / "sheet.csv", covariates=names)

    return spoil


def copies(make_cells, folder: Path) -> tuple[list[Path], Options]:
    """Two sites call their files alike."""
    files = [folder / site / "a.h5ad" for site in ("site-a", "site-b")]
    for path in files:
        path.parent.mkdir()
        schema.write_prepared(make_cells(path.parent.name), path)
    return files, replace(OPTIONS, annotate=True)


def twice(make_cells, folder: Path) -> tuple[list[Path], Options]:
    files, options = few(make_cells, folder)
    return files * 2, options


BAD = [
    (few, CellsError, "5 samples of 5 donors in all; strata need at least 6 samples"),
    (twice, CellsError, "stands in two files"),
    (unlike, (PanelError, CellsError), "universe"),
    (sheet("donor,age\np0,3\n", "age"), CellsError, r"no row for donor p1, p2.*missing"),
    (sheet("donor,age\np0,3\n", "severity"), CellsError, "has no column 'severity'"),
    (sheet("name,age\np0,3\n", "age"), CellsError, "has no column 'sample'"),
    (sheet("donor,age\np0,3\np0,4\n", "age"), CellsError, "two values of 'age'"),
    (sheet("", "age"), InputError, "the sheet cannot be read"),
    (sheet("donor\np0\n", "age"), (InputError, CellsError), "the sheet cannot be read|has no column"),
    (sheet("donor,age\np0,NA\np1,nan\np2,\n", "age"), CellsError, "'age' is known of nobody"),
    (sheet("donor,age\n" + "".join(f"p{i},{i}-\n" for i in range(13))), UsageError, "Name columns with --covariate"),
    (
        sheet("donor,age\n" + "".join(f"p{i},{i}-\n" for i in range(13)), "age"),
        CellsError,
        "13 different values, among them '0-'",
    ),
    (sheet("donor,age\n" + "".join(f"p{i},{i}e6\n" for i in range(13)), "age"), CellsError, "among them '10e6'"),
    (sheet("donor,condition\np0,3\n", "condition"), UsageError, "as the prepared files say it"),
    (copies, UsageError, "two prepared files are called a.h5ad"),
    (lambda make, folder: (few(make, folder)[0], replace(OPTIONS, covariates=("age",))), UsageError, "--covariates"),
    (lambda _make, folder: ([folder / "none.h5ad"], OPTIONS), InputError, "no such file"),
    (lambda _make, _folder: ([], OPTIONS), UsageError, "no prepared file"),
]


@pytest.mark.parametrize(("spoil", "kind", "says"), BAD, ids=[says[:24] for _, _, says in BAD])
def test_bad_input_is_a_clear_error(make_cells, tmp_path: Path, spoil, kind: type[SwarmcellError], says: str) -> None:
    files, options = spoil(make_cells, tmp_path)
    with pytest.raises(kind, match=says):
        alone(files, tmp_path / "s", options)
    assert not (tmp_path / "s").exists()


def test_a_few_new_samples_cannot_be_placed_where_each_sites_mean_is_taken_away(
    sites: list[Path], make_cells, tmp_path: Path
) -> None:
    made = alone(sites, tmp_path / "s", replace(OPTIONS, rule=replace(RULE, centre_sites=True), annotate=False))
    assert made.result["k"] == 2
    assert any("mean was taken away" in caveat for caveat in made.result["caveats"])
    schema.write_prepared(make_cells("site-c", n_donors=2, held_out=0), tmp_path / "new.h5ad")
    with pytest.raises(CellsError, match="site-c: 2 sample"):
        place_new(
            tmp_path / "s" / "strata.safetensors",
            [tmp_path / "new.h5ad"],
            tmp_path / "p",
            OPTIONS,
            force=False,
            observer=quiet,
        )


def test_a_missing_value_is_missing_however_the_sheet_writes_it(sites: list[Path], tmp_path: Path) -> None:
    rows = [f"p{i},{'NA' if i == 1 else '' if i == 2 else 40 + i}" for i in range(8)]
    (tmp_path / "sheet.csv").write_text("donor,age\n" + "\n".join(rows))
    options = replace(OPTIONS, sheet=tmp_path / "sheet.csv", covariates=("age",), annotate=False)
    age = alone(sites, tmp_path / "s", options).result["associations"][1]
    assert (age["name"], age["measure"], age["n_samples"]) == ("age", "eta", 12)


def test_new_patients_of_another_species_are_told_what_differs(found: Stratified, make_cells, tmp_path: Path) -> None:
    adata = make_cells("site-n")
    ids = [name.replace("ENSG", "ENSMUSG") for name in adata.var_names]
    universe = from_ids(ids, list(adata.var["symbol"]), name="mouse")
    adata.var_names = ids
    adata.uns["swarmcell"] |= {"universe": to_json(universe), "universe_sha256": universe.sha256}
    schema.write_prepared(adata, tmp_path / "new.h5ad")
    told = "the strata .* were found with .* the species: the file holds mouse genes, .*; the features: 24 of the 24"
    with pytest.raises(PanelError, match=told):
        place_new(
            found.folder / "strata.safetensors",
            [tmp_path / "new.h5ad"],
            tmp_path / "p",
            OPTIONS,
            force=False,
            observer=quiet,
        )


def test_models_and_strata_are_not_taken_for_each_other(found: Stratified, study_files, sites, tmp_path: Path) -> None:
    about = {"force": False, "observer": quiet}
    with pytest.raises(ModelError, match="holds a model, expected strata"):
        place_new(study_files.merged, sites, tmp_path / "p", OPTIONS, **about)
    strata = found.folder / "strata.safetensors"
    with pytest.raises(ModelError, match="holds strata, expected a model"):
        alone(sites, tmp_path / "s", replace(OPTIONS, cells=strata))
    with pytest.raises(ModelError, match="Leave out --cells"):
        place_new(strata, sites, tmp_path / "p", replace(OPTIONS, cells=study_files.merged), **about)


def test_nothing_is_begun_where_it_could_not_be_written(sites: list[Path], tmp_path: Path) -> None:
    seen = []

    def begun(event: str, facts: dict) -> None:
        seen.append((event, facts))

    with pytest.raises(UsageError, match="never changed"):
        stratify_alone(sites, sites[0].parent, replace(OPTIONS, annotate=True), observer=begun)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"):
        stratify_alone(sites, tmp_path / "file" / "s", OPTIONS, observer=begun)
    assert not seen


def test_strata_that_were_changed_are_refused(found: Stratified, tmp_path: Path) -> None:
    path = tmp_path / "strata.safetensors"
    raw = (found.folder / "strata.safetensors").read_bytes()
    path.write_bytes(raw[:-8] + b"\x01" * 8)
    with pytest.raises(ModelError, match="digest"):
        released.load(path)
    path.write_bytes(raw[:100])
    with pytest.raises(ModelError, match="not strata of swarmcell"):
        released.load(path)
    with pytest.raises(InputError, match="no such file"):
        released.load(tmp_path / "none.safetensors")


def test_the_command_writes_a_report_and_replaces_nothing(sites: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "strata"
    command = ["stratify", *map(str, sites), "-o", str(out), "--k-max", "2", "--nulls", "19", "--no-obs", "--json"]
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout)["k"] == 2
    html = (out / "report.html").read_text()
    for shown in (
        "How many strata",
        "What marks each stratum",
        "Composition of each stratum",
        "share of NK",
        "membership",
    ):
        assert shown.lower() in html.lower()
    assert "next: swarmcell stratify NEW.h5ad --with" in ended.stderr
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, OutputError)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--with", "x", "--join", "y"], "give one of them"),
        (["--identity", "me"], "--join"),
        (["--join", "y", "--k-max", "3"], "the swarm file says that"),
        (["--with", "x", "--seed", "3"], "found already"),
        (["--clusters", "1"], "at least 2"),
    ],
)
def test_options_that_contradict_each_other_are_refused(sites: list[Path], more: list[str], says: str) -> None:
    refused = CliRunner().invoke(app, ["stratify", str(sites[0]), *more])
    assert isinstance(refused.exception, UsageError)
    assert says in str(refused.exception)
