"""TEXT segment: keywords and their values.

Rules: the first byte is the delimiter. A doubled delimiter inside a value is an escaped one; right after a keyword it
is an empty value, which the standard forbids and instruments write. Keywords hold no delimiter and know no case. Of two
equal keywords the first counts. Text is UTF-8, or else Latin-1 (cytometers of the 1990s wrote Mac and Windows text).
"""

from collections.abc import Iterator

DELIMITERS_MAX = 1_000_000  # chosen: ten thousand channels of fifty keywords each
_PADDING = " \t\r\n\x00"
_HOPELESS = frozenset(b"$ \t\r\n\x00") | frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def parse_text(segment: bytes) -> dict[str, str]:
    """Split a TEXT segment into keywords (upper case, `$` kept) and values (as written).

    Returns
    -------
    dict
        Empty where the segment begins with no delimiter or has absurdly many; the caller says what is missing.
    """
    if not segment or segment[0] in _HOPELESS or segment.count(segment[0]) > DELIMITERS_MAX:
        return {}
    pairs: dict[str, str] = {}
    for keyword, value in _pairs(segment[1:].split(segment[:1]), segment[:1]):
        name = decode(keyword).strip(_PADDING).upper()
        if name:
            pairs.setdefault(name, decode(value))
    return pairs


def _pairs(tokens: list[bytes], delimiter: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    last = len(tokens) - 1
    while position < last:
        keyword, parts = tokens[position], [tokens[position + 1]]
        position += 2
        while position < last and not tokens[position]:  # an empty token with one after it: an escaped delimiter
            parts.append(tokens[position + 1])
            position += 2
        yield keyword, delimiter.join(parts)


def decode(raw: bytes) -> str:
    """Read bytes as UTF-8, or else as Latin-1, which never fails."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
