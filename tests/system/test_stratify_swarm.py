"""Strata over a swarm of real processes: all hold the same file, though one is killed, and pooling finds the same."""

import json
import shlex
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from site_processes import SiteProcesses
from typer.testing import CliRunner

from swarmcell.cells import schema
from swarmcell.cli.app import app
from swarmcell.cli.common import EXIT_INTERRUPTED
from swarmcell.config import swarm_file
from swarmcell.errors import CellsError, ConfigError, ModelError, PanelError, SwarmcellError, UsageError
from swarmcell.model.strata import released
from swarmcell.model.study import ClusterRule, DifferentialPrivacy, Floors, PrivacyRule, StrataRule, Study
from swarmcell.node import identity
from swarmcell.privacy import accountant
from swarmcell.workflows.join import take_seat
from swarmcell.workflows.stratify import Options, stratify_alone, stratify_in_swarm
from swarmcell.workflows.swarm.verify_run import verify_swarm

SITES = ("site-a", "site-b", "site-c")
RULE = StrataRule(k_max=2, starts=20, resamples=6, nulls=39, permutations=99)
CLUSTERS = ClusterRule(n=4, starts=2, rounds_max=9)


@pytest.fixture
def swarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_cells) -> Path:
    """Three sites with prepared files and identities, and the swarm file of a study of strata."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "keys"))
    monkeypatch.chdir(tmp_path)
    for site in SITES:
        adata = make_cells(site, effect=4.0)
        del adata.obs["cell_type"]
        schema.write_prepared(adata, tmp_path / f"{site}.h5ad")
    study = Study(
        name="strata",
        modality="rna",
        stages=("features", "clusters"),
        clusters=CLUSTERS,
        conditions=("healthy", "ill"),
        universe_sha256=str(adata.uns["swarmcell"]["universe_sha256"]),
        floors=Floors(donors=4, cells=20),
        strata=RULE,
    )
    cards = [identity.create(site).card for site in SITES]
    path = tmp_path / "strata.toml"
    path.write_bytes(swarm_file.dump(swarm_file.create(swarm_file.SwarmConfig(study=study), cards)))
    return path


def join(site: str) -> list[str]:
    return ["stratify", f"{site}.h5ad", "--join", "strata.toml", "--identity", site, "--out", f"out-{site}", "--no-obs"]


def test_all_sites_find_the_strata_of_the_pooled_samples_though_one_is_killed_and_one_stopped(swarm: Path) -> None:
    folder = swarm.parent
    with SiteProcesses(folder, join) as peers:
        peers.start(*SITES)
        peers.wait_for("site-a", "block 1:")
        peers.stop("site-a", signal.SIGKILL)
        peers.start("site-a")
        peers.wait_for("site-b", "block 2:")
        assert peers.stop("site-b", signal.SIGINT) == EXIT_INTERRUPTED
        assert f"next: swarmcell {shlex.join(join('site-b')[:2])} --join strata.toml" in peers.said("site-b")
        peers.start("site-b")
        peers.all_ended()
    raw = {(folder / f"out-{site}" / "strata.safetensors").read_bytes() for site in SITES}
    assert len(raw) == 1
    mine = json.loads((folder / "out-site-b" / "strata.json").read_text())
    assert {sample["site"] for sample in mine["samples"]} == {"site-b"}
    assert mine["sites"] == list(SITES)
    assert any("lowered the floors" in caveat for caveat in mine["caveats"])
    pooled = stratify_alone(
        [Path(f"{site}.h5ad") for site in SITES],
        folder / "pooled",
        Options(rule=RULE, clusters=CLUSTERS.n, annotate=False),
        observer=_quiet,
    )
    found = released.load(folder / "out-site-a" / "strata.safetensors")
    assert found.state.k == pooled.strata.state.k
    assert found.state.cells.keys() == pooled.strata.state.cells.keys()
    for name, array in found.state.cells.items():
        np.testing.assert_array_equal(array, pooled.strata.state.cells[name])
    for name in ("vectors", "judged", "within_null"):
        np.testing.assert_array_equal(found.state.arrays[name], pooled.strata.state.arrays[name])
    checked = verify_swarm(swarm, cells=[Path("site-b.h5ad")], identity="site-b")
    assert not checked.faults
    assert checked.merges == checked.blocks > 5


def test_the_next_command_of_a_new_swarm_of_strata_is_stratify(swarm: Path) -> None:
    Path("config.toml").write_text(
        '[study]\nname = "s"\nmodality = "rna"\nstages = ["features"]\n[study.strata]\n', encoding="utf-8"
    )
    founders = [part for site in SITES for part in ("--founder", site)]
    made = CliRunner().invoke(app, ["swarm", "create", "config.toml", *founders, "--out", "new.toml"])
    assert "swarmcell stratify SITE.h5ad --join new.toml" in made.output


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"floors": Floors(donors=9, cells=20)}, CellsError, "site-a.h5ad: .* of 8 donor.*floors are 20 cells and 9"),
        ({"strata": None}, UsageError, "without .study.strata"),
        (
            {"strata": replace(RULE, cell_model="ab" * 32), "stages": ("features",), "cell_types": ("B", "T")},
            ModelError,
            "model abababababab, and none is given.*--cells",
        ),
        (
            {"privacy": PrivacyRule(differential_privacy=DifferentialPrivacy(unit="donor", noise_multiplier=1.0))},
            ConfigError,
            "strata and clusters of cells have none",
        ),
        ({"strata": replace(RULE, covariates={"age": ()})}, UsageError, "age stand in no sheet"),
        (
            {"cell_types": ("B", "T"), "stages": ("features",)},
            CellsError,
            "cells are no label, and the study counts B, T",
        ),
        ({"conditions": ("well", "ill")}, CellsError, "condition .healthy. is not among the study"),
        ({"universe_sha256": "0" * 64}, PanelError, "universe"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_signed(
    swarm: Path, change: dict, kind: type[SwarmcellError], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = replace(swarm_file.load(swarm).study, **change)
    cards = [identity.load(site).card for site in SITES]
    other = swarm.with_name("other.toml")
    monkeypatch.setattr(accountant, "resolved", lambda study: study)  # as a creator would who refuses nothing
    other.write_bytes(swarm_file.dump(swarm_file.create(swarm_file.SwarmConfig(study=study), cards)))
    with pytest.raises(kind, match=says):
        stratify_in_swarm(
            [Path("site-a.h5ad")],
            take_seat(other, identity="site-a"),
            swarm.parent / "out",
            Options(),
            observer=_quiet,
        )
    assert not list(swarm.parent.glob("other.*.log"))


def _quiet(_event: str, _facts: dict) -> None:
    pass
