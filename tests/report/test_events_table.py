from io import StringIO
from typing import Any

from rich.console import Console, Group

from swarmcell.report.events_table import DONORS_SHOWN, events_summary

COUNTS = {"cells_in": 2000, "cells_out": 1900, "dropped": {"margins": 60, "viability": 40}}
QC: dict[str, Any] = {
    **COUNTS,
    "technology": "flow",
    "transform": "arcsinh",
    "cofactor": 150.0,
    "files": [{"compensation": "none: no spillover matrix"}] * 2,
    "channels": [{"marker": "CD4"}, {"marker": ""}],
    "donors": {f"d{n}": COUNTS for n in range(2)},
}


def shown(qc: dict[str, Any]) -> str:
    written = StringIO()
    Console(width=100, file=written).print(Group(*events_summary(qc)))
    return written.getvalue()


def test_every_donor_is_shown_with_events_in_out_and_why() -> None:
    lines = shown(QC).splitlines()
    assert any(all(word in line for word in ("donor", "in", "margins", "viability", "out")) for line in lines)
    assert any(all(word in line for word in ("d1", "2,000", "60", "40", "1,900")) for line in lines)
    assert "flow cytometry, 1 markers, transform arcsinh with cofactor 150" in lines
    assert "compensation: none: no spillover matrix (2 of 2 files)" in lines


def test_many_donors_are_shortened() -> None:
    text = shown(QC | {"donors": {f"d{n}": COUNTS for n in range(DONORS_SHOWN + 3)}})
    assert "... 3 more donors" in text
