"""Events from an .h5ad: X holds intensities, obs the labels, one sample of one donor at a time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import numpy.typing as npt
import pandas as pd

from swarmcell.cells.events import Events, EventTable, Label
from swarmcell.cells.missing import known
from swarmcell.cells.specimens import LABELS, Specimen, covariate_names
from swarmcell.errors import CellsError, InputError

_STAIN_COLUMNS = ("stain", "marker", "symbol", "$PnS", "desc")


def read_groups(path: Path, keys: Mapping[str, str]) -> list[tuple[Specimen, Events]]:
    """Read the events of an .h5ad, by donor and sample.

    Parameters
    ----------
    keys
        Label (`donor`, `sample`, `site`, `condition`, `cell_type`) to the obs column that holds it. Without a sample
        column every donor is one sample. Further names are of covariates.

    Returns
    -------
    list
        Sorted by donor and sample.

    Raises
    ------
    InputError
        If the file cannot be read.
    CellsError
        If there is no donor, a covariate has no column, or a sample has two conditions, sites or covariates.
    """
    adata = _read(path)
    labels = {label: _column(adata.obs, label, keys, path) for label in LABELS}
    beside = _covariates(adata.obs, keys, path)
    donors = labels["donor"]
    if donors is None:
        msg = f"{path}: obs has no donor (it has {', '.join(map(str, adata.obs.columns))}). Name it with --donor-key."
        raise CellsError(msg)
    if (missing := int(pd.isna(donors).sum())) > 0:
        msg = f"{path}: {missing} events have no donor. Complete obs, or leave them out."
        raise CellsError(msg)
    samples = donors if labels["sample"] is None else labels["sample"]
    codes, names = pd.factorize(pd.MultiIndex.from_arrays([donors, samples]), sort=True)
    return [_group(adata, np.flatnonzero(codes == n), labels, beside, samples, path) for n in range(len(names))]


def _read(path: Path) -> Any:  # noqa: ANN401 (an AnnData; its slots are typed wider than what a file in memory holds)
    if not path.is_file():
        msg = f"{path}: no such file. Check the path."
        raise InputError(msg)
    try:
        adata = ad.read_h5ad(path)
    except Exception as error:  # whatever HDF5 or anndata meets in a broken file
        msg = f"{path}: cannot be read as .h5ad ({(str(error).splitlines() or ['?'])[0][:200]}). Make it again."
        raise InputError(msg) from error
    if adata.X is None or 0 in adata.shape:
        msg = f"{path}: X holds no event ({adata.n_obs} x {adata.n_vars}). Check the file."
        raise CellsError(msg)
    return adata


def _column(obs: pd.DataFrame, label: str, keys: Mapping[str, str], path: Path) -> npt.NDArray[np.object_] | None:
    wanted = keys.get(label)
    if wanted and wanted != label and wanted not in obs:
        msg = f"{path}: obs has no column {wanted!r} for the {label}; it has {', '.join(map(str, obs.columns))}."
        raise CellsError(msg)
    name = wanted if wanted in obs else label
    if name not in obs:
        return None
    column = obs[name].astype(object)
    return np.array([None if pd.isna(one) else known(str(one)) for one in column], dtype=object)


def _covariates(obs: pd.DataFrame, keys: Mapping[str, str], path: Path) -> dict[str, npt.NDArray[np.object_] | None]:
    found = {name: _column(obs, name, keys, path) for name in covariate_names(keys)}
    for name, column in found.items():
        if column is None:
            msg = f"{path}: obs has no column {name!r} for the covariate; it has {', '.join(map(str, obs.columns))}."
            raise CellsError(msg)
    return found


def _group(
    adata: Any,  # noqa: ANN401
    rows: npt.NDArray[np.intp],
    labels: Mapping[str, npt.NDArray[np.object_] | None],
    beside: Mapping[str, npt.NDArray[np.object_] | None],
    samples: npt.NDArray[np.object_],
    path: Path,
) -> tuple[Specimen, Events]:
    one = {label: _only(labels[label], rows, label, path, samples) for label in ("donor", "site", "condition")}
    values = _dense(adata.X[rows])
    types = labels["cell_type"]
    specimen = Specimen(
        path=path,
        donor=str(one["donor"]),
        sample=str(samples[rows[0]]),
        site=one["site"],
        condition=one["condition"],
        covariates={name: _only(column, rows, name, path, samples) for name, column in beside.items()},
    )
    events = Events(
        source=f"{path.name}:{specimen.sample}",
        labels=_labels(adata),
        values=values,
        cell_types=None if types is None else types[rows],
        names=np.asarray(adata.obs_names, dtype=object)[rows],
    )
    return specimen, events


def _dense(values: Any) -> EventTable:  # noqa: ANN401
    plain = values.toarray() if hasattr(values, "toarray") else values
    return np.array(plain, np.float32, order="C")


def _only(
    column: npt.NDArray[np.object_] | None,
    rows: npt.NDArray[np.intp],
    label: str,
    path: Path,
    samples: npt.NDArray[np.object_],
) -> str | None:
    if column is None:
        return None
    found = pd.unique(column[rows])
    if len(found) > 1:
        msg = (
            f"{path}: sample {samples[rows[0]]!r} has {len(found)} {label}s ({', '.join(map(str, found[:5]))}); "
            "expected one. Give each specimen its own sample name (--sample-key)."
        )
        raise CellsError(msg)
    return None if found[0] is None else str(found[0])


def _labels(adata: Any) -> tuple[Label, ...]:  # noqa: ANN401
    column = next((name for name in _STAIN_COLUMNS if name in adata.var), None)
    stains = [""] * adata.n_vars if column is None else ["" if pd.isna(s) else str(s) for s in adata.var[column]]
    return tuple(Label(str(name), stain) for name, stain in zip(adata.var_names, stains, strict=True))
