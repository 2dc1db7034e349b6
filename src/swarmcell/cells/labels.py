"""Who each cell is of: donor, sample, site, condition and cell type, from the file and the sheets beside it.

Rules: the sheet of samples overrides the file, the sheet of cells overrides both. Nothing is guessed: a column that
was named and is nowhere is an error, and so is a label outside the vocabulary, where there is one.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from swarmcell.cells import missing
from swarmcell.cells.readers import CountSource
from swarmcell.cells.schema import CELL_TYPE, CONDITION, DONOR, SAMPLE, SITE
from swarmcell.cells.sheets import BARCODE, Sheets, Unit, renamed
from swarmcell.errors import CellsError

_STRICT = {"extra": "forbid"}
CANONICAL = (DONOR, SAMPLE, SITE, CONDITION, CELL_TYPE)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The `[columns]` table: which column of the file or of a sheet holds each label.

    `covariates` are kept under their own names (age, sex, treatment): reports compare conditions by them.
    """

    __pydantic_config__ = _STRICT

    donor: str = DONOR
    sample: str = SAMPLE
    site: str = SITE
    condition: str = CONDITION
    cell_type: str = CELL_TYPE
    covariates: tuple[str, ...] = ()

    def names(self) -> dict[str, str]:
        """Return canonical name -> column; covariates keep their name."""
        return {name: getattr(self, name) for name in CANONICAL} | {name: name for name in self.covariates}


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The `[labels]` table: the labels that a study knows (none given: all are taken), and how to rename others."""

    __pydantic_config__ = _STRICT

    conditions: tuple[str, ...] = ()
    cell_types: tuple[str, ...] = ()
    rename_conditions: dict[str, str] = field(default_factory=dict)
    rename_cell_types: dict[str, str] = field(default_factory=dict)


def attach(source: CountSource, unit: Unit, sheets: Sheets, columns: Columns, *, alone: bool) -> pd.DataFrame:
    """Return the labels of a source's cells: index as in the source, canonical columns, those that are known.

    Parameters
    ----------
    alone
        The site has this one matrix only: without a sample column each donor is a sample; else each matrix is.

    Raises
    ------
    CellsError
        If the sheet of cells fits no cell, or names one twice.
    """
    names = columns.names()
    labels = renamed(source.obs.reset_index(drop=True), names).apply(missing.labels)
    by_sample = None if unit.rows is None else renamed(unit.rows, names)
    if by_sample is not None and len(by_sample) == 1:
        labels = _filled(labels, {str(name): by_sample[name].iloc[0] for name in by_sample})
    if SAMPLE not in labels and (not alone or (by_sample is not None and len(by_sample) == 1)):
        labels[SAMPLE] = stem(unit.path.name)
    if sheets.cells is not None:
        labels = _with_cells(labels, source, sheets.cells, names)
    if by_sample is not None and len(by_sample) > 1:
        labels = _with_samples(labels, by_sample, source)
    labels.index = source.obs.index
    return labels


def complete(labels: pd.DataFrame, columns: Columns, known: list[str], *, site: str, source: str) -> pd.DataFrame:
    """Check the labels of all cells of a site and fill in what follows: sample from donor, site from its name.

    Parameters
    ----------
    labels
        What `attach` returned, for all sources.
    known
        All columns of the files and sheets, for messages.

    Raises
    ------
    CellsError
        If there is no donor, a column that was named is nowhere, or a label is missing for some cells.
    """
    for name, column in columns.names().items():
        if (column != name or name in columns.covariates) and name not in labels:
            msg = f"{source}: no column {column!r} for the {name}; there are {', '.join(known) or 'none'}."
            raise CellsError(msg)
    if DONOR not in labels:
        msg = (
            f"{source}: no donor; there are columns {', '.join(known) or 'none'}. Name the column with --donor-key, or "
            "give a sheet (file, donor, sample, condition) with --sheet."
        )
        raise CellsError(msg)
    labels = labels.copy()
    labels[SITE] = labels[SITE].fillna(site) if SITE in labels else site
    labels[SAMPLE] = labels[SAMPLE].fillna(labels[DONOR]) if SAMPLE in labels else labels[DONOR]
    labels = labels.drop(columns=[n for n in (CONDITION, CELL_TYPE) if n in labels and labels[n].isna().all()])
    for name in (DONOR, CONDITION):
        if name in labels and (missing := labels[name].isna()).any():
            samples = ", ".join(sorted({str(s) for s in labels[SAMPLE][missing].dropna()})[:5])
            msg = f"{source}: {int(missing.sum())} cells have no {name} (samples {samples}). Complete the sheet."
            raise CellsError(msg)
    return labels.apply(_as_text)


def apply_vocabulary(labels: pd.DataFrame, vocabulary: Vocabulary, source: str) -> pd.DataFrame:
    """Rename labels, and refuse those that the study does not know.

    Raises
    ------
    CellsError
        If a label is outside the vocabulary.
    """
    labels = labels.copy()
    rules = (
        (CONDITION, vocabulary.conditions, vocabulary.rename_conditions),
        (CELL_TYPE, vocabulary.cell_types, vocabulary.rename_cell_types),
    )
    for name, known, renames in rules:
        if name not in labels:
            continue
        labels[name] = labels[name].map(lambda v, r=renames: r.get(v, v), na_action="ignore")
        unknown = sorted({str(v) for v in labels[name].dropna().unique()} - set(known)) if known else []
        if unknown:
            near = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f"Is it {near[0]!r}? " if near else ""
            msg = (
                f"{source}: unknown {name} {', '.join(map(repr, unknown[:5]))}; the study knows {', '.join(known)}. "
                f"{hint}Rename it under [labels] rename_{name}s."
            )
            raise CellsError(msg)
    return labels


def cell_names(labels: pd.DataFrame, source: str) -> "pd.Index[Any]":
    """Return unique cell names: barcodes, with the sample's name before them where barcodes repeat.

    Raises
    ------
    CellsError
        If a barcode repeats within one sample.
    """
    index = labels.index
    if _duplicated(index).any():
        index = pd.Index(np.asarray(labels[SAMPLE].astype(str) + ":" + index.astype(str), dtype=object), dtype=object)
    if (twice := _duplicated(index)).any():
        name = index[twice][0]
        msg = f"{source}: cell {name!r} is there twice in its sample. Give each specimen its own sample name."
        raise CellsError(msg)
    return index


def _duplicated(index: "pd.Index[Any]") -> npt.NDArray[np.bool_]:
    """Tell which names came before; an index asked itself would hold a table of them, 33 bytes a cell, as it lives."""
    return pd.Series(index.to_numpy()).duplicated().to_numpy()


def strata(labels: pd.DataFrame) -> dict[str, str]:
    """Return donor -> its condition, or its conditions joined where its samples differ; `""` without conditions."""
    if CONDITION not in labels:
        return dict.fromkeys(sorted(labels[DONOR].astype(str).unique()), "")
    pairs = labels[[DONOR, CONDITION]].drop_duplicates().astype(str).sort_values([DONOR, CONDITION])
    return {str(donor): "+".join(rows[CONDITION]) for donor, rows in pairs.groupby(DONOR)}


def _as_text(column: "pd.Series[Any]") -> "pd.Series[Any]":
    values = column.astype(object)
    return values.where(column.isna(), values.map(str)).where(column.notna(), None)


def stem(name: str) -> str:
    """Return a file's name without its endings; a folder's as it is."""
    return name.removesuffix(".gz").rsplit(".", 1)[0] if "." in name else name


def _filled(labels: pd.DataFrame, values: Mapping[str, Any]) -> pd.DataFrame:
    for name, value in values.items():
        if value is not None and not pd.isna(value):
            labels[name] = value
    return labels


def _with_cells(
    labels: pd.DataFrame, source: CountSource, cells: pd.DataFrame, names: Mapping[str, str]
) -> pd.DataFrame:
    wanted = renamed(cells, names)
    barcodes = pd.Index(source.obs.index)
    by_sample = SAMPLE in wanted and SAMPLE in labels
    keys, index = cells[BARCODE].astype(str), barcodes.astype(str)
    if by_sample:
        keys = wanted[SAMPLE].astype(str) + "\t" + keys
        index = pd.Index(labels[SAMPLE].astype(str).to_numpy() + "\t" + np.asarray(index, dtype=object))
    if (twice := keys[keys.duplicated()]).size:
        said = twice.iloc[0].split("\t")[-1]
        msg = f"{source.path}: the sheet of cells names {said!r} twice. Add a column `sample`, or remove one."
        raise CellsError(msg)
    place = pd.Index(keys).get_indexer(index)
    if (place < 0).all():
        msg = (
            f"{source.path}: no cell is in the sheet of cells (here {barcodes[0]}, there {cells[BARCODE].iloc[0]}). "
            "Compare the barcodes, their suffixes (-1) and the samples' names."
        )
        raise CellsError(msg)
    for name in wanted:
        found = wanted[name].to_numpy(dtype=object)[place]
        found[place < 0] = None
        labels[name] = found if name not in labels else np.where(pd.isna(found), labels[name], found)
    return labels


def _with_samples(labels: pd.DataFrame, rows: pd.DataFrame, source: CountSource) -> pd.DataFrame:
    if SAMPLE not in rows or SAMPLE not in labels:
        msg = (
            f"{source.path}: the sheet has {len(rows)} rows for it, so each cell needs a sample: give a sheet of cells "
            "(barcode, sample), or a column `sample` in both the file and the sheet."
        )
        raise CellsError(msg)
    if rows[SAMPLE].duplicated().any():
        name = rows[SAMPLE][rows[SAMPLE].duplicated()].iloc[0]
        msg = f"{source.path}: sample {name!r} has two rows in the sheet. Keep one."
        raise CellsError(msg)
    place = pd.Index(rows[SAMPLE].astype(str)).get_indexer(pd.Index(labels[SAMPLE].astype(str)))
    for name in rows:
        if name != SAMPLE:
            found = rows[name].to_numpy(dtype=object)[place]
            found[place < 0] = None
            labels[name] = found if name not in labels else np.where(pd.isna(found), labels[name], found)
    return labels
