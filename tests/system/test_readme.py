"""The README's commands, typed in order in a fresh folder, do what it says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_commands_by_hand_work_in_order(tmp_path):
    part = (ROOT / "README.md").read_text(encoding="utf-8").partition("## By hand")[2].partition("\n## ")[0]
    alone, swarm = re.findall(r"^```\n(.*?)^```", part, flags=re.DOTALL | re.MULTILINE)
    for name in ("sample_data", "configs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "OMP_NUM_THREADS": "1",
    }
    for block in (alone, swarm):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "runs/alone/evaluation/report.html").is_file()
    assert (tmp_path / "runs/site-a/evaluation/report.html").is_file()
    merged = {(tmp_path / f"runs/{site}/merged.safetensors").read_bytes() for site in ("site-a", "site-b", "site-c")}
    assert len(merged) == 1
