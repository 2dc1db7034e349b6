"""The command line as a whole: quick, and each kind of failure with its own exit code."""

import shutil
import subprocess
import sys
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
from waiting import LIMIT_S

from swarmcell import __version__, errors
from swarmcell.cli.app import main
from swarmcell.cli.common import EXIT_CODES, exit_code, waiting
from swarmcell.config import swarm_file
from swarmcell.model.study import Study
from swarmcell.node import identity

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "sample_data/rna/site-a"
HEAVY = {"torch", "scanpy", "anndata", "pandas", "numpy", "scipy", "sklearn", "matplotlib", "h5py"}
FAILING = """\
import sys
from swarmcell.cli.app import main
try:
    main()
except SystemExit as ended:
    code = ended.code or 0
print("imported:", *sorted(name for name in sys.modules if "." not in name))
sys.exit(code)
"""
INTERRUPTED = """\
import os, signal, sys

class Interrupter:
    def find_spec(self, name, *_):
        if name == loading:
            os.kill(os.getpid(), signal.SIGINT)

loading = sys.argv.pop(1)
sys.meta_path.insert(0, Interrupter())
from swarmcell.cli.start import main
main()
"""
EVERY_HELP = """\
import sys
import typer
from typer.testing import CliRunner
from swarmcell.cli.app import app

def leaves(command, path):
    below = getattr(command, "commands", {})
    return [leaf for name, inner in below.items() for leaf in leaves(inner, [*path, name])] if below else [path]

for path in leaves(typer.main.get_command(app), []):
    assert CliRunner().invoke(app, [*path, "--help"]).exit_code == 0, path
print("imported:", *sorted(name for name in sys.modules if "." not in name))
"""


def run(capsys, monkeypatch, *arguments):
    """Run the program in this process; return its exit code and what it said to people."""
    monkeypatch.setattr(sys, "argv", ["swarmcell", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


def imported(program, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, set(done.stdout.rpartition("imported:")[2].split())


def damage(whole, damaged):
    """Write prepared cells with X compressed, and spoil every compressed piece of its values."""
    ad.read_h5ad(whole).write_h5ad(damaged, compression="gzip")
    with h5py.File(damaged) as file:
        values = file["X"]["data"] if hasattr(file["X"], "keys") else file["X"]
        pieces = [values.id.get_chunk_info(i) for i in range(values.id.get_num_chunks())]
    with damaged.open("r+b") as file:
        for piece in pieces:
            file.seek(piece.byte_offset)
            file.write(bytes(piece.size))


@pytest.fixture(scope="module")
def broken(study_files, tmp_path_factory):
    """A folder with one file of each kind that must be refused."""
    folder = tmp_path_factory.mktemp("broken")
    shutil.copy(study_files.files[0], folder / "site-a.h5ad")
    (folder / "text.h5ad").write_text("not cells")
    (folder / "torn.safetensors").write_bytes(study_files.merged.read_bytes()[:200])
    (folder / "typo.toml").write_text('modality = "rna"\nunivers = "x.json"\n')
    ad.AnnData(np.ones((3, 2), np.float32)).write_h5ad(folder / "bare.h5ad")
    with pytest.MonkeyPatch.context() as elsewhere:
        elsewhere.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("others")))
        cards = [identity.create(name).card for name in ("x", "y", "z")]
    study = Study(name="test", modality="rna")
    swarm = swarm_file.dump(swarm_file.create(swarm_file.SwarmConfig(study=study), cards))
    (folder / "swarm.toml").write_bytes(swarm)
    (folder / "changed.toml").write_bytes(swarm.replace(b'"test"', b'"text"'))
    (folder / "there.csv").write_text("mine")
    shutil.copy(study_files.merged, folder / "merged.safetensors")
    damage(folder / "site-a.h5ad", folder / "damaged.h5ad")
    return folder


def test_an_unknown_command_is_refused_and_named(capsys, monkeypatch):
    code, _, err = run(capsys, monkeypatch, "trian")
    assert code == 2
    assert "trian" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("kind", "code", "arguments"),
    [
        ("options that contradict each other", 2, "train site-a.h5ad --join swarm.toml --force"),
        ("no such option", 2, "train site-a.h5ad --fast"),
        ("no such file", 3, "train nobody.h5ad"),
        ("no such configuration", 3, "train site-a.h5ad --config nobody.toml"),
        ("no such swarm file", 3, "train site-a.h5ad --join nobody.toml"),
        ("no such invitation", 3, "swarm accept nobody.invitation.toml"),
        ("no such card", 3, "swarm create swarm.toml --founder nobody.card.toml"),
        ("not a single-cell file", 3, "train text.h5ad"),
        ("a folder in place of a file", 3, "train ."),
        ("damaged cells", 3, "train damaged.h5ad"),
        ("damaged cells", 3, "evaluate merged.safetensors damaged.h5ad --out evaluation"),
        ("damaged cells", 3, "predict merged.safetensors damaged.h5ad --out out.h5ad"),
        ("damaged cells", 3, "stratify damaged.h5ad"),
        ("damaged cells", 3, "audit privacy merged.safetensors damaged.h5ad --shadows 0"),
        ("a file twice", 2, "train site-a.h5ad site-a.h5ad"),
        ("a file twice", 2, "audit privacy merged.safetensors site-a.h5ad ./site-a.h5ad --shadows 0"),
        ("options of a swarm without one", 2, "evaluate merged.safetensors site-a.h5ad --wait 5"),
        ("a name that is no prepared file's", 2, "preprocess site-a.h5ad --out out.csv"),
        ("a host with a port", 2, "engine card site-a --host hospital.example:4222"),
        ("a study in place of how to prepare", 5, "preprocess site-a.h5ad --config swarm.toml --out out.h5ad"),
        ("a folder that cannot be made", 8, "stratify site-a.h5ad --out text.h5ad/strata"),
        ("cells of nobody", 4, "train bare.h5ad"),
        ("an unknown key", 5, "preprocess site-a.h5ad --config typo.toml --out out.h5ad"),
        ("a torn model", 6, "evaluate torn.safetensors site-a.h5ad"),
        ("no identity to sign with", 7, "train site-a.h5ad --join swarm.toml"),
        ("a swarm file that was changed", 7, "train site-a.h5ad --join changed.toml"),
    ],
)
def test_each_kind_of_bad_input_has_its_exit_code_and_no_traceback(
    broken, capsys, monkeypatch, tmp_path, kind, code, arguments
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(broken)
    before = sorted(broken.rglob("*"))
    got, out, err = run(capsys, monkeypatch, *arguments.split())
    assert got == code, f"{kind}: {err}"
    assert out == ""
    assert "Traceback" not in err
    assert sorted(broken.rglob("*")) == before, "something was half-written"


def test_damage_that_is_met_while_reading_from_disk_names_the_file(broken, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(broken)
    code, _, err = run(capsys, monkeypatch, "train", "damaged.h5ad", "--out-of-core", "--runs", tmp_path / "runs")
    assert code == 3
    assert "error: damaged.h5ad: cannot be read" in err
    assert "It is damaged: copy it again" in err


def test_a_swarm_without_this_site_is_refused_at_once_and_leaves_nothing(broken, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(broken)
    identity.create("site-x")
    before = sorted(broken.rglob("*"))
    code, _, err = run(capsys, monkeypatch, "train", "site-a.h5ad", "--join", "swarm.toml", "--identity", "site-x")
    assert code == 7
    assert err.startswith("error: swarm.toml: site-x is no member of this swarm: its members are x, y, z.")
    assert "swarmcell swarm accept" in err
    assert sorted(broken.rglob("*")) == before, "something was half-written"


def test_an_output_that_exists_is_refused_with_its_own_exit_code(study_files, broken, capsys, monkeypatch):
    arguments = ("predict", study_files.merged, study_files.files[0], "--out", broken / "there.csv")
    code, _, err = run(capsys, monkeypatch, *arguments)
    assert code == 8, err
    assert "--force" in err
    assert (broken / "there.csv").read_text() == "mine"


def test_debug_shows_the_traceback_and_nothing_else_does(broken, capsys, monkeypatch):
    monkeypatch.chdir(broken)
    _, _, shown = run(capsys, monkeypatch, "train", "nobody.h5ad", "--debug")
    assert "Traceback (most recent call last)" in shown
    _, _, plain = run(capsys, monkeypatch, "train", "nobody.h5ad")
    assert "Traceback" not in plain
    assert plain.startswith("error: "), "in a log, nothing stands before the error, not even a blank line"
    assert "nobody.h5ad" in plain


@pytest.mark.parametrize("loading", ["typer", "swarmcell.cli.train", "pydantic"])
def test_ctrl_c_before_a_command_begins_ends_in_one_line(loading, tmp_path):
    done = interrupted_while(loading, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted; nothing had begun.\n")


@pytest.mark.parametrize("loading", ["swarmcell.workflows.preprocess", "numpy", "anndata", "scipy.sparse"])
def test_ctrl_c_while_a_command_loads_what_it_needs_ends_in_one_line(loading, tmp_path):
    done = interrupted_while(loading, tmp_path)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.startswith("interrupted; ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def interrupted_while(loading, folder):
    """Run a command in a process that is sent Ctrl-C when it begins to load the module `loading`."""
    command = ["preprocess", str(SAMPLE), "--config", str(ROOT / "configs/rna.toml"), "--out", str(folder / "a.h5ad")]
    return subprocess.run(
        [sys.executable, "-c", INTERRUPTED, loading, *command],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_every_branch_of_the_tree_has_one_exit_code_of_its_own():
    branches = errors.SwarmcellError.__subclasses__()
    assert set(branches) == set(EXIT_CODES)
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
    assert not set(EXIT_CODES.values()) & {0, 1, 130}


def test_a_twig_has_the_exit_code_of_its_branch():
    for branch, code in EXIT_CODES.items():
        for kind in [branch, *branch.__subclasses__()]:
            assert exit_code(kind("why")) == code


def test_the_tree_in_the_docstring_is_the_tree():
    def below(kind):
        return {name for twig in kind.__subclasses__() for name in (twig.__name__, *below(twig))}

    named = {word for word in errors.__doc__.replace("─", " ").split() if word.endswith("Error")}
    assert named == {"SwarmcellError", *below(errors.SwarmcellError)}


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(option):
    out, modules = imported(FAILING, option)
    assert not modules & HEAVY
    assert ("Usage" in out) if option == "--help" else (f"swarmcell {__version__}" in out)


def test_no_commands_help_imports_anything_heavy():
    _, modules = imported(EVERY_HELP)
    assert not modules & HEAVY


def test_without_a_command_the_help_is_shown(capsys, monkeypatch):
    _, out, err = run(capsys, monkeypatch)
    assert "preprocess" in out + err


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "swarmcell", "--version"], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"swarmcell {__version__}\n")


def test_the_installed_command_is_this_program():
    command = Path(sys.executable).with_name("swarmcell")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout) == (0, f"swarmcell {__version__}\n")


def test_the_next_command_can_be_pasted_whatever_a_path_is_called(capsys):
    from swarmcell.cli.common import next_command

    next_command("swarmcell train", Path("my cells/süd a.h5ad"), "--join swarm.toml")
    assert capsys.readouterr().err == "next: swarmcell train 'my cells/süd a.h5ad' --join swarm.toml\n"


def test_who_waits_is_told_whom_for_since_when_and_what_helps():
    facts = {"why": "contributions to round 5, which needs 3 sites", "who": ["site-c"], "away": [], "since_s": 7384.0}
    said = waiting(facts)
    assert said.startswith("waiting: contributions to round 5, which needs 3 sites (site-c; for 2:03:04, since ")
    assert "\n" not in said
    assert waiting({**facts, "away": ["site-c"]}).endswith(
        "no sign of life of site-c: all goes on by itself once the same command runs there again"
    )
