"""Facts about panels as a user makes and reads them: aliases travel with the panel, and a model shows what it reads."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from typer.testing import CliRunner

from swarmcell.cells import genes, panel
from swarmcell.cells.readers import ReadOptions, open_source
from swarmcell.cli.app import app
from swarmcell.errors import PanelError
from swarmcell.model import released
from swarmcell.workflows import panel as workflow

NAMES = [f"GENE{i}" for i in range(40)]


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """Counts of forty genes; another file calls half of them by other names."""
    folder = tmp_path_factory.mktemp("panel")
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(2, (30, 40)).astype(np.float32))
    obs = pd.DataFrame({"donor": ["d"] * 30}, index=[f"c{i}" for i in range(30)])
    others = [f"OLD{i}" if i % 2 else name for i, name in enumerate(NAMES)]
    for file, names in (("new.h5ad", NAMES), ("old.h5ad", others)):
        ad.AnnData(counts, obs, pd.DataFrame(index=names)).write_h5ad(folder / file)
    table = ["alias,feature", *(f"OLD{i},GENE{i}" for i in range(1, 40, 2)), "GENE1,GENE2"]
    (folder / "aliases.csv").write_text("\n".join(table))
    return folder


def created(folder, out, *more):
    return CliRunner().invoke(app, ["panel", "create", str(folder / "new.h5ad"), "--out", str(out), *more])


def test_a_site_with_old_names_maps_by_the_aliases_that_the_panel_carries(counted, tmp_path):
    result = created(counted, tmp_path / "u.json", "--aliases", str(counted / "aliases.csv"))
    assert result.exit_code == 0, result.output
    assert "1 aliases left out, for they would name two features: GENE1" in result.stderr
    universe = panel.load(tmp_path / "u.json")
    alignment = genes.align(open_source(counted / "old.h5ad", ReadOptions()), universe)
    assert alignment.by["alias"] == 20
    assert alignment.unmapped == ()


def test_without_the_aliases_the_site_is_refused_for_its_coverage(counted, tmp_path):
    assert created(counted, tmp_path / "u.json").exit_code == 0
    with pytest.raises(PanelError, match=r"20 of the universe's 40 features \(50%\).*at least 80%"):
        genes.align(open_source(counted / "old.h5ad", ReadOptions()), panel.load(tmp_path / "u.json"))
    assert created(counted, tmp_path / "o.json", "--force").exit_code == 0
    other = CliRunner().invoke(app, ["panel", "diff", str(tmp_path / "u.json"), str(tmp_path / "o.json"), "--json"])
    assert isinstance(other.exception, PanelError)
    assert json.loads(other.stdout)["coverage"] == 1


def test_a_model_shows_the_panel_that_its_sites_chose(study_files):
    model = released.load(study_files.merged)
    found = workflow.read(study_files.merged)
    assert found.ids == model.panel_ids
    shown = CliRunner().invoke(app, ["panel", "show", str(study_files.merged), "--json"])
    assert json.loads(shown.stdout)["sha256"] == found.sha256
    assert "swarmcell predict" in shown.stderr
    assert CliRunner().invoke(app, ["panel", "diff", *[str(study_files.merged)] * 2]).exit_code == 0
