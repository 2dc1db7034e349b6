"""A site is examined before it joins; each fault is found and has a remedy."""

from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from typer.testing import CliRunner

from swarmcell.cells import panel as panels
from swarmcell.cells import schema
from swarmcell.cli.app import app
from swarmcell.config import swarm_file
from swarmcell.config.swarm_file import SwarmConfig
from swarmcell.model.study import Floors, StrataRule, Study
from swarmcell.model.training_cells import gather
from swarmcell.node import identity as identities
from swarmcell.workflows import earlier_studies
from swarmcell.workflows.doctor import Check, examine

UNIVERSE = panels.from_ids(["ENSG00000000003", "ENSG00000000005"], ["TSPAN6", "TNMD"], name="two")
STUDY = Study(
    name="trial",
    modality="rna",
    cell_types=("B", "T"),
    conditions=("ill", "well"),
    universe_sha256=UNIVERSE.sha256,
    floors=Floors(donors=4, cells=6),
)


def prepare(path: Path, *, n_donors: int = 6, n_held: int = 2) -> Path:
    donors = [f"d{i % n_donors}" for i in range(24)]
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(2, (24, 2)).astype(np.int32))
    obs = pd.DataFrame(
        {
            "donor": donors,
            "sample": donors,
            "site": "site-a",
            "condition": ["ill" if int(d[1:]) % 2 else "well" for d in donors],
            "cell_type": ["BT"[i // 6 % 2] for i in range(24)],
            "split": ["held_out" if int(d[1:]) < n_held else "train" for d in donors],
        },
        index=[f"cell{i}" for i in range(24)],
    )
    var = pd.DataFrame({"symbol": list(UNIVERSE.symbols), "present": True}, index=list(UNIVERSE.ids))
    adata = ad.AnnData(counts.astype(np.float32).log1p(), obs, var, layers={"counts": counts})
    adata.uns["swarmcell"] = schema.contents(
        modality="rna", source_kind="counts", universe=UNIVERSE, qc={}, provenance={}
    )
    schema.write_prepared(adata, path, force=True)
    return path


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    for name in ("site-a", "site-b", "site-c"):
        identities.create(name)
    write_swarm(tmp_path, STUDY)
    Path("site.toml").write_text('name = "site-a"\n')
    return tmp_path


def write_swarm(folder: Path, study: Study) -> None:
    cards = [identities.load(name).card for name in ("site-a", "site-b", "site-c")]
    (folder / "swarm.toml").write_bytes(swarm_file.dump(swarm_file.create(SwarmConfig(study=study), cards)))


def found(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_a_site_that_is_ready_passes_every_check(site: Path) -> None:
    checks = examine(prepare(site / "a.h5ad"), swarm=site / "swarm.toml")
    assert {check.result for check in checks if check.name not in {"disk", "floors"}} == {"pass"}
    assert found(checks, "engine").found.startswith("embedded")


def test_cells_of_another_universe_fail_with_the_command_that_compares(site: Path) -> None:
    write_swarm(site, replace(STUDY, universe_sha256="0" * 64))
    check = found(examine(prepare(site / "a.h5ad"), swarm=site / "swarm.toml"), "cells fit the study")
    assert check.result == "fail"
    assert "panel diff" in check.found


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"cell_types": ("B",)}, "vocabulary"),
        ({"conditions": ("ill",)}, "vocabulary"),
        ({"modality": "cytometry"}, "cytometry"),
        ({"floors": Floors(donors=5, cells=10)}, "floors"),
    ],
)
def test_cells_that_do_not_fit_the_study_fail(site: Path, change: dict, word: str) -> None:
    write_swarm(site, replace(STUDY, **change))
    check = found(examine(prepare(site / "a.h5ad"), swarm=site / "swarm.toml"), "cells fit the study")
    assert check.result == "fail"
    assert word in check.found


def test_classes_that_stay_at_the_site_and_lowered_floors_are_said(site: Path) -> None:
    write_swarm(site, replace(STUDY, floors=Floors(donors=4, cells=7)))
    checks = examine(prepare(site / "a.h5ad"), swarm=site / "swarm.toml")
    assert "no class is above the floors" in found(checks, "floors of classes").found
    assert "lowered the floors" in found(checks, "floors").found
    write_swarm(site, replace(STUDY, floors=Floors()))
    assert not [check for check in examine(swarm=site / "swarm.toml") if check.name == "floors"]


def test_few_donors_that_differ_from_an_earlier_study_are_said_before_anything_is_sent(site: Path) -> None:
    write_swarm(site, replace(STUDY, floors=Floors(donors=2, cells=3)))
    prepared, names = prepare(site / "a.h5ad"), {"cell_types": STUDY.cell_types, "conditions": STUDY.conditions}
    cells = gather([("a", schema.read_prepared(prepared))], **names, seed=STUDY.seed)
    earlier_studies.note(replace(STUDY, name="before"), "ab" * 32, "cd" * 32, cells)
    assert not [check for check in examine(prepared, swarm=site / "swarm.toml") if check.name == "earlier studies"]
    fewer = prepare(site / "b.h5ad", n_held=3)
    check = found(examine(fewer, swarm=site / "swarm.toml"), "earlier studies")
    assert (check.result, check.found[:27]) == ("warn", "1 training donor(s) differ ")


def test_a_study_of_strata_takes_all_donors_and_known_labels_and_is_joined_by_stratify(site: Path) -> None:
    strata = replace(STUDY, stages=("features",), strata=StrataRule(), floors=Floors(donors=6, cells=6))
    write_swarm(site, strata)
    prepared = prepare(site / "a.h5ad")
    assert found(examine(prepared, swarm=site / "swarm.toml"), "cells fit the study").result == "pass"
    done = CliRunner().invoke(app, ["doctor", "a.h5ad", "--join", "swarm.toml"])
    assert "next: swarmcell stratify a.h5ad --join swarm.toml" in done.output
    write_swarm(site, replace(strata, cell_types=("B", "NK")))
    assert (
        "'T' not in the study's vocabulary"
        in found(examine(prepared, swarm=site / "swarm.toml"), "cells fit the study").found
    )


def test_every_check_runs_though_the_prepared_file_is_missing(site: Path) -> None:
    checks = examine(site / "none.h5ad", swarm=site / "swarm.toml")
    assert found(checks, "prepared file").result == "fail"
    assert found(checks, "engine").result == "pass"


def test_a_tampered_swarm_file_fails(site: Path) -> None:
    path = site / "swarm.toml"
    path.write_text(path.read_text().replace("patience_rounds = 5", "patience_rounds = 6"))
    assert found(examine(swarm=path), "swarm file").result == "fail"


def test_an_identity_that_others_may_read_fails(site: Path) -> None:
    identities.secret_path("site-a").chmod(0o644)
    check = found(examine(swarm=site / "swarm.toml"), "identity")
    assert check.result == "fail"
    assert "chmod 600" in check.found


def test_who_is_no_founder_is_told_so(site: Path) -> None:
    identities.create("site-d")
    assert found(examine(swarm=site / "swarm.toml", identity="site-d"), "membership").result == "warn"


def test_few_training_donors_are_a_warning(site: Path) -> None:
    checks = examine(prepare(site / "a.h5ad", n_donors=4, n_held=2))
    assert found(checks, "donors").result == "warn"


def test_nothing_is_written_but_the_log_that_the_engine_opens(site: Path) -> None:
    before = sorted(path.name for path in site.iterdir())
    examine(site / "none.h5ad")
    assert sorted(path.name for path in site.iterdir()) == before
