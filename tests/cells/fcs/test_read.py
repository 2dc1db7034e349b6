"""Events of files written by hand, for what few real files show."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from swarmcell.cells.fcs import data_sets, only_data_set, read_events
from swarmcell.errors import InputError

RNG = np.random.default_rng(5)
FLOATS = (RNG.normal(size=(7, 3)) * 1000).astype(np.float32)
Written = Callable[..., Path]


def plain(path: Path) -> np.ndarray:
    return read_events(only_data_set(path), scaled=False)


@pytest.mark.parametrize(("order", "kind"), [("1,2,3,4", "<"), ("4,3,2,1", ">")])
@pytest.mark.parametrize(("datatype", "bits"), [("F", 32), ("D", 64)])
def test_floats_and_doubles_of_both_byte_orders_are_read(
    written: Written, order: str, kind: str, datatype: str, bits: int
) -> None:
    stored = FLOATS.astype(f"{kind}f{bits // 8}")
    path = written(stored.tobytes(), n_events=7, channels=[{"B": str(bits)}] * 3, datatype=datatype, byte_order=order)
    np.testing.assert_array_equal(plain(path), FLOATS)


@pytest.mark.parametrize("bits", [8, 16, 24, 32, 40, 48, 56, 64])
@pytest.mark.parametrize("order", ["1,2,3,4", "4,3,2,1"])
def test_integers_of_whole_bytes_are_read(written: Written, bits: int, order: str) -> None:
    numbers = RNG.integers(0, 1 << min(bits, 62), size=(9, 2))
    data = b"".join(int(v).to_bytes(bits // 8, "little" if order[0] == "1" else "big") for v in numbers.ravel())
    channels = [{"B": str(bits), "R": str(1 << bits)}] * 2
    path = written(data, n_events=9, channels=channels, datatype="I", byte_order=order)
    np.testing.assert_array_equal(plain(path), numbers.astype(np.float32))


@pytest.mark.parametrize("widths", [(10, 10, 10), (12, 12), (10, 16, 6, 3), (1, 7, 9), (33, 12, 64)])
@pytest.mark.parametrize("order", ["1,2,3,4", "4,3,2,1"])
def test_integers_of_odd_widths_are_packed_without_gaps(written: Written, widths: tuple[int, ...], order: str) -> None:
    n_events = 21
    numbers = [[int(RNG.integers(0, 1 << min(width, 62))) for width in widths] for _ in range(n_events)]
    total = "".join(
        format(value, f"0{width}b")[:: -1 if order[0] == "1" else 1]
        for row in numbers
        for value, width in zip(row, widths, strict=True)
    )
    bits = np.array([int(bit) for bit in total], np.uint8)
    data = np.packbits(bits, bitorder="little" if order[0] == "1" else "big").tobytes()
    channels = [{"B": str(width), "R": str(1 << width)} for width in widths]
    path = written(data, n_events=n_events, channels=channels, datatype="I", byte_order=order)
    np.testing.assert_array_equal(plain(path), np.array(numbers, np.float32))


def test_integers_of_mixed_widths_stand_one_after_the_other(written: Written) -> None:
    rows = np.zeros(5, dtype=[("a", ">u2"), ("b", ">u2"), ("c", "u1"), ("d", ">u4")])
    rows["a"], rows["b"], rows["c"], rows["d"] = range(5), range(5, 10), range(10, 15), range(70_000, 70_005)
    channels = [{"B": str(b), "R": str(1 << b)} for b in (16, 16, 8, 32)]
    path = written(rows.tobytes(), n_events=5, channels=channels, datatype="I", byte_order="4,3,2,1")
    expected = np.column_stack([rows[name].astype(np.float32) for name in "abcd"])
    np.testing.assert_array_equal(plain(path), expected)


def test_types_of_fcs_3_2_may_differ_between_channels(written: Written) -> None:
    rows = np.zeros(6, dtype=[("time", "<u4"), ("area", "<f4"), ("ratio", "<f8"), ("flag", "u1")])
    rows["time"], rows["area"], rows["ratio"], rows["flag"] = range(6), FLOATS[:6, 0], FLOATS[:6, 1], range(6)
    channels = [
        {"B": "32", "R": "4294967296", "DATATYPE": "I"},
        {"B": "32"},
        {"B": "64", "DATATYPE": "D"},
        {"B": "8", "R": "256", "DATATYPE": "I"},
    ]
    path = written(rows.tobytes(), n_events=6, channels=channels, datatype="F", version="FCS3.2")
    expected = np.column_stack([rows[name].astype(np.float32) for name in rows.dtype.names])
    np.testing.assert_array_equal(plain(path), expected)


@pytest.mark.parametrize("order", ["1,2,3,4", "4,3,2,1"])
def test_floats_beside_packed_integers_are_floats(written: Written, order: str) -> None:
    numbers = RNG.integers(0, 4096, size=7)
    kinds = "<" if order[0] == "1" else ">"
    rows = []
    for number, area, ratio in zip(numbers, FLOATS[:7, 0], FLOATS[:7, 1], strict=True):
        parts = [np.array([v], kinds + kind).view(np.uint8) for v, kind in ((area, "f4"), (ratio, "f8"))]
        bits = [np.unpackbits(part, bitorder="little" if kinds == "<" else "big") for part in parts]
        twelve = np.array([int(number) >> place & 1 for place in range(12)], np.uint8)
        rows.append(np.concatenate([twelve if kinds == "<" else twelve[::-1], *bits]))
    data = np.packbits(np.concatenate(rows), bitorder="little" if kinds == "<" else "big").tobytes()
    channels = [{"B": "12", "R": "4096"}, {"B": "32", "DATATYPE": "F"}, {"B": "64", "DATATYPE": "D"}]
    path = written(data, n_events=7, channels=channels, datatype="I", version="FCS3.2", byte_order=order)
    np.testing.assert_array_equal(plain(path), np.column_stack([numbers, FLOATS[:7, :2]]).astype(np.float32))


@pytest.mark.parametrize(
    ("order", "places"), [("3,4,1,2", (2, 3, 0, 1)), ("2,1,4,3", (1, 0, 3, 2)), ("2,4,1,3", (1, 3, 0, 2))]
)
def test_odd_byte_orders_are_put_right(written: Written, order: str, places: tuple[int, ...]) -> None:
    little = FLOATS.astype("<f4").view(np.uint8).reshape(-1, 4)
    path = written(little[:, list(places)].tobytes(), n_events=7, channels=[{}] * 3, byte_order=order)
    np.testing.assert_array_equal(plain(path), FLOATS)


def test_ascii_values_of_fixed_width_are_read(written: Written) -> None:
    rows = [(1, 23), (456, 7), (99, 0)]
    data = "".join(f"{a:3d}{b:05d}" for a, b in rows).encode()
    path = written(data, n_events=3, channels=[{"B": "3"}, {"B": "5"}], datatype="A", version="FCS2.0")
    np.testing.assert_array_equal(plain(path), np.array(rows, np.float32))


@pytest.mark.parametrize("data", [b"1 23,456\t7\r\n99,,0", b"1,23,456,7,99,0,"])
def test_delimited_ascii_values_are_read(written: Written, data: bytes) -> None:
    path = written(data, n_events=3, channels=[{"B": "*"}] * 2, datatype="A", version="FCS3.0")
    np.testing.assert_array_equal(plain(path), np.array([(1, 23), (456, 7), (99, 0)], np.float32))


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"1 2 3 x 5 6", "not a number"), (b"1 2 3 4 5   ", "holds 5 values"), (b"1 2 3 4 5 6 7", "more values")],
)
def test_delimited_ascii_values_that_are_not_as_many_numbers_are_refused(
    written: Written, data: bytes, said: str
) -> None:
    path = written(data, n_events=3, channels=[{"B": "*"}] * 2, datatype="A", version="FCS3.0")
    with pytest.raises(InputError, match=said):
        plain(path)


def test_ascii_values_that_are_no_numbers_are_refused(written: Written) -> None:
    path = written(b"1234xx", n_events=2, channels=[{"B": "3"}], datatype="A")
    with pytest.raises(InputError, match="not a number"):
        plain(path)


def test_more_rows_than_a_chunk_are_read_in_order(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmcell.cells.fcs.values.CHUNK_BYTES", 64)
    numbers = RNG.integers(0, 1 << 16, size=(500, 3))
    channels = [{"B": "16", "R": "65536"}] * 3
    path = written(numbers.astype("<u2").tobytes(), n_events=500, channels=channels, datatype="I")
    np.testing.assert_array_equal(plain(path), numbers.astype(np.float32))
    packed = np.packbits(np.unpackbits(numbers.astype(">u2").view(np.uint8)).reshape(-1, 16)[:, 4:].ravel())
    channels = [{"B": "12", "R": "4096"}] * 3
    path = written(packed.tobytes(), n_events=500, channels=channels, datatype="I", byte_order="4,3,2,1")
    np.testing.assert_array_equal(plain(path), (numbers & 4095).astype(np.float32))
    text = " ".join(str(v) for v in numbers.ravel()).encode()
    path = written(text, n_events=500, channels=[{"B": "*"}] * 3, datatype="A")
    np.testing.assert_array_equal(plain(path), numbers.astype(np.float32))


def test_amplification_and_gain_are_undone_as_the_standard_says(written: Written) -> None:
    numbers = np.array([[0, 0, 0], [512, 512, 512], [1023, 1023, 1023]])
    channels = [
        {"B": "16", "R": "1024", "E": "4,1"},
        {"B": "16", "R": "1024", "E": "2.5,0.5", "G": "3"},  # gain and amplification exclude each other
        {"B": "16", "R": "1024", "G": "2.0"},
    ]
    path = written(numbers.astype("<u2").tobytes(), n_events=3, channels=channels, datatype="I")
    x = numbers[:, 0]
    expected = np.column_stack([10 ** (4 * x / 1024), 0.5 * 10 ** (2.5 * x / 1024), x / 2])
    np.testing.assert_allclose(read_events(only_data_set(path)), expected, rtol=1e-5)


def test_a_file_without_events_has_its_channels(written: Written) -> None:
    path = written(b"", n_events=0, channels=[{"N": "CD4"}, {"N": "CD8"}], header_data=(0, 0), text_data=(0, 0))
    one = only_data_set(path)
    assert read_events(one).shape == (0, 2)
    assert [channel.name for channel in one.channels] == ["CD4", "CD8"]


def test_names_may_be_missing_repeated_or_not_in_utf8(written: Written) -> None:
    channels = [{"N": "FL1"}, {"N": "FL1", "S": ""}, {"N": "TNF\N{GREEK SMALL LETTER ALPHA}"}]
    path = written(FLOATS.astype("<f4").tobytes(), n_events=7, channels=channels, drop=("$P2N",))
    assert [channel.name for channel in only_data_set(path).channels] == ["FL1", "", "TNF\N{GREEK SMALL LETTER ALPHA}"]


def test_several_data_sets_are_found_and_one_must_be_chosen(tmp_path: Path, fcs_bytes: Callable[..., bytes]) -> None:
    second = fcs_bytes((FLOATS * 2).astype("<f4").tobytes(), n_events=7, channels=[{}] * 3)
    first = fcs_bytes(FLOATS.astype("<f4").tobytes(), n_events=7, channels=[{}] * 3, extra={"$NEXTDATA": "6000"})
    path = tmp_path / "two.lmd"
    path.write_bytes(first.ljust(6000) + second)
    assert [one.n_events for one in data_sets(path)] == [7, 7]
    np.testing.assert_array_equal(read_events(only_data_set(path, 2)), FLOATS * 2)
    with pytest.raises(InputError, match=r"holds 2 data sets.*data_set"):
        only_data_set(path)
    with pytest.raises(InputError, match="number 3 was asked for"):
        only_data_set(path, 3)


@pytest.mark.parametrize("step", ["1", "57", "999999999"])
def test_a_next_data_set_outside_the_file_is_ignored_and_noted(written: Written, step: str) -> None:
    path = written(FLOATS.astype("<f4").tobytes(), n_events=7, channels=[{}] * 3, extra={"$NEXTDATA": step})
    one = only_data_set(path)
    assert any("$NEXTDATA" in note for note in one.notes)


def test_a_file_beyond_99_999_999_bytes_is_read_by_the_offsets_of_text(written: Written) -> None:
    start = 100_000_100
    path = written(
        FLOATS.astype("<f4").tobytes(), n_events=7, channels=[{}] * 3, start_of_data=start, header_data=(0, 0)
    )
    assert path.stat().st_size > 99_999_999
    np.testing.assert_array_equal(plain(path), FLOATS)


def test_keywords_may_stand_in_a_supplemental_text(written: Written) -> None:
    supplement = b"/$P1S/CD4/$TOT/999/"
    data = FLOATS.astype("<f4").tobytes()
    place = 4096 + len(data)
    extra = {"$BEGINSTEXT": str(place), "$ENDSTEXT": str(place + len(supplement) - 1)}
    path = written(data, n_events=7, channels=[{}] * 3, extra=extra, after=supplement)
    one = only_data_set(path)
    assert (one.channels[0].stain, one.n_events) == ("CD4", 7)


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_text_segment_that_is_off_by_one_is_found(
    tmp_path: Path, fcs_bytes: Callable[..., bytes], shift: int
) -> None:
    block = fcs_bytes(FLOATS.astype("<f4").tobytes(), n_events=7, channels=[{}] * 3)
    if shift == -1:  # TEXT begins one byte later than the header says
        end = int(block[18:26])
        block = block[:58] + b" " + block[58 : end + 1] + block[end + 2 :]
        block = block[:18] + str(end + 1).rjust(8).encode() + block[26:]
    else:
        block = block[:10] + b"59".rjust(8) + block[18:]
    path = tmp_path / "shifted.fcs"
    path.write_bytes(block)
    np.testing.assert_array_equal(plain(path), FLOATS)


def test_missing_and_truncated_files_are_refused(tmp_path: Path, fcs_bytes: Callable[..., bytes]) -> None:
    whole = fcs_bytes(FLOATS.astype("<f4").tobytes(), n_events=7, channels=[{}] * 3)
    with pytest.raises(InputError, match="No such file"):
        data_sets(tmp_path / "absent.fcs")
    for length in (0, 3, 30, 58, 200, 4096, len(whole) - 1):
        path = tmp_path / "short.fcs"
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"truncated|not an FCS file|TEXT holds no"):
            data_sets(path)


def test_a_file_that_shrinks_after_its_header_was_read_is_refused(written: Written) -> None:
    path = written(FLOATS.astype("<f4").tobytes(), n_events=7, channels=[{}] * 3)
    one = only_data_set(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="truncated"):
        read_events(one)


def test_a_double_beyond_float32_is_infinite(written: Written) -> None:
    path = written(np.array([[1e300]], "<f8").tobytes(), n_events=1, channels=[{"B": "64"}], datatype="D")
    assert np.isinf(plain(path)).all()
