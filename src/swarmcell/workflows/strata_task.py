"""A study of strata as a peer of a swarm sees it: bytes in, bytes out; in secret where the study says so."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from swarmcell.errors import ConfigError
from swarmcell.model import contribution as learnt
from swarmcell.model.strata.rounds import Stratifier
from swarmcell.model.strata.table import SampleTable, blocks_of
from swarmcell.model.study import Study
from swarmcell.node.task import Contribution, Merge
from swarmcell.privacy.secure_sum import SecureSum
from swarmcell.workflows import sample_table
from swarmcell.workflows.sample_table import CellTypes
from swarmcell.workflows.stream import PreparedFile
from swarmcell.workflows.task import Place


class StrataTask:
    """Implements `node.task.Task` with a `Stratifier`.

    Parameters
    ----------
    study
        The swarm's study, with `strata` set.
    table
        This site's samples; `None` for one who only merges.
    place
        What the task must know of the swarm.
    n_features
        Features of a sample, where there is no table.
    """

    def __init__(self, study: Study, table: SampleTable | None, *, place: Place, n_features: int | None = None) -> None:
        site = Stratifier(study, table, n_features=n_features)
        self._site: Stratifier | SecureSum = site
        if study.privacy.secure_aggregation:
            n_cells, n_donors = (0, 0) if table is None else (int(table.n_cells.sum()), table.n_donors)
            keys = place.label, place.secret
            self._site = SecureSum(site, n_cells=n_cells, n_donors=n_donors, me=keys[0], secret=keys[1], f=place.f)

    def start(self) -> bytes:
        """Return the state before round 1, equal at every peer."""
        return self._site.start()

    def contribute(self, state: bytes, stop: threading.Event) -> Contribution | None:
        """Return this site's sums for the round after `state`."""
        made = self._site.contribute(state, stop)
        return None if made is None else Contribution(**vars(made))

    def merge(self, state: bytes, contributions: Sequence[Contribution]) -> Merge:
        """Merge contributions (in any order) into the next state."""
        merged = self._site.merge(state, [learnt.Contribution(**vars(one)) for one in contributions])
        return Merge(**vars(merged))

    def describe(self, state: bytes) -> Mapping[str, str | int]:
        """Say what `state` is, for the ledger's readers."""
        return self._site.describe(state)


def merging_task(prepared: Sequence[Path], study: Study, *, place: Place) -> StrataTask:
    """Return the task of one who only merges; of the prepared files the features are read, and no cell.

    Raises
    ------
    ConfigError, InputError, CellsError, PanelError
        If there is no file, or it is not of the study.
    """
    if not prepared:
        msg = "no prepared file is given. Make one with: swarmcell preprocess."
        raise ConfigError(msg)
    with PreparedFile(prepared[0]) as file:
        sample_table.check_file(file, study, CellTypes(study.cell_types))
        ids = sample_table.ids_of(file)[0]
    n_features = sum(block.width for block in blocks_of(study.modality, study.cell_types, ids))
    return StrataTask(study, None, place=place, n_features=n_features)
