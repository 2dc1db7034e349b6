"""Writing small files so that nothing is ever half-written: a temporary file beside the target, fsync, rename."""

import os
import tempfile
from pathlib import Path

from swarmcell.errors import OutputError


def write_atomic(path: Path, content: bytes, *, mode: int = 0o644, force: bool = False) -> None:
    """Write `content` to `path`, whole or not at all, with these permissions from its first byte on.

    Raises
    ------
    OutputError
        If the target exists (without `force`), or the disk refuses.
    """
    if path.exists() and not force:
        msg = f"{path} exists. Choose another name, or replace it with --force."
        raise OutputError(msg)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content, mode)
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror}). Check the disk's space and the folder's permissions."
        raise OutputError(msg) from error


def _replace(path: Path, content: bytes, mode: int) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
