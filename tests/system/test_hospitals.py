"""The README's way by hand, on the sample data: each hospital has its own folder, its own keys and real processes."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import tomli_w
from waiting import LIMIT_S, wait_until

from swarmcell.model import released
from swarmcell.node.ledger import opened

ROOT = Path(__file__).parents[2]
HOSTILE = Path(__file__).with_name("hostile_site.py")
SITES = ("site-a", "site-b", "site-c")


class Hospital:
    """One site; `run` waits for a command, `start` does not."""

    def __init__(self, folder, name, processes):
        self.name, self.folder, self._processes = name, folder / name, processes
        self.folder.mkdir()
        self.file = f"{name}.h5ad"
        self.metrics = self.folder / "runs" / name / "metrics.jsonl"

    def start(self, *arguments, program=("-m", "swarmcell")):
        process = subprocess.Popen(
            [sys.executable, *program, *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "XDG_CONFIG_HOME": str(self.folder / "keys"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def run(self, *arguments):
        return said(self.start(*arguments))

    def join(self, swarm="../swarm.toml", *more, program=("-m", "swarmcell")):
        return self.start("train", self.file, "--join", swarm, "--threads", 1, "--no-local", *more, program=program)

    def rounds(self):
        return self.metrics.read_text().count("\n") if self.metrics.is_file() else 0

    def wait_for_round(self, number, process):
        wait_until(lambda: self.rounds() >= number or process.poll() is not None, f"{self.name}: round {number}")
        assert process.poll() is None, f"{self.name} ended before round {number}: {process.stderr.read()}"

    def panel(self):
        return released.load(self.folder / "runs" / self.name / "merged.safetensors").panel_ids

    def digest(self):
        return json.loads((self.folder / "runs" / self.name / "merged.json").read_text())["digest"]


def said(process, code=0):
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == code, err
    assert "Traceback" not in err
    return out, err


def all_said(processes, code=0):
    """Wait for all; the first that ends otherwise than expected fails the test at once, with its own words."""

    def none_is_strange():
        strange = [process for process in processes if process.poll() not in {None, code}]
        assert not strange, [process.communicate()[1] for process in strange]

    wait_until(lambda: all(process.poll() is not None for process in processes), "the end", check=none_is_strange)
    return [said(process, code) for process in processes]


@pytest.fixture
def processes():
    started = []
    yield started
    end(started)


def end(started):
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def founded(tmp_path_factory):
    """Three hospitals with prepared files, keys, and a swarm file; `prepared` and `at` make copies of it."""
    folder, started = tmp_path_factory.mktemp("hospitals"), []
    sites = [Hospital(folder, name, started) for name in SITES]
    config = ROOT / "configs" / "rna.toml"
    own = ROOT / "sample_data" / "rna"
    try:
        preparing = [s.start("preprocess", own / s.name, "--config", config, "--out", s.file) for s in sites]
        all_said(preparing)
        all_said([s.start("init", "--name", s.name) for s in sites])
        cards = [site.start("identity", "show", site.name) for site in sites]
        for site, (card, _) in zip(sites, all_said(cards), strict=True):
            (folder / f"{site.name}.card.toml").write_text(card)
    finally:
        end(started)
    found(sites[0], ROOT / "configs" / "swarm-rna.toml")
    return folder


def found(site, rules, out="../swarm.toml"):
    founders = [part for name in SITES for part in ("--founder", f"../{name}.card.toml")]
    site.run("swarm", "create", rules, *founders, "--out", out)


@pytest.fixture
def hospitals(founded, tmp_path, processes):
    """The founded swarm in a folder of this test's own."""
    folder = tmp_path / "hospitals"
    sites = []
    folder.mkdir()
    for name in SITES:
        sites.append(Hospital(folder, name, processes))
        shutil.copytree(founded / name, folder / name, dirs_exist_ok=True)
    for path in founded.glob("*.toml"):
        shutil.copy(path, folder)
    return sites


def scanpys_genes(sites):
    """Return what scanpy chooses from the training cells of all sites in one place, of types above the floors there."""
    study = tomllib.loads((ROOT / "configs" / "swarm-rna.toml").read_text())["study"]
    whole = ad.concat([_summed(ad.read_h5ad(site.folder / site.file), study["floors"]) for site in sites])
    counts, n_top = ad.AnnData(whole.layers["counts"].astype(np.float64)), study["features"]["n_top"]
    frame = sc.pp.highly_variable_genes(counts, flavor="seurat_v3", n_top_genes=n_top, inplace=False)
    return tuple(whole.var_names[frame["highly_variable"].to_numpy()])


def _summed(adata, floors):
    """Return the training cells of which sums leave a site."""
    train = adata[(adata.obs["split"] == "train").to_numpy()]
    types = train.obs.groupby("cell_type", observed=True)["donor"].agg(["size", "nunique"])
    enough = types[(types["size"] >= floors["cells"]) & (types["nunique"] >= (floors["donors"] + 1) // 2)]
    return train[train.obs["cell_type"].isin(enough.index).to_numpy()].copy()


def logs(site):
    return list(site.folder.parent.glob("swarm.*.log"))


def test_a_tampered_swarm_file_is_refused_before_anything_is_signed(hospitals):
    site = hospitals[0]
    path = site.folder.parent / "swarm.toml"
    path.write_text(path.read_text().replace("l2 = 0.001", "l2 = 0.002", 1))
    _, error = said(site.join(), 7)
    assert "swarm.toml" in error
    assert not logs(site)
    assert not (site.folder / "runs").exists()


def test_cells_of_another_universe_are_refused_with_the_remedy(hospitals):
    site = hospitals[2]
    config = site.folder / "own.toml"
    config.write_text('modality = "rna"\n[qc]\nmin_genes = 100\nmin_counts = 200\n')
    (site.folder / site.file).unlink()
    site.run("preprocess", ROOT / "sample_data" / "rna" / "site-c", "--config", config, "--out", site.file)
    _, error = said(site.join(), 4)
    assert "universe" in error
    assert "panel diff" in error
    assert not logs(site)


def test_one_class_in_the_whole_swarm_ends_with_the_same_failure_at_every_site(hospitals):
    for site in hospitals:
        path = site.folder / site.file
        adata = ad.read_h5ad(path)
        adata.obs["condition"] = pd.Categorical(["sepsis"] * adata.n_obs)
        adata.write_h5ad(path)
    rules = hospitals[0].folder / "patients.toml"
    text = (ROOT / "configs" / "swarm-rna.toml").read_text()
    text = text.replace('stages = ["features", "cell", "patient"]', 'stages = ["features", "patient"]')
    rules.write_text(text.replace("../sample_data", str(ROOT / "sample_data")))
    found(hospitals[0], rules, "../patients.toml")
    peers = [site.join("../patients.toml") for site in hospitals]
    errors = [error for _, error in all_said(peers, 7)]
    reasons = {next(line for line in error.splitlines() if line.startswith("error: ")) for error in errors}
    assert len(reasons) == 1
    assert "sepsis" in reasons.pop()
    assert not any((site.folder / "runs" / site.name / "merged.safetensors").exists() for site in hospitals)


def assert_all_is_listed_and_no_donor_named(site):
    ledger = Path("runs") / site.name / "ledger.sqlite"
    listed = json.loads(site.run("swarm", "show", "../swarm.toml", "--mine", "--ledger", ledger, "--json")[0])
    assert [one["sequence"] for one in listed] == list(range(1, len(listed) + 1))
    assert {"accept", "blob", "statistics", "update", "attest", "commit"} <= {one["kind"] for one in listed}
    assert all(one["sealed"] for one in listed if one["kind"] == "blob")
    with opened(site.folder / ledger) as book:
        signed = b"".join(book.own())
    assert len(signed) == sum(one["size_bytes"] for one in listed)
    donors = ad.read_h5ad(site.folder / site.file).obs["donor"].unique()
    assert not [donor for donor in donors if f"{donor}-1".encode() in signed or f"/{donor}".encode() in signed]


def test_a_swarm_survives_a_kill_and_a_ctrl_c_and_all_hold_one_model_that_verifies(hospitals):
    killed, interrupted, quiet = hospitals
    first, second, third = killed.join(), interrupted.join(), quiet.join("../swarm.toml", "--quiet")

    killed.wait_for_round(3, first)
    first.kill()
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    first = killed.join()

    interrupted.wait_for_round(interrupted.rounds() + 3, second)
    second.send_signal(signal.SIGINT)
    _, told = said(second, 130)
    goes_on = next(line.removeprefix("next: ") for line in told.splitlines() if line.startswith("next: "))
    words = shlex.split(goes_on)
    assert words[:5] == ["swarmcell", "train", interrupted.file, "--join", "../swarm.toml"]
    second = interrupted.start(*words[1:])  # exactly what it told the user to type

    ended = all_said([first, second, third])
    assert ended[2] == ("", ""), "--quiet prints nothing where all is well"
    assert len({site.digest() for site in hospitals}) == 1
    assert quiet.panel() == scanpys_genes(hospitals)

    out, _ = killed.run("swarm", "verify", "../swarm.toml", "--cells", killed.file, "--json")
    checked = json.loads(out)
    assert checked["faults"] == []
    assert checked["merges"] > 0
    assert_all_is_listed_and_no_donor_named(interrupted)


def test_a_swarm_fine_tunes_a_released_model_and_leaves_out_what_a_hostile_site_sends(hospitals):
    first, second, hostile = hospitals
    rules = cell_rules(first.folder.parent / "base.toml", "rounds_max = 40")
    first.run("train", first.file, "--config", rules, "--name", "base", "--threads", 1)
    base = first.folder.parent / "base.safetensors"
    shutil.copy(first.folder / "runs" / "base" / "local.safetensors", base)
    rules = cell_rules(first.folder.parent / "tuned.toml", 'rounds_max = 6\n[study]\nstart = "base.safetensors"')
    found(first, rules, "../tuned.toml.swarm")

    _, told = said(second.join("../tuned.toml.swarm"), 5)
    assert "Give that file with --from" in told
    joined = [site.join("../tuned.toml.swarm", "--from", base) for site in (first, second)]
    joined.append(hostile.join("../tuned.toml.swarm", "--from", base, program=(HOSTILE,)))
    all_said(joined)

    assert len({site.digest() for site in hospitals}) == 1
    assert first.panel() == released.load(base).panel_ids
    rows = [json.loads(line) for line in first.metrics.read_text().splitlines()]
    judged = [row["validation_accuracy"] for row in rows if "validation_accuracy" in row]
    assert judged[0] > 0.5, "the first round is judged at the released model's coefficients, not at none"
    card = json.loads((first.folder / "runs" / first.name / "merged.json").read_text())
    assert card["stages"]["cell"]["sites"] == 2
    out, _ = first.run("swarm", "show", "../tuned.toml.swarm", "--json")
    for reason in ("is over the bound", "expected int64", "belongs to another round", "holds arrays"):
        assert reason in out


def cell_rules(path, more):
    """Write the sample study of cells alone, with more rules of its fit, and return its path."""
    text = (ROOT / "configs" / "swarm-rna.toml").read_text()
    rules = tomllib.loads(text)
    study = rules["study"]
    study |= {"stages": ["features", "cell"], "universe": str(ROOT / "sample_data" / "rna" / "universe.json")}
    extra = tomllib.loads("[study.cell]\n" + more)["study"]
    study["cell"] |= extra.pop("cell")
    path.write_text(tomli_w.dumps({"study": study | extra, "swarm": rules["swarm"]}))
    return path


def test_a_run_alone_that_got_another_name_is_told_by_that_name_when_interrupted(hospitals):
    site = hospitals[2]
    (site.folder / "runs" / site.name).mkdir(parents=True)  # an earlier run has the name
    site.metrics = site.folder / "runs" / f"{site.name}-2" / "metrics.jsonl"
    rules = (ROOT / "configs" / "swarm-rna.toml").read_text().replace("../sample_data", str(ROOT / "sample_data"))
    slow = (
        'merge = "fedavg"\nrounds_max = 40\npatience_rounds = 40\nepochs_per_round = 3\n'  # an exact fit ends too soon
    )
    (site.folder / "slow.toml").write_text(
        rules.replace('merge = "exact-sum"\n', slow).replace('merge = "exact-sum" ', slow)
    )
    process = site.start("train", site.file, "--config", "slow.toml", "--seed", 3, "--threads", 1)
    site.wait_for_round(2, process)
    process.send_signal(signal.SIGINT)
    _, told = said(process, 130)
    goes_on = told.splitlines()[-1].removeprefix("next: ")
    assert (
        goes_on == f"swarmcell train {site.file} --name {site.name}-2 --config slow.toml --seed 3 --threads 1 --resume"
    )
    site.run(*shlex.split(goes_on)[1:])
    assert (site.metrics.parent / "local.safetensors").exists()
