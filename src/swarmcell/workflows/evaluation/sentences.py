"""An evaluation in sentences: the result, and what a reader must bear in mind."""

from collections.abc import Iterator, Mapping

from swarmcell.metrics import pooled_patient, words
from swarmcell.model.released import TrainedModel
from swarmcell.workflows import floor_words
from swarmcell.workflows.evaluation.cohort import Cohort
from swarmcell.workflows.evaluation.portrait_values import Covariate
from swarmcell.workflows.evaluation.swarm_figures import SwarmFigures
from swarmcell.workflows.evaluation.values import CellTask, PatientTask


def _counted(n: int, unit: str) -> str:
    return f"{n:,} {unit}{'' if n == 1 else 's'}"


def summary(cell: CellTask | None, patient: PatientTask | None) -> Iterator[str]:
    """Say the result in sentences, the model that was asked for first."""
    if cell:
        first = cell.models[0]
        counted = f"{_counted(cell.n_cells, 'cell')} of {_counted(cell.n_donors, 'donor')}"
        yield f"Cell types, {first.model} model, {counted}: {first.verdict}."
    if patient:
        asked = patient.models[0]
        counted = f"{_counted(patient.n_samples, 'sample')} of {_counted(patient.n_donors, 'donor')}"
        yield f"Patients, {asked.model} model, {counted}: {asked.verdict}."
    for task, figure, what in ((cell, "macro_f1", "Cell types, macro-F1"), (patient, "auroc", "Patients, AUROC")):
        for found in task.differences if task else ():
            if found.figure == figure and task and found.first == task.models[0].model:
                yield f"{what}: {found.verdict}."


def blurred(swarm: SwarmFigures) -> str:
    """Say that merged bins understate figures of ranks, and which; empty where none was merged."""
    understated = [key for key, found in swarm.patient.items() if pooled_patient.TIES in found.note]
    if not understated:
        return ""
    figures = ", ".join(key.upper() if key in {"auroc", "auprc"} else key.replace("_", " ") for key in understated)
    return (
        "The study's floor of donors made sites merge small bins of probability before they published them, and ranks "
        f"within a bin tie: swarm-wide {figures} are too low, and their intervals reach up as far as the exact figures "
        "can be."
    )


def _left_out(model: TrainedModel, cell: CellTask | None, patient: PatientTask | None) -> Iterator[str]:
    """Say which of the model's tasks the labels at hand cannot judge."""
    if cell is None and model.has_cell_task:
        yield "Cell types are not judged: no held-out cell has one (obs['cell_type'] is missing or empty)."
    if patient is None and model.has_patient_task:
        yield "Patients are not judged: no held-out sample has a condition (obs['condition'] is missing or empty)."


def caveats(
    cohort: Cohort, models: Mapping[str, TrainedModel], cell: CellTask | None, patient: PatientTask | None
) -> Iterator[str]:
    """Say what a reader must bear in mind; the first of `models` is the one that was asked for."""
    yield from cohort.notes
    yield from _left_out(next(iter(models.values())), cell, patient)
    if cell:
        yield from filter(None, [words.few_donors({"": cell.n_donors}, of="the cell task")])
    if patient:
        held = {name: n for name, n in patient.donors_per_condition.items() if n}
        yield from filter(None, [words.few_donors(held, of="the patient task")])
        if len(held) < 2:
            yield (
                f"All held-out samples are {', '.join(held)}: AUROC, AUPRC, balanced accuracy and sensitivity need a "
                "second condition and are undefined."
            )
    asked = (cohort.cell_types if cell else ()) + (cohort.conditions if patient else ())
    for name, model in list(models.items())[1:]:
        missing = [label for label in asked if label not in _labels(model)]
        if missing:
            yield f"The {name} model does not know {', '.join(missing)}; it never predicts them."
    yield from _lower_floors(models)
    yield from _spent_privacy(models)
    if "pooled" in models:
        yield "The pooled model needed all sites' cells on one machine; it is here for comparison only."


def _lower_floors(models: Mapping[str, TrainedModel]) -> Iterator[str]:
    """Say where a swarm's sites published sums of fewer donors or cells than they would by default."""
    for name, model in models.items():
        said = floor_words.lowered(model.study.floors, f"The {name} model's study")
        if model.card.get("trained") == "swarm" and said:
            yield said


def _spent_privacy(models: Mapping[str, TrainedModel]) -> Iterator[str]:
    """Say what models under differential privacy cost, and of what unit."""
    for name, model in models.items():
        if private := model.card.get("differential_privacy"):
            yield (
                f"The {name} model was made under {private['sentence']} Its numbers of training cells and donors by "
                "site are the study's floors, and those by type or condition are noised."
            )


def _labels(model: TrainedModel) -> frozenset[str]:
    return frozenset(model.cell_types + model.conditions)


def uneven(covariate: Covariate) -> str:
    """Say that a covariate may explain what separates the conditions."""
    return (
        f"The conditions are uneven in {covariate.name}: it may explain part of what separates them (see the cohort's "
        "table)."
    )
