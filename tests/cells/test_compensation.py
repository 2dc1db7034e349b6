from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcell.cells.compensation import Spillover, compensate, from_csv, from_keywords, is_compensated, places
from swarmcell.cells.events import Label
from swarmcell.errors import InputError

LABELS = [Label("FSC-A"), Label("FITC-A", "CD4"), Label("PE-A", "CD8")]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("2,FITC-A,PE-A,1,0.1,0.2", "got 6 parts"),
        ("x,FITC-A", "got 2 parts"),
        ("999,FITC-A", "got 2 parts"),
        ("2,FITC-A,PE-A,1,0.1,zero,1", "not a number"),
        ("2,FITC-A,PE-A,1,nan,0,1", "singular"),
        ("2,FITC-A,PE-A,1,1,1,1", "singular"),
        ("2,FITC-A,PE-A,0,0,0,0", "singular"),
        ("2,FITC-A,FITC-A,1,0,0,1", "twice"),
    ],
)
def test_a_malformed_matrix_is_refused(value: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        from_keywords({"$SPILLOVER": value}, "a.fcs")
    assert "a.fcs" in str(caught.value)
    assert "csv" in str(caught.value)


def test_a_matrix_that_names_an_absent_channel_is_refused() -> None:
    matrix = Spillover(("FITC-A", "APC-A"), np.eye(2))
    with pytest.raises(InputError, match=r"names APC-A, which the file does not hold.*FSC-A, FITC-A, PE-A"):
        places(matrix, LABELS, "a.fcs")


@pytest.mark.parametrize("keyword", ["$SPILLOVER", "SPILL", "SPILLOVER"])
def test_a_matrix_is_found_under_its_names(keyword: str) -> None:
    matrix = from_keywords({keyword: "2,FITC-A,PE-A,1,0.1,0.2,1"}, "a.fcs")
    assert matrix is not None
    np.testing.assert_array_equal(matrix.matrix, [[1, 0.1], [0.2, 1]])


@pytest.mark.parametrize("value", ["", "0", " "])
def test_an_empty_keyword_is_no_matrix(value: str) -> None:
    assert from_keywords({"SPILL": value}, "a.fcs") is None


def test_channels_of_a_matrix_may_be_stains_or_numbers() -> None:
    assert places(Spillover(("CD4", "CD8"), np.eye(2)), LABELS, "a.fcs") == [1, 2]
    assert places(Spillover(("2", "3"), np.eye(2)), LABELS, "a.fcs") == [1, 2]


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_compensation_recovers_the_stains_that_spilled_over(seed: int, n_channels: int) -> None:
    rng = np.random.default_rng(seed)
    spill = np.eye(n_channels) + rng.uniform(0, 0.1, (n_channels, n_channels)) * (1 - np.eye(n_channels))
    stains = rng.uniform(0, 1000, (50, n_channels))
    table = np.column_stack([np.full(50, 7.0), stains @ spill]).astype(np.float32)
    compensate(table, Spillover(tuple("abcdef"[:n_channels]), spill), list(range(1, n_channels + 1)))
    np.testing.assert_allclose(table[:, 1:], stains, rtol=1e-3, atol=1e-2)
    assert (table[:, 0] == 7.0).all()


@pytest.mark.parametrize("name", ["Comp-FITC-A", "comp-FITC-A", "Comp.FITC.A", "FJComp-FITC-A", "<FITC-A>"])
def test_compensated_channels_are_known_by_their_names(name: str) -> None:
    assert is_compensated([Label("FSC-A"), Label(name)])
    assert not is_compensated(LABELS)


@pytest.mark.parametrize("text", ["FITC-A,PE-A\n1,0.1\n0.2,1\n", ",FITC-A,PE-A\nFITC-A,1,0.1\nPE-A,0.2,1\n\n"])
def test_a_csv_may_name_its_rows_or_not(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spill.csv"
    path.write_text(text)
    matrix = from_csv(path)
    assert matrix.channels == ("FITC-A", "PE-A")
    np.testing.assert_array_equal(matrix.matrix, [[1, 0.1], [0.2, 1]])


@pytest.mark.parametrize(
    "text", ["", "FITC-A,PE-A\n1,0\n", "FITC-A,PE-A\n1,0\n0,x\n", "A,B\n1,1\n1,1\n", "A,B\n1\n1\n"]
)
def test_a_csv_that_is_no_matrix_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spill.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"spill\.csv"):
        from_csv(path)


def test_a_csv_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        from_csv(tmp_path / "absent.csv")
