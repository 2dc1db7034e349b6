"""What RNA and cytometry have in common on their way to a prepared file: the split, the description, the provenance."""

import hashlib
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from swarmcell.cells import labels, schema, split
from swarmcell.cells.panel import Panel
from swarmcell.cells.schema import CELL_TYPE, CONDITION, DONOR, SAMPLE, SITE, SPLIT
from swarmcell.config.preprocess import PreprocessConfig

Observer = Callable[[str, dict[str, Any]], None]


def assigned(obs: pd.DataFrame, config: PreprocessConfig) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Add the split, site by site, and make labels categories; return notes on small sites too.

    Raises
    ------
    CellsError
        If donors cannot be split, or labels break the data contract.
    """
    obs, notes = obs.copy(), list[str]()
    by_site, sides = pd.Categorical(obs[SITE].astype("category")), np.full(len(obs), split.TRAIN, dtype=object)
    for number, site in enumerate(map(str, by_site.categories)):
        mine = np.asarray(by_site.codes == number)
        rows = obs if mine.all() else obs[mine]
        made = split.assign(labels.strata(rows), config.split, site=site)
        donors = pd.Categorical(rows[DONOR].astype("category"))
        used = np.unique(donors.codes)
        side_of = {int(code): made.side[str(donors.categories[code])] for code in used}
        sides[mine] = pd.Series(donors.codes).map(side_of).to_numpy(dtype=object)
        notes += [*made.notes, *_lonely(rows, site)]
    obs[SPLIT] = sides
    for name in (*schema.LABELS, *config.columns.covariates):
        if name in obs:
            obs[name] = schema.categories(obs[name])
    obs.index = pd.Index(np.asarray(obs.index, dtype=object), dtype=object)
    schema.check_labels(obs, "the cells")
    return obs, tuple(notes)


def _lonely(obs: pd.DataFrame, site: str) -> Iterator[str]:
    if obs[DONOR].nunique() == 1:
        yield f"{site}: has one donor."
    if CONDITION in obs and obs[CONDITION].nunique() == 1:
        yield f"{site}: has one condition ({obs[CONDITION].iloc[0]}); it cannot learn the patient task alone."


def described(obs: pd.DataFrame, universe: Panel) -> dict[str, Any]:
    """Return who the prepared cells are of, as plain values for JSON."""
    held = obs[obs[SPLIT] == split.HELD_OUT]
    names = {key: sorted(map(str, obs[key].unique())) for key in (SITE, CONDITION, CELL_TYPE) if key in obs}
    return {
        "cells": len(obs),
        "features": len(universe.ids),
        "universe_sha256": universe.sha256,
        "sites": names[SITE],
        "donors": int(obs[DONOR].nunique()),
        "samples": int(obs[SAMPLE].nunique()),
        "held_out_donors": sorted(map(str, held[DONOR].unique())),
        "conditions": names.get(CONDITION, []),
        "cell_types": names.get(CELL_TYPE, []),
    }


def provenance(config: PreprocessConfig, digests: dict[str, str]) -> dict[str, Any]:
    """Return what a prepared file was made of and by what, without a place: input digests, versions, settings."""
    packages = ("swarmcell", "anndata", "numpy", "scipy", "pandas")
    stated = config.model_dump(mode="json", exclude={"universe", "sheets"})
    return {
        "inputs_sha256": digests,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "config": stated,
    }


def sha256(path: Path) -> str:
    """Return a file's SHA-256, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def site_name(source: Path) -> str:
    """Return the name that a site has where none is given: that of its folder or file."""
    return labels.stem(source.resolve().name)
