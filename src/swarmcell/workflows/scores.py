"""What a model says of a cohort, reduced to what the figures need: sums per donor, probabilities per sample.

Rules: cells pass in blocks; nothing here grows with the number of cells.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from swarmcell.metrics import cell
from swarmcell.metrics.calibration import N_BINS, reliability_sums
from swarmcell.model.released import TrainedModel
from swarmcell.workflows.cohort import UNLABELLED, Cohort

if TYPE_CHECKING:
    from anndata import AnnData

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Progress = Callable[[int], None]
THRESHOLDS: Floats = np.round(np.arange(0.0, 1.0, 0.05), 2)  # of the probability of the predicted class; chosen


@dataclass(frozen=True, eq=False)
class CellScores:
    """The cell task, summed per donor.

    Attributes
    ----------
    confusion
        Cells by true and predicted type, shape `(n_donors, n_types, n_types)`.
    reliability
        Rows, confidence and hits per bin of confidence, shape `(n_donors, n_bins, 3)`.
    called
        Cells whose confidence reaches each of `THRESHOLDS`, and hits among them, shape `(n_donors, n_thresholds, 2)`.
    """

    confusion: Integers
    reliability: Floats
    called: Integers


class CellModel(Protocol):
    """What is asked of a model of cells, or of a baseline."""

    @property
    def cell_types(self) -> tuple[str, ...]:
        """Classes, in the order of the probabilities."""

    def predict_cells(self, adata: "AnnData", /) -> Floats:
        """Return each cell's probabilities, shape `(n_obs, n_classes)`."""


def score_cells(model: CellModel, cohort: Cohort, progress: Progress) -> CellScores:
    """Predict all held-out cells whose type is known; `progress` gets the number of cells of each block."""
    n_donors, n_types = len(cohort.donors), len(cohort.cell_types)
    sums = CellScores(
        confusion=np.zeros((n_donors, n_types, n_types), dtype=np.int64),
        reliability=np.zeros((n_donors, N_BINS, 3)),
        called=np.zeros((n_donors, len(THRESHOLDS), 2), dtype=np.int64),
    )
    for part in cohort.parts:
        known = np.flatnonzero(part.cell_type != UNLABELLED)
        for block in part.file.blocks(part.rows[known]):
            at = known[np.searchsorted(part.rows[known], block.rows)]
            probabilities = in_vocabulary(model.predict_cells(block.cells), model.cell_types, cohort.cell_types)
            _add(sums, probabilities, part.cell_type[at], part.donor[at])
            progress(len(at))
    return sums


def in_vocabulary(probabilities: Floats, own: tuple[str, ...], common: tuple[str, ...]) -> Floats:
    """Return probabilities with a column per label of `common`; labels that the model does not know get 0."""
    if own == common:
        return probabilities
    spread = np.zeros((len(probabilities), len(common)))
    spread[:, [common.index(label) for label in own]] = probabilities
    return spread


def _add(sums: CellScores, probabilities: Floats, true: Integers, donor: Integers) -> None:
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    n_types = probabilities.shape[1]
    for number in np.unique(donor):
        mine = donor == number
        hit = predicted[mine] == true[mine]
        reached = confidence[mine][:, None] >= THRESHOLDS
        sums.confusion[number] += cell.confusion(true[mine], predicted[mine], n_types)
        sums.reliability[number] += reliability_sums(confidence[mine], hit)
        sums.called[number] += np.stack([reached.sum(axis=0), (reached & hit[:, None]).sum(axis=0)], axis=1)


def score_samples(model: TrainedModel, cohort: Cohort, progress: Progress) -> Floats:
    """Predict all held-out samples, each from all its cells: probabilities, shape `(n_samples, n_conditions)`."""
    probabilities = np.full((len(cohort.samples), len(cohort.conditions)), np.nan)
    for part in cohort.parts:
        code = {cohort.samples[i].name: i for i in np.unique(part.sample)}
        for block in part.file.groups(part.rows, part.sample):
            names, found = model.predict_samples(block.cells)
            found = in_vocabulary(found, model.conditions, cohort.conditions)
            probabilities[[code[name] for name in names]] = found
            progress(len(block.rows))
    return probabilities
