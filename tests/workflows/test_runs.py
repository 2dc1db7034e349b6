"""Runs are listed and compared from what stands in their folders."""

import json
from pathlib import Path

import pytest

from swarmcell.errors import InputError
from swarmcell.workflows.runs import differences, find, read


def write_run(folder: Path, name: str, *, seed: int, digest: str | None) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "run.json").write_text(json.dumps({"seed": seed, "study": {"name": "trial", "seed": seed}}))
    if digest:
        (folder / name / "local.json").write_text(json.dumps({"digest": digest, "rounds": 3}))


def test_a_folder_that_is_no_run_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="swarmcell runs"):
        read(tmp_path / "none")


def test_a_broken_run_file_is_refused_by_name(tmp_path: Path) -> None:
    write_run(tmp_path, "a", seed=1, digest=None)
    (tmp_path / "a" / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"a/run\.json"):
        find(tmp_path)


def test_no_folder_holds_no_runs(tmp_path: Path) -> None:
    assert find(tmp_path / "runs") == []


def test_a_run_without_a_model_is_not_finished(tmp_path: Path) -> None:
    write_run(tmp_path, "a", seed=1, digest=None)
    write_run(tmp_path, "b", seed=1, digest="00")
    assert [(run.name, run.finished) for run in find(tmp_path)] == [("a", False), ("b", True)]


def test_only_what_differs_is_compared(tmp_path: Path) -> None:
    write_run(tmp_path, "a", seed=1, digest="00")
    write_run(tmp_path, "b", seed=2, digest="11")
    assert differences(find(tmp_path)) == {
        "run.seed": [1, 2],
        "run.study.seed": [1, 2],
        "local.digest": ["00", "11"],
    }


def test_what_one_run_lacks_differs(tmp_path: Path) -> None:
    write_run(tmp_path, "a", seed=1, digest=None)
    write_run(tmp_path, "b", seed=1, digest="11")
    assert differences(find(tmp_path)) == {"local.digest": [None, "11"], "local.rounds": [None, 3]}
