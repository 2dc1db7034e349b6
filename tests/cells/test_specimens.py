from pathlib import Path

import pytest

from swarmcell.cells.specimens import event_files, read_sheet
from swarmcell.errors import CellsError, InputError, SwarmcellError


def folder(tmp_path: Path, sheet: str, files: tuple[str, ...] = ("a.fcs", "b.fcs")) -> Path:
    for name in files:
        (tmp_path / name).write_bytes(b"FCS3.1    ")
    (tmp_path / "samples.csv").write_text(sheet)
    return tmp_path


GOOD = "file,donor,condition\nb.fcs,d2,mock\na.fcs,d1,wnv\n"


@pytest.mark.parametrize(
    ("sheet", "kind", "said"),
    [
        ("", InputError, "has no row"),
        ("file,donor\n", InputError, "has no row"),
        ("name,donor\na.fcs,d1\n", InputError, "no column 'file'; it has name, donor"),
        ("file,patient\na.fcs,d1\nb.fcs,d2\n", CellsError, "no column 'donor'.*--donor-key"),
        ("file,donor\na.fcs,d1\n", InputError, "no row for b.fcs"),
        ("file,donor\na.fcs,d1\nb.fcs,d2\nc.fcs,d3\n", InputError, r"\(d3\) names c.fcs, which is not in"),
        ("file,donor\na.fcs,d1\nb.fcs,d2\na.fcs,d3\n", InputError, "a.fcs has two rows"),
        ("file,donor\na.fcs,\nb.fcs,d2\n", CellsError, "a row has no donor"),
        ("file,donor\n,d1\na.fcs,d1\nb.fcs,d2\n", InputError, "a row has no file"),
        ("file,donor,data_set\na.fcs,d1,second\nb.fcs,d2,\n", InputError, "data_set is 'second'"),
    ],
)
def test_a_sheet_that_does_not_fit_its_files_is_refused(
    tmp_path: Path, sheet: str, kind: type[SwarmcellError], said: str
) -> None:
    with pytest.raises(kind, match=said) as caught:
        read_sheet(folder(tmp_path, sheet) / "samples.csv", tmp_path, {})
    assert "samples.csv" in str(caught.value)


def test_a_column_that_is_asked_for_and_absent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CellsError, match="no column 'mouse' for the donor"):
        read_sheet(folder(tmp_path, GOOD) / "samples.csv", tmp_path, {"donor": "mouse"})


def test_a_sheet_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--sheet"):
        read_sheet(tmp_path / "samples.csv", tmp_path, {})


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_rows_are_sorted_and_files_are_samples_of_their_own(tmp_path: Path, separator: str) -> None:
    rows = read_sheet(folder(tmp_path, GOOD.replace(",", separator)) / "samples.csv", tmp_path, {})
    assert [(one.donor, one.sample, one.condition, one.path.name) for one in rows] == [
        ("d1", "a", "wnv", "a.fcs"),
        ("d2", "b", "mock", "b.fcs"),
    ]


def test_columns_go_by_the_names_that_the_configuration_gives(tmp_path: Path) -> None:
    sheet = "file_name,patient,tube,group\na.fcs,p1,t1,x\nb.fcs,p1,t2,NA\n"
    keys = {"donor": "patient", "sample": "tube", "condition": "group"}
    rows = read_sheet(folder(tmp_path, sheet) / "samples.csv", tmp_path, keys)
    assert [(one.donor, one.sample, one.condition) for one in rows] == [("p1", "t1", "x"), ("p1", "t2", None)]


def test_one_file_of_a_folder_needs_only_its_own_row(tmp_path: Path) -> None:
    rows = read_sheet(folder(tmp_path, GOOD) / "samples.csv", tmp_path, {}, only=tmp_path / "b.fcs")
    assert [one.path.name for one in rows] == ["b.fcs"]


def test_fcs_files_are_known_by_their_first_bytes_too(tmp_path: Path) -> None:
    (tmp_path / "060909.001").write_bytes(b"FCS2.0    ")
    (tmp_path / "notes.txt").write_text("no events")
    (tmp_path / "events.csv").write_text("CD4\n1\n")
    assert [path.name for path in event_files(tmp_path)] == ["060909.001"]
    (tmp_path / "060909.001").unlink()
    assert [path.name for path in event_files(tmp_path)] == ["events.csv"]
