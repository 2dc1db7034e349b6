"""Facts about quantile alignment: what moves, what stays, what it erases, and what is refused."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from swarmcell.cells import panel, quantile_alignment, schema
from swarmcell.cells.panel import Feature, Panel
from swarmcell.cli.app import app
from swarmcell.errors import CellsError, InputError, OutputError, PanelError
from swarmcell.model.study import Floors
from swarmcell.workflows import align

MARKERS = ("CD3", "CD4", "CD19")
UNIVERSE = Panel("three", "cytometry", "", tuple(Feature(name) for name in MARKERS), "arcsinh", 5.0)


def write_site(path, site, *, drift=0.0, positive_share=0.5, universe=UNIVERSE, n_donors=6):
    """Six donors, one held out: CD3 has a negative and a positive part, and `drift` moves every marker."""
    rng = np.random.default_rng([*site.encode()])
    n = 600
    X = rng.normal(1, 0.3, (n, 3)) + drift
    X[:, 0] += 3 * (rng.uniform(size=n) < positive_share)
    donor = [f"d{i % n_donors}" for i in range(n)]
    obs = pd.DataFrame({"donor": donor, "sample": donor, "site": site}, index=[f"{site}-{i}" for i in range(n)])
    obs["split"] = np.where(obs["donor"] == "d0", "held_out", "train")
    var = pd.DataFrame({"symbol": list(universe.symbols), "present": True}, index=list(universe.ids))
    adata = ad.AnnData(X.astype(np.float32), obs, var)
    adata.uns[schema.UNS] = schema.contents(
        modality="cytometry", source_kind="events", universe=universe, qc={}, provenance={}
    )
    schema.write_prepared(adata, path, force=True)
    return path


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    """Two sites; the second one's instrument has drifted."""
    folder = tmp_path_factory.mktemp("sites")
    paths = [write_site(folder / f"{name}.h5ad", name, drift=d) for name, d in (("site-a", 0.0), ("site-b", 0.8))]
    histograms = [path.with_suffix(".json") for path in paths]
    for path, histogram in zip(paths, histograms, strict=True):
        align.publish(path, histogram, floors=Floors())
    return paths, histograms


def values(path):
    return np.asarray(ad.read_h5ad(path).X)


def test_two_sites_have_one_distribution_afterwards_whatever_the_order_of_the_histograms(sites, tmp_path):
    paths, histograms = sites
    made = [
        align.apply(p, h, p.with_suffix(".out.h5ad"))
        for p, h in zip(paths, (histograms, histograms[::-1]), strict=True)
    ]
    levels = np.linspace(0.05, 0.95, 10)
    before = [np.quantile(values(path), levels, axis=0) for path in paths]
    after = [np.quantile(values(path.with_suffix(".out.h5ad")), levels, axis=0) for path in paths]
    assert np.abs(before[0] - before[1]).max() > 0.7
    assert np.abs(after[0] - after[1])[[0, 1, 2, 7, 8, 9]].max() < 0.2  # between its two parts CD3 has hardly a cell
    assert made[0].universe == made[1].universe
    assert made[1].moved["CD4"] == pytest.approx(-0.4, abs=0.15)


def test_the_order_of_the_cells_within_a_marker_stays(sites, tmp_path):
    paths, histograms = sites
    align.apply(paths[1], histograms, tmp_path / "out.h5ad")
    before, after = values(paths[1]), values(tmp_path / "out.h5ad")
    for column in range(3):
        order = np.argsort(before[:, column], kind="stable")
        assert (np.diff(after[order, column]) >= 0).all()


def test_it_erases_a_difference_of_composition_too(tmp_path):
    """The note that the command gives is no figure of speech: half as many T cells are moved away like a drift."""
    paths = [write_site(tmp_path / f"{n}.h5ad", n, positive_share=s) for n, s in (("site-a", 0.8), ("site-b", 0.4))]
    histograms = [path.with_suffix(".json") for path in paths]
    for path, histogram in zip(paths, histograms, strict=True):
        align.publish(path, histogram, floors=Floors())
    shares = []
    for path in paths:
        align.apply(path, histograms, tmp_path / "out.h5ad", force=True)
        shares.append((values(tmp_path / "out.h5ad")[:, 0] > 2.5).mean())
    assert abs(shares[0] - shares[1]) < 0.05


def test_an_aligned_file_is_whole_and_has_a_universe_of_its_own(sites, tmp_path):
    paths, histograms = sites
    made = align.apply(paths[0], histograms, tmp_path / "out.h5ad", universe_out=tmp_path / "u.json")
    adata = schema.read_prepared(tmp_path / "out.h5ad")
    assert schema.universe_of(adata) == panel.load(tmp_path / "u.json") == made.universe
    assert made.universe.sha256 != UNIVERSE.sha256
    assert "quantiles of" in panel.diff(UNIVERSE, made.universe).changed["reference"][1]
    aligned_to = json.loads(str(adata.uns[schema.UNS]["provenance"]))["aligned_to"]
    assert aligned_to["sites"] == ["site-a", "site-b"]
    with pytest.raises(OutputError, match="--force"):
        align.apply(paths[0], histograms, tmp_path / "new.h5ad", universe_out=tmp_path / "u.json")
    assert not (tmp_path / "new.h5ad").exists()


def test_held_out_donors_do_not_enter_a_histogram(sites):
    paths, histograms = sites
    adata = ad.read_h5ad(paths[0])
    trained = (adata.obs["split"] == "train").to_numpy()
    found = quantile_alignment.load(histograms[0])
    assert (found.n_cells, found.n_donors) == (trained.sum(), 5)
    expected, _ = np.histogram(np.asarray(adata.X)[trained, 1], quantile_alignment.edges(UNIVERSE))
    np.testing.assert_array_equal(found.counts[1], expected)


def test_below_the_floors_nothing_is_published(sites, tmp_path):
    with pytest.raises(CellsError, match=r"500 training cells of 5 donor.*publishes no histogram"):
        align.publish(sites[0][0], tmp_path / "h.json", floors=Floors(donors=6))
    assert not (tmp_path / "h.json").exists()


def test_what_does_not_fit_is_refused_by_name(sites, tmp_path):
    paths, histograms = sites
    out = tmp_path / "out.h5ad"
    with pytest.raises(PanelError, match="two sites or more"):
        align.apply(paths[0], [histograms[0]], out)
    with pytest.raises(PanelError, match="site-a, site-a"):
        align.apply(paths[0], [histograms[0]] * 2, out)
    other = Panel("other", "cytometry", "", UNIVERSE.features, "arcsinh", 150.0)
    foreign = write_site(tmp_path / "foreign.h5ad", "site-c", universe=other)
    with pytest.raises(PanelError, match=r"foreign\.h5ad: prepared with the universe"):
        align.apply(foreign, histograms, out)
    align.publish(foreign, tmp_path / "foreign.json", floors=Floors())
    with pytest.raises(PanelError, match="site-c's histogram is of panel"):
        align.apply(paths[0], [*histograms, tmp_path / "foreign.json"], out)
    assert not out.exists()


def test_rna_is_not_aligned(make_cells, tmp_path):
    schema.write_prepared(make_cells("site-a", n_cells=5), tmp_path / "rna.h5ad")
    with pytest.raises(PanelError, match=r"log1p_cp10k.*not aligned"):
        align.publish(tmp_path / "rna.h5ad", tmp_path / "h.json", floors=Floors())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "format 2"),
        ({"n_cells": 7}, "do not add up"),
        ({"n_donors": 0}, "0 donors"),
        ({"counts": [[1, 2], [3, 4]]}, "shape"),
        ({"counts": [[0.5] * 512]}, "float64"),
        ({"counts": "x"}, "shape"),
        ({"site": ...}, "site"),
    ],
    ids=repr,
)
def test_a_bad_histogram_is_refused_with_the_remedy(sites, tmp_path, change, says):
    content = json.loads(sites[1][0].read_text())
    content = {key: value for key, value in (content | change).items() if value is not ...}
    (tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"bad\.json: not a site's histogram.*{says}.*align histogram"):
        quantile_alignment.load(tmp_path / "bad.json")


def test_the_commands_tell_what_they_did(sites, tmp_path):
    paths, histograms = sites
    said = CliRunner().invoke(app, ["align", "histogram", str(paths[0]), "-o", str(tmp_path / "h.json"), "--json"])
    assert json.loads(said.stdout) == {"site": "site-a", "n_donors": 5, "n_cells": 500, "n_markers": 3}
    command = ["align", "apply", str(paths[0]), *map(str, histograms), "-o", str(tmp_path / "o.h5ad"), "--json"]
    said = CliRunner().invoke(app, command)
    assert sorted(json.loads(said.stdout)["moved"]) == sorted(MARKERS)
    assert "median moved by" in said.stderr
