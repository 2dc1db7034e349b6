"""Files are written whole or not at all."""

import os
import stat
from pathlib import Path

import pytest
from full_disk import room_for

from swarmcell.errors import OutputError
from swarmcell.files import write_whole, writing


def test_an_existing_file_is_refused_and_kept(tmp_path: Path) -> None:
    target = tmp_path / "a"
    write_whole(target, b"one")
    with pytest.raises(OutputError, match="--force"):
        write_whole(target, b"two")
    assert target.read_bytes() == b"one"
    write_whole(target, b"two", force=True)
    assert target.read_bytes() == b"two"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        write_whole(tmp_path, b"", force=True)


def test_missing_folders_are_made(tmp_path: Path) -> None:
    write_whole(tmp_path / "b" / "c" / "d", b"x")
    assert (tmp_path / "b" / "c" / "d").read_bytes() == b"x"


def test_a_failure_inside_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with writing(tmp_path / "a") as temporary:
            temporary.write_bytes(b"half")
            msg = "stop"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="stop"):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tmp_path: Path) -> None:
    with room_for(1024), pytest.raises(OutputError, match="cannot be written"):
        write_whole(tmp_path / "a", b"x" * 4096)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_an_output_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="permissions"):
        write_whole(tmp_path / "a", b"")


def test_the_mode_is_set(tmp_path: Path) -> None:
    write_whole(tmp_path / "secret", b"x", mode=0o600)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
