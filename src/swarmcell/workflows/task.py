"""A study with one site's cells, as a peer of a swarm sees it: bytes in, bytes out.

Rules: a site is refused here, before it joins, when it is below the study's floors or its cells do not fit the study.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swarmcell.cells.schema import read_prepared
from swarmcell.errors import ConfigError
from swarmcell.model import contribution as learnt
from swarmcell.model.class_floors import floors_at_sites
from swarmcell.model.learning import Learner, check_floors
from swarmcell.model.released import TrainedModel
from swarmcell.model.study import Study
from swarmcell.model.training_cells import TrainingCells, gather
from swarmcell.node.task import Contribution, Merge
from swarmcell.privacy.noise import Noised
from swarmcell.privacy.secure_sum import SecureSum


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a task must know of the swarm.

    Attributes
    ----------
    f
        Lying members that the swarm tolerates.
    label
        This site's label in contributions: its signing key in hex; empty for one who only merges.
    secret
        32 bytes of this site's own, from which it makes the keys of secure sums.
    """

    f: int
    label: str = ""
    secret: bytes | None = field(default=None, repr=False)


class SiteTask:
    """Implements `node.task.Task` with a `Learner`.

    Attributes
    ----------
    cells
        The site's training cells; their `notes` are for the site's own eyes.
    """

    def __init__(
        self,
        study: Study,
        cells: TrainingCells,
        *,
        place: Place,
        seed: int,
        threads: int,
        device: str,
        start: TrainedModel | None = None,
    ) -> None:
        self.cells = cells
        learner = Learner(study, cells, seed=seed, threads=threads, device=device, start=start)
        self._learner: Learner | SecureSum | Noised = learner
        noised = study.privacy.differential_privacy is not None
        if study.privacy.secure_aggregation:
            n_cells, n_donors = _stated_numbers(study, cells)
            self._learner = SecureSum(
                learner,
                n_cells=n_cells,
                n_donors=n_donors,
                me=place.label,
                secret=place.secret,
                f=place.f,
                noised=learner if noised else None,
            )
        elif noised:
            self._learner = Noised(learner, place.secret)

    def start(self) -> bytes:
        """Return the merged state before round 1, equal at every peer."""
        return self._learner.start()

    def contribute(self, state: bytes, stop: threading.Event) -> Contribution | None:
        """Train from `state` on this site's cells; `None` if `stop` was set meanwhile."""
        made = self._learner.contribute(state, stop)
        return None if made is None else Contribution(**vars(made))

    def merge(self, state: bytes, contributions: Sequence[Contribution]) -> Merge:
        """Merge contributions (in any order) into the next state."""
        merged = self._learner.merge(state, [learnt.Contribution(**vars(c)) for c in contributions])
        return Merge(**vars(merged))

    def describe(self, state: bytes) -> Mapping[str, str | int]:
        """Say what `state` is, for the ledger's readers."""
        return self._learner.describe(state)


def _stated_numbers(study: Study, cells: TrainingCells) -> tuple[int, int]:
    """Return the cells and donors that a site states in clear: under differential privacy the floors, as `Learner`."""
    if study.privacy.differential_privacy is not None:
        floors = study.floors
        return max(floors.cells, floors.donors), floors.donors
    return cells.n_cells, cells.n_donors


def prepare_task(
    prepared: Sequence[Path],
    study: Study,
    *,
    place: Place,
    seed: int = 0,
    threads: int = 0,
    device: str = "auto",
    start: TrainedModel | None = None,
) -> SiteTask:
    """Read a site's prepared files for a swarm's study, and refuse what must not join.

    Parameters
    ----------
    prepared
        Files that `swarmcell preprocess` wrote, all of this site.
    study
        The swarm's study, label vocabularies included.
    place
        What the task must know of the swarm.
    seed
        Seed of the order of this site's batches.
    threads, device
        For torch; 0 threads takes all.
    start
        The model that the study starts from, if it does.

    Raises
    ------
    InputError
        If a file is missing or unreadable.
    CellsError
        If a file breaks the data contract, a label is unknown, or the site is below the study's floors.
    PanelError
        If a file was prepared with another universe.
    ConfigError
        If the study cannot be learnt.
    """
    if not prepared:
        msg = "no prepared file is given. Make one with: swarmcell preprocess."
        raise ConfigError(msg)
    sources = [(path.name, read_prepared(path)) for path in prepared]
    cells = gather(
        sources,
        cell_types=study.cell_types,
        conditions=study.conditions,
        seed=study.seed,
        floors=floors_at_sites(study),
    )
    check_floors(study, cells, who=", ".join(name for name, _ in sources))
    return SiteTask(study, cells, place=place, seed=seed, threads=threads, device=device, start=start)
