"""10x Genomics folders: a Matrix Market file with barcodes and genes (v2) or features (v3) beside it, gzipped or not.

Rules: rows of the file are features, columns are cells. Cell Ranger writes the cells in order, so they are read as a
stream; a file in another order is turned, by way of a temporary file if it is large.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from swarmcell.cells.readers import turned
from swarmcell.cells.readers.source import BLOCK_VALUES, Block, CountSource, Names, ReadOptions, refuse_empty
from swarmcell.cells.readers.text import TEXT_ERRORS, open_bytes, read_lines, truncated
from swarmcell.errors import CellsError, InputError

GENE_EXPRESSION = "Gene Expression"
_MATRIX, _BARCODES, _FEATURES = ("matrix.mtx",), ("barcodes.tsv",), ("features.tsv", "genes.tsv")


@dataclass(frozen=True)
class _Header:
    n_features: int
    n_obs: int
    n_values: int
    lines: int  # lines before the first value


def is_folder(path: Path) -> bool:
    """Tell whether a folder holds a 10x matrix or a part of one."""
    return any(_present(path, names) for names in (_MATRIX, _BARCODES, _FEATURES))


def open_mtx(path: Path, options: ReadOptions) -> CountSource:
    """Open a 10x folder (or the matrix file in it).

    Raises
    ------
    InputError
        If one of its three files is missing or is not what its name says.
    CellsError
        If the matrix is empty, or holds no gene expression.
    """
    folder = path if path.is_dir() else path.parent
    matrix, barcodes, features = (_find(folder, names) for names in (_MATRIX, _BARCODES, _FEATURES))
    header = _read_header(matrix)
    cells = [line.split("\t")[0] for line in read_lines(barcodes)]
    table = _read_features(features)
    _compare(len(cells), header.n_obs, barcodes, matrix, "cells")
    _compare(len(table), header.n_features, features, matrix, "features")
    refuse_empty(len(cells), len(table), folder)
    kept, notes = gene_expression(table["type"].to_numpy(), folder)
    return CountSource(
        path=folder,
        format="10x mtx v3" if features.name.startswith("features") else "10x mtx v2",
        obs=pd.DataFrame(index=pd.Index(cells, dtype=object)),
        ids=table["id"].to_numpy()[kept],
        symbols=table["symbol"].to_numpy()[kept],
        read=partial(_blocks, matrix, header, kept),
        kind=options.kind,
        notes=notes,
    )


def gene_expression(types: Names, path: Path) -> tuple[npt.NDArray[np.intp], tuple[str, ...]]:
    """Return which features are genes, shape `(n_genes,)`, and a note on those that are kept out.

    Raises
    ------
    CellsError
        If none is.
    """
    kept = np.flatnonzero(types == GENE_EXPRESSION)
    others = {str(kind): int((types == kind).sum()) for kind in sorted(set(types[types != GENE_EXPRESSION]))}
    if not kept.size:
        msg = f"{path}: holds no {GENE_EXPRESSION!r} features, only {others}. Give the matrix of gene expression."
        raise CellsError(msg)
    text = ", ".join(f"{n} {kind!r}" for kind, n in others.items())
    return kept, ((f"{path.name}: kept out {text} features; gene expression only.",) if others else ())


def _present(folder: Path, names: tuple[str, ...]) -> Path | None:
    candidates = [folder / (name + ending) for name in names for ending in (".gz", "")]
    return next((path for path in candidates if path.is_file()), None)


def _find(folder: Path, names: tuple[str, ...]) -> Path:
    if (found := _present(folder, names)) is None:
        msg = f"{folder}: {' or '.join(names)} (or .gz) is missing; a 10x folder holds a matrix, barcodes and features."
        raise InputError(msg)
    return found


def _read_features(path: Path) -> pd.DataFrame:
    rows = [line.split("\t") for line in read_lines(path) if line]
    if any(not row[0] for row in rows):
        msg = f"{path}: a feature without an ID. Export the folder again."
        raise InputError(msg)
    columns = {
        "id": [row[0] for row in rows],
        "symbol": [row[1] if len(row) > 1 and row[1] else row[0] for row in rows],
        "type": [row[2] if len(row) > 2 else GENE_EXPRESSION for row in rows],
    }
    return pd.DataFrame(columns, dtype=object)


def _compare(found: int, expected: int, path: Path, matrix: Path, what: str) -> None:
    if found != expected:
        msg = (
            f"{path}: lists {found} {what}, but {matrix.name} has {expected}. They are not of one export, or one is "
            "truncated, or the matrix is transposed (its columns must be cells)."
        )
        raise InputError(msg)


def _read_header(path: Path) -> _Header:
    with open_bytes(path) as file:
        try:
            return _parse_header(file, path)
        except (*TEXT_ERRORS, ValueError) as error:
            raise truncated(path, error) from error


def _parse_header(file: IO[bytes], path: Path) -> _Header:
    words = file.readline().decode("utf-8").lower().split()
    if words[:1] != ["%%matrixmarket"]:
        msg = f"{path}: not a Matrix Market file (its first line is no %%MatrixMarket). Export it again."
        raise InputError(msg)
    if words[2:] not in (["coordinate", "integer", "general"], ["coordinate", "real", "general"]):
        msg = f"{path}: a {' '.join(words[2:])} matrix; expected coordinate integer general. Export it again."
        raise InputError(msg)
    n_lines, line = 1, b"%"
    while line.startswith(b"%"):
        line, n_lines = file.readline(), n_lines + 1
    n_features, n_obs, n_values = (int(word) for word in line.split())
    return _Header(n_features, n_obs, n_values, n_lines)


def _blocks(path: Path, header: _Header, kept: npt.NDArray[np.intp]) -> Iterator[Block]:
    to_kept = np.full(header.n_features, -1, np.int64)
    to_kept[kept] = np.arange(len(kept))
    first, n_read = 0, 0
    held = np.empty((0, 3))  # values of cells that may go on in the next part
    for part in _parts(path, header):
        n_read += len(part)
        held = np.concatenate([held, part])
        cells = held[:, 1]
        if (cells[1:] < cells[:-1]).any():
            if first:
                msg = f"{path}: its cells are in order up to cell {first}, and then are not. Export it again."
                raise InputError(msg)
            yield from turned.by_rows(_unordered(path, header, to_kept), header.n_obs, int(to_kept.max()) + 1)
            return
        last = int(cells[-1]) - 1
        if last > first:
            cut = int(np.searchsorted(cells, last + 1))
            yield _block(held[:cut], first, last, to_kept)
            first, held = last, held[cut:]
    _refuse_short(n_read, header, path)
    yield _block(held, first, header.n_obs, to_kept)


def _parts(path: Path, header: _Header) -> Iterator[npt.NDArray[np.float64]]:
    """Yield `(n, 3)` arrays of feature, cell (both from 1) and value."""
    with open_bytes(path) as file:
        try:
            reader: Any = pd.read_csv(
                file, sep=r"\s+", header=None, skiprows=header.lines, dtype=np.float64, chunksize=BLOCK_VALUES // 4
            )
            for frame in reader:
                yield _valid(frame.to_numpy(), header, path)
        except pd.errors.EmptyDataError:
            return
        except (*TEXT_ERRORS, ValueError) as error:
            raise truncated(path, error) from error


def _valid(part: npt.NDArray[np.float64], header: _Header, path: Path) -> npt.NDArray[np.float64]:
    limits = np.array([header.n_features, header.n_obs])
    if part.shape[1] != 3 or (part[:, :2] < 1).any() or (part[:, :2] > limits).any() or np.isnan(part).any():
        msg = f"{path}: a line is not 'feature cell value' within {header.n_features} x {header.n_obs}. Copy it again."
        raise InputError(msg)
    return part


def _block(part: npt.NDArray[np.float64], first: int, last: int, to_kept: npt.NDArray[np.int64]) -> Block:
    columns = to_kept[part[:, 0].astype(np.int64) - 1]
    kept = columns >= 0
    rows = part[kept, 1].astype(np.int64) - 1 - first
    shape = (last - first, int(to_kept.max()) + 1)
    return sparse.csr_matrix((part[kept, 2], (rows, columns[kept])), shape=shape)


def _unordered(path: Path, header: _Header, to_kept: npt.NDArray[np.int64]) -> Iterator[turned.Part]:
    n_read = 0
    for part in _parts(path, header):
        n_read += len(part)
        columns = to_kept[part[:, 0].astype(np.int64) - 1]
        kept = columns >= 0
        yield part[kept, 1].astype(np.int64) - 1, columns[kept], part[kept, 2]
    _refuse_short(n_read, header, path)


def _refuse_short(n_read: int, header: _Header, path: Path) -> None:
    if n_read != header.n_values:
        msg = f"{path}: holds {n_read} values, but states {header.n_values}. It is truncated: copy it again."
        raise InputError(msg)
