"""Real files of other readers' own test suites: read as two other readers do, or refused with a stated reason."""

import csv
from pathlib import Path

import flowio
import numpy as np
import pytest

from swarmcell.cells.fcs import data_sets, only_data_set, read_events

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "fcs_conformance"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="../shared/data/fcs_conformance is not there")

# Where this reader differs from an oracle on purpose. path ending -> why
DIFFERENCES = {
    "data_start_offset_discrepancy_example.fcs": "HEADER places DATA 526 bytes early: fcsparser reads TEXT as events, "
    "FlowIO refuses; the offsets of TEXT hold $TOT events, as in variable_int_example.fcs, the same file unharmed",
}
REFUSED: dict[str, str] = {}  # path ending -> the reason; every well-formed file of the collection is read
SUM_RTOL = 5e-6  # the manifest has six digits


def rows() -> list[dict[str, str]]:
    if not FOLDER.is_dir():
        return []
    with (FOLDER / "MANIFEST.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def oracle(row: dict[str, str]) -> tuple[str, float]:
    """Shape and sum of all channel values by FlowIO or, where it fails, by fcsparser."""
    is_read = not row["flowio"].startswith("ERR") and row["flowio_sum"] != "nan"
    reader = "flowio" if is_read else "fcsparser"
    return row[reader], float(row[f"{reader}_sum"])


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["path"].rsplit("/", 1)[-1])
def test_channel_values_are_those_of_other_readers(row: dict[str, str]) -> None:
    assert not any(row["path"].endswith(name) for name in REFUSED)
    events = read_events(data_sets(FOLDER / row["path"])[0], scaled=False)
    if any(row["path"].endswith(name) for name in DIFFERENCES):
        pytest.skip(DIFFERENCES[row["path"].rsplit("/", 1)[-1]])
    shape, total = oracle(row)
    assert f"{events.shape[0]}x{events.shape[1]}" == shape
    assert float(events.sum(dtype=np.float64)) == pytest.approx(total, rel=SUM_RTOL)


def test_a_wrong_header_offset_does_not_change_the_events() -> None:
    folder = FOLDER / "whitews_FlowIO/data/fcs_files"
    whole = read_events(only_data_set(folder / "variable_int_example.fcs"))
    for name in ("data_start_offset_discrepancy_example.fcs", "data_stop_offset_discrepancy_example.fcs"):
        damaged = only_data_set(folder / name)
        np.testing.assert_array_equal(read_events(damaged), whole)
        assert any("disagree" in note for note in damaged.notes)


@pytest.mark.filterwarnings("ignore:.*incorrect data offset")
def test_both_data_sets_of_a_coulter_file_are_read() -> None:
    path = FOLDER / "whitews_FlowIO/data/fcs_files/coulter.lmd"
    expected = flowio.read_multiple_data_sets(str(path), ignore_offset_error=True)  # HEADER is off by one
    found = data_sets(path)
    assert [one.version for one in found] == ["FCS2.0", "FCS3.0"]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(read_events(one, scaled=False), other.as_array(preprocess=False), rtol=1e-6)


# One file of each instrument: amplification and gain, value by value
SCALED = [
    "RGLab_flowCore/inst/extdata/0877408774.B08",
    "bioc_MetaCyto/inst/extdata/SDY420/ResultFiles/CyTOF_result/11059_cells_found.573523.fcs",
    "bioc_flowWorkspaceData/inst/extdata/diva/124500.fcs",
    "whitews_FlowIO/data/fcs_files/100715.fcs",
    "whitews_FlowIO/data/fcs_files/3FITC_4PE_004.fcs",
    "whitews_FlowIO/data/fcs_files/B01 KC-A-W---91-US.fcs",
    "whitews_FlowIO/data/fcs_files/G11.fcs",
    "whitews_FlowIO/data/fcs_files/data1.fcs",
    "taborlab_FlowCal/test/Data002.fcs",
]


@pytest.mark.parametrize("name", SCALED)
def test_intensities_are_those_of_flowio_except_time(name: str) -> None:
    one = only_data_set(FOLDER / name)
    other = flowio.FlowData(str(FOLDER / name)).as_array(preprocess=True)
    shown = [n for n, channel in enumerate(one.channels) if not channel.name.lower().startswith("time")]
    np.testing.assert_allclose(read_events(one)[:, shown], other[:, shown], rtol=2e-5)
