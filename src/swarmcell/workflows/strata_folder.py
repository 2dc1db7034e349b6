"""The folder of a study of strata: what it holds, what it must not replace, and copies of cells with their strata."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd

from swarmcell.errors import OutputError, UsageError
from swarmcell.files import writing
from swarmcell.workflows import sample_table
from swarmcell.workflows.stream import PreparedFile

MODEL, RESULT, SAMPLES = "strata.safetensors", "strata.json", "samples.csv"
STRATUM, MEMBERSHIP = "stratum", "stratum_membership"


def refuse(folder: Path, prepared: Sequence[Path], *, annotate: bool, force: bool) -> None:
    """Refuse what could not be written in the end.

    Parameters
    ----------
    annotate
        Whether copies of the prepared files will be written.

    Raises
    ------
    UsageError
        If no prepared file is given, or a copy would replace one, or another copy.
    OutputError
        If the folder holds strata (without `force`), or cannot be made.
    """
    if not prepared:
        msg = "no prepared file is given. Make one with: swarmcell preprocess."
        raise UsageError(msg)
    if folder.exists() and not folder.is_dir():
        msg = f"{folder}: is a file; expected the name of a folder. Choose another with --out."
        raise OutputError(msg)
    if (folder / RESULT).exists() and not force:
        msg = f"{folder}: holds strata already. Replace them with --force, or choose another folder with --out."
        raise OutputError(msg)
    if annotate:
        _refuse_copies(folder, prepared)
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        msg = f"{folder}: cannot be made, for {there} cannot be written. Choose another folder with --out."
        raise OutputError(msg)


def _refuse_copies(folder: Path, prepared: Sequence[Path]) -> None:
    """Refuse annotated copies that would replace a prepared file, or one another."""
    for path in prepared:
        if (folder / path.name).resolve() == path.resolve():
            msg = f"{path}: lies in the folder of the results, and is never changed. Choose another with --out."
            raise UsageError(msg)
    names = [path.name for path in dict.fromkeys(prepared)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        msg = f"two prepared files are called {twice}, and so would be their copies. Rename one, or give --no-obs."
        raise UsageError(msg)


def annotate(prepared: Path, out: Path, samples: pd.DataFrame) -> None:
    """Write a copy of a prepared file with each cell's stratum and its sample's membership in `obs`."""
    names = samples["donor"] + "\x1f" + samples["sample"]
    with PreparedFile(prepared) as file:
        code, known = sample_table.sample_codes(file)
        obs = file.obs.drop(columns=[STRATUM, MEMBERSHIP], errors="ignore")
    place = {name: i for i, name in enumerate(names)}
    rows = [
        place.get(f"{donor}\x1f{sample}", place.get(f"{site}:{donor}\x1f{sample}", -1)) for site, donor, sample in known
    ]
    of_cell = np.array(rows)[code]
    labels = samples[STRATUM].astype(str).to_numpy()[of_cell]
    obs[STRATUM] = pd.Categorical(labels, categories=pd.Index(sorted(set(labels), key=int), dtype=object))
    obs[MEMBERSHIP] = samples["membership"].to_numpy()[of_cell].astype(np.float32)
    with writing(out, force=True) as temporary:
        shutil.copyfile(prepared, temporary)
        with h5py.File(temporary, "r+") as copy:  # type: ignore[no-untyped-call, attr-defined]
            del copy["obs"]
            ad.io.write_elem(copy, "obs", obs)
