"""`predict`: a model's labels and probabilities, written into a copy of a prepared file of any size.

Rules: the copy is made file to file and predictions are added to it, so nothing of the input is lost or held in memory.
What is added: `obs` columns, `obsm` probabilities in the order of `uns["swarmcell_prediction"]`'s labels, and there a
table by sample. Predictions of an earlier run are replaced.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import numpy.typing as npt
import pandas as pd

from swarmcell.cells import hdf5
from swarmcell.errors import ModelError, UsageError
from swarmcell.files import refuse_existing, writing
from swarmcell.model import released
from swarmcell.model.released import TrainedModel
from swarmcell.workflows import explain as explained
from swarmcell.workflows.evaluate import silent
from swarmcell.workflows.evaluation.fit import check_fit
from swarmcell.workflows.evaluation.scores import UNKNOWN_RATE
from swarmcell.workflows.stream import PreparedFile

Observer = Callable[[str, dict[str, Any]], None]
Floats = npt.NDArray[np.float32]

UNKNOWN = "unknown"
CLUSTER = "predicted_cluster"
CELL_TYPE, CELL_PROBABILITY = "predicted_cell_type", "predicted_cell_type_probability"
CONDITION, CONDITION_PROBABILITY = "predicted_condition", "predicted_condition_probability"
ATTENTION = "predicted_condition_attention"
NOVELTY = "predicted_cell_type_novelty"
PROBABILITIES = "predicted_cell_type_probabilities"
UNS = "swarmcell_prediction"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What was predicted.

    Attributes
    ----------
    cells_by_type
        Cells per predicted type (with `unknown`); empty if the model has no cell task.
    cells_by_cluster
        Cells per cluster; empty if the model's study clustered none.
    samples
        Sample -> condition -> probability; empty if the model has no patient task.
    """

    model_digest: str
    study: str
    n_cells: int
    cells_by_type: Mapping[str, int]
    cells_by_cluster: Mapping[str, int]
    samples: Mapping[str, Mapping[str, float]]

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            "model_digest": self.model_digest,
            "study": self.study,
            "n_cells": self.n_cells,
            "cells_by_type": dict(self.cells_by_type),
            "cells_by_cluster": dict(self.cells_by_cluster),
            "samples": {name: dict(p) for name, p in self.samples.items()},
        }


def predict(
    model: Path,
    prepared: Path,
    out: Path,
    *,
    unknown_rate: float = UNKNOWN_RATE,
    unknown_below: float = 0.0,
    explain: bool = False,
    force: bool = False,
    observer: Observer = silent,
) -> Prediction:
    """Predict all cells and samples of a prepared file into a copy of it.

    Parameters
    ----------
    model
        Model file.
    prepared
        Prepared file; every cell is predicted, whatever its split.
    out
        File to write.
    unknown_rate
        Share of known cells that may be called `unknown`: cells less like any known type than all but this share of
        the swarm's inner-validation cells are. 0: none. A model that was not calibrated calls none.
    unknown_below
        Cells whose largest probability is below this are called `unknown`; 0 names every cell.
    explain
        Whether to write what drives each type (`varm`) and what each cell adds to its patient's answer (`obs`) too.
    force
        Replace `out` if it exists.
    observer
        Called with `("total", {"n": n})` and `("progress", {"n": n})`: cells to pass, cells passed.

    Raises
    ------
    UsageError
        If `out` is the prepared file itself.
    InputError
        If a file is missing or unreadable.
    CellsError
        If the file breaks the data contract.
    ModelError
        If the model is corrupt, or does not fit the cells.
    OutputError
        If `out` exists (without `force`), cannot be written, or the disk is full.
    """
    if out.resolve() == prepared.resolve():
        msg = f"{out}: is the prepared file itself, which is never changed. Choose another --out."
        raise UsageError(msg)
    trained = released.load(model)
    if not (trained.has_cell_task or trained.has_patient_task or trained.has_clusters):
        msg = f"{model}: has neither a cell nor a patient task to predict. Train a study with labels."
        raise ModelError(msg)
    refuse_existing(out, force=force)
    if explain:
        explained.refuse_without_reading(trained)
    passes = trained.has_cell_task + trained.has_clusters + trained.has_patient_task * (1 + explain)
    with PreparedFile(prepared) as file:
        check_fit(trained, model, file)
        observer("total", {"n": file.n_cells * passes})
        with writing(out, force=force) as temporary:
            shutil.copyfile(prepared, temporary)
            with hdf5.output(temporary, mode="r+") as copy:
                beside = _explained(trained, file, copy, observer) if explain else {}
                unknown = _Unknown(trained.unknown_from(unknown_rate), unknown_below)
                return _fill(trained, file, copy, unknown, observer, beside)


def _explained(
    model: TrainedModel,
    file: PreparedFile,
    copy: Any,  # noqa: ANN401 (an open HDF5 file)
    observer: Observer,
) -> dict[str, Floats]:
    """Write `varm`, and return columns for `obs`."""
    if model.has_cell_task:
        _replace(copy, f"varm/{explained.DRIVERS}", explained.drivers_of(model, file))
    if not model.has_patient_task:
        return {}
    found = explained.contributions_of(model, file, lambda n: observer("progress", {"n": n}))
    return {explained.CONTRIBUTION: found}


@dataclass(frozen=True)
class _Unknown:
    """When a cell is called unknown: a novelty from `novelty_from`, or a probability below `below`."""

    novelty_from: float
    below: float

    @property
    def is_used(self) -> bool:
        return self.below > 0 or np.isfinite(self.novelty_from)

    def __call__(self, probability: Floats, novelty: Floats) -> npt.NDArray[np.bool_]:
        return np.asarray((probability < self.below) | (novelty >= self.novelty_from))


def _fill(
    model: TrainedModel,
    file: PreparedFile,
    copy: Any,  # noqa: ANN401 (an open HDF5 file)
    unknown: _Unknown,
    observer: Observer,
    beside: Mapping[str, Floats],
) -> Prediction:
    own = [CELL_TYPE, CELL_PROBABILITY, NOVELTY, CONDITION, CONDITION_PROBABILITY, ATTENTION, explained.CONTRIBUTION]
    obs = file.obs.drop(columns=[*own, CLUSTER], errors="ignore").assign(**beside)
    stored: dict[str, Any] = {"model_digest": model.digest, "study": model.study.name}
    by_type: dict[str, int] = {}
    by_cluster: dict[str, int] = {}
    samples: dict[str, dict[str, float]] = {}
    if model.has_cell_task:
        target = _dataset(copy, file.n_cells, len(model.cell_types))
        label, probability, novelty = _cells(model, file, target, observer)
        names = [*model.cell_types, UNKNOWN] if unknown.is_used else list(model.cell_types)
        label = np.where(unknown(probability, novelty), len(model.cell_types), label)
        obs[CELL_TYPE] = _categorical(label, names)
        obs[CELL_PROBABILITY] = probability
        if model.novelty is not None:
            obs[NOVELTY] = novelty
        by_type = _counts(label, names)
        stored |= {"cell_types": list(model.cell_types), "unknown_below": unknown.below}
        stored["unknown_novelty_from"] = unknown.novelty_from
    if model.has_clusters:
        clusters, names = _clusters(model, file, observer), list(model.study.counted_types)
        obs[CLUSTER], by_cluster = _categorical(clusters, names), _counts(clusters, names)
    if model.has_patient_task:
        samples, attention = _samples(model, file, observer)
        if attention is not None:
            obs[ATTENTION] = attention
        table = np.array([list(p.values()) for p in samples.values()])
        at = pd.Index(list(samples)).get_indexer(pd.Index(file.labels("sample")))
        obs[CONDITION] = _categorical(table.argmax(axis=1)[at], list(model.conditions))
        obs[CONDITION_PROBABILITY] = table.max(axis=1)[at].astype(np.float32)
        stored |= {"conditions": list(model.conditions), "samples": json.dumps(samples)}
    _replace(copy, "obs", obs)
    _replace(copy, f"uns/{UNS}", stored)
    return Prediction(
        model_digest=model.digest,
        study=model.study.name,
        n_cells=file.n_cells,
        cells_by_type=by_type,
        cells_by_cluster=by_cluster,
        samples=samples,
    )


def _counts(code: npt.NDArray[np.int64], names: list[str]) -> dict[str, int]:
    """Return how many cells each name has."""
    return dict(zip(names, np.bincount(code, minlength=len(names)).tolist(), strict=True))


def _clusters(model: TrainedModel, file: PreparedFile, observer: Observer) -> npt.NDArray[np.int64]:
    """Return each cell's cluster."""
    found = np.empty(file.n_cells, dtype=np.int64)
    for block in file.blocks(np.arange(file.n_cells)):
        found[block.rows] = model.counted_cells(block.cells)
        observer("progress", {"n": len(block.rows)})
    return found


def _cells(
    model: TrainedModel,
    file: PreparedFile,
    target: Any,  # noqa: ANN401 (an HDF5 dataset)
    observer: Observer,
) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Return each cell's likeliest type, its probability and the cell's novelty."""
    label = np.empty(file.n_cells, dtype=np.int64)
    top, novelty = np.empty(file.n_cells, dtype=np.float32), np.empty(file.n_cells, dtype=np.float32)
    for block in file.blocks(np.arange(file.n_cells)):
        probabilities, novelty[block.rows] = model.judge_cells(block.cells)
        label[block.rows], top[block.rows] = probabilities.argmax(axis=1), probabilities.max(axis=1)
        target[block.rows[0] : block.rows[-1] + 1] = probabilities
        observer("progress", {"n": len(block.rows)})
    return label, top, novelty


def _samples(
    model: TrainedModel, file: PreparedFile, observer: Observer
) -> tuple[dict[str, dict[str, float]], Floats | None]:
    """Return each sample's probabilities, and each cell's attention where the model has any."""
    attention = np.empty(file.n_cells, dtype=np.float32) if model.has_attention else None
    _, code = np.unique(file.labels("sample").astype(str), return_inverse=True)
    found: dict[str, dict[str, float]] = {}
    for block in file.groups(np.arange(file.n_cells), code.astype(np.int64)):
        names, probabilities = model.predict_samples(block.cells)
        rows = (dict(zip(model.conditions, map(float, row), strict=True)) for row in probabilities)
        found |= dict(zip(names, rows, strict=True))
        if attention is not None:
            attention[block.rows] = model.cell_attention(block.cells)
        observer("progress", {"n": len(block.rows)})
    return dict(sorted(found.items())), attention


def _dataset(copy: Any, n_cells: int, n_classes: int) -> Any:  # noqa: ANN401 (an HDF5 file, an HDF5 dataset)
    """Make `obsm` probabilities on disk, to be filled block by block."""
    _replace(copy, f"obsm/{PROBABILITIES}", np.zeros((1, n_classes), dtype=np.float32))
    group, attributes = copy["obsm"], dict(copy["obsm"][PROBABILITIES].attrs)
    del group[PROBABILITIES]
    chunks = (min(n_cells, 8192), n_classes)
    made = group.create_dataset(PROBABILITIES, (n_cells, n_classes), "f4", chunks=chunks, compression="gzip")
    made.attrs.update(attributes)
    return made


def _replace(copy: Any, key: str, element: Any) -> None:  # noqa: ANN401 (an HDF5 file; what anndata can write)
    if key in copy:
        del copy[key]
    parent, _, name = key.rpartition("/")  # anndata 0.13 takes no path for a key
    ad.io.write_elem(copy[parent] if parent else copy, name, element)


def _categorical(code: npt.NDArray[np.int64], names: list[str]) -> pd.Categorical:
    return pd.Categorical.from_codes(code, categories=pd.Index(names, dtype=object))
