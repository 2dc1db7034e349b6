"""Writing a file whole or not at all: a temporary file beside the target, flushed to disk, then renamed."""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from swarmcell.errors import ConfigError, InputError, OutputError


def refuse_open(path: Path) -> None:
    """Refuse a secret file that others may read or change, or that belongs to another user than this one or root.

    Raises
    ------
    ConfigError
        If it is open to others; the remedy is named.
    InputError
        If it cannot be looked at.
    """
    try:
        found = path.stat()
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror})."
        raise InputError(msg) from error
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISREG(found.st_mode) and mode & 0o077:
        msg = f"{path}: other users may read this secret (mode {mode:04o}, expected 0600). Run: chmod 600 {path}"
        raise ConfigError(msg)
    if found.st_uid not in {os.geteuid(), 0}:
        msg = f"{path}: belongs to another user (id {found.st_uid}), who can read this secret. Make one of your own."
        raise ConfigError(msg)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Refuse a target that exists, unless `force`, or that is a folder; make its folder where it is missing.

    Raises
    ------
    OutputError
        If `path` exists and `force` is not set, is a folder, or its folder cannot be made or written.
    """
    if path.is_dir():
        msg = f"{path}: is a folder; expected the name of a file to write. Choose another name."
        raise OutputError(msg)
    if path.exists() and not force:
        msg = f"{path}: exists. Replace it with --force, or choose another name."
        raise OutputError(msg)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{path}: its folder cannot be made ({error.strerror}). Choose another place."
        raise OutputError(msg) from error
    if not os.access(path.parent, os.W_OK):
        msg = f"{path}: its folder cannot be written. Check its permissions, or choose another place."
        raise OutputError(msg)


@contextlib.contextmanager
def writing(path: Path, *, force: bool = False, mode: int = 0o644) -> Iterator[Path]:
    """Give an empty file beside `path`; it takes the name `path` when the block ends well, else it is removed.

    Parameters
    ----------
    mode
        Permissions, held from the first byte on.

    Raises
    ------
    OutputError
        If `path` exists (without `force`), cannot be written, or the disk is full.
    """
    refuse_existing(path, force=force)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, mode))
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        msg = f"{path}: cannot be written ({error.strerror or error}). Nothing was changed. {_remedy(path)}"
        raise OutputError(msg) from error
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(path: Path, *, mode: int = 0o777) -> None:
    """Make a folder, and those above it, where they are missing.

    Raises
    ------
    OutputError
        If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=mode)
    except OSError as error:
        msg = f"{path}: cannot be made ({error.strerror}). Check the permissions, or choose another place."
        raise OutputError(msg) from error


def refuse_existing_folder(path: Path, *, force: bool, mark: str) -> None:
    """Refuse a folder to write that exists, unless `force` and it is of the kind that holds a file `mark`.

    Raises
    ------
    OutputError
        If `path` may not be replaced, or its folder cannot be made or written.
    """
    if path.is_dir() and not (path / mark).is_file():
        msg = f"{path}: is a folder of something else (no {mark} in it). Choose another name."
        raise OutputError(msg)
    if path.is_dir() and not force:
        msg = f"{path}: exists. Replace it with --force, or choose another name."
        raise OutputError(msg)
    refuse_existing(path.parent / f".{path.name}.{os.getpid()}.part", force=False)
    if path.is_file():
        msg = f"{path}: is a file; expected the name of a folder to write. Choose another name."
        raise OutputError(msg)


@contextlib.contextmanager
def writing_folder(path: Path, *, force: bool = False, mark: str) -> Iterator[Path]:
    """Give an empty folder beside `path`; it takes the name `path` when the block ends well, else it is removed.

    Parameters
    ----------
    mark
        A file that the folder holds: by it, a folder that may be replaced is told from others.

    Raises
    ------
    OutputError
        If `path` may not be replaced, cannot be written, or the disk is full.
    """
    refuse_existing_folder(path, force=force, mark=mark)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            path.rename(old)
        temporary.rename(path)
        _flush(path.parent)
    except OSError as error:
        if old.exists() and not path.exists():
            old.rename(path)
        msg = f"{path}: cannot be written ({error.strerror or error}). Nothing was changed. {_remedy(path)}"
        raise OutputError(msg) from error
    finally:
        for rest in (temporary, old):
            shutil.rmtree(rest, ignore_errors=True)


def write_whole(path: Path, content: bytes, *, force: bool = False, mode: int = 0o644) -> None:
    """Write `content` to `path`, whole or not at all.

    Raises
    ------
    OutputError
        As `writing`.
    """
    with writing(path, force=force, mode=mode) as temporary:
        temporary.write_bytes(content)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remedy(path: Path) -> str:
    free_mib = shutil.disk_usage(path.parent).free / 2**20
    return f"{free_mib:.0f} MiB are free there: make room, or choose another place."
