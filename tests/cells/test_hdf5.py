"""HDF5 files that are written: a full disk is a plain error, and ends neither the program nor the file beside it."""

import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from full_disk import room_for

from swarmcell.cells import hdf5

ROOT = Path(__file__).parents[2]


def fill(path, mode="w"):
    values = np.random.default_rng(0).random(5000)
    with hdf5.output(path, mode=mode) as file:
        for name in map(str, range(20)):
            file.create_dataset(name, data=values, chunks=(500,), compression="gzip")
            assert file[name][4999] == values[4999]


def test_what_is_written_is_read_back(tmp_path):
    fill(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert len(file) == 20


def test_a_write_that_fits_in_part_is_a_fault_and_what_hdf5_reads_back_is_what_it_wrote(tmp_path):
    path = tmp_path / "a.h5"
    with room_for(2500), hdf5._Disk(path, "w+") as disk:
        for place in range(0, 5000, 1000):
            disk.seek(place)
            assert disk.write(bytes([place // 1000 + 1]) * 1000) == 1000
        assert disk.fault is not None
        disk.seek(1500)
        found = bytearray(3000)
        assert disk.readinto(found) == 3000
        assert found == b"\2" * 500 + b"\3" * 1000 + b"\4" * 1000 + b"\5" * 500
    assert path.stat().st_size == 2500


@pytest.mark.parametrize("n_bytes", [0, 1000, 30_000, 100_000, 400_000, 700_000])
def test_a_full_disk_is_an_os_error(tmp_path, n_bytes):
    with room_for(n_bytes), pytest.raises(OSError, match="File too large"):
        fill(tmp_path / "a.h5")


def test_a_disk_that_is_full_when_a_file_is_changed_is_an_os_error(tmp_path):
    fill(tmp_path / "a.h5")
    room = (tmp_path / "a.h5").stat().st_size + 10_000
    with (
        room_for(room),
        pytest.raises(OSError, match="File too large"),
        hdf5.output(tmp_path / "a.h5", mode="r+") as file,
    ):
        file["more"] = np.random.default_rng(1).random(50_000)


def test_a_full_disk_ends_preprocessing_with_its_exit_code_and_leaves_nothing(tmp_path):
    command = [sys.executable, "-m", "swarmcell", "preprocess", str(ROOT / "sample_data/rna/site-c"), "--out", "c.h5ad"]
    limit = (60_000, 60_000)
    done = subprocess.run(
        [*command, "--config", str(ROOT / "configs/rna.toml")],
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 8, done.stderr
    assert "c.h5ad: cannot be written (File too large). Nothing was changed." in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
