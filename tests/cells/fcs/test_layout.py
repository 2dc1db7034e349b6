import pytest

from swarmcell.cells.fcs.header import Header, Span
from swarmcell.cells.fcs.keywords import Keywords
from swarmcell.cells.fcs.layout import Channel, Layout, plan
from swarmcell.errors import InputError

SEGMENT = Span(100, 139)
WORDS = {
    "$BYTEORD": "1,2,3,4",
    "$DATATYPE": "I",
    "$MODE": "L",
    "$PAR": "2",
    "$TOT": "10",
    "$P1N": "FSC-A",
    "$P1B": "16",
    "$P1R": "1024",
    "$P2N": "FL1-A",
    "$P2B": "16",
    "$P2R": "1024",
    "$P2E": "4,0",
}


def planned(changes: dict[str, str | None] | None = None, *, data: Span | None = SEGMENT, size: int = 140) -> Layout:
    words = {name: value for name, value in (WORDS | (changes or {})).items() if value is not None}
    return plan(Header("FCS3.0", 0, Span(58, 99), data), Keywords(words, "a.fcs"), file_bytes=size)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"$PAR": "0"}, r"\$PAR"),
        ({"$PAR": "99999999"}, r"\$PAR"),
        ({"$PAR": "two"}, r"\$PAR: expected a whole number, got 'two'"),
        ({"$PAR": "3"}, r"\$P3R"),
        ({"$TOT": "-5"}, r"\$TOT"),
        ({"$TOT": "1e400"}, r"\$TOT"),
        ({"$TOT": "11"}, "44 bytes.*truncated|truncated.*44 bytes"),
        ({"$TOT": "5"}, r"\$TOT says 5 events"),
        ({"$MODE": "C"}, r"\$MODE"),
        ({"$DATATYPE": "X"}, r"\$DATATYPE"),
        ({"$DATATYPE": None}, r"\$DATATYPE"),
        ({"$BYTEORD": "1,2,2,4"}, r"\$BYTEORD"),
        ({"$BYTEORD": None}, r"\$BYTEORD"),
        ({"$P1B": None}, r"\$P1B"),
        ({"$P1B": "0"}, r"\$P1B"),
        ({"$P1B": "65"}, r"\$P1B"),
        ({"$P1R": None}, r"\$P1R"),
        ({"$P2E": "4"}, r"\$P2E"),
        ({"$P2E": "four,0"}, r"\$P2E"),
        ({"$P2R": "0"}, r"\$P2R"),
        ({"$DATATYPE": "F"}, r"\$P1B: expected 32 bits"),
        ({"$DATATYPE": "A", "$P1B": "*"}, r"\$PnB"),
        ({"$P1DATATYPE": "A"}, r"\$P1DATATYPE"),
        ({"$BYTEORD": "2,1,4,3", "$P1B": "64", "$TOT": "4"}, r"\$BYTEORD"),
    ],
)
def test_impossible_keywords_are_refused_by_name(changes: dict[str, str | None], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        planned(changes)
    assert str(caught.value).startswith("a.fcs: ")


def test_data_without_a_place_is_refused() -> None:
    with pytest.raises(InputError, match="neither HEADER nor TEXT"):
        planned(data=None)


def test_a_segment_that_ends_behind_the_file_is_called_truncated() -> None:
    with pytest.raises(InputError, match="truncated"):
        planned(size=130)


@pytest.mark.parametrize("last", [138, 139, 140])
def test_an_end_that_is_off_by_one_is_mended(last: int) -> None:
    assert planned(data=Span(100, last), size=141).data == Span(100, 139)


@pytest.mark.parametrize(
    ("header", "text"),
    [(Span(60, 139), ("100", "139")), (Span(100, 139), ("60", "139")), (Span(100, 990), ("100", "139"))],
)
def test_of_two_segments_the_one_that_holds_all_events_counts(header: Span, text: tuple[str, str]) -> None:
    layout = planned({"$BEGINDATA": text[0], "$ENDDATA": text[1]}, data=header)
    assert layout.data == Span(100, 139)


def test_offsets_beyond_the_headers_eight_digits_come_from_text() -> None:
    layout = planned({"$BEGINDATA": "100000000", "$ENDDATA": "100000039"}, data=None, size=100_000_040)
    assert layout.data == Span(100_000_000, 100_000_039)


def test_without_a_total_the_segment_says_how_many_events_there_are() -> None:
    assert planned({"$TOT": None}).n_events == 10


def test_no_event_needs_no_segment() -> None:
    assert planned({"$TOT": "0"}, data=None).n_events == 0


@pytest.mark.parametrize(
    ("bits", "maximum", "mask"),
    [(16, 1024, 1023), (16, 1000, 1023), (16, 65536, None), (32, 262144, 262143), (24, 0, None), (10, 1024, None)],
)
def test_bits_above_the_range_are_masked(bits: int, maximum: float, mask: int | None) -> None:
    assert Channel(1, "FL1", "", "I", bits, maximum).mask == mask


def test_four_decades_from_zero_mean_four_decades_from_one() -> None:
    assert (planned().channels[1].decades, planned().channels[1].offset) == (4.0, 1.0)


def test_floating_point_values_are_never_amplified_again() -> None:
    words = {"$DATATYPE": "F", "$P1B": "32", "$P2B": "32", "$TOT": "5"}
    assert planned(words).channels[1].decades == 0
