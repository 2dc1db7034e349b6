"""Freed memory goes back to the system."""

import platform
from pathlib import Path

import pytest

from swarmcell.cells.memory import give_back


def _resident_mb() -> float:
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the call")
def test_memory_freed_between_what_is_kept_is_given_back() -> None:
    many = [bytes(2_000) for _ in range(50_000)]  # 100 MB, by malloc: too large for Python's own pools
    kept = many[::64]
    del many
    before = _resident_mb()
    give_back()
    assert before - _resident_mb() > 50
    assert len(kept) == 782
