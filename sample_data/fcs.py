"""Write FCS 3.1 files of float32 list-mode events."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

HEADER_BYTES = 58
DELIMITER = "|"


def write(
    path: Path, events: np.ndarray, channels: Sequence[str], stains: Sequence[str], keywords: Mapping[str, str]
) -> None:
    """Write `events`, shape `(n_events, n_channels)`, little-endian; `stains` may hold empty strings."""
    values = events.astype("<f4")
    every = _keywords(values, channels, stains) | dict(keywords)
    length = len(_text(every, 0, 0))
    begin = HEADER_BYTES + length
    text = _text(every, begin, begin + values.nbytes - 1)
    offsets = (HEADER_BYTES, begin - 1, begin, begin + values.nbytes - 1, 0, 0)
    header = "FCS3.1    " + "".join(f"{offset:>8}" for offset in offsets)
    path.write_bytes(header.encode() + text.encode() + values.tobytes())


def spillover_text(channels: Sequence[str], matrix: np.ndarray) -> str:
    """Return `$SPILLOVER`: number of channels, their names, the matrix row by row."""
    cells = [f"{value:g}" for value in matrix.ravel()]
    return ",".join([str(len(channels)), *channels, *cells])


def _keywords(values: np.ndarray, channels: Sequence[str], stains: Sequence[str]) -> dict[str, str]:
    every = {
        "$BEGINANALYSIS": "0",
        "$ENDANALYSIS": "0",
        "$BEGINSTEXT": "0",
        "$ENDSTEXT": "0",
        "$BYTEORD": "1,2,3,4",
        "$DATATYPE": "F",
        "$MODE": "L",
        "$NEXTDATA": "0",
        "$PAR": str(len(channels)),
        "$TOT": str(len(values)),
    }
    for number, (channel, stain) in enumerate(zip(channels, stains, strict=True), start=1):
        every |= {f"$P{number}B": "32", f"$P{number}E": "0,0", f"$P{number}R": "262144", f"$P{number}N": channel}
        every |= {f"$P{number}S": stain} if stain else {}
    return every


def _text(keywords: Mapping[str, str], begin: int, end: int) -> str:
    """Return the TEXT segment; the offsets are padded, so that its length does not depend on them."""
    full = dict(keywords) | {"$BEGINDATA": f"{begin:>10}", "$ENDDATA": f"{end:>10}"}
    return DELIMITER + "".join(f"{key}{DELIMITER}{value}{DELIMITER}" for key, value in full.items())
