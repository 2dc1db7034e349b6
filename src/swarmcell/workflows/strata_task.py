"""A study of strata as a peer of a swarm sees it: bytes in, bytes out; in secret where the study says so."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmcell.errors import ConfigError
from swarmcell.model import contribution as learnt
from swarmcell.model.strata.clustered import ClusteredStratifier
from swarmcell.model.strata.rounds import Stratifier
from swarmcell.model.strata.table import blocks_of
from swarmcell.model.study import Study
from swarmcell.node.task import Contribution, Merge
from swarmcell.privacy.secure_sum import SecureSum
from swarmcell.workflows import sample_table
from swarmcell.workflows.sample_table import CellTypes
from swarmcell.workflows.stream import PreparedFile
from swarmcell.workflows.task import Place


@dataclass(frozen=True)
class Whose:
    """How many cells of how many donors stand behind a site's sums."""

    n_cells: int = 0
    n_donors: int = 0


class StrataTask:
    """Implements `node.task.Task` with a study of strata."""

    def __init__(self, study: Study, site: Stratifier | ClusteredStratifier, place: Place, whose: Whose) -> None:
        self._site: Stratifier | ClusteredStratifier | SecureSum = site
        if study.privacy.secure_aggregation:
            label, secret, about = place.label, place.secret, (whose.n_cells, whose.n_donors)
            self._site = SecureSum(site, n_cells=about[0], n_donors=about[1], me=label, secret=secret, f=place.f)

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
        sample_table.check_file(file, study, CellTypes(study.counted_types))
        ids = sample_table.ids_of(file)[0]
    n_features, site = n_features_of(study, ids), None
    if "clusters" in study.stages:
        site = ClusteredStratifier(study, None, None, n_universe=len(ids), n_features=n_features)
    return StrataTask(study, site or Stratifier(study, None, n_features=n_features), place, Whose())


def n_features_of(study: Study, ids: Sequence[str]) -> int:
    """Return the number of features of a sample over a universe."""
    return sum(block.width for block in blocks_of(study.modality, study.counted_types, ids))
