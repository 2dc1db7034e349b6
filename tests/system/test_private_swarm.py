"""A swarm of real processes under differential privacy: one is killed, and all end with one model and one budget."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner
from waiting import LIMIT_S, wait_until

from swarmcell.cells import schema
from swarmcell.cli.app import app
from swarmcell.config import swarm_file
from swarmcell.errors import ConfigError
from swarmcell.model import released
from swarmcell.model.study import NOISED, DifferentialPrivacy, FitRule, Floors, PrivacyRule, Study
from swarmcell.node import identity
from swarmcell.workflows.swarm.verify_run import verify_swarm

SITES = ("site-a", "site-b", "site-c")
ROUNDS = 5


@pytest.fixture
def swarm(tmp_path, monkeypatch, make_cells):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "keys"))
    monkeypatch.chdir(tmp_path)
    for site in SITES:
        adata = make_cells(site, effect=4.0)
        schema.write_prepared(adata, tmp_path / f"{site}.h5ad")
    study = Study(
        name="noised",
        modality="rna",
        stages=("features", "cell"),
        cell_types=("B", "NK", "T"),
        universe_sha256=str(adata.uns["swarmcell"]["universe_sha256"]),
        cell=FitRule(merge=NOISED, rounds_max=ROUNDS),
        floors=Floors(donors=4, cells=20),
        privacy=PrivacyRule(secure_aggregation=True, differential_privacy=DifferentialPrivacy(unit="cell")),
    )
    for site in SITES:
        identity.create(site)
    return write_swarm(tmp_path / "swarm.toml", study, patience_s=60.0)  # the round waits for the one that is killed


def write_swarm(path, study, *, patience_s):
    cards = [identity.load(site).card for site in SITES]
    rules = swarm_file.SwarmRules(patience_s=patience_s)
    path.write_bytes(swarm_file.dump(swarm_file.create(swarm_file.SwarmConfig(study=study, swarm=rules), cards)))
    return path


def join(site, folder, *more):
    command = ["train", f"{site}.h5ad", "--join", "swarm.toml", "--identity", site, "--device", "cpu", "--threads", "1"]
    command += more
    return subprocess.Popen(
        [sys.executable, "-m", "swarmcell", *command],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def own_entries(folder, site):
    result = CliRunner().invoke(
        app, ["swarm", "show", "swarm.toml", "--mine", "--ledger", f"runs/{site}/ledger.sqlite", "--json", "--quiet"]
    )
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_all_sites_end_in_one_block_when_the_budget_is_spent_though_one_is_killed(swarm):
    folder = swarm.parent
    peers = {site: join(site, folder) for site in SITES}
    said = {}
    try:
        metrics = folder / "runs" / "site-a" / "metrics.jsonl"  # it has published noised sums
        wait_until(lambda: metrics.exists() or peers["site-a"].poll() is not None, "a round")
        assert peers["site-a"].poll() is None, peers["site-a"].communicate()[1]
        peers["site-a"].send_signal(signal.SIGKILL)
        peers["site-a"].communicate()
        peers["site-a"] = join("site-a", folder)
        for site, peer in peers.items():
            said[site] = "".join(peer.communicate(timeout=LIMIT_S))
            assert peer.returncode == 0, f"{site}: {said[site]}"
    finally:
        for peer in peers.values():
            peer.kill()
            peer.communicate()
    models = [released.load(folder / "runs" / site / "merged.safetensors") for site in SITES]
    assert len({model.digest for model in models}) == 1
    spent = models[0].card["differential_privacy"]
    assert (spent["unit"], spent["sums"], spent["delta"]) == ("cell", 1 + ROUNDS, 1e-5)
    assert 7.8 < spent["epsilon"] <= 8
    assert "n_cells" not in models[0].card["stages"]["cell"]
    for site in SITES:
        text = " ".join(said[site].split())
        assert "at delta = 1e-05 for every single cell, over 6 noised sums" in text
        assert "no local model: beside a model under differential privacy" in text
        assert not (folder / "runs" / site / "local.safetensors").exists()
        entries = [one for one in own_entries(folder, site) if one["kind"] in {"statistics", "update"}]
        rounds = [one["clear"]["round"] for one in entries]
        assert len(set(rounds)) == len(rounds), "one contribution to each round, also of the peer that was killed"
        numbers = {tuple(v for k, v in one["clear"].items() if k in {"n_cells", "n_donors"}) for one in entries}
        assert numbers == {(20, 4)}, "the floors, and not the site's"
    checked = verify_swarm(swarm, cells=[Path("site-b.h5ad")], identity="site-b")
    assert not checked.faults


def test_a_secure_sum_of_three_waits_for_a_site_that_is_away_and_goes_on_when_it_is_back(swarm):
    folder = swarm.parent
    rule = FitRule(merge="fedavg", rounds_max=20, patience_rounds=20)
    privacy = PrivacyRule(secure_aggregation=True)
    write_swarm(swarm, replace(swarm_file.load(swarm).study, cell=rule, privacy=privacy), patience_s=1.0)
    peers = {site: join(site, folder, "--no-local") for site in SITES}
    try:
        wait_for_line(folder / "runs" / "site-a" / "metrics.jsonl", "cell", peers["site-a"])
        peers["site-c"].send_signal(signal.SIGKILL)
        peers["site-c"].communicate()
        words = "which needs 3 sites', 'who': ['site-c'], 'away': ['site-c']"
        wait_for_line(folder / "runs" / "site-a" / "log.txt", words, peers["site-a"])
        peers["site-c"] = join("site-c", folder, "--no-local")
        for site, peer in peers.items():
            output = "".join(peer.communicate(timeout=LIMIT_S))
            assert peer.returncode == 0, f"{site}: {output}"
    finally:
        for peer in peers.values():
            peer.kill()
            peer.communicate()
    assert len({released.load(folder / "runs" / site / "merged.safetensors").digest for site in SITES}) == 1


def wait_for_line(path, words, peer):
    """Wait until a growing file holds the words."""

    def says():
        assert peer.poll() is None, peer.communicate()[1]
        return path.exists() and words in path.read_text()

    wait_until(says, f"{words!r} in {path}")


def test_a_site_refuses_a_file_whose_noise_costs_more_than_its_budget(swarm):
    made = swarm_file.load(swarm)
    private = replace(made.study.privacy.differential_privacy, noise_multiplier=0.5)
    study = replace(made.study, privacy=replace(made.study.privacy, differential_privacy=private))
    cards = [identity.load(site).card for site in SITES]
    with pytest.raises(ConfigError, match="the budget is 8"):
        swarm_file.create(swarm_file.SwarmConfig(study=study), cards)
    founders = tuple(swarm_file.Founder.of(card) for card in cards)
    lie = swarm_file.SwarmFile(digest="0" * 64, study=study, swarm=made.swarm, founders=founders)
    lie = lie.model_copy(update={"digest": lie.genesis().digest.hex()})
    swarm.write_bytes(swarm_file.dump(lie))
    result = CliRunner().invoke(app, ["train", "site-a.h5ad", "--join", "swarm.toml", "--identity", "site-a"])
    assert result.exit_code != 0
    assert "the budget is 8" in str(result.exception)
    assert not list(swarm.parent.glob("swarm.*.log*"))
