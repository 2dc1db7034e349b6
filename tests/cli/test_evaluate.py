"""`swarmcell evaluate` and `swarmcell predict` as a user meets them."""

import json
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from swarmcell.cli.app import app
from swarmcell.cli.evaluate import named_models
from swarmcell.errors import UsageError

runner = CliRunner()


@pytest.mark.parametrize("text", ["pooled", "=x", "pooled="])
def test_against_must_name_a_model(text):
    with pytest.raises(UsageError, match="NAME=MODEL"):
        named_models([text])


def test_against_twice_by_one_name_is_refused():
    with pytest.raises(UsageError, match="given twice"):
        named_models(["a=x", "a=y"])


def test_help_has_an_example():
    for command in ("evaluate", "predict"):
        result = runner.invoke(app, [command, "--help"])
        assert result.exit_code == 0
        assert f"swarmcell {command} runs/site-a/merged.safetensors" in " ".join(result.output.split())


def test_evaluate_writes_a_report_beside_the_model_and_json_on_stdout(study_files, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(study_files.run, run)
    args = ["evaluate", str(run / "merged.safetensors"), *map(str, study_files.files), "--bootstrap", "100", "--json"]
    result = runner.invoke(app, args)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert [m["name"] for m in found["models"]] == ["swarm", "local"]
    assert (run / "evaluation" / "report.html").is_file()
    assert f"report: {run}/evaluation/report.html" in result.stderr.replace("\n", "")
    assert "next: swarmcell predict" in result.stderr


def test_quiet_prints_nothing(study_files, tmp_path):
    out = tmp_path / "evaluation"
    args = [
        "evaluate",
        str(study_files.merged),
        str(study_files.files[0]),
        "--out",
        str(out),
        "--bootstrap",
        "50",
        "-q",
    ]
    result = runner.invoke(app, args)
    assert result.exit_code == 0
    assert result.output == ""
    assert (out / "report.html").is_file()


def test_errors_end_with_their_code_and_without_traceback(study_files, tmp_path):
    command = [sys.executable, "-m", "swarmcell", "evaluate", str(tmp_path / "no.safetensors"), "x.h5ad"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 3
    assert "no such file" in result.stderr
    assert "Traceback" not in result.stderr


def test_predict_writes_a_copy(study_files, tmp_path):
    out = tmp_path / "predicted.h5ad"
    result = runner.invoke(
        app, ["predict", str(study_files.merged), str(study_files.files[0]), "--out", str(out), "--json"]
    )
    assert result.exit_code == 0, result.stderr
    assert out.is_file()
    assert sum(json.loads(result.stdout)["cells_by_type"].values()) == 480
    assert "next: swarmcell evaluate" in result.stderr
