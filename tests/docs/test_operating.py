"""The files that an administrator copies: systemd units that systemd accepts, and a SLURM job that goes on."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from waiting import LIMIT_S, wait_until

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "configs" / "systemd").glob("*.service"))
JOB = ROOT / "configs" / "slurm" / "peer.sbatch"
PEER = """#!/bin/bash
echo "$@" >> calls.txt
trap 'echo stopped >> calls.txt; exit 143' TERM
touch started
while true; do sleep 0.05; done
"""


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_accepts_the_unit(unit, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    text = unit.read_text().replace("/srv/swarmcell/.venv/bin/swarmcell", "/bin/true")
    (tmp_path / unit.name).write_text(text.replace("After=network-online.target swarmcell-engine.service", ""))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / unit.name)], capture_output=True, text=True, check=False
    )
    assert [line for line in done.stderr.splitlines() if unit.name in line] == []


def script(path, text):
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def cluster_node(tmp_path):
    """A folder as the job finds it; SLURM and the peer are stand-ins, for neither is what is tested."""
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    (tools / "activate").write_text(f'PATH="{tools}:$PATH"\n')
    script(tools / "swarmcell", PEER)
    script(tools / "scontrol", '#!/bin/bash\necho "scontrol $@" >> calls.txt\n')
    return tmp_path


def test_the_slurm_job_stops_the_peer_before_its_time_is_up_and_is_queued_again(cluster_node):
    environment = {**os.environ, "SLURM_SUBMIT_DIR": str(cluster_node), "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "4"}
    job = subprocess.Popen(["bash", str(JOB)], env=environment, cwd=cluster_node)
    wait_until((cluster_node / "started").exists, "the peer")
    job.send_signal(signal.SIGINT)  # what `#SBATCH --signal=B:INT@120` sends
    try:
        assert job.wait(timeout=LIMIT_S) > 128
    finally:
        job.kill()
    called = (cluster_node / "calls.txt").read_text().splitlines()
    assert called[0] == "train site-a.h5ad --join swarm.toml --identity site-a --threads 4"
    assert called[1:] == ["stopped", "scontrol requeue 7"]
