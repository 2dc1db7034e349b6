"""All figures of a report, in order."""

from dataclasses import dataclass

from swarmcell.report.cell_pictures import cell_pictures
from swarmcell.report.history_pictures import learning_curve
from swarmcell.report.overview_pictures import overview
from swarmcell.report.patient_pictures import patient_pictures
from swarmcell.report.portrait_pictures import portrait_pictures
from swarmcell.report.style import Picture
from swarmcell.report.swarm_pictures import timeline
from swarmcell.workflows.evaluation.values import Evaluation


@dataclass(frozen=True)
class Pictures:
    """Figures by part of the report."""

    overview: Picture
    cell: tuple[Picture, ...]
    patient: tuple[Picture, ...]
    portrait: tuple[Picture, ...]
    training: tuple[Picture, ...]
    swarm: tuple[Picture, ...]

    @property
    def all(self) -> tuple[Picture, ...]:
        """Every figure, in the order of the report."""
        return (self.overview, *self.cell, *self.patient, *self.portrait, *self.training, *self.swarm)


def draw(evaluation: Evaluation) -> Pictures:
    """Draw every figure that the result allows (within `style.theme()`)."""
    return Pictures(
        overview(evaluation),
        tuple(cell_pictures(evaluation.cell)) if evaluation.cell else (),
        tuple(patient_pictures(evaluation.patient)) if evaluation.patient else (),
        tuple(portrait_pictures(evaluation)),
        tuple(filter(None, [learning_curve(evaluation)])),
        tuple(filter(None, [timeline(evaluation)])),
    )
