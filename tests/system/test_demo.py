"""The real demo: three hospitals, from their files to the report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import LIMIT_S

ROOT = Path(__file__).parents[2]
SITES = ("site-a", "site-b", "site-c")


def demo(*arguments, cwd=ROOT):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    command = [sys.executable, "-m", "swarmcell", "demo", *map(str, arguments)]
    return subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def test_a_folder_that_no_demo_made_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    done = demo("--out", tmp_path, "--force")
    assert done.returncode == 8
    assert "no demo made it" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_an_earlier_demo_is_kept_without_force(tmp_path):
    (tmp_path / "demo.json").write_text("{}")
    done = demo("--out", tmp_path)
    assert done.returncode == 8
    assert "--force" in done.stderr


def test_sample_data_that_are_not_there_are_named(tmp_path):
    done = demo("--out", tmp_path / "demo", "--sample-data", tmp_path / "nowhere")
    assert done.returncode == 3
    assert "nowhere" in done.stderr
    assert not (tmp_path / "demo").exists()


def test_a_hospital_that_fails_ends_the_demo_and_shows_its_last_words(tmp_path):
    source = tmp_path / "sample_data"
    for site in SITES:
        (source / "rna" / site).mkdir(parents=True)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "rna.toml").write_text('modality = "rna"\n')
    done = demo("--out", tmp_path / "demo", "--sample-data", source)
    assert done.returncode == 7
    assert "swarmcell preprocess" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("modality", ["rna", "cytometry"])
def test_the_demo_ends_with_one_model_at_all_sites_and_a_report_on_all_models(modality, tmp_path):
    done = demo("--out", tmp_path / "demo", "--modality", modality, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told["merged_digests"]) == set(SITES)
    assert len(set(told["merged_digests"].values())) == 1
    for site in SITES:
        card = json.loads((tmp_path / "demo" / "runs" / site / "merged.json").read_text())
        assert card["digest"] == told["merged_digests"][site]
    report = Path(told["report"]).read_text()
    missing = [m for m in ("swarm", "local", "site-b alone", "site-c alone", "pooled") if m not in report]
    assert missing == []
    assert told["merged_digests"]["site-a"][:16] in report
