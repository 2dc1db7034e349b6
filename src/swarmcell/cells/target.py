"""Writing a file whole or not at all: a temporary file beside the target, flushed to disk, then renamed."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from swarmcell.errors import OutputError


def refuse_existing(path: Path, *, force: bool) -> None:
    """Refuse a target that exists, unless `force`, or whose folder does not.

    Raises
    ------
    OutputError
        If `path` exists and `force` is not set, is a folder, or its folder is missing or not writable.
    """
    if path.is_dir() and not force:
        msg = f"{path}: is a folder; expected the name of a file to write. Choose another with --out."
        raise OutputError(msg)
    if path.exists() and not force:
        msg = f"{path}: exists. Replace it with --force, or choose another --out."
        raise OutputError(msg)
    if not path.parent.is_dir():
        msg = f"{path}: its folder {path.parent} does not exist. Make it first, or choose another --out."
        raise OutputError(msg)
    if not os.access(path.parent, os.W_OK):
        msg = f"{path}: its folder cannot be written. Check its permissions, or choose another --out."
        raise OutputError(msg)


@contextlib.contextmanager
def writing(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; it takes the name `path` when the block ends well, else it is removed.

    Raises
    ------
    OutputError
        If `path` exists (without `force`), cannot be written, or the disk is full.
    """
    refuse_existing(path, force=force)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror or error}). Nothing was changed. {_remedy(path)}"
        raise OutputError(msg) from error
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remedy(path: Path) -> str:
    free_mib = shutil.disk_usage(path.parent).free / 2**20
    return f"{free_mib:.0f} MiB are free there: make room, or write elsewhere with --out."
