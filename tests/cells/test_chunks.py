"""Arrays by their chunks are the arrays that h5py reads and writes; damage is told."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from swarmcell.cells import chunks

STORED = {
    "gzip": {"compression": "gzip", "chunks": (100,)},
    "gzip and shuffle": {"compression": "gzip", "shuffle": True, "chunks": (97,)},
    "with a checksum": {"compression": "gzip", "fletcher32": True, "chunks": (100,)},
    "lzf": {"compression": "lzf", "chunks": (100,)},
    "not compressed": {},
}


@pytest.mark.parametrize("options", list(STORED.values()), ids=list(STORED))
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16, np.float32, ">i4"])
def test_slices_are_those_of_h5py(tmp_path: Path, options: dict, dtype: type) -> None:
    values = np.random.default_rng(0).integers(0, 1000, 1003).astype(dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        stored = file.create_dataset("a", data=values, **options)
        ours = chunks.opened(stored)
        assert isinstance(ours, chunks.StoredChunks) == (
            options.get("compression") == "gzip" and len(options) < 4 and "fletcher32" not in options
        )
        for low, high in ((0, 1003), (0, 0), (5, 6), (99, 101), (100, 200), (950, 1003), (990, 5000), (50, 850)):
            np.testing.assert_array_equal(ours[low:high], values[low:high])


def test_chunks_that_were_never_written_are_the_fill_value(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        stored = file.create_dataset("a", (1000,), np.int32, chunks=(100,), compression="gzip", fillvalue=7)
        stored[250:300] = 1
        np.testing.assert_array_equal(chunks.opened(stored)[0:1000], stored[:])


def test_places_beyond_two_billion_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        stored = file.create_dataset("a", (2**31 + 1000,), np.int32, chunks=(100,), compression="gzip", fillvalue=7)
        stored[2**31 + 50 : 2**31 + 60] = 1
        values = chunks.opened(stored)[2**31 + 40 : 2**31 + 70]
    assert list(values) == [7] * 10 + [1] * 10 + [7] * 10


def test_a_damaged_chunk_is_told(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        stored = file.create_dataset("a", data=np.arange(1000), chunks=(100,), compression="gzip")
        stored.id.write_direct_chunk((300,), stored.id.read_direct_chunk((300,))[1][:-3])
        with pytest.raises(ValueError, match="damaged"):
            chunks.opened(stored)[0:1000]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("lengths", [(0,), (5, 0, 3), (100, 100), (3000, 1, 250)], ids=str)
def test_what_is_appended_is_read_back_by_h5py(
    tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, lengths: tuple[int, ...], shuffle: bool
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_VALUES", 100)
    parts = [np.random.default_rng(n).integers(0, 9, n).astype(np.int32) for n in lengths]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        growing = chunks.GrowingChunks(file, "a", np.int32, shuffle=shuffle, pool=pool)
        for part in parts:
            growing.append(part)
        growing.finish()
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["a"][:], np.concatenate(parts))
