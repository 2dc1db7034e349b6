"""`model export`: a linear cell classifier as a table that other tools, and people, can read.

Rules: rows are the scaling and then the cell types, columns the intercept and then the features in the panel's order.
Coefficients are those of scaled values, as CellTypist keeps them: `(x - scaler_mean) / scaler_scale @ row + intercept`.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from swarmcell.errors import ModelError
from swarmcell.files import write_whole
from swarmcell.model import released
from swarmcell.model.classifier import Scaling, to_floats
from swarmcell.model.released import TrainedModel
from swarmcell.model.stages import CELL, parameters_of
from swarmcell.workflows.stream import PreparedFile

MEAN, SCALE = "scaler_mean", "scaler_scale"


def export(model: Path, out: Path, *, symbols_of: Path | None = None, force: bool = False) -> int:
    """Write a model's cell task as CSV, and return the number of cell types.

    Parameters
    ----------
    symbols_of
        A prepared file whose `var["symbol"]` names the features; without it they have the panel's identifiers.

    Raises
    ------
    InputError, ModelError
        If a file is missing or broken, or the model has no linear cell task.
    OutputError
        If `out` exists (without `force`) or cannot be written.
    """
    trained = released.load(model)
    names = trained.panel_ids if symbols_of is None else _symbols(trained, symbols_of)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_rows(trained, names, str(model)))
    write_whole(out, text.getvalue().encode(), force=force)
    return len(trained.cell_types)


def _rows(trained: TrainedModel, names: tuple[str, ...], source: str) -> Iterator[list[str]]:
    if not trained.has_cell_task:
        msg = f"{source}: has no cell task to export; a patient task reads samples, which other tools do not know."
        raise ModelError(msg)
    parameters = to_floats(parameters_of(trained.state, CELL))
    if set(parameters) != {"bias", "weight"}:
        msg = f'{source}: only model = "linear" has a table of coefficients. Train with it, or use predict.'
        raise ModelError(msg)
    if trained.study.features.scaling == "site":
        msg = (
            f'{source}: its study scales by site ([study.features] scaling = "site"), which no table of one mean and '
            "SD per feature can say. Use predict, or train with the swarm's scaling."
        )
        raise ModelError(msg)
    scaling = Scaling.from_fixed(trained.state.arrays["mean"], trained.state.arrays["scale"])
    yield ["cell_type", "intercept", *names]
    yield [MEAN, "", *map(repr, np.asarray(scaling.mean).tolist())]
    yield [SCALE, "", *map(repr, np.asarray(scaling.scale).tolist())]
    for name, bias, weights in zip(trained.cell_types, parameters["bias"], parameters["weight"], strict=True):
        yield [name, repr(float(bias)), *map(repr, weights.tolist())]


def _symbols(trained: TrainedModel, path: Path) -> tuple[str, ...]:
    with PreparedFile(path) as file:
        known = dict(zip(map(str, file.var.index), file.var["symbol"].astype(str), strict=True))
    return tuple(known.get(name, "") or name for name in trained.panel_ids)
