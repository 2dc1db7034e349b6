import pytest

from swarmcell.cells.fcs.header import Span, parse_header
from swarmcell.errors import InputError


def header(version: str = "FCS3.1", fields: tuple[str, ...] = ("58", "999", "1000", "1999", "0", "0")) -> bytes:
    return version.encode().ljust(10) + b"".join(field.rjust(8).encode() for field in fields)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (b"PK\x03\x04" + b"0" * 60, "not an FCS file"),
        (b"", "not an FCS file"),
        (header("FCS1.0"), "version 'FCS1.0'"),
        (header("FCS4.0"), "version 'FCS4.0'"),
        (header()[:40], "truncated"),
        (header(fields=("58", "9x9", "0", "0", "0", "0")), "not a number"),
        (header(fields=("58", "-9", "0", "0", "0", "0")), "not a number"),
        (header(fields=("0", "0", "0", "0", "0", "0")), "no place for the TEXT"),
        (header(fields=("", "", "", "", "", "")), "no place for the TEXT"),
    ],
)
def test_what_is_no_fcs_header_is_refused_with_the_files_name(block: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        parse_header(block, start=0, source="a.fcs")
    assert "a.fcs" in str(caught.value)


def test_offsets_count_from_the_start_of_the_data_set() -> None:
    found = parse_header(header(), start=10_000, source="a.fcs")
    assert found.text == Span(10_058, 10_999)
    assert found.data == Span(11_000, 11_999)


@pytest.mark.parametrize("fields", [("58", "999", "0", "0", "0", "0"), ("58", "999", "", "", "", "")])
def test_a_blank_or_zero_offset_of_data_means_look_in_text(fields: tuple[str, ...]) -> None:
    assert parse_header(header(fields=fields), start=0, source="a.fcs").data is None


def test_offsets_padded_with_zeros_or_nul_bytes_are_numbers() -> None:
    block = header(fields=("00000058", "00000999", "00001000", "00001999", "0", "0"))
    assert (
        parse_header(block.replace(b"       0", b"\x00\x00\x00\x00\x00\x00\x000"), start=0, source="a").text.last == 999
    )
