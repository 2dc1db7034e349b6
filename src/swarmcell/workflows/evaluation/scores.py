"""What a model says of a cohort, reduced to what the figures need: sums per donor, probabilities per sample.

Rules: cells pass in blocks; nothing here grows with the number of cells.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from swarmcell.metrics import cell
from swarmcell.metrics.calibration import N_BINS, reliability_sums
from swarmcell.model.classifier import softmax
from swarmcell.model.released import TrainedModel
from swarmcell.workflows.evaluation.cohort import UNLABELLED, Cohort

if TYPE_CHECKING:
    from anndata import AnnData

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Progress = Callable[[int], None]
THRESHOLDS: Floats = np.round(np.arange(0.0, 1.0, 0.05), 2)  # of the probability of the predicted class; chosen
UNKNOWN_RATE = 0.05  # of the swarm's inner-validation cells, whose types are all known; chosen
UNKNOWN_RATES = (0.0, 0.01, 0.02, UNKNOWN_RATE, 0.1, 0.2, 0.3)  # at which "unknown" is judged; chosen


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
    uncalibrated
        As `reliability`, before temperature; `None` for a baseline, which has none.
    known
        Cells not called unknown at each of `UNKNOWN_RATES`, and hits among them, shape `(n_donors, n_rates, 2)`;
        `None` where the swarm has not described its cells.
    """

    confusion: Integers
    reliability: Floats
    called: Integers
    uncalibrated: Floats | None = None
    known: Integers | None = None


@dataclass(frozen=True, eq=False)
class SampleScores:
    """The patient task: probabilities of all samples, shape `(n_samples, n_conditions)`.

    `uncalibrated` are those before temperature and shift; `None` for a baseline, which has neither.
    """

    probabilities: Floats
    uncalibrated: Floats | None = None


class CellModel(Protocol):
    """What is asked of a model of cells, or of a baseline."""

    @property
    def cell_types(self) -> tuple[str, ...]:
        """Classes, in the order of the probabilities."""

    def predict_cells(self, adata: "AnnData", /) -> Floats:
        """Return each cell's probabilities, shape `(n_obs, n_classes)`."""


class _Answer(NamedTuple):
    """What a model says of some cells, in the cohort's vocabulary; `novelty` is NaN where there is none."""

    probabilities: Floats
    uncalibrated: Floats
    novelty: Floats


def score_cells(model: CellModel, cohort: Cohort, progress: Progress) -> CellScores:
    """Predict all held-out cells whose type is known; `progress` gets the number of cells of each block."""
    sums, edges = _empty(model, cohort), _edges(model)
    for part in cohort.parts:
        known = np.flatnonzero(part.cell_type != UNLABELLED)
        for block in part.file.blocks(part.rows[known]):
            at = known[np.searchsorted(part.rows[known], block.rows)]
            answer = _answer(model, block.cells, cohort.cell_types)
            for number in np.unique(part.donor[at]):
                mine = part.donor[at] == number
                own = _Answer(*(values[mine] for values in answer))
                _add(sums, int(number), own, part.cell_type[at][mine], edges)
            progress(len(at))
    return sums


def _empty(model: CellModel, cohort: Cohort) -> CellScores:
    n_donors, n_types = len(cohort.donors), len(cohort.cell_types)
    trained = model if isinstance(model, TrainedModel) else None
    described = trained is not None and trained.novelty is not None
    return CellScores(
        confusion=np.zeros((n_donors, n_types, n_types), dtype=np.int64),
        reliability=np.zeros((n_donors, N_BINS, 3)),
        called=np.zeros((n_donors, len(THRESHOLDS), 2), dtype=np.int64),
        uncalibrated=np.zeros((n_donors, N_BINS, 3)) if trained else None,
        known=np.zeros((n_donors, len(UNKNOWN_RATES), 2), dtype=np.int64) if described else None,
    )


def _edges(model: CellModel) -> Floats:
    """Return the novelty from which a cell is called unknown, at each of `UNKNOWN_RATES`."""
    unknown_from = model.unknown_from if isinstance(model, TrainedModel) else lambda _: np.inf
    return np.array([unknown_from(rate) for rate in UNKNOWN_RATES])


def _answer(model: CellModel, cells: "AnnData", vocabulary: tuple[str, ...]) -> _Answer:
    own = model.cell_types
    if not isinstance(model, TrainedModel):
        probabilities = in_vocabulary(model.predict_cells(cells), own, vocabulary)
        return _Answer(probabilities, probabilities, np.full(len(probabilities), np.nan))
    outputs, novelty = model.cell_outputs(cells)
    after, before = softmax(model.calibration("cell").apply(outputs)), softmax(outputs)
    return _Answer(in_vocabulary(after, own, vocabulary), in_vocabulary(before, own, vocabulary), novelty)


def in_vocabulary(probabilities: Floats, own: tuple[str, ...], common: tuple[str, ...]) -> Floats:
    """Return probabilities with a column per label of `common`; labels that the model does not know get 0."""
    if own == common:
        return probabilities
    spread = np.zeros((len(probabilities), len(common)))
    spread[:, [common.index(label) for label in own]] = probabilities
    return spread


def _add(sums: CellScores, donor: int, answer: _Answer, true: Integers, edges: Floats) -> None:
    """Add one donor's cells."""
    predicted, confidence = answer.probabilities.argmax(axis=1), answer.probabilities.max(axis=1)
    hit = predicted == true
    sums.confusion[donor] += cell.confusion(true, predicted, sums.confusion.shape[1])
    sums.reliability[donor] += reliability_sums(confidence, hit)
    sums.called[donor] += _kept(confidence[:, None] >= THRESHOLDS, hit)
    if sums.uncalibrated is not None:
        before = answer.uncalibrated
        sums.uncalibrated[donor] += reliability_sums(before.max(axis=1), before.argmax(axis=1) == true)
    if sums.known is not None:
        sums.known[donor] += _kept(answer.novelty[:, None] < edges, hit)


def _kept(kept: npt.NDArray[np.bool_], hit: npt.NDArray[np.bool_]) -> Integers:
    """Return cells kept and hits among them, shape `(n_thresholds, 2)`."""
    return np.stack([kept.sum(axis=0), (kept & hit[:, None]).sum(axis=0)], axis=1)


def score_samples(model: TrainedModel, cohort: Cohort, progress: Progress) -> SampleScores:
    """Predict all held-out samples, each from all its cells."""
    after, before = np.full((2, len(cohort.samples), len(cohort.conditions)), np.nan)
    calibration = model.calibration("patient")
    for part in cohort.parts:
        code = {cohort.samples[i].name: i for i in np.unique(part.sample)}
        for block in part.file.groups(part.rows, part.sample):
            names, outputs = model.sample_outputs(block.cells)
            at = [code[name] for name in names]
            after[at] = in_vocabulary(softmax(calibration.apply(outputs)), model.conditions, cohort.conditions)
            before[at] = in_vocabulary(softmax(outputs), model.conditions, cohort.conditions)
            progress(len(block.rows))
    return SampleScores(after, before)
