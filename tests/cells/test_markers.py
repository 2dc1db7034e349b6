import pytest

from swarmcell.cells.events import Label
from swarmcell.cells.markers import assign, display, key, markers_of, stripped
from swarmcell.cells.panel import Feature, Panel
from swarmcell.errors import PanelError


def panel(*features: Feature) -> Panel:
    return Panel("study", "cytometry", "", features, "arcsinh", 5.0)


def found(labels: list[Label], study: Panel | None = None, table: dict[str, str] | None = None) -> dict[str, int]:
    return markers_of(assign(labels, panel=study, table=table or {}, source="a.fcs"))


def test_two_channels_of_one_marker_are_an_error_that_lists_the_choices() -> None:
    labels = [Label("FL1-A", "CD4 FITC"), Label("FL2-A", "CD4 PE")]
    with pytest.raises(PanelError, match=r'a.fcs: 2 channels are CD4: "FL1-A" .CD4 FITC.; "FL2-A" .CD4 PE.') as caught:
        found(labels)
    assert '"FL2-A" = ""' in str(caught.value)


def test_the_choice_that_the_error_asks_for_is_taken() -> None:
    labels = [Label("FL1-A", "CD4 FITC"), Label("FL2-A", "CD4 PE")]
    assert found(labels, table={"FL2-A": ""}) == {"CD4": 0}
    assert found(labels, table={"FL2-A": "CD8"}) == {"CD4": 0, "CD8": 1}


def test_a_name_that_fits_two_markers_of_the_panel_is_an_error() -> None:
    study = panel(Feature("CD3e", "", ("CD3",)), Feature("CD3d", "", ("CD3",)))
    with pytest.raises(PanelError, match="may be CD3d or CD3e"):
        found([Label("FL1-A", "CD3")], study)


def test_a_table_that_names_no_marker_of_the_panel_is_an_error() -> None:
    with pytest.raises(PanelError, match="the panel does not hold"):
        found([Label("FL1-A", "CD3")], panel(Feature("CD4")), {"FL1-A": "CD99"})


@pytest.mark.parametrize(
    "written",
    ["CD45RA", "cd45-ra", "153Eu_CD45RA", "CD45RA(Eu153)Di", "CD45RA(Eu153)Dd", "Eu153Di_CD45RA", "CD45RA_153Eu"],
)
def test_ways_of_writing_one_marker_are_one_marker(written: str) -> None:
    assert display(stripped(written)) == "CD45RA"
    assert found([Label("Eu153Di", written)]) == {"CD45RA": 0}
    assert found([Label(written)], panel(Feature("CD45RA"))) == {"CD45RA": 0}


@pytest.mark.parametrize(
    ("written", "marker"),
    [
        ("CD15-FITC", "CD15"),
        ("CD45-ECD", "CD45"),
        ("CD56-PC7", "CD56"),
        ("PerCPCy5.5.CD16.32", "CD16/32"),
        ("DL800.SA.Bio.Ly6G", "Ly6G"),
        ("PECF594.CD135", "CD135"),
        ("BUV737.B220", "B220"),
        ("CD3 APC-Cy7", "CD3"),
        ("Comp-APC-A :: CD4", "CD4"),
        ("CD3(110:114)Dd", "CD3"),
        ("pStat5(Nd150)Dd", "pStat5"),
        ("TCR\N{GREEK SMALL LETTER GAMMA}\N{GREEK SMALL LETTER DELTA}", "TCRgd"),
        ("HLADR", "HLA-DR"),
        ("CCR7", "CD197"),
        ("Ki67", "Ki-67"),
        ("cd11C", "CD11c"),
        ("cd62l", "CD62L"),
        ("CD8 B PE", "CD8b"),
    ],
)
def test_tags_and_fluorochromes_are_stripped(written: str, marker: str) -> None:
    assert display(stripped(written)) == marker


@pytest.mark.parametrize(
    "written",
    ["Eu153Di", "(In115)Dd", "PerCP-Cy5-5-A", "Pacific Blue-A", "FL1-H", "FL2 Log", "BL1-A", "Comp.GYG.670.A"],
)
def test_a_channel_without_a_stain_is_no_marker(written: str) -> None:
    assert found([Label(written)]) == {}


@pytest.mark.parametrize(
    ("name", "stain"),
    [
        ("FSC-A", ""),
        ("SS Log", "SS Log"),
        ("Comp.FSC.PMT.A", ""),
        ("Time", "Time (51.20 sec.)"),
        ("Event_length", ""),
        ("Ir191Di", "191Ir_DNA1"),
        ("Pt195Di", "Cisplatin"),
        ("APC-Cy7-A", "Viab"),
        ("LiveDead.Blue", ""),
        ("Pd102Di", "BC1"),
        ("Residual", ""),
    ],
)
def test_scatter_time_dna_viability_and_barcodes_are_no_markers(name: str, stain: str) -> None:
    assert found([Label(name, stain)]) == {}


def test_the_stain_counts_before_the_name() -> None:
    study = panel(Feature("CD4"), Feature("CD8"))
    assert found([Label("CD8", "CD4")], study) == {"CD4": 0}


def test_synonyms_and_aliases_lead_to_the_panels_own_name() -> None:
    study = panel(Feature("PD-1"), Feature("CCR7"), Feature("Perforin", "PRF1", ("dG9",)))
    labels = [Label("BV421-A", "CD279"), Label("PE-A", "CD197 PE"), Label("APC-A", "dG9-APC")]
    assert found(labels, study) == {"PD-1": 0, "CCR7": 1, "Perforin": 2}


def test_a_synonym_never_beats_a_name_that_the_panel_gives_to_another_marker() -> None:
    study = panel(Feature("CD279"), Feature("PD-1", "PD-1 phospho"))
    assert found([Label("A", "PD-1")], study) == {"PD-1": 0}


def test_a_panel_may_list_a_channel_that_is_usually_none() -> None:
    assert found([Label("Ir191Di", "DNA1")], panel(Feature("DNA1"))) == {"DNA1": 0}


def test_areas_are_preferred_to_heights_and_compensated_to_raw() -> None:
    assert found([Label("APC-H", "CD3"), Label("APC-A", "CD3")]) == {"CD3": 1}
    assert found([Label("APC-A", "CD3"), Label("Comp-APC-A", "CD3")]) == {"CD3": 1}


def test_every_channel_says_what_became_of_it() -> None:
    labels = [Label("FSC-A"), Label("FL1-A", "CD4"), Label("FL2-A", "CD99")]
    shown = assign(labels, panel=panel(Feature("CD4")), table={}, source="a.fcs")
    assert [(one.marker, one.why) for one in shown] == [(None, "scatter"), ("CD4", "panel"), (None, "not in the panel")]


def test_a_key_is_letters_and_digits_alone() -> None:
    assert key("HLA-DR (\N{GREEK SMALL LETTER ALPHA})") == "HLADRA"
