"""The configuration of `swarmcell preprocess`: what the input is, which columns hold what, what is dropped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from swarmcell.cells.cytometry import CytometrySettings
from swarmcell.cells.labels import Columns, Vocabulary
from swarmcell.cells.qc import QcSettings
from swarmcell.cells.split import SplitRule
from swarmcell.config.base import FrozenModel, kind_of, parse, read_toml
from swarmcell.errors import ConfigError


class Reading(FrozenModel):
    """The `[reading]` table: what a reader must be told where a file leaves a choice."""

    genome: str | None = None  # of a 10x h5 file with several
    cells_in: Literal["auto", "rows", "columns"] = "auto"  # of a csv or tsv table


class PreprocessConfig(FrozenModel):
    """A preprocess configuration. Paths are relative to the file that names them.

    `input` says what X holds: raw `counts`, or values that are log-normalised already (`lognorm`: no count QC).
    """

    modality: Literal["rna", "cytometry"] = "rna"
    universe: Path | None = None  # None: the file's own features
    input: Literal["counts", "lognorm"] = "counts"
    storage: Literal["gzip", "blosc"] = "gzip"  # blosc: lz4, larger; readers need hdf5plugin
    site: str | None = None  # None: the name of the folder or file
    sheets: tuple[Path, ...] = ()
    columns: Columns = Field(default_factory=Columns)
    labels: Vocabulary = Field(default_factory=Vocabulary)
    reading: Reading = Field(default_factory=Reading)
    qc: QcSettings = Field(default_factory=QcSettings)
    split: SplitRule = Field(default_factory=SplitRule)
    cytometry: CytometrySettings = Field(default_factory=CytometrySettings)

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "PreprocessConfig":
        if self.modality == "cytometry" and self.input == "lognorm":
            msg = "input 'lognorm' is of RNA; cytometry has no counts to begin with. Leave it out"
            raise ValueError(msg)
        if self.split.held_out_sites and self.split.kind != "by-site":
            msg = "split.held_out_sites needs split.kind = 'by-site'"
            raise ValueError(msg)
        if bool(self.split.held_out_donors) != (self.split.kind == "by-donor"):
            msg = "split.held_out_donors and split.kind = 'by-donor' need each other"
            raise ValueError(msg)
        return self


def load(path: Path | None, overrides: Mapping[str, Any]) -> PreprocessConfig:
    """Read a configuration, or take the defaults; `overrides` (nested, as in the file) win.

    Raises
    ------
    InputError
        If the file cannot be read.
    ConfigError
        If it is of another kind, or a key is missing, unknown or impossible.
    """
    content = {} if path is None else _resolved(read_toml(path), path.parent)
    if {"study", "founders"} & content.keys():
        msg = f"{path}: {kind_of(content)}, expected how files are prepared, such as configs/rna.toml."
        raise ConfigError(msg)
    source = "the options" if path is None else f"{path}, with the options" if overrides else str(path)
    return parse(_merged(content, overrides), PreprocessConfig, source=source)


def _resolved(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    content = dict(content)
    if isinstance(content.get("universe"), str):
        content["universe"] = folder / content["universe"]
    if isinstance(content.get("sheets"), list):
        content["sheets"] = [folder / str(name) for name in content["sheets"]]
    cytometry = content.get("cytometry")
    if isinstance(cytometry, dict) and isinstance(cytometry.get("spillover"), str):
        content["cytometry"] = {**cytometry, "spillover": folder / cytometry["spillover"]}
    return content


def _merged(content: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(content)
    for key, value in overrides.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged
