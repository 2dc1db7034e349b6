"""Text files, gzipped or not, whose names and contents must agree."""

import gzip
import zlib
from pathlib import Path
from typing import IO, cast

from swarmcell.errors import InputError

GZIP_MAGIC = b"\x1f\x8b"
TEXT_ERRORS = (OSError, EOFError, zlib.error, UnicodeDecodeError)


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file, decompressing where its name ends in .gz.

    Raises
    ------
    InputError
        If it is missing, or plain text is named .gz, or the reverse.
    """
    try:
        with path.open("rb") as file:
            is_gzip = file.read(2) == GZIP_MAGIC
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}). Check the path."
        raise InputError(msg) from error
    if is_gzip != (path.suffix == ".gz"):
        what = "is gzip, though its name does not end in .gz" if is_gzip else "is not gzip, though its name ends in .gz"
        right = path.with_name(path.name + ".gz") if is_gzip else path.with_suffix("")
        msg = f"{path}: {what}. Rename it to {right.name}, if that is what it holds."
        raise InputError(msg)
    return cast("IO[bytes]", gzip.open(path)) if is_gzip else path.open("rb")


def read_lines(path: Path) -> list[str]:
    """Read all lines of a text file.

    Raises
    ------
    InputError
        If it cannot be read, is truncated, or is not UTF-8.
    """
    with open_bytes(path) as file:
        try:
            return file.read().decode("utf-8").splitlines()
        except TEXT_ERRORS as error:
            raise truncated(path, error) from error


def truncated(path: Path, error: Exception) -> InputError:
    """Return the error to raise for a text file that ends early or holds something else."""
    return InputError(f"{path}: cannot be read to its end ({error}). It may be truncated: copy it again.")
