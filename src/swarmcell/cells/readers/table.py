"""Tables of counts in text: csv or tsv, gzipped or not, cells in rows or in columns.

Rules: the first column and the first line hold names. Which of them are the cells is asked, or told by the names
(gene IDs, known symbols) and, failing that, refused: a transposed table would otherwise train on nonsense.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from swarmcell.cells.readers import turned
from swarmcell.cells.readers.source import (
    BLOCK_ROWS,
    BLOCK_VALUES,
    Block,
    CountSource,
    Names,
    ReadOptions,
    refuse_empty,
)
from swarmcell.cells.readers.text import TEXT_ERRORS, open_bytes, truncated
from swarmcell.errors import InputError, UsageError

SUFFIXES = (".csv", ".tsv", ".txt")
_GENE_ID = re.compile(r"^(ENS[A-Z]*G\d{11}|SIMG\d+|FBgn\d+|WBGene\d+|\d{7}[A-Za-z]\d{2}[Rr]ik)(\.\d+)?$")
# Genes that nearly every table of blood or tissue names, in upper case so that mouse symbols match as well.
_COMMON = frozenset(
    [
        "ACTB",
        "GAPDH",
        "B2M",
        "MALAT1",
        "TMSB4X",
        "EEF1A1",
        "FTL",
        "FTH1",
        "RPL13",
        "RPL10",
        "RPS27",
        "RPLP1",
        "CD3D",
        "CD3E",
        "CD4",
        "CD8A",
        "CD19",
        "MS4A1",
        "CD14",
        "LYZ",
        "NKG7",
        "GNLY",
        "PTPRC",
        "HLA-A",
        "HLA-B",
        "HLA-DRA",
        "CD74",
        "CST3",
        "S100A8",
        "S100A9",
        "IL7R",
        "CCR7",
        "MT-CO1",
        "MT-ND1",
        "MT-CYB",
        "PPBP",
        "ISG15",
        "VIM",
        "NOC2L",
    ]
)
_BARCODE = re.compile(r"^([\w.]+[-_:#])?[ACGTN]{8,}([-._]\w+)?$")


def is_table(path: Path) -> bool:
    """Tell whether a file is named as a table of text."""
    return path.name.removesuffix(".gz").lower().endswith(SUFFIXES)


def open_table(path: Path, options: ReadOptions) -> CountSource:
    """Open a table of counts.

    Raises
    ------
    InputError
        If it is no table of numbers.
    UsageError
        If it cannot be told whether its rows or its columns are cells.
    """
    separator, columns = _header(path)
    rows = _first_column(path, separator)
    refuse_empty(len(rows), len(columns), path)
    cells_in = _orientation(rows, columns, path) if options.cells_in == "auto" else options.cells_in
    cells, features = (rows, columns) if cells_in == "rows" else (columns, rows)
    read = partial(_blocks, path, separator, cells_in, len(columns), len(features))
    obs = pd.DataFrame(index=pd.Index(cells, dtype=object))
    notes = (f"{path.name}: read as a table with its cells in {cells_in}.",)
    return CountSource(path, path.suffixes[0].lstrip("."), obs, features, features, read, options.kind, notes)


def _header(path: Path) -> tuple[str, Names]:
    with open_bytes(path) as file:
        try:
            lines = [line for line in (_text(file.readline()) for _ in range(50)) if line and not line.startswith("#")]
        except TEXT_ERRORS as error:
            raise truncated(path, error) from error
    if len(lines) < 2:
        msg = f"{path}: an empty matrix (no line of values). Check how it was exported."
        raise InputError(msg)
    separator = max(",\t; ", key=lines[0].count)
    names, first = _split(lines[0], separator), _split(lines[1], separator)
    if len(names) == len(first):
        names = names[1:]
    if len(names) != len(first) - 1 or not names:
        msg = f"{path}: its first line has {len(names)} names, its second {len(first) - 1} values. Export it again."
        raise InputError(msg)
    return separator, np.array(names, dtype=object)


def _text(line: bytes) -> str:
    return line.decode("utf-8-sig").rstrip("\r\n")


def _split(line: str, separator: str) -> list[str]:
    return [field.strip().strip('"') for field in line.split(separator)]


def _first_column(path: Path, separator: str) -> Names:
    frames = _frames(path, separator, BLOCK_ROWS, usecols=[0], dtype=str)
    names = [frame.iloc[:, 0].fillna("").to_numpy(dtype=object) for frame in frames]
    return np.concatenate(names) if names else np.empty(0, dtype=object)


def _orientation(rows: Names, columns: Names, path: Path) -> str:
    in_rows, in_columns = _gene_likeness(rows), _gene_likeness(columns)
    if in_rows == in_columns:
        msg = (
            f"{path}: cannot tell cells from genes by their names (rows: {', '.join(rows[:3])}; columns: "
            f"{', '.join(columns[:3])}). Say it: --cells-in rows, or --cells-in columns."
        )
        raise UsageError(msg)
    return "columns" if in_rows > in_columns else "rows"


def _gene_likeness(names: Names) -> float:
    """Return how much names look like genes: 0 to 1 (-1 for barcodes)."""
    some = [str(name) for name in names[:20_000]]
    genes = sum(bool(_GENE_ID.match(name)) or name.upper() in _COMMON for name in some)
    barcodes = sum(bool(_BARCODE.match(name)) for name in some[:1000]) / min(len(some), 1000)
    return -1.0 if barcodes > 0.5 else float(genes > 0) * max(genes / len(some), 1e-6)


def _frames(path: Path, separator: str, n_rows: int, **options: Any) -> Iterator[pd.DataFrame]:  # noqa: ANN401
    with open_bytes(path) as file:
        try:
            reader: Any = pd.read_csv(
                file, sep=separator, header=None, skiprows=1, comment="#", chunksize=n_rows, **options
            )
            yield from reader
        except pd.errors.EmptyDataError:
            return
        except (*TEXT_ERRORS, ValueError, pd.errors.ParserError) as error:
            raise truncated(path, error) from error


def _blocks(path: Path, separator: str, cells_in: str, n_columns: int, n_features: int) -> Iterator[Block]:
    n_rows = max(1, min(BLOCK_ROWS, BLOCK_VALUES // n_columns))
    parts = (_numbers(frame, path) for frame in _frames(path, separator, n_rows))
    if cells_in == "rows":
        yield from parts
    else:
        yield from turned.by_rows(_genes(parts), n_columns, n_features)


def _genes(parts: Iterator[Block]) -> Iterator[turned.Part]:
    start = 0
    for part in parts:
        found = part.tocoo()
        yield found.col, found.row + start, found.data
        start += part.shape[0]


def _numbers(frame: pd.DataFrame, path: Path) -> Block:
    values = frame.iloc[:, 1:]
    try:
        return sparse.csr_matrix(values.to_numpy(dtype=np.float64))
    except ValueError as error:
        first = frame.iloc[0, 0]
        msg = f"{path}: holds text among its values (near {first!r}: {error}). A table of counts holds numbers only."
        raise InputError(msg) from error
