import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcell.cells.fcs.text import parse_text


@pytest.mark.parametrize(
    ("segment", "pairs"),
    [
        (b"/$PAR/2/$TOT/10/", {"$PAR": "2", "$TOT": "10"}),
        (b"/$PAR/2/$TOT/10", {"$PAR": "2", "$TOT": "10"}),  # no last delimiter
        (b"/$PAR/2/$TOT/10/   \x00\x00", {"$PAR": "2", "$TOT": "10"}),  # padding
        (b"/$par/2/", {"$PAR": "2"}),
        (b"/F/530//30/$PAR/2/", {"F": "530/30", "$PAR": "2"}),  # an escaped delimiter
        (b"/F//$PAR/2/", {"F": "", "$PAR": "2"}),  # an empty value
        (b"/F///530/$PAR/2/", {"F": "/530", "$PAR": "2"}),  # a value that begins with the delimiter
        (b"/F/530///$PAR/2/", {"F": "530/", "$PAR": "2"}),  # a value that ends with it
        (b"/F////$PAR/2/", {"F": "/", "$PAR": "2"}),
        (b"/F/a////b/$PAR/2/", {"F": "a//b", "$PAR": "2"}),
        (b"/$PAR/2/LAST//", {"$PAR": "2", "LAST": ""}),
        (b"/$PAR/2/$PAR/3/", {"$PAR": "2"}),
        (b"\\$PAR\\2\\NOTE\\a/b\\", {"$PAR": "2", "NOTE": "a/b"}),
        (b"\x0c$PAR\x0c2\x0c", {"$PAR": "2"}),
        (b"|KEY|\xe2\x84\xa2|", {"KEY": "\N{TRADE MARK SIGN}"}),
        (b"|KEY|CELLQuest\xaa|", {"KEY": "CELLQuest\xaa"}),
        (b"\xff$PAR\xff2\xff", {"$PAR": "2"}),
    ],
)
def test_keywords_and_values_are_split_as_written(segment: bytes, pairs: dict[str, str]) -> None:
    assert parse_text(segment) == pairs


@pytest.mark.parametrize("segment", [b"", b"/", b" /$PAR/2/", b"$PAR/2/", b"\x00\x00\x00"])
def test_a_segment_that_begins_with_no_delimiter_holds_nothing(segment: bytes) -> None:
    assert parse_text(segment) == {}


_WORD = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_characters="/"), min_size=1, max_size=12)
_VALUE = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF, categories=("L", "N", "P")), min_size=1)


@given(st.dictionaries(_WORD.map(str.upper).filter(lambda w: w == w.upper()), _VALUE, max_size=8))
def test_what_is_written_by_the_standard_is_read_back(pairs: dict[str, str]) -> None:
    pairs = {name: value.strip("/") or "x" for name, value in pairs.items()}
    segment = b"/" + b"".join(
        name.encode() + b"/" + value.encode().replace(b"/", b"//") + b"/" for name, value in pairs.items()
    )
    assert parse_text(segment) == pairs
