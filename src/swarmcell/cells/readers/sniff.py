"""Which reader a file or folder needs: told by its content, and by its name only where the content says nothing."""

from collections.abc import Callable
from pathlib import Path

from swarmcell.cells import hdf5
from swarmcell.cells.readers import anndata_store, loom, table, tenx_h5, tenx_mtx, zarr_store
from swarmcell.cells.readers.source import CountSource, ReadOptions
from swarmcell.errors import InputError

FORMATS = "10x mtx folder, 10x .h5, .h5ad, .zarr, .loom, .csv, .tsv"


def is_cytometry(path: Path) -> bool:
    """Tell whether a file is FCS, or a folder holds FCS files."""
    if path.is_dir():
        return any(p.suffix.lower() == ".fcs" for p in path.iterdir())
    return path.is_file() and (path.suffix.lower() == ".fcs" or _begins(path, b"FCS"))


def is_source(path: Path) -> bool:
    """Tell whether a path looks like one matrix of cells, as opposed to a folder of several."""
    if path.is_dir():
        return tenx_mtx.is_folder(path) or zarr_store.is_zarr(path)
    return path.suffix.lower() in (".h5", ".h5ad", ".loom", ".mtx") or path.name.endswith((".mtx.gz", ".zarr.zip"))


def rna_matrix(path: Path) -> Path | None:
    """Return what is RNA for certain: the path, or the first in its folder; `.h5ad` and tables may be either kind."""
    candidates = [path, *sorted(path.iterdir())] if path.is_dir() else [path]
    return next((one for one in candidates if is_source(one) and one.suffix.lower() != ".h5ad"), None)


def open_source(path: Path, options: ReadOptions) -> CountSource:
    """Open a matrix of cells, of whatever format.

    Raises
    ------
    InputError
        If there is no such file, or its format is not known.
    """
    return _reader(path)(path, options)


def _reader(path: Path) -> Callable[[Path, ReadOptions], CountSource]:
    if not path.exists():
        msg = f"{path}: no such file or folder. Check the path."
        raise InputError(msg)
    if zarr_store.is_zarr(path):
        return zarr_store.open_zarr
    if path.is_dir() or path.name in ("matrix.mtx", "matrix.mtx.gz"):
        return tenx_mtx.open_mtx
    if hdf5.is_hdf5(path):
        return _hdf5_reader(path)
    if table.is_table(path):
        return table.open_table
    msg = f"{path}: not a single-cell file that swarmcell knows. Expected one of: {FORMATS}. {_remedy(path)}"
    if path.suffix.lower() in (".h5ad", ".h5", ".loom"):
        msg = f"{path}: not HDF5, though its name says so; it is damaged or something else. Copy or export it again."
    raise InputError(msg)


def _remedy(path: Path) -> str:
    if path.name.lower().endswith((".tar.gz", ".tgz", ".tar", ".zip", ".7z", ".rar")):
        return "Unpack the archive, and give the folder or file in it."
    if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
        return "Export the counts as csv from where they come from: a spreadsheet turns gene names into dates."
    if path.suffix.lower() in (".rds", ".rda", ".rdata", ".h5seurat"):
        return "Export it from R as a 10x folder or .h5ad."
    return "Export it as one of these."


def _hdf5_reader(path: Path) -> Callable[[Path, ReadOptions], CountSource]:
    with hdf5.open_file(path) as file, hdf5.reading(path):
        if loom.is_loom(file):
            return loom.open_loom
        if tenx_h5.is_tenx(file):
            return tenx_h5.open_h5
    return anndata_store.open_h5ad


def _begins(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic
