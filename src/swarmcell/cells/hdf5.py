"""The one place that opens HDF5 files; what breaks inside them becomes an `InputError` with the file's name."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped, unused-ignore]
import hdf5plugin  # noqa: F401 (its import lets HDF5 read blosc, zstd, lz4 and others)
import numpy as np
import numpy.typing as npt

from swarmcell.errors import InputError

MAGIC = b"\x89HDF\r\n\x1a\n"
_h5py: Any = h5py
Group, Dataset = _h5py.Group, _h5py.Dataset


def is_hdf5(path: Path) -> bool:
    """Tell whether a file begins as HDF5 does."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def open_file(path: Path, mode: str = "r") -> Any:  # noqa: ANN401 (h5py has no types)
    """Open an HDF5 file.

    Raises
    ------
    InputError
        If it is truncated or no HDF5.
    """
    try:
        return _h5py.File(path, mode)
    except OSError as error:
        raise broken(path, error) from error


class _Disk(io.FileIO):
    """The file under an HDF5 file that is written. It never fails: it remembers the first fault.

    From then on it writes into memory, and reads from there what HDF5 believes to be on the disk: given anything else,
    HDF5 would follow pointers that lead nowhere. Whoever writes much calls `refuse_full`, so that this stays little.
    """

    fault: OSError | None = None

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._kept: list[tuple[int, bytes]] = []

    def write(self, content: Any, /) -> int:  # noqa: ANN401 (any buffer)
        left = memoryview(content).cast("B")
        size = len(left)
        if self.fault is None:
            try:
                while left:
                    left = left[super().write(left) or 0 :]
            except OSError as error:
                self.fault = error
        if left:
            self._kept.append((self.tell(), bytes(left)))
            self.seek(len(left), io.SEEK_CUR)
        return size

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 (any buffer)
        start, target = self.tell(), memoryview(buffer).cast("B")
        found = super().readinto(target) or 0
        if self.fault is None:
            return found
        target[found:] = bytes(len(target) - found)
        for place, kept in self._kept:
            first, last = max(start, place), min(start + len(target), place + len(kept))
            if first < last:
                target[first - start : last - start] = kept[first - place : last - place]
        self.seek(start + len(target))
        return len(target)

    def truncate(self, size: int | None = None, /) -> int:
        if self.fault is None:
            try:
                return super().truncate(size)
            except OSError as error:
                self.fault = error
        return size or 0


@contextlib.contextmanager
def output(path: Path, *, mode: str = "w") -> Iterator[Any]:
    """Open an HDF5 file to write (`w`) or to change (`r+`).

    HDF5 itself must not meet a full disk: it could not close the file any more, and would end the process. So it writes
    to a file that always succeeds, and the fault is raised here when all is closed.

    Raises
    ------
    OSError
        If the disk is full or cannot be written, whatever else that led to.
    """
    with _Disk(path, "w+" if mode == "w" else "r+") as disk:
        try:
            with _h5py.File(disk, mode) as file:
                file.disk = disk  # for `refuse_full`
                yield file
        finally:
            if disk.fault is not None:
                raise disk.fault


def refuse_full(file: Any) -> None:  # noqa: ANN401
    """Stop writing to a file of `output` whose disk is full, before more is written in vain.

    Raises
    ------
    OSError
        If the disk is full or cannot be written.
    """
    if file.disk.fault is not None:
        raise file.disk.fault


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what HDF5 meets in a broken file, a codec that is not installed included, into an `InputError`."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise broken(path, error) from error


def broken(path: Path, error: Exception) -> InputError:
    """Return the error to raise for a file that HDF5 cannot read."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    remedy = "It may be truncated: compare its size with the original, and copy it again."
    if "filter returned failure" in reason:
        remedy = "It is damaged: copy it again from where it is whole, or make it again."
    elif "filter" in reason or "plugin" in reason:
        remedy = "Its compression needs a plug-in: pip install hdf5plugin, or write it again with gzip."
    return InputError(f"{path}: cannot be read ({reason}). {remedy}")


def strings(values: Any) -> npt.NDArray[np.object_]:  # noqa: ANN401 (h5py or zarr array)
    """Return an array of byte strings or strings as plain strings, shape `(n,)`."""
    raw = np.asarray(values[()] if hasattr(values, "shape") else values).ravel()
    if raw.dtype.kind == "S":
        raw = np.char.decode(raw, "utf-8")
    texts = [v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in raw.tolist()]
    out = np.empty(len(texts), dtype=object)
    out[:] = texts
    return out
