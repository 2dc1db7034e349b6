"""Cells without labels are clustered by `train --join` in real processes as by pooling, though one site is killed."""

import signal
from contextlib import ExitStack

import anndata as ad
import numpy as np
import pytest
from nats_cluster import NatsCluster, missing_binary
from site_processes import SiteProcesses
from typer.testing import CliRunner

from swarmcell.cells import schema
from swarmcell.cli.app import app
from swarmcell.config import swarm_file
from swarmcell.model import released
from swarmcell.model.study import ClusterRule, Floors, Study
from swarmcell.node import identity
from swarmcell.workflows.swarm.verify_run import verify_swarm
from swarmcell.workflows.train import Options, train_alone

SITES = ("site-a", "site-b", "site-c")


@pytest.fixture
def folder(tmp_path, monkeypatch, make_cells):
    """Three sites with prepared files that tell no type and no condition, and the swarm file of a study of clusters."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "keys"))
    monkeypatch.chdir(tmp_path)
    for site in SITES:
        adata = make_cells(site)
        adata.obs = adata.obs.drop(columns=["cell_type", "condition"])
        schema.write_prepared(adata, tmp_path / f"{site}.h5ad")
    study = Study(
        name="clusters",
        modality="rna",
        stages=("features", "clusters"),
        universe_sha256=str(adata.uns["swarmcell"]["universe_sha256"]),
        clusters=ClusterRule(n=3, starts=4),
        floors=Floors(donors=4, cells=20),
    )
    cards = [identity.create(site).card for site in SITES]
    made = swarm_file.create(swarm_file.SwarmConfig(study=study), cards)
    (tmp_path / "swarm.toml").write_bytes(swarm_file.dump(made))
    return tmp_path


@pytest.fixture(params=["embedded", "nats"])
def peers(request, folder):
    """The sites' commands over either engine."""
    with ExitStack() as stack:
        settings = []
        if request.param == "nats":
            if why := missing_binary():
                pytest.skip(why)
            cluster = NatsCluster(folder / "nats", founders=tuple(identity.load(site).engine_secret for site in SITES))
            (folder / "engine.toml").write_text(f'name = "any"\n{cluster.engine_toml()}')
            stack.callback(cluster.stop)
            cluster.start()
            settings = ["--site", "engine.toml"]
        command = ["--join", "swarm.toml", *settings]
        yield stack.enter_context(
            SiteProcesses(folder, lambda site: ["train", f"{site}.h5ad", *command, "--identity", site])
        )


def test_all_sites_find_the_clusters_of_the_pooled_cells_though_one_is_killed(folder, peers, make_cells):
    peers.start(*SITES)
    peers.wait_for("site-a", "block 1:")
    peers.stop("site-a", signal.SIGKILL)
    peers.start("site-a")
    peers.all_ended()
    models = [released.load(folder / "runs" / site / "merged.safetensors") for site in SITES]
    assert len({model.digest for model in models}) == 1
    files = [folder / f"{site}.h5ad" for site in SITES]
    about = {"runs": folder / "pooled", "name": "all", "options": Options(threads=1), "observer": lambda *_: None}
    pooled = released.load(train_alone(files, study=models[0].study, **about).models["local"])
    for name in ("vectors", "centres", "count", "means"):
        np.testing.assert_array_equal(
            models[0].state.arrays[f"clusters.{name}"], pooled.state.arrays[f"clusters.{name}"], err_msg=name
        )
    alone = released.load(folder / "runs" / "site-a" / "local.safetensors")
    assert alone.has_clusters
    if "--site" not in peers.arguments("site-a"):
        checked = verify_swarm(folder / "swarm.toml", cells=files[:1], identity="site-a")
        assert not checked.faults
        assert checked.merges == checked.blocks > 5
    predicted(folder, make_cells)


def predicted(folder, make_cells):
    """What `train` said to do next: the clusters of each cell, which are the types that nobody told."""
    command = ["predict", "runs/site-a/merged.safetensors", "site-a.h5ad", "--out", "p.h5ad"]
    assert " ".join(command[:3]) in (folder / "site-a.said.txt").read_text()
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "swarmcell stratify site-a.h5ad --cells runs/site-a/merged.safetensors" in done.output
    found = ad.read_h5ad(folder / "p.h5ad").obs["predicted_cluster"]
    types = make_cells("site-a").obs["cell_type"]
    table = np.array([[((found == c) & (types == t)).sum() for t in types.unique()] for c in found.cat.categories])
    assert table.max(axis=1).sum() > 0.9 * len(found)
