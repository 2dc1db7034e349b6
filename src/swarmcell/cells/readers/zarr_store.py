"""AnnData in a zarr folder or a .zarr.zip."""

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from swarmcell.cells.readers.anndata_store import open_store
from swarmcell.cells.readers.source import CountSource, ReadOptions
from swarmcell.errors import InputError

_MARKS = (".zgroup", "zarr.json", ".zmetadata")


def is_zarr(path: Path) -> bool:
    """Tell whether a folder or a zip is a zarr store."""
    return path.name.endswith((".zarr.zip", ".zarr")) or (path.is_dir() and any((path / m).exists() for m in _MARKS))


def open_zarr(path: Path, options: ReadOptions) -> CountSource:
    """Open AnnData in zarr.

    Raises
    ------
    InputError
        If it cannot be read, or zarr is not installed.
    """
    return open_store(path, partial(_opened, path), options, "zarr")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import zarr  # noqa: PLC0415 (only who reads zarr waits for it)
    except ImportError as error:
        msg = f"{path}: reading zarr needs the package zarr. Install it: pip install zarr."
        raise InputError(msg) from error
    store: Any = zarr.storage.ZipStore(path, mode="r") if path.is_file() else zarr.storage.LocalStore(path)
    try:
        yield zarr.open_group(store, mode="r")
    except (OSError, ValueError, FileNotFoundError) as error:
        said = " ".join(str(error).split())[:200]
        msg = f"{path}: not a zarr group ({said}). Copy it again."
        if "data type" in said or "codec" in said:
            msg = f"{path}: written in an encoding that zarr {zarr.__version__} cannot read ({said}). Update: pip "
            msg += "install -U zarr, or write it again as .h5ad."
        raise InputError(msg) from error
    finally:
        store.close()
