"""Damaged and hostile files: events or an `InputError`, in little time and little memory, whatever the bytes."""

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from swarmcell.cells.fcs import data_sets, read_events
from swarmcell.errors import InputError

FIXED_BYTES = 24 << 20  # chunks and their conversions, whatever the file's size
PER_BYTE = 200  # Python objects of keywords of one byte each; events alone take at most 32 (1-bit channels)
SECONDS_MAX = 60.0  # a hang, not a speed: such a file takes milliseconds
FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def read_all(path: Path) -> None:
    """Read every data set; only an `InputError` may come out, and memory and time must be in bounds."""
    tracemalloc.start()
    began = time.monotonic()
    try:
        for one in data_sets(path):
            events = read_events(one)
            assert events.shape == (one.n_events, len(one.channels))
    except InputError as error:
        assert str(path) in str(error)  # noqa: PT017
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= FIXED_BYTES + PER_BYTE * path.stat().st_size
    assert time.monotonic() - began < SECONDS_MAX


@pytest.fixture(scope="session")
def valid(fcs_bytes: Callable[..., bytes]) -> list[bytes]:
    """Small files of every type, small enough that a damaged byte often matters."""
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 256, (20, 3))
    options = {"n_events": 20, "start_of_data": 700}
    return [
        fcs_bytes(numbers.astype("<f4").tobytes(), channels=[{}] * 3, **options),
        fcs_bytes(
            numbers.astype(">f8").tobytes(), channels=[{"B": "64"}] * 3, datatype="D", byte_order="4,3,2,1", **options
        ),
        fcs_bytes(
            numbers.astype("<u2").tobytes(),
            channels=[{"B": "16", "R": "1024", "E": "4,1"}] * 3,
            datatype="I",
            **options,
        ),
        fcs_bytes(
            np.packbits(rng.integers(0, 2, 20 * 30)).tobytes(),
            channels=[{"B": "10", "R": "1024"}] * 3,
            datatype="I",
            byte_order="4,3,2,1",
            **options,
        ),
        fcs_bytes(" ".join(map(str, numbers.ravel())).encode(), channels=[{"B": "*"}] * 3, datatype="A", **options),
        fcs_bytes(
            "".join(f"{n:3d}" for n in numbers.ravel()).encode(), channels=[{"B": "3"}] * 3, datatype="A", **options
        ),
    ]


@FUZZ
@given(st.binary(max_size=400))
@example(b"FCS3.1")
def test_random_bytes_never_crash(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "random.fcs"
    path.write_bytes(b"FCS3.0    " + content)
    read_all(path)


@FUZZ
@given(
    which=st.integers(0, 5),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), min_size=1, max_size=5),
    length=st.one_of(st.none(), st.floats(0, 1)),
)
def test_a_damaged_file_never_crashes(
    tmp_path: Path, valid: list[bytes], which: int, edits: list[tuple[float, bytes]], length: float | None
) -> None:
    content = bytearray(valid[which])
    for where, piece in edits:
        place = int(where * (len(content) - 1))
        content[place : place + len(piece)] = piece
    path = tmp_path / "damaged.fcs"
    path.write_bytes(content if length is None else content[: int(length * len(content))])
    read_all(path)


NAMES = [
    "$PAR",
    "$TOT",
    "$DATATYPE",
    "$BYTEORD",
    "$MODE",
    "$NEXTDATA",
    "$BEGINDATA",
    "$ENDDATA",
    "$BEGINSTEXT",
    "$ENDSTEXT",
]
NAMES += [f"$P{n}{letter}" for n in (1, 2, 3) for letter in ("N", "B", "R", "E", "G", "DATATYPE")]
VALUES = [
    "0",
    "1",
    "-1",
    "2",
    "7",
    "8",
    "16",
    "24",
    "32",
    "64",
    "99999999999999999999",
    "1e9",
    "1e308",
    "nan",
    "inf",
    "*",
]
VALUES += [
    "I",
    "F",
    "D",
    "A",
    "1,2,3,4",
    "4,3,2,1",
    "2,1",
    "3,4,1,2",
    "4,1",
    "308,1",
    "0,0",
    "58",
    "100",
    "700",
    "",
    " ",
    "x",
]


@FUZZ
@given(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), min_size=1, max_size=6), st.integers(0, 300))
@example({"$NEXTDATA": "58"}, 100)
@example({"$TOT": "99999999999999999999"}, 100)
@example({"$P1G": "1e308", "$P1E": "38,1"}, 240)
def test_hostile_keywords_never_crash(
    tmp_path: Path, fcs_bytes: Callable[..., bytes], words: dict[str, str], n_bytes: int
) -> None:
    path = tmp_path / "hostile.fcs"
    content = fcs_bytes(
        b"1 " * (n_bytes // 2), n_events=20, channels=[{}] * 3, extra={"$TOT": "20"} | words, start_of_data=700
    )
    path.write_bytes(content)
    read_all(path)


def test_data_sets_that_share_one_text_do_not_make_it_hang(tmp_path: Path) -> None:
    text = b"/$PAR/1/$DATATYPE/F/$BYTEORD/1,2,3,4/$TOT/0/$P1B/32/$P1R/1/$NEXTDATA/58/" + b"K/V/" * 100_000
    n_sets = 900
    place = 58 * n_sets
    blocks = [
        b"FCS3.0    "
        + b"".join(str(v).rjust(8).encode() for v in (place - 58 * n, place - 58 * n + len(text) - 1, 0, 0, 0, 0))
        for n in range(n_sets)
    ]
    path = tmp_path / "loop.fcs"
    path.write_bytes(b"".join(blocks) + text + b" " * 100)
    began = time.monotonic()
    with pytest.raises(InputError, match=r"share their TEXT|not an FCS file"):
        data_sets(path)
    assert time.monotonic() - began < SECONDS_MAX


def test_one_long_ascii_value_does_not_widen_all_others(tmp_path: Path, fcs_bytes: Callable[..., bytes]) -> None:
    content = fcs_bytes(b"1 " * 100_000 + b"9" * 1_000_000, n_events=100_001, channels=[{"B": "*"}], datatype="A")
    path = tmp_path / "long.fcs"
    path.write_bytes(content)
    with pytest.raises(InputError, match="more than 32 characters"):
        read_events(data_sets(path)[0])
    read_all(path)


def test_a_text_of_a_million_delimiters_is_refused(tmp_path: Path) -> None:
    text = b"/" * 3_000_000
    header = b"FCS3.0    " + b"".join(str(v).rjust(8).encode() for v in (58, 58 + len(text) - 1, 0, 0, 0, 0))
    (tmp_path / "slashes.fcs").write_bytes(header + text)
    read_all(tmp_path / "slashes.fcs")
