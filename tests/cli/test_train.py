"""What `swarmcell train` shows while it runs: bars for people at a terminal, lines for a log."""

import os
import pty
import re
import subprocess
import sys

import pytest
from terminal import read_to_end
from waiting import LIMIT_S

FULL_BAR = "━" * 40
ENVIRONMENT = {**os.environ, "COLUMNS": "200", "TERM": "xterm", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def command(study_files):
    return [sys.executable, "-m", "swarmcell", "train", str(study_files.files[0]), "--threads", "1"]


def at_a_terminal(command, folder):
    """Run a command whose standard error is a terminal; return what it showed there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, cwd=folder, stdout=theirs, stderr=theirs, env=ENVIRONMENT)
    os.close(theirs)
    shown = read_to_end(ours)
    assert process.wait(timeout=LIMIT_S) == 0, shown.decode()
    return shown.decode()


def test_the_bar_of_an_exact_fit_is_full_when_the_fit_is_done(command, tmp_path):
    last = at_a_terminal(command, tmp_path).rpartition("local model:")[2]
    bars = dict(re.findall(r"local: (\w+) +([━╸╺ ]+?) +round", last))
    assert bars == dict.fromkeys(("features", "cell", "patient"), FULL_BAR)


def test_a_log_gets_lines_without_bars_and_without_blank_ones(command, tmp_path):
    odd = [*command, "--runs", "[/odd] runs"]  # no word is taken for markup
    done = subprocess.run(odd, cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT, check=True)
    lines = done.stderr.splitlines()
    assert all(line.strip() for line in lines)
    assert lines[0].startswith("[/odd] runs/site-a: ")
    assert not any(FULL_BAR in line for line in lines if line.startswith("local: "))
    assert [line.partition(":")[0] for line in lines if " round(s), best " in line] == [
        f"local {stage}" for stage in ("features", "cell", "patient")
    ]
