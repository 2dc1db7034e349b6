"""A panel is known by its meaning: the same features in the same order have the same digest."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcell.cells import panel as panels
from swarmcell.cells.panel import Feature, Panel
from swarmcell.errors import InputError, OutputError, PanelError

THREE = Panel("three", "rna", "GRCh38", (Feature("ENSG00000000003", "TSPAN6", ("T245",)), Feature("g2"), Feature("g3")))
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1, max_size=8)

BAD = [
    ("not JSON", "{", "not JSON"),
    ("a list", "[]", "not a panel"),
    ("no features", '{"name": "x", "modality": "rna"}', "not a panel.*features"),
    ("empty", '{"name": "x", "modality": "rna", "features": []}', "0 features"),
    ("unknown key", '{"name": "x", "modality": "rna", "features": [{"id": "a"}], "cells": 3}', "unknown keys"),
    ("unknown modality", '{"name": "x", "modality": "atac", "features": [{"id": "a"}]}', "atac"),
    (
        "other transform",
        '{"name": "x", "modality": "rna", "transform": "arcsinh", "features": [{"id": "a"}]}',
        "arcsinh",
    ),
    ("newer format", '{"name": "x", "modality": "rna", "format": 9, "features": [{"id": "a"}]}', "format 9"),
    ("twice", '{"name": "x", "modality": "rna", "features": [{"id": "a"}, {"id": "a"}]}', "a is given twice"),
    ("empty ID", '{"name": "x", "modality": "rna", "features": [{"id": ""}]}', "empty"),
    ("version", '{"name": "x", "modality": "rna", "features": [{"id": "ENSG00000000003.15"}]}', "carries a version"),
    ("cofactor", '{"name": "x", "modality": "cytometry", "cofactor": -1, "features": [{"id": "a"}]}', "cofactor"),
]


@pytest.mark.parametrize(("text", "says"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_panel_file_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "panel.json"
    path.write_text(text)
    with pytest.raises(PanelError, match=f"panel.json.*{says}"):
        panels.load(path)


def test_missing_panel_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="swarmcell panel create"):
        panels.load(tmp_path / "none.json")


def test_panel_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "panel.json"
    panels.dump(THREE, path)
    with pytest.raises(OutputError, match="--force"):
        panels.dump(THREE, path)


@given(st.lists(NAMES, min_size=1, max_size=8, unique=True), st.data())
def test_what_was_dumped_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, ids: list[str], data: st.DataObject
) -> None:
    features = tuple(Feature(i, data.draw(NAMES), tuple(data.draw(st.lists(NAMES, max_size=2)))) for i in ids)
    panel = Panel(data.draw(NAMES), "rna", "here", features)
    path = tmp_path_factory.mktemp("panel") / "p.json"
    panels.dump(panel, path)
    assert panels.load(path) == panel
    assert panels.from_json(panels.to_json(panel), source="itself").sha256 == panel.sha256


def test_digest_is_fixed_for_all_time() -> None:
    assert THREE.sha256 == "fcb7c6c01c99305646445ae1f04e234a4ad62d338669b90dc714ddeba3cfe97e"


def test_digest_does_not_depend_on_indentation_or_key_order() -> None:
    content = json.loads(panels.to_json(THREE))
    text = json.dumps(dict(reversed(content.items())), indent=4)
    assert panels.from_json(text, source="itself").sha256 == THREE.sha256


def test_cofactor_5_and_5_0_are_the_same() -> None:
    a, b = (Panel("x", "cytometry", "", (Feature("CD3"),), "arcsinh", c) for c in (5, 5.0))
    assert a.sha256 == b.sha256


@pytest.mark.parametrize(
    "other",
    [
        Panel("three", "rna", "GRCh38", THREE.features[::-1]),
        Panel("three", "rna", "GRCh37", THREE.features),
        Panel("three", "rna", "GRCh38", THREE.features[:2]),
        Panel("three", "rna", "GRCh38", (Feature("ENSG00000000003", "TSPAN6"), *THREE.features[1:])),
    ],
    ids=["order", "reference", "fewer", "aliases"],
)
def test_difference_and_digest_agree(other: Panel) -> None:
    assert not panels.diff(THREE, other).same
    assert other.sha256 != THREE.sha256
    assert panels.diff(THREE, THREE).same


def test_the_difference_tells_the_coverage() -> None:
    assert panels.diff(THREE, Panel("x", "rna", "", THREE.features[:2])).coverage == 2 / 3
    assert panels.diff(Panel("x", "rna", "", THREE.features[:2]), THREE).coverage == 1
