"""What a portrait of the held-out cells holds, as frozen values for `evaluation.json` and the report."""

from collections.abc import Mapping
from dataclasses import dataclass

from swarmcell.metrics.estimate import Estimate


@dataclass(frozen=True, kw_only=True)
class Composition:
    """Cells by type per held-out sample, ordered by condition.

    Attributes
    ----------
    samples
        Site, donor and sample of each row.
    conditions
        True condition of each row, empty where unknown.
    predicted, true
        Cells per type: rows as `samples`, columns as `types` and `true_types`.
    n_samples
        Held-out samples in all; the first of them are shown.
    """

    samples: tuple[tuple[str, str, str], ...]
    conditions: tuple[str, ...]
    types: tuple[str, ...]
    true_types: tuple[str, ...]
    predicted: tuple[tuple[int, ...], ...]
    true: tuple[tuple[int, ...], ...]
    n_samples: int


@dataclass(frozen=True, kw_only=True)
class Markers:
    """Chosen features in the cells called each type: mean of X and share of cells above 0, rows as `types`."""

    types: tuple[str, ...]
    n_cells: tuple[int, ...]
    features: tuple[str, ...]
    mean: tuple[tuple[float, ...], ...]
    share: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class KnownMarker:
    """A textbook marker of a type: its mean in cells called that type, and the type in which it is highest."""

    cell_type: str
    marker: str
    mean: float
    highest: str
    as_expected: bool


@dataclass(frozen=True, kw_only=True)
class Driver:
    """A feature and how it moves a class's log-odds, per standard deviation of the training cells."""

    feature: str
    weight: float


@dataclass(frozen=True, kw_only=True)
class Drivers:
    """What drives the class `name`, the strongest first."""

    name: str
    drivers: tuple[Driver, ...]


@dataclass(frozen=True, kw_only=True)
class TypeContribution:
    """How far the cells called a type move the log-odds of the positive condition, on average over samples."""

    condition: str
    cell_type: str
    contribution: float
    n_samples: int


@dataclass(frozen=True, kw_only=True)
class CellMap:
    """A UMAP of some held-out cells; `true` and `predicted` are places in the cell task's classes (-1: unknown)."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    true: tuple[int, ...]
    predicted: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Portrait:
    """What the held-out cells look like to the model that was asked for; `None` or empty where it has no such task."""

    composition: Composition | None
    markers: Markers | None
    known: tuple[KnownMarker, ...]
    cell_drivers: tuple[Drivers, ...]
    patient_drivers: Drivers | None
    contributions: tuple[TypeContribution, ...]
    cell_map: CellMap | None


@dataclass(frozen=True, kw_only=True)
class Covariate:
    """Something known of the held-out donors beside their condition, a possible confounder.

    Attributes
    ----------
    by_condition
        Condition -> what its samples have, in words: `median 54 (31 to 70), n = 8`, or `female 5, male 3`.
    difference
        The largest standardised difference between two conditions; `None` if it cannot be computed.
    is_uneven
        Whether that is above 0.25, so that the condition may be read off the covariate.
    """

    name: str
    by_condition: dict[str, str]
    difference: float | None
    is_uneven: bool


@dataclass(frozen=True, kw_only=True)
class RoundRow:
    """A round of training as its run wrote it down; validation is of donors held back within training."""

    model: str
    stage: str
    round: int
    validation_loss: float | None
    validation_accuracy: float | None
    sites: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One refit: who was held out (`site/donor`), and the figures on them; `None` where they do not define one."""

    held_out: tuple[str, ...]
    figures: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A figure over refits: mean, lowest and highest of `n` that define it."""

    mean: float
    lowest: float
    highest: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Refit:
    """The study fitted again on other splits; `auroc` is over all samples of a leave-one-donor-out."""

    kind: str
    folds: tuple[Fold, ...]
    spreads: Mapping[str, Spread]
    auroc: Estimate | None
