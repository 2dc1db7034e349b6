"""Which files belong to whom: the sample sheet of a folder of cytometry files, or the labels of an .h5ad.

Rules: every file of the folder has a row and every row has a file; nothing is left out without a word.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swarmcell.cells.missing import known
from swarmcell.errors import CellsError, InputError

SHEET = "samples.csv"
FILE_COLUMNS = ("file", "file_name", "filename", "fcs", "fcs_file")
DATA_SET_COLUMN = "data_set"
LABELS = ("donor", "sample", "site", "condition", "cell_type")
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Specimen:
    """One file of one sample of one donor. `data_set` chooses among several in an FCS file, from 1.

    `covariates` are what else is known of the sample (age, sex, treatment), by name; `None` where it is not.
    """

    path: Path
    donor: str
    sample: str
    site: str | None = None
    condition: str | None = None
    cell_type: str | None = None
    data_set: int | None = None
    covariates: Mapping[str, str | None] = field(default_factory=dict)


def read_sheet(sheet: Path, folder: Path, keys: Mapping[str, str], *, only: Path | None = None) -> tuple[Specimen, ...]:
    """Read a sample sheet (csv, or separated by tabs or semicolons) of the files in a folder.

    Parameters
    ----------
    keys
        Label (`donor`, `sample`, `site`, `condition`, `cell_type`, `file`) to the column that holds it; what is
        absent here has the label's own name. Without a sample column every file is a sample. Further names are of
        covariates.
    only
        One file of the folder: rows of the others do not count.

    Returns
    -------
    tuple of Specimen
        Sorted by donor, sample and file name.

    Raises
    ------
    InputError
        If the sheet cannot be read, names a file that is not there, or leaves one out.
    CellsError
        If the donor's column, a covariate's or a donor is missing.
    """
    header, rows = _table(sheet)
    columns = _columns(header, keys, sheet)
    kept = _covariates(keys, header, sheet)
    found = [_specimen(row, columns, kept, folder, sheet) for row in rows]
    if only is not None:
        found = [one for one in found if one.path.name == only.name]
    _check_files(found, folder, sheet, event_files(folder) if only is None else (only,))
    return tuple(sorted(found, key=lambda one: (one.donor, one.sample, one.path.name)))


def event_files(folder: Path) -> tuple[Path, ...]:
    """Return the FCS files of a folder or, where it has none, its tables of events; sorted by name."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    found = tuple(path for path in files if is_fcs(path))
    return found or tuple(path for path in files if path.suffix.lower() in TABLE_SUFFIXES and path.name != SHEET)


def is_fcs(path: Path) -> bool:
    """Whether a file begins as FCS files do, or is named as one."""
    if path.suffix.lower() == ".fcs":
        return True
    try:
        with path.open("rb") as file:
            return file.read(3) == b"FCS"
    except OSError:
        return False


def _table(sheet: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        lines = sheet.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{sheet}: the sample sheet cannot be read ({error}). Give it with --sheet: a csv with a row per file."
        raise InputError(msg) from error
    first = lines[0] if lines else ""
    separator = max(",;\t", key=first.count)
    reader = csv.DictReader(lines, delimiter=separator, skipinitialspace=True)
    rows = [{str(k).strip(): (v or "").strip() for k, v in row.items() if isinstance(v, str)} for row in reader]
    rows = [row for row in rows if any(row.values())]
    if not rows:
        msg = f"{sheet}: the sample sheet has no row. Write one per file: file,donor,sample,condition."
        raise InputError(msg)
    return [str(name).strip() for name in reader.fieldnames or ()], rows


def _columns(header: Sequence[str], keys: Mapping[str, str], sheet: Path) -> dict[str, str]:
    lower = {name.lower(): name for name in header}
    columns: dict[str, str] = {}
    for label in (*LABELS, "file"):
        wanted = keys.get(label)
        if wanted and wanted in header:
            columns[label] = wanted
        elif wanted and wanted != label:
            msg = f"{sheet}: no column {wanted!r} for the {label}; it has {', '.join(header)}. Check --{label}-key."
            raise CellsError(msg)
        elif label in lower:
            columns[label] = lower[label]
    file_column = next((lower[name] for name in FILE_COLUMNS if name in lower), None)
    if "file" not in columns and file_column is None:
        msg = f"{sheet}: no column 'file'; it has {', '.join(header)}. Name the column of the files 'file'."
        raise InputError(msg)
    columns.setdefault("file", file_column or "")
    if "donor" not in columns:
        msg = f"{sheet}: no column 'donor'; it has {', '.join(header)}. Name it with --donor-key."
        raise CellsError(msg)
    if DATA_SET_COLUMN in lower:
        columns[DATA_SET_COLUMN] = lower[DATA_SET_COLUMN]
    return columns


def covariate_names(keys: Mapping[str, str]) -> tuple[str, ...]:
    """Return the covariates that are asked for: names that are no label's."""
    return tuple(name for name in keys if name not in {*LABELS, "file"})


def _covariates(keys: Mapping[str, str], header: Sequence[str], sheet: Path) -> dict[str, str]:
    columns = {name: keys[name] for name in covariate_names(keys)}
    for name, column in columns.items():
        if column not in header:
            msg = f"{sheet}: no column {column!r} for the covariate {name}; it has {', '.join(header)}. See [columns]."
            raise CellsError(msg)
    return columns


def _specimen(
    row: Mapping[str, str], columns: Mapping[str, str], kept: Mapping[str, str], folder: Path, sheet: Path
) -> Specimen:
    name = row.get(columns["file"], "")
    values = {label: known(row.get(column, "")) for label, column in columns.items()}
    if not name or values["donor"] is None:
        msg = f"{sheet}: a row has no {'donor' if name else 'file'} ({', '.join(row.values())}). Complete it."
        raise CellsError(msg) if name else InputError(msg)
    chosen = values.get(DATA_SET_COLUMN)
    if chosen is not None and not chosen.isdigit():
        msg = f"{sheet}: {name}: data_set is {chosen!r}, expected its number in the file, from 1."
        raise InputError(msg)
    return Specimen(
        path=folder / name,
        donor=values["donor"],
        sample=values.get("sample") or Path(name).stem,
        site=values.get("site"),
        condition=values.get("condition"),
        cell_type=values.get("cell_type"),
        data_set=None if chosen is None else int(chosen),
        covariates={name: known(row.get(column, "")) for name, column in kept.items()},
    )


def _check_files(specimens: Iterable[Specimen], folder: Path, sheet: Path, files: Sequence[Path]) -> None:
    named: set[str] = set()
    for one in specimens:
        if not one.path.is_file():
            msg = f"{sheet}: a row ({one.donor}) names {one.path.name}, which is not in {folder}. Mend the row."
            raise InputError(msg)
        if one.path.name in named:
            msg = f"{sheet}: {one.path.name} has two rows. A file belongs to one sample: remove one of them."
            raise InputError(msg)
        named.add(one.path.name)
    left = [path.name for path in files if path.name not in named and path != sheet]
    if left:
        msg = f"{sheet}: no row for {', '.join(left[:5])} of {folder} ({len(left)} files). Add rows, or move the files."
        raise InputError(msg)
