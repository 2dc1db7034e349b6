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

from swarmcell.cli.app import app
from swarmcell.errors import CellsError, UsageError


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
