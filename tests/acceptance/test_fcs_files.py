"""Real cytometry: every file of the collection becomes markers or is refused for a reason that holds."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swarmcell.cells.cytometry import CytometrySettings, to_markers
from swarmcell.cells.events import from_fcs
from swarmcell.cells.fcs import data_sets
from swarmcell.errors import SwarmcellError
from swarmcell.workflows.preprocessing.cytometry import PreparedEvents, prepare_events

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")

# What files of the collection lack, by their paths: every reason was looked up in the file
NO_STAIN = r"compdata|0877408774|FlowCal/(examples|test/Data00[123])|3FITC_4PE|B01 KC|coulter"  # detectors only
TRANSFORMED = r"cytofastData"  # arcsinh values of an HSNE export, up to 8
ANONYMOUS = r"S1400|offset_discrepancy|variable_int"  # stains written as x, some of the same length
REASONS = {NO_STAIN: "no channel is a marker", TRANSFORMED: "transformed already", ANONYMOUS: "2 channels are xxxx"}


def paths() -> list[str]:
    if not DATA.is_dir():
        return []
    with (DATA / "fcs_conformance" / "MANIFEST.csv").open(newline="") as file:
        return [row["path"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("path", paths())
def test_a_file_becomes_markers_or_is_refused_for_a_reason_that_holds(path: str) -> None:
    reason = next((said for pattern, said in REASONS.items() if re.search(pattern, path)), None)
    one = data_sets(DATA / "fcs_conformance" / path)[0]
    if reason is not None:
        with pytest.raises(SwarmcellError, match=reason):
            to_markers(from_fcs(one), settings=CytometrySettings(), panel=None)
        return
    cleaned = to_markers(from_fcs(one), settings=CytometrySettings(), panel=None)
    assert np.isfinite(cleaned.values).all()
    assert 0.6 * one.n_events <= len(cleaned.values) <= one.n_events
    assert len(cleaned.report.markers) == len(set(cleaned.report.markers)) >= 2


def prepared(name: str, **keys: str) -> PreparedEvents:
    options: dict[str, Any] = {"sheet": None, "site": "a", "universe": None, "seed": 0}
    return prepare_events(
        DATA / "cytometry" / name,
        keys=keys,
        settings=CytometrySettings(),
        observer=lambda _kind, _shown: None,
        **options,
    )


def test_flow_of_acute_myeloid_leukaemia_is_prepared() -> None:
    result = prepared("aml_flow")
    assert result.universe.ids == ("CD13", "CD15", "CD16", "CD45", "CD56")
    assert (result.universe.transform, result.universe.cofactor) == ("arcsinh", 150.0)
    assert result.adata.shape == (5000, 5)
    assert result.adata.obs.groupby("condition", observed=True)["donor"].nunique().to_dict() == {"aml": 5, "normal": 5}
    assert any("$DFC1TO2" in note for note in result.notes)  # a compensation that is not applied is said


def test_mass_cytometry_of_stimulated_blood_is_prepared() -> None:
    result = prepared("bcrxl_cytof", sample="sample_id")
    assert result.adata.shape == (5428, 24)
    assert result.universe.cofactor == 5.0
    assert result.qc["technology"] == "mass"
    assert {"CD3", "pS6", "HLA-DR", "pStat5"} <= set(result.universe.ids)
    assert result.adata.obs["sample"].nunique() == 8
    signal = result.adata[:, "pS6"].X[:, 0]
    stimulated = (result.adata.obs["condition"] == "BCRXL").to_numpy()
    assert signal[stimulated].mean() > 1.5 * signal[~stimulated].mean()  # crosslinking the receptors phosphorylates S6


def test_events_of_mouse_bone_marrow_are_prepared_from_an_h5ad() -> None:
    result = prepared("wnv12_mouse_bm_flow.h5ad")
    assert result.adata.shape == (120_000, 22)
    assert "already" in result.qc["files"][0]["compensation"]
    assert any("display channels" in note for note in result.notes)
