"""The data contract: what a prepared file holds, how it is read, checked and written.

Rules: whoever reads a prepared file reads it here, so a file that breaks the contract is refused once, with one
message. Labels are categories of plain strings; indexes are plain strings (other anndata versions must read them).
"""

import json
from pathlib import Path
from typing import Any, cast

import anndata as ad
import numpy as np
import pandas as pd

from swarmcell.cells import hdf5
from swarmcell.cells import panel as panels
from swarmcell.cells.panel import Panel
from swarmcell.cells.split import HELD_OUT, TRAIN
from swarmcell.errors import CellsError, InputError, PanelError
from swarmcell.files import writing

SCHEMA = 1
UNS = "swarmcell"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
COUNTS = "counts"
DONOR, SAMPLE, SITE, CONDITION, CELL_TYPE, SPLIT = "donor", "sample", "site", "condition", "cell_type", "split"
LABELS = (DONOR, SAMPLE, SITE, CONDITION, CELL_TYPE, SPLIT)
REQUIRED = (DONOR, SAMPLE, SITE, SPLIT)
INPUTS = ("counts", "lognorm", "events")
_UNS_KEYS = ("schema", "modality", "input", "universe_sha256", "universe", "qc", "provenance")


def missing(path: Path) -> InputError:
    """Return the error to raise for a prepared file that is not there."""
    found = "is a folder; expected a prepared file" if path.is_dir() else "no such file"
    return InputError(f"{path}: {found}. Make it with: swarmcell preprocess.")


def read_prepared(path: Path) -> ad.AnnData:
    """Read a file that `swarmcell preprocess` wrote, and check it.

    Raises
    ------
    InputError
        If the file is missing, truncated or not HDF5.
    CellsError
        If it breaks the data contract.
    """
    if path.is_dir() and path.suffix == ".zarr":
        return _read_zarr(path)
    if not path.is_file():
        raise missing(path)
    if not is_hdf5(path):
        msg = f"{path}: not an .h5ad file (it is no HDF5). Make one with: swarmcell preprocess."
        raise InputError(msg)
    try:
        adata = ad.read_h5ad(path)
    except Exception as error:  # whatever HDF5 or anndata meets in a broken file
        msg = f"{path}: cannot be read as .h5ad ({_first_line(error)}). It may be truncated: make it again."
        raise InputError(msg) from error
    check(adata, str(path))
    return adata


def _read_zarr(path: Path) -> ad.AnnData:
    try:
        adata = ad.io.read_zarr(path)
    except Exception as error:  # whatever zarr or anndata meets in a broken folder
        msg = f"{path}: cannot be read as zarr ({_first_line(error)}). It may be incomplete: make it again."
        raise InputError(msg) from error
    check(adata, str(path))
    return adata


def is_hdf5(path: Path) -> bool:
    """Tell whether a file begins as HDF5 does."""
    with path.open("rb") as file:
        return file.read(len(HDF5_MAGIC)) == HDF5_MAGIC


def write_prepared(adata: ad.AnnData, path: Path, *, force: bool = False) -> None:
    """Check `adata` and write it whole or not at all (gzip).

    Raises
    ------
    CellsError
        If it breaks the data contract.
    OutputError
        If `path` exists (without `force`), cannot be written, or the disk is full.
    """
    check(adata, str(path))
    with writing(path, force=force) as temporary, hdf5.output(temporary) as file:
        ad.io.write_elem(file, "/", plain(adata), dataset_kwargs={"compression": "gzip"})


def plain(adata: ad.AnnData) -> ad.AnnData:
    """Return `adata` with labels as categories of plain strings and indexes of plain strings."""
    adata = adata.copy() if adata.is_view else adata
    for frame in (adata.obs, adata.var):
        frame.index = pd.Index(np.asarray(frame.index, dtype=object), dtype=object, name=frame.index.name)
    for name in LABELS:
        if name in adata.obs:
            adata.obs[name] = categories(adata.obs[name])
    return adata


def categories(labels: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return `labels` as categories of plain strings, sorted; missing stays missing."""
    if isinstance(labels.dtype, pd.CategoricalDtype):
        return _renamed(labels)
    known = sorted({str(label) for label in labels.dropna().unique()})
    texts = labels.astype(object).where(labels.notna(), None).map(lambda v: v if v is None else str(v))
    values = pd.Categorical(texts, categories=pd.Index(known, dtype=object))
    return pd.Series(values, index=labels.index, name=labels.name)


def _renamed(labels: "pd.Series[Any]") -> "pd.Series[Any]":
    """Do as `categories` with what are categories already, without an object per cell."""
    used = labels.cat.remove_unused_categories()
    texts = [str(label) for label in used.cat.categories]
    known = sorted(set(texts))
    places = np.array([*map(known.index, texts), -1])  # code -1, missing, is the last
    values = pd.Categorical.from_codes(places[used.cat.codes], pd.Index(known, dtype=object))
    return pd.Series(values, index=labels.index, name=labels.name)


def contents(
    *, modality: str, source_kind: str, universe: Panel, qc: dict[str, Any], provenance: dict[str, Any]
) -> dict[str, Any]:
    """Return what stands in `uns["swarmcell"]`; `source_kind` is `counts`, `lognorm` or `events`."""
    return {
        "schema": SCHEMA,
        "modality": modality,
        "input": source_kind,
        "universe_sha256": universe.sha256,
        "universe": panels.to_json(universe),
        "qc": json.dumps(qc, sort_keys=True),
        "provenance": json.dumps(provenance, sort_keys=True),
    }


def universe_of(adata: ad.AnnData) -> Panel:
    """Return the universe that a prepared file carries."""
    return panels.from_json(str(adata.uns[UNS]["universe"]), source="the prepared file's universe")


def qc_of(adata: ad.AnnData) -> dict[str, Any]:
    """Return the QC summary that a prepared file carries."""
    return dict(json.loads(str(adata.uns[UNS]["qc"])))


def check(adata: ad.AnnData, source: str) -> None:
    """Check the data contract.

    Parameters
    ----------
    adata
        Cells, shape `(n_obs, n_vars)`, `n_vars` being the universe's features.
    source
        The name that an error shows.

    Raises
    ------
    CellsError
        If a slot is missing or holds what it must not.
    PanelError
        If the features are not those of the universe that the file carries.
    """
    _check_uns(adata, source)
    check_labels(cast("pd.DataFrame", adata.obs), source)
    _check_features(adata, source)
    if adata.uns[UNS]["input"] == "counts" and COUNTS not in adata.layers:
        msg = f"{source}: layers['counts'] is missing, though its input is counts. Prepare it again."
        raise CellsError(msg)
    check_values(adata, source)


def _check_uns(adata: ad.AnnData, source: str) -> None:
    stored = adata.uns.get(UNS)
    if not isinstance(stored, dict) or (missing := [key for key in _UNS_KEYS if key not in stored]):
        what = f"uns['{UNS}']" if not isinstance(stored, dict) else f"uns['{UNS}'] keys {missing}"
        msg = f"{source}: not prepared ({what} missing). Run: swarmcell preprocess {source} --out PREPARED.h5ad."
        raise CellsError(msg)
    if int(stored["schema"]) != SCHEMA:
        msg = f"{source}: schema {stored['schema']}, expected {SCHEMA}. Prepare it again with this version."
        raise CellsError(msg)
    if stored["input"] not in INPUTS:
        msg = f"{source}: input {stored['input']!r}, expected one of {', '.join(INPUTS)}. Prepare it again."
        raise CellsError(msg)


def check_labels(obs: pd.DataFrame, source: str) -> None:
    """Check that every cell has its labels, each donor is on one side, each sample of one donor and condition.

    Raises
    ------
    CellsError
        If not.
    """
    if not len(obs):
        msg = f"{source}: holds no cell. Loosen [qc] or check the input."
        raise CellsError(msg)
    for name in REQUIRED:
        if name not in obs:
            msg = f"{source}: obs[{name!r}] is missing. Prepare it again: swarmcell preprocess."
            raise CellsError(msg)
        if n_missing := int(obs[name].isna().sum()):
            msg = f"{source}: obs[{name!r}] is missing for {n_missing} cells. Complete the sheet, and prepare it again."
            raise CellsError(msg)
    sides = obs[[DONOR, SPLIT]].drop_duplicates().astype(str)
    if unknown := set(sides[SPLIT]) - {TRAIN, HELD_OUT}:
        msg = f"{source}: obs['split'] holds {sorted(unknown)}; expected {TRAIN!r} or {HELD_OUT!r}."
        raise CellsError(msg)
    if (both := sides[DONOR][sides[DONOR].duplicated()]).size:
        msg = f"{source}: donor {both.iloc[0]!r} is both trained on and held out. Split by donor: prepare it again."
        raise CellsError(msg)
    check_samples(obs, source)


def check_samples(obs: pd.DataFrame, source: str) -> None:
    """Check that a sample is of one donor and has one condition.

    Raises
    ------
    CellsError
        If a sample has two donors, or two conditions.
    """
    for name in (DONOR, CONDITION):
        if name not in obs:
            continue
        pairs = obs[[SAMPLE, name]].drop_duplicates().astype(object)
        if (twice := pairs[SAMPLE][pairs[SAMPLE].duplicated()]).size:
            sample = twice.iloc[0]
            found = sorted(map(str, pairs[name][pairs[SAMPLE] == sample]))
            msg = (
                f"{source}: sample {sample!r} has {len(found)} {name}s ({', '.join(found[:5])}); expected one. "
                "Give each specimen its own sample name (--sample-key, or the sheet's column `sample`)."
            )
            raise CellsError(msg)


def _check_features(adata: ad.AnnData, source: str) -> None:
    universe = universe_of(adata)
    if universe.sha256 != adata.uns[UNS]["universe_sha256"]:
        msg = f"{source}: its universe has not the digest that it states. It was changed: prepare it again."
        raise PanelError(msg)
    if tuple(adata.var_names) != universe.ids:
        msg = (
            f"{source}: its {adata.n_vars} features are not its universe's {len(universe.ids)}, in that order. "
            "It was changed: prepare it again."
        )
        raise PanelError(msg)
    for name in ("symbol", "present"):
        if name not in adata.var:
            msg = f"{source}: var[{name!r}] is missing. Prepare it again: swarmcell preprocess."
            raise CellsError(msg)


def check_values(adata: ad.AnnData, source: str) -> None:
    """Check that X is float32 and finite.

    Raises
    ------
    CellsError
        If not.
    """
    if adata.X is None or adata.X.dtype != np.float32:
        msg = f"{source}: X is {None if adata.X is None else adata.X.dtype}, expected float32. Prepare it again."
        raise CellsError(msg)
    stored: Any = adata.X
    if not np.isfinite(stored.data if hasattr(stored, "indptr") else stored).all():
        msg = f"{source}: X holds NaN or infinite values. Prepare it again."
        raise CellsError(msg)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
