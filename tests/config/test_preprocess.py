"""The preprocess configuration: options win, paths are the file's, mistakes are named."""

from pathlib import Path
from typing import Any

import pytest

from swarmcell.config.preprocess import load
from swarmcell.errors import ConfigError

BAD: list[tuple[str, str]] = [
    ("colour = 1", "colour: unknown key"),
    ("[qc]\nmin_gene = 3", "qc.min_gene: unknown key"),
    ("[qc]\nmin_genes = -1", "qc.min_genes"),
    ("[qc]\nmax_mito_share = 8", "qc.max_mito_share"),
    ('[split]\nkind = "random"', "split.kind"),
    ('[split]\nheld_out_sites = ["a"]', "needs split.kind"),
    ('[split]\nkind = "by-donor"', "need each other$"),
    ('modality = "cytometry"\ninput = "lognorm"', "is of RNA"),
]


@pytest.mark.parametrize(("text", "says"), BAD)
def test_mistake_is_named_with_its_key(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "rna.toml").write_text(text)
    with pytest.raises(ConfigError, match=says):
        load(tmp_path / "rna.toml", {})


def test_paths_are_relative_to_the_file_and_options_win(tmp_path: Path) -> None:
    (tmp_path / "rna.toml").write_text('universe = "u.json"\n[columns]\ndonor = "a"\nsample = "s"\n')
    overrides: dict[str, Any] = {"columns": {"donor": "b"}}
    config = load(tmp_path / "rna.toml", overrides)
    assert config.universe == tmp_path / "u.json"
    assert (config.columns.donor, config.columns.sample) == ("b", "s")
