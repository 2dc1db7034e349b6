"""FCS files written by hand: whatever a test wants of header, keywords and bytes, right or wrong."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

HEADER_BYTES = 58


def write_fcs(
    data: bytes,
    *,
    n_events: int | None,
    channels: Sequence[Mapping[str, str]],
    datatype: str = "F",
    byte_order: str = "1,2,3,4",
    version: str = "FCS3.1",
    delimiter: bytes = b"/",
    extra: Mapping[str, str] | None = None,
    header_data: tuple[int, int] | None = None,
    text_data: tuple[int, int] | None = None,
    raw_text: bytes | None = None,
    after: bytes = b"",
    drop: Sequence[str] = (),
    start_of_data: int = 4096,
) -> bytes:
    """Return an FCS file. `channels` give N, S, B, R, E, G, DATATYPE per parameter; the rest has plain defaults.

    `header_data` and `text_data` override the DATA offsets of HEADER and TEXT; `drop` leaves keywords out.
    """
    first, last = start_of_data, start_of_data + len(data) - 1
    words = {
        "$BYTEORD": byte_order,
        "$DATATYPE": datatype,
        "$MODE": "L",
        "$NEXTDATA": "0",
        "$PAR": str(len(channels)),
        "$BEGINDATA": str((text_data or (first, last))[0]),
        "$ENDDATA": str((text_data or (first, last))[1]),
    }
    if n_events is not None:
        words["$TOT"] = str(n_events)
    for index, channel in enumerate(channels, 1):
        plain = {"N": f"C{index}", "B": "32", "R": "262144", "E": "0,0"}
        words |= {f"$P{index}{name}": value for name, value in (plain | dict(channel)).items()}
    words |= dict(extra or {})
    body = {name: value for name, value in words.items() if name not in drop}
    text = raw_text or delimiter + b"".join(
        name.encode("latin-1") + delimiter + value.encode("utf-8").replace(delimiter, 2 * delimiter) + delimiter
        for name, value in body.items()
    )
    offsets = (HEADER_BYTES, HEADER_BYTES + len(text) - 1, *(header_data or (first, last)), 0, 0)
    header = version.encode().ljust(10) + b"".join(str(offset).rjust(8).encode() for offset in offsets)
    assert len(header) == HEADER_BYTES
    assert HEADER_BYTES + len(text) <= start_of_data
    return (header + text).ljust(start_of_data) + data + after


@dataclass(frozen=True)
class Written:
    """A hand-written file and how to write another."""

    folder: Path

    def __call__(self, data: bytes, *, name: str = "hand.fcs", **options: object) -> Path:
        path = self.folder / name
        path.write_bytes(write_fcs(data, **options))  # type: ignore[arg-type]
        return path


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Write an FCS file by hand and return its path."""
    return Written(tmp_path)


@pytest.fixture(scope="session")
def fcs_bytes() -> Callable[..., bytes]:
    """Make the bytes of an FCS file by hand."""
    return write_fcs
