"""`predict --explain`: what drives each cell type, per feature; and what each cell adds to its patient's answer.

Rules: the numbers are those of the report (`workflows.evaluation.drivers`), of all features and all cells. A feature
that the model does not read has driver 0. A classifier without a reading is refused, not skipped.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from swarmcell.cells.batches import filled
from swarmcell.errors import ModelError
from swarmcell.model.attribution import is_explainable
from swarmcell.model.bag_models import is_of_bags
from swarmcell.model.classifier import to_floats
from swarmcell.model.released import TrainedModel
from swarmcell.model.stages import parameters_of
from swarmcell.workflows.evaluation.drivers import contributions, driver_weights
from swarmcell.workflows.evaluation.portrait import EXPLAINED_CELLS_MAX
from swarmcell.workflows.stream import PreparedFile

Floats = npt.NDArray[np.float64]
CONTRIBUTION, DRIVERS = "predicted_condition_contribution", "predicted_cell_type_drivers"


def refuse_without_reading(model: TrainedModel) -> None:
    """Raise if a stage's classifier cannot be explained.

    Raises
    ------
    ModelError
        If it is of a kind that `model.attribution` has no reading of.
    """
    stages = [s for s, has in (("cell", model.has_cell_task), ("patient", model.has_patient_task)) if has]
    for stage in stages:
        parameters = to_floats(parameters_of(model.state, stage))
        if not (is_explainable(parameters) or is_of_bags(parameters)):
            msg = f"--explain: the {stage} classifier of this model has no reading of its drivers. Leave --explain out."
            raise ModelError(msg)


def drivers_of(model: TrainedModel, file: PreparedFile) -> pd.DataFrame:
    """Return the drivers of each cell type: rows as the file's features, columns as the model's types."""
    cells = _some_cells(model, file)
    place = {name: i for i, name in enumerate(model.panel_ids)}
    at = np.array([place.get(name, -1) for name in map(str, file.var.index)], dtype=np.int64)
    table = pd.DataFrame(0.0, index=file.var.index, columns=pd.Index(model.cell_types, dtype=object), dtype=np.float32)
    for k, name in enumerate(model.cell_types):
        weights = driver_weights(model, k, cells.get(k))
        if weights is not None:
            table[name] = np.where(at >= 0, weights[at], 0.0).astype(np.float32)
    return table


def _some_cells(model: TrainedModel, file: PreparedFile) -> dict[int, Floats]:
    """Return some cells called each type, for classifiers whose drivers differ from cell to cell."""
    if "hidden_weight" not in parameters_of(model.state, "cell"):
        return {}
    kept: dict[int, list[Floats]] = {}
    for block in file.blocks(np.arange(file.n_cells)):
        X = model.on_panel(block.cells)
        types = model.cell_logits(X).argmax(axis=1)
        for k in np.unique(types):
            room = EXPLAINED_CELLS_MAX - sum(map(len, kept.get(int(k), [])))
            if room > 0:
                rows = filled(X[np.flatnonzero(types == k)[:room]]).astype(np.float64)
                kept.setdefault(int(k), []).append(rows)
    return {k: np.concatenate(parts) for k, parts in kept.items()}


def contributions_of(
    model: TrainedModel, file: PreparedFile, progress: Callable[[int], None]
) -> npt.NDArray[np.float32]:
    """Return what each cell adds to the log-odds of its sample, shape `(n_cells,)`; a sample's mean is its own."""
    _, code = np.unique(file.labels("sample").astype(str), return_inverse=True)
    code = code.astype(np.int64)
    found = np.full(file.n_cells, np.nan, dtype=np.float32)
    for block in file.groups(np.arange(file.n_cells), code):
        X = model.on_panel(block.cells)
        for sample in np.unique(code[block.rows]):
            mine = np.flatnonzero(code[block.rows] == sample)
            shared = contributions(model, X[mine])
            if shared is not None:
                found[block.rows[mine]] = shared
        progress(len(block.rows))
    return found
