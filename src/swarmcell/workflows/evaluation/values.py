"""What `evaluate` finds, as frozen values that become one JSON document.

Rules: a number that stands for patients is an `Estimate`, so it has an interval or says why it has none. Figures are
computed elsewhere; here they only have names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

from swarmcell.metrics.estimate import Estimate
from swarmcell.metrics.permutation import ChanceTest
from swarmcell.model.baselines import SiteOnly
from swarmcell.workflows.evaluation.ledger_facts import LedgerFacts
from swarmcell.workflows.evaluation.portrait_values import Covariate, Portrait, Refit, RoundRow
from swarmcell.workflows.evaluation.swarm_figures import SwarmFigures

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A model that was evaluated: what its file says of it.

    `name` is its name in tables (`swarm`, `local`, `pooled`, or as given); `file` is where it was read from.
    """

    name: str
    file: str
    digest: str
    study: str
    n_features: int
    card: Mapping[str, Any]
    universe_sha256: str = ""
    panel_sha256: str = ""  # of the model's own features, a name per line
    cells_by_type: Mapping[str, int] = field(default_factory=dict)  # training cells, of the whole swarm
    samples_by_condition: Mapping[str, int] = field(default_factory=dict)
    calibration: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # stage -> temperature, shift and n
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # features, cell, patient: how it was learnt


@dataclass(frozen=True, kw_only=True)
class SiteCount:
    """What a site holds out."""

    site: str
    n_donors: int
    n_samples: int
    n_cells: int
    conditions: Mapping[str, int]  # samples per condition
    cell_types: Mapping[str, int]  # cells per type


@dataclass(frozen=True, kw_only=True)
class CohortFacts:
    """Who was held out."""

    n_donors: int
    n_samples: int
    n_cells: int
    n_training_donors: int
    sites: tuple[SiteCount, ...]
    files: Mapping[str, str]  # path -> SHA-256 of its universe


@dataclass(frozen=True, kw_only=True)
class ClassFigures:
    """One class of the cell task."""

    name: str
    n_cells: int
    n_donors: int
    precision: Estimate
    recall: Estimate
    f1: Estimate


@dataclass(frozen=True, kw_only=True)
class GroupFigures:
    """The cell task on one donor's cells, or on one site's."""

    site: str
    donor: str
    n_cells: int
    figures: Mapping[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Mean confidence, share of hits and rows per bin; `None` where a bin is empty."""

    confidence: tuple[float | None, ...]
    hits: tuple[float | None, ...]
    n: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class CellFigures:
    """The cell task by one model.

    Attributes
    ----------
    confusion
        Cells, rows by true and columns by predicted type.
    reliability, uncalibrated
        After temperature, and before it.
    coverage
        Threshold of confidence, share of cells that reach it, and accuracy among them (`None` if none does).
    unknown
        Rate of `predict --unknown-rate`, share of cells that are not called unknown, and accuracy among them; empty
        where the swarm has not described its cells.
    """

    model: str
    figures: Mapping[str, Estimate]
    per_class: tuple[ClassFigures, ...]
    per_donor: tuple[GroupFigures, ...]
    per_site: tuple[GroupFigures, ...]
    confusion: tuple[tuple[int, ...], ...]
    reliability: Reliability
    coverage: tuple[tuple[float, float, float | None], ...]
    uncalibrated: Reliability | None
    unknown: tuple[tuple[float, float, float | None], ...]
    chance: ChanceTest
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One figure of two models on the same donors: `first` minus `second`."""

    first: str
    second: str
    figure: str
    estimate: Estimate
    verdict: str


@dataclass(frozen=True, kw_only=True)
class CellTask:
    """The cell task: classes, models and their differences."""

    classes: tuple[str, ...]
    n_cells: int
    n_samples: int
    n_donors: int
    majority_accuracy: float
    chance_balanced_accuracy: float
    models: tuple[CellFigures, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True, kw_only=True)
class SampleFigures:
    """One held-out sample as one model sees it."""

    site: str
    donor: str
    sample: str
    condition: str
    predicted: str
    probabilities: tuple[float, ...]
    n_cells: int


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points of a curve, and a band of resampled values at `band_x` (empty where there is none)."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    band_x: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PatientFigures:
    """The patient task by one model; curves are keyed by the condition that counts as positive.

    `reliability` and `uncalibrated` are after calibration and before it (`None` for a baseline).
    """

    model: str
    figures: Mapping[str, Estimate]
    confusion: tuple[tuple[int, ...], ...]
    samples: tuple[SampleFigures, ...]
    roc: Mapping[str, Curve]
    precision_recall: Mapping[str, Curve]
    reliability: Reliability
    uncalibrated: Reliability | None
    chance: ChanceTest | None
    verdict: str


@dataclass(frozen=True, kw_only=True)
class PatientTask:
    """The patient task: conditions, models and their differences."""

    conditions: tuple[str, ...]
    positive: str
    n_cells: int
    n_samples: int
    n_donors: int
    samples_per_condition: Mapping[str, int]
    donors_per_condition: Mapping[str, int]
    models: tuple[PatientFigures, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How figures were computed."""

    seed: int
    n_bootstrap: int
    n_permutations: int
    level: float


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What a model must beat: `task` is `cell` or `patient`, `what` says what the baseline does."""

    task: str
    name: str
    what: str
    figures: Mapping[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The whole result: the first of `models` is the one that was asked for."""

    study: str
    modality: str
    models: tuple[ModelFacts, ...]
    cohort: CohortFacts
    cell: CellTask | None
    patient: PatientTask | None
    summary: tuple[str, ...]
    caveats: tuple[str, ...]
    settings: Settings
    versions: Mapping[str, str]
    portrait: Portrait | None = None
    covariates: tuple[Covariate, ...] = ()
    history: tuple[RoundRow, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    site_only: SiteOnly | None = None
    swarm: SwarmFigures | None = None
    ledger: LedgerFacts | None = None  # of the run that made the model; `swarm` has its own after --join
    refit: Refit | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values; a number that is not defined is null."""
        return {"schema": SCHEMA, **plain(self)}


def plain(value: Any) -> Any:  # noqa: ANN401 (any JSON value)
    """Return `value` as JSON values: dataclasses become mappings, not-a-number becomes null."""
    if isinstance(value, Estimate):
        return value.to_json()
    if is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not np.isfinite(value) else value
