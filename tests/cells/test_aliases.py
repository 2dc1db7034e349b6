"""Facts about other names of features: they join the panel, unless they would name two."""

from pathlib import Path

import pytest

from swarmcell.cells import aliases
from swarmcell.cells.panel import Feature, Panel
from swarmcell.errors import InputError

THREE = Panel("three", "rna", "GRCh38", (Feature("ENSG00000000003", "TSPAN6", ("T245",)), Feature("g2"), Feature("g3")))


def test_aliases_of_a_table_join_the_features_that_they_name() -> None:
    pairs = [("OLD", "TSPAN6"), ("T245", "TSPAN6"), ("second", "g2"), ("second", "g2"), ("elsewhere", "BRCA1")]
    made, left_out = aliases.added(THREE, pairs)
    assert [feature.aliases for feature in made.features] == [("T245", "OLD"), ("second",), ()]
    assert left_out == ()
    assert made.sha256 != THREE.sha256
    assert aliases.added(made, pairs)[0] == made


@pytest.mark.parametrize("alias", ["g3", "T245", "twice"])
def test_an_alias_that_would_name_two_features_names_none(alias: str) -> None:
    pairs = [("twice", "g2"), ("twice", "g3"), (alias, "g2")]
    made, left_out = aliases.added(THREE, pairs)
    assert alias in left_out
    assert made == THREE


def test_a_table_of_aliases_is_read_whatever_else_it_holds(tmp_path: Path) -> None:
    for name, separator in (("a.csv", ","), ("a.tsv", "\t")):
        rows = [("note", "alias", "feature"), ("x", " OLD ", "TSPAN6"), ("y", "", "g2")]
        (tmp_path / name).write_text("\ufeff" + "\n".join(separator.join(row) for row in rows), encoding="utf-8")
        assert aliases.read(tmp_path / name) == (("OLD", "TSPAN6"),)


@pytest.mark.parametrize(
    ("content", "says"), [("a,b\n1,2\n", "a, b; expected alias"), ("", "columns none"), (None, "read")]
)
def test_a_bad_table_of_aliases_is_refused_by_name(tmp_path: Path, content: str | None, says: str) -> None:
    path = tmp_path / "names.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=rf"names\.csv.*{says}"):
        aliases.read(path)
