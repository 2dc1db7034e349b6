"""What drives a model's answers: features of each cell type, features of a sample, and cells of a sample.

Rules: a coefficient is of a model, not of a disease. A classifier that `model.attribution` has no reading of has none
here either.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from swarmcell.cells.batches import Matrix
from swarmcell.metrics.patient import positive_condition
from swarmcell.model import attribution, bag_models, sample_features
from swarmcell.model.classifier import Scaling, to_floats
from swarmcell.model.released import TrainedModel
from swarmcell.model.sample_rows import counted_codes, sample_rows
from swarmcell.model.stages import parameters_of
from swarmcell.workflows.evaluation.portrait_values import Driver, Drivers

Floats = npt.NDArray[np.float64]

DRIVERS_SHOWN = 8  # per class; chosen, all of them stand in what `predict --explain` writes


def cell_drivers(model: TrainedModel, cells: Mapping[int, list[Floats]], names: tuple[str, ...]) -> tuple[Drivers, ...]:
    """Return the features that speak most for each cell type, and against it; empty for a classifier without a reading.

    Parameters
    ----------
    cells
        Type -> cells predicted as it, for classifiers whose drivers differ from cell to cell.
    """
    found = []
    for k, name in enumerate(model.cell_types):
        weights = driver_weights(model, k, np.concatenate(cells[k]) if cells.get(k) else None)
        if weights is not None:
            found.append(Drivers(name=name, drivers=_strongest(weights, names)))
    return tuple(found)


def driver_weights(model: TrainedModel, k: int, cells: Floats | None) -> Floats | None:
    """Return how each feature moves the logit of type `k` against the mean of the others, per standard deviation.

    For a perceptron the path gradient is averaged over `cells`; `None` where there are none, or no reading.
    """
    parameters = to_floats(parameters_of(model.state, "cell"))
    if not attribution.is_explainable(parameters):
        return None
    scaling = Scaling.from_fixed(model.state.arrays["mean"], model.state.arrays["scale"])
    rows = scaling.mean[None, :] if parameters.keys() == attribution.LINEAR else cells
    if rows is None:
        return None
    direction = attribution.against_rest(k, len(model.cell_types))
    gradient = attribution.path_gradients(parameters, rows, direction, scaling).mean(axis=0)
    return np.asarray(gradient * scaling.scale)


def _strongest(weights: Floats, names: tuple[str, ...]) -> tuple[Driver, ...]:
    order = np.argsort(-np.abs(weights), kind="stable")[:DRIVERS_SHOWN]
    return tuple(Driver(feature=names[i], weight=float(weights[i])) for i in order if weights[i] != 0)


def patient_drivers(model: TrainedModel, names: tuple[str, ...]) -> Drivers | None:
    """Return the sample features that speak most for the positive condition; `None` without a reading.

    A classifier that reads the cells themselves has no sample features: the list is empty.
    """
    if bag_models.is_of_bags(parameters_of(model.state, "patient")):
        return Drivers(name=model.conditions[positive_condition(model.conditions)], drivers=())
    reading = _patient_reading(model)
    if reading is None:
        return None
    parameters, scaling, direction = reading
    parts = sample_features.blocks(model.study, names)
    weights = attribution.path_gradients(parameters, scaling.mean[None, :], direction, scaling)[0] * scaling.scale
    widths = sample_features.weights(parts)  # the scale holds them: what is left is per standard deviation
    labels = tuple(name for block in parts for name in block.names)
    positive = model.conditions[positive_condition(model.conditions)]
    return Drivers(name=positive, drivers=_strongest(weights * widths, labels))


def _patient_reading(model: TrainedModel) -> tuple[dict[str, Floats], Scaling, Floats] | None:
    parameters = to_floats(parameters_of(model.state, "patient"))
    if not attribution.is_explainable(parameters):
        return None
    scaling = Scaling.from_fixed(model.state.arrays["patient.mean"], model.state.arrays["patient.scale"])
    positive = positive_condition(model.conditions)
    return parameters, scaling, attribution.against_rest(positive, len(model.conditions))


def contributions(model: TrainedModel, X: Matrix) -> Floats | None:
    """Share one sample's answer (log-odds of the positive condition, less the average sample's) among its cells.

    Returns
    -------
    Shape `(n_cells,)`, their mean being the sample's; `None` for a classifier without a reading.
    """
    if bag_models.is_of_bags(parameters_of(model.state, "patient")):
        direction = attribution.against_rest(positive_condition(model.conditions), len(model.conditions))
        return model.cell_contributions(X, direction)
    reading = _patient_reading(model)
    if reading is None:
        return None
    parameters, scaling, direction = reading
    rows = sample_rows(model.state, model.study, X, np.zeros(X.shape[0], np.int64), 1)
    parts = sample_features.blocks(model.study, model.panel_ids)
    if sum(block.width for block in parts) != rows.shape[1]:
        return None
    return attribution.cell_contributions(
        X,
        counted_codes(model.state, X),
        parts=parts,
        features=rows[0],
        gradient=attribution.path_gradients(parameters, rows, direction, scaling)[0],
        reference=scaling.mean,
    )
