"""Facts about `train` with options that no other test gives: cells on disk, resumed."""

import json

import numpy as np
import pytest
import torch

from swarmcell.cells import panel as panels
from swarmcell.cells import schema
from swarmcell.errors import PanelError, UsageError
from swarmcell.model import released
from swarmcell.workflows import train as workflow
from swarmcell.workflows.train import Options


def silent(event, facts):
    """Observe nothing."""


@pytest.fixture(scope="module")
def prepared_file(tmp_path_factory, make_cells):
    path = tmp_path_factory.mktemp("train") / "site-a.h5ad"
    make_cells("site-a", n_cells=20).write_h5ad(path, compression="gzip")
    return path


def test_cells_on_disk_teach_what_they_teach_in_memory(prepared_file, tmp_path):
    models = {}
    for name, out_of_core in (("memory", False), ("disk", True)):
        options = Options(threads=1, out_of_core=out_of_core)
        made = workflow.train_alone(
            [prepared_file], runs=tmp_path, name=name, study=None, options=options, observer=silent
        )
        models[name] = released.load(made.models["local"])
        assert json.loads((made.run / "run.json").read_text())["out_of_core"] is out_of_core
        assert (made.run / "run.json").stat().st_mode & 0o077 == 0, "it names donors"
    memory, disk = models["memory"].state, models["disk"].state
    np.testing.assert_array_equal(memory.arrays["mean"], disk.arrays["mean"])
    assert abs(memory.results["cell"].score.loss - disk.results["cell"].score.loss) < 0.05


def test_files_of_two_universes_are_told_apart_though_they_share_a_name(prepared_file, make_cells, tmp_path):
    other = make_cells("site-b", n_cells=20)
    first = schema.universe_of(other)
    universe = panels.from_ids([f"ENSG{i:011d}" for i in range(5, 29)], [f"H{i}" for i in range(24)], name=first.name)
    other.var_names = list(universe.ids)
    other.uns["swarmcell"] = schema.contents(
        modality="rna", source_kind="lognorm", universe=universe, qc={}, provenance={}
    )
    other.write_h5ad(tmp_path / "site-b.h5ad")
    with pytest.raises(PanelError, match=rf"{universe.sha256[:12]}: 24 features, .*{first.sha256[:12]}: 24 features"):
        workflow.train_alone(
            [prepared_file, tmp_path / "site-b.h5ad"],
            runs=tmp_path,
            name="both",
            study=None,
            options=Options(),
            observer=silent,
        )


def test_a_run_fine_tunes_a_released_model_by_its_rules_and_resumes_without_naming_it_again(
    prepared_file, make_cells, tmp_path
):
    def trained(path, name, **more):
        made = workflow.train_alone([path], runs=tmp_path, name=name, study=None, observer=silent, **more)
        return made, released.load(made.models["local"])

    made, first = trained(prepared_file, "first", options=Options(threads=1))
    other = make_cells("site-b", n_cells=20)
    other.write_h5ad(tmp_path / "site-b.h5ad")
    tuned_run, tuned = trained(
        tmp_path / "site-b.h5ad", "tuned", options=Options(threads=1, start=str(made.models["local"]))
    )
    assert tuned.study.start_sha256 == first.digest
    np.testing.assert_array_equal(tuned.state.arrays["mean"], first.state.arrays["mean"])
    tuned_run.models["local"].unlink()
    _, resumed = trained(tmp_path / "site-b.h5ad", "tuned", options=Options(threads=1), resume=True)
    assert resumed.digest == tuned.digest


def test_a_run_that_has_ended_is_not_trained_again_by_resuming_it(prepared_file, tmp_path):
    rounds = []
    options = {"runs": tmp_path, "name": "ended", "study": None, "options": Options(threads=1)}
    made = workflow.train_alone([prepared_file], observer=silent, **options)
    before = made.models["local"].stat().st_mtime_ns, (made.run / "metrics.jsonl").read_text()

    def note(event, facts):
        rounds.extend([facts] if event == "round" else [])

    again = workflow.train_alone([prepared_file], observer=note, resume=True, **options)
    assert not rounds
    assert before == (again.models["local"].stat().st_mtime_ns, (again.run / "metrics.jsonl").read_text())
    assert again.cards == made.cards


def test_resuming_names_what_differs_from_the_run_that_began(prepared_file, make_cells, tmp_path):
    options = {"runs": tmp_path, "name": "begun", "options": Options(threads=1), "observer": silent}
    workflow.train_alone([prepared_file], study=None, **options)
    make_cells("site-b", n_cells=20).write_h5ad(tmp_path / "site-b.h5ad")
    with pytest.raises(UsageError, match=r"began with other prepared files\. Give the same, or another --name"):
        workflow.train_alone([tmp_path / "site-b.h5ad"], study=None, resume=True, **options)
    settings = json.loads((tmp_path / "begun" / "run.json").read_text())
    (tmp_path / "begun" / "run.json").write_text(json.dumps(settings | {"rules": "of another study"}))
    with pytest.raises(UsageError, match=r"began with another study\. Give the same \(--config too\)"):
        workflow.train_alone([prepared_file], study=None, resume=True, **options)


@pytest.mark.parametrize(("device", "reason"), [("gpu", "expected auto, cpu or cuda"), ("cuda", "no CUDA device")])
def test_a_device_that_is_not_there_is_refused_before_anything_is_read(device, reason, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=reason):
        Options(device=device)
