"""Sheets beside the matrices: one row per sample (`file, donor, sample, condition, ...`) or per cell (`barcode, ...`).

Rules: csv or tsv, gzipped or not. A sheet with a barcode column is of cells, one with a file column of samples. Every
file of a sample sheet must exist.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from swarmcell.cells import missing
from swarmcell.cells.readers import is_source
from swarmcell.cells.readers.table import is_table
from swarmcell.cells.readers.text import open_bytes, truncated
from swarmcell.errors import InputError

FILE, BARCODE = "file", "barcode"
_FILE_COLUMNS = (FILE, "file_name", "filename", "path", "folder")
_BARCODE_COLUMNS = (BARCODE, "barcodes", "cell", "cell_id", "cell_barcode")
_NAMES = {FILE: "samples", BARCODE: "cells"}
_ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


@dataclass(frozen=True)
class Sheets:
    """What stands beside the matrices; tables of strings, `None` where there is no such sheet.

    `samples` has a column `file`, `cells` a column `barcode`; `folder` is where files are looked for.
    """

    samples: pd.DataFrame | None
    cells: pd.DataFrame | None
    folder: Path
    paths: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Unit:
    """One matrix to read, with its rows of the sample sheet (`None`: it has none)."""

    path: Path
    rows: pd.DataFrame | None


def find_sheets(source: Path, given: Sequence[Path]) -> Sheets:
    """Read the sheets that were given, and `samples.csv` and `cells.csv` (or .tsv, .gz) beside the source.

    Raises
    ------
    InputError
        If a sheet cannot be read, or has neither a file nor a barcode column.
    """
    folder = source if source.is_dir() else source.parent
    found: dict[str, tuple[Path, pd.DataFrame]] = {}
    for path in given:
        table = read_sheet(path)
        found[FILE if BARCODE not in table else BARCODE] = (path, table)
    for kind, name in _NAMES.items():
        beside = next((folder / (name + e) for e in _ENDINGS if (folder / (name + e)).is_file()), None)
        if kind not in found and beside is not None:
            found[kind] = (beside, read_sheet(beside))
    samples, cells = (found[kind][1] if kind in found else None for kind in (FILE, BARCODE))
    if FILE in found and found[FILE][0] in given:
        folder = found[FILE][0].parent if not source.is_dir() else folder
    return Sheets(samples, cells, folder, tuple(path for path, _ in found.values()))


def read_sheet(path: Path) -> pd.DataFrame:
    """Read a sheet as strings; its file or barcode column is named `file` or `barcode`; missing values are `None`.

    Raises
    ------
    InputError
        If it cannot be read, is empty, or has neither column.
    """
    separator = "\t" if path.name.removesuffix(".gz").endswith((".tsv", ".txt")) else None
    with open_bytes(path) as file:
        try:
            separator = separator or _separator(path)
            table = pd.read_csv(file, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        except (OSError, EOFError, ValueError) as error:
            raise truncated(path, error) from error
    table.columns = pd.Index([str(name).strip() for name in table.columns])
    for column in table.columns:
        table[column] = missing.labels(table[column])
    for kind, names in ((BARCODE, _BARCODE_COLUMNS), (FILE, _FILE_COLUMNS)):
        known = next((name for name in names if name in table), None)
        if known is not None:
            return _complete(table.rename(columns={known: kind}), kind, path)
    msg = f"{path}: neither a column 'file' (a row per sample) nor 'barcode' (a row per cell); it has {list(table)}."
    raise InputError(msg)


def units(source: Path, sheets: Sheets) -> list[Unit]:
    """Return the matrices to read, in the order of the sheet, or by name.

    Raises
    ------
    InputError
        If the sheet names a file that is not there, or the folder holds no matrix.
    """
    if not source.exists():
        msg = f"{source}: no such file or folder. Check the path."
        raise InputError(msg)
    if is_source(source) or source.is_file():
        return [Unit(source, _rows_of(source, sheets))]
    if sheets.samples is not None:
        return [Unit(path, rows) for path, rows in _by_file(sheets.samples, sheets.folder)]
    paths = sorted(path for path in source.iterdir() if not path.name.startswith(".") and _is_matrix(path))
    if not paths:
        msg = f"{source}: holds no matrix that swarmcell knows, and no samples.csv. Give a 10x folder or a file in it."
        raise InputError(msg)
    return [Unit(path, None) for path in paths]


def _is_matrix(path: Path) -> bool:
    is_sheet = any(path.name == name + ending for name in _NAMES.values() for ending in _ENDINGS)
    return is_source(path) or (path.is_file() and is_table(path) and not is_sheet)


def _rows_of(source: Path, sheets: Sheets) -> pd.DataFrame | None:
    if sheets.samples is None:
        return None
    named = sheets.samples[FILE].map(lambda name: Path(str(name)).name == source.name)
    return sheets.samples[named].reset_index(drop=True) if named.any() else None


def _by_file(samples: pd.DataFrame, folder: Path) -> Iterable[tuple[Path, pd.DataFrame]]:
    for name in dict.fromkeys(samples[FILE]):
        path = folder / str(name)
        if not path.exists():
            msg = f"{folder}: the sheet names {name!r}, which is not there. Correct the sheet's column 'file'."
            raise InputError(msg)
        yield path, samples[samples[FILE] == name].reset_index(drop=True)


def _complete(table: pd.DataFrame, kind: str, path: Path) -> pd.DataFrame:
    if not len(table):
        msg = f"{path}: the sheet has no row. Add a row per {'sample' if kind == FILE else 'cell'}."
        raise InputError(msg)
    if (n := int(table[kind].isna().sum())) > 0:
        msg = f"{path}: {n} rows have no {kind}. Complete or remove them."
        raise InputError(msg)
    return table


def _separator(path: Path) -> str:
    with open_bytes(path) as file:
        first = file.readline().decode("utf-8-sig")
    return max(",;\t", key=first.count)


def renamed(table: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """Return the table's label columns under their canonical names; `columns` is canonical name -> column."""
    known = {name: table[column] for name, column in columns.items() if column in table}
    return pd.DataFrame(known, index=table.index)
