"""`swarmcell preprocess` and `swarmcell panel`: what they print, and how they fail."""

import json
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from swarmcell.cells import panel
from swarmcell.cli.app import app
from swarmcell.errors import CellsError, OutputError, UsageError


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    donors = [f"p{i % 4}" for i in range(80)]
    obs = pd.DataFrame({"patient": donors, "cell_type": ["B", "T"] * 40}, index=[f"c{i}" for i in range(80)])
    counts = rng.poisson(3, (80, 30)).astype(np.float32)
    path = tmp_path / "site-a.h5ad"
    ad.AnnData(counts, obs, pd.DataFrame(index=[f"GENE{i}" for i in range(30)])).write_h5ad(path)
    return path


def test_prepared_site_is_described_as_json_and_the_next_command_is_named(cells: Path) -> None:
    out = cells.with_name("out.h5ad")
    result = CliRunner().invoke(
        app, ["preprocess", str(cells), "--out", str(out), "--no-qc", "--donor-key", "patient", "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["donors"] == 4
    assert f"next: swarmcell train {out}" in result.stderr
    assert out.is_file()


def test_panels_of_one_file_are_the_same_and_of_others_differ(cells: Path, tmp_path: Path) -> None:
    invoke = CliRunner().invoke
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    assert invoke(app, ["panel", "create", str(cells), "-o", str(a), "--name", "x"]).exit_code == 0
    assert invoke(app, ["panel", "create", str(cells), "-o", str(b), "--name", "y"]).exit_code == 0
    assert json.loads(invoke(app, ["panel", "show", str(a), "--json"]).stdout)["n_features"] == 30
    assert "same panel" in invoke(app, ["panel", "diff", str(a), str(a)]).stderr
    differ = invoke(app, ["panel", "diff", str(a), str(b), "--json"])
    assert json.loads(differ.stdout)["changed"] == {"name": ["x", "y"]}
    assert differ.exit_code != 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["none.h5ad", "--out", "o.h5ad"], 3, "no such file"),
        (["site-a.h5ad", "--out", "o.h5ad"], 4, "no donor"),
        (["site-a.h5ad", "--out", "o.h5ad", "--split", "random"], 5, "split.kind"),
        (["site-a.h5ad", "--out", "site-a.h5ad", "--donor-key", "patient"], 8, "--force"),
    ],
)
def test_error_has_the_exit_code_of_its_kind_and_no_traceback(
    cells: Path, arguments: list[str], code: int, says: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "swarmcell", "preprocess", *arguments],
        cwd=cells.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == code, ended.stderr
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_panel_of_log_normalised_values_is_made_as_the_error_says(cells: Path, tmp_path: Path) -> None:
    adata = ad.read_h5ad(cells)
    adata.X = np.log1p(adata.X)
    lognorm, out = tmp_path / "lognorm.h5ad", tmp_path / "universe.json"
    adata.write_h5ad(lognorm)
    invoke = CliRunner().invoke
    refused = invoke(app, ["panel", "create", str(lognorm), "-o", str(out)])
    assert isinstance(refused.exception, CellsError)
    assert "--input lognorm" in str(refused.exception)
    assert not out.exists()
    assert invoke(app, ["panel", "create", str(lognorm), "-o", str(out), "--input", "lognorm"]).exit_code == 0
    assert len(json.loads(out.read_text())["features"]) == 30


def test_a_kind_of_input_that_is_none_is_refused(cells: Path, tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["panel", "create", str(cells), "-o", str(tmp_path / "u.json"), "--input", "raw"])
    assert isinstance(refused.exception, UsageError)
    assert "expected counts or lognorm" in str(refused.exception)


@pytest.fixture(scope="module")
def events_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four donors of a flow cytometer as csv exports, one named to be escaped."""
    folder = tmp_path_factory.mktemp("events")
    rng = np.random.default_rng(0)
    rows = ["file,donor,condition"]
    for n, donor in enumerate(["<b>d1</b>", "d2", "d3", "d4"]):
        values = rng.exponential(900, (60, 4)).astype(np.float32)
        frame = pd.DataFrame(values, columns=["FSC-A", "FSC-H", "FL1-A :: CD4", "FL2-A :: CD8"])
        frame.to_csv(folder / f"{n}.csv", index=False)
        rows.append(f"{n}.csv,{donor},{'sick' if n % 2 else 'well'}")
    (folder / "samples.csv").write_text("\n".join(rows))
    return folder


def test_a_qc_report_shows_donors_markers_channels_and_densities(events_folder: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "a.h5ad", tmp_path / "qc.html"
    arguments = ["preprocess", str(events_folder), "--modality", "cytometry", "-o", str(out), "--report", str(report)]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0, ended.output
    html = report.read_text()
    for shown in ("Densities of markers", "Medians per donor", "CD8", "FL2-A", "transform arcsinh"):
        assert shown in html
    assert "&lt;b&gt;d1&lt;/b&gt;" in html
    assert "<b>d1" not in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    refused = CliRunner().invoke(app, [*arguments, "--force", "--dry-run"])
    assert isinstance(refused.exception, UsageError)


def test_a_qc_report_of_rna_shows_why_cells_went_and_which_features_did_not_map(cells: Path, tmp_path: Path) -> None:
    universe, out, report = tmp_path / "universe.json", tmp_path / "a.h5ad", tmp_path / "qc.html"
    panel.dump(panel.from_ids([f"GENE{i}" for i in range(28)], [""] * 28, name="study"), universe)
    settings = tmp_path / "rna.toml"
    settings.write_text("[qc]\nmin_genes = 29\nmin_counts = 80\nmads_top20 = 0\n")
    arguments = ["preprocess", str(cells), "-c", str(settings), "--donor-key", "patient", "--universe", str(universe)]
    ended = CliRunner().invoke(app, [*arguments, "-o", str(out), "--report", str(report)])
    assert ended.exit_code == 0, ended.output
    html = report.read_text()
    for shown in ("What was measured of each cell", "Why cells were dropped", "few genes", "GENE28, GENE29", "p3"):
        assert shown in html
    assert "http://" not in html.replace("http://www.w3.org", "")
    unmapped = pd.read_csv(tmp_path / "qc.unmapped.tsv", sep="\t")
    assert list(unmapped["id"]) == ["GENE28", "GENE29"]
    assert set(unmapped["why"]) == {"not in the universe"}


def test_a_qc_report_that_exists_is_refused_before_the_work(cells: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "a.h5ad", tmp_path / "qc.html"
    report.write_text("mine")
    refused = CliRunner().invoke(
        app, ["preprocess", str(cells), "--donor-key", "patient", "-o", str(out), "--report", str(report)]
    )
    assert isinstance(refused.exception, OutputError)
    assert not out.exists()
    assert report.read_text() == "mine"


def test_the_help_states_the_defaults_that_the_configuration_has():
    import typer

    from swarmcell.config.preprocess import PreprocessConfig

    command = typer.main.get_command(app).commands["preprocess"]
    stated = {option.opts[0]: option.help or "" for option in command.params if option.param_type_name == "option"}
    rules = PreprocessConfig()
    defaults = {
        "--modality": rules.modality,
        "--donor-key": rules.columns.donor,
        "--sample-key": rules.columns.sample,
        "--condition-key": rules.columns.condition,
        "--cell-type-key": rules.columns.cell_type,
        "--split": rules.split.kind,
        "--seed": rules.split.seed,
        "--input": rules.input,
        "--cells-in": rules.reading.cells_in,
        "--preset": rules.qc.preset,
        "--doublets": rules.qc.doublets,
        "--events-per-donor": rules.cytometry.events_per_donor,
    }
    assert {flag: stated[flag].partition("[default: ")[2] for flag in defaults} == {
        flag: f"{value}]" for flag, value in defaults.items()
    }


def test_names_in_brackets_are_shown_as_they_are(tmp_path):
    rng = np.random.default_rng(0)
    donors = [f"[/p{i % 4}]" for i in range(80)]
    obs = pd.DataFrame({"donor": donors, "cell_type": "[bold] T"}, index=[f"c{i}" for i in range(80)])
    genes = pd.DataFrame(index=[f"GENE{i}" for i in range(30)])
    ad.AnnData(rng.poisson(2.0, (80, 30)).astype(np.float32), obs, genes).write_h5ad(tmp_path / "site [red].h5ad")
    source, out = str(tmp_path / "site [red].h5ad"), str(tmp_path / "out.h5ad")
    result = CliRunner().invoke(app, ["preprocess", source, "--no-qc", "--out", out], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.stderr
    assert "[/p3]" in result.stderr
    assert "site [red]: 80 cells" in result.stderr
