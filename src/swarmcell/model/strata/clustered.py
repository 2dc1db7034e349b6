"""Strata of samples whose composition counts clusters of cells: the cells are clustered first, in the same swarm.

Rules: two studies, one after the other, by the same two calls. The first is one of cells (`learning.Learner`, stages
`features` and `clusters`); its last merge opens the second, of strata, whose state carries the clusters from then on.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from swarmcell.model.contribution import Contribution, Kind, MergeOutcome, Slot
from swarmcell.model.encoding import Array, decode
from swarmcell.model.learning import Learner
from swarmcell.model.state import MergedState
from swarmcell.model.state import from_bytes as cells_state
from swarmcell.model.strata.rounds import Stratifier
from swarmcell.model.strata.state import from_bytes
from swarmcell.model.strata.table import SampleTable
from swarmcell.model.study import Study
from swarmcell.model.training_cells import TrainingCells

_KEPT = ("mean", "panel", "scale")


class ClusteredStratifier:
    """A study of strata over clusters of cells, with one site's cells.

    Parameters
    ----------
    study
        The rules, with `strata` set and the stage `clusters`.
    cells
        The site's cells that make the clusters; `None` for one who only merges.
    table
        Makes the site's samples of what tells the clusters (`StrataState.cells`).
    n_universe, n_features
        Features of a cell and of a sample.
    """

    def __init__(
        self,
        study: Study,
        cells: TrainingCells | None,
        table: Callable[[Mapping[str, Array]], SampleTable] | None,
        *,
        n_universe: int,
        n_features: int,
    ) -> None:
        self._learner = Learner(study_of_cells(study), cells, n_features=n_universe)
        self._merging = Stratifier(study, None, n_features=n_features)
        self._study, self._table, self._own = study, table, self._merging

    def start(self) -> bytes:
        """Return the state before round 1, equal at every site."""
        return self._learner.start()

    def contribute(self, state: bytes, stop: threading.Event) -> Contribution | None:
        """Return this site's sums for the round after `state`; `None` if `stop` was set meanwhile."""
        if _is_of_strata(state) and self._table is not None and self._own is self._merging:
            self._own = Stratifier(self._study, self._table(from_bytes(state).cells))
        return self._at(state).contribute(state, stop)

    def merge(self, state: bytes, contributions: Sequence[Contribution]) -> MergeOutcome:
        """Merge contributions, in any order, into the next state. Pure."""
        if _is_of_strata(state):
            return self._merging.merge(state, contributions)
        outcome = self._learner.merge(state, contributions)
        if not outcome.finished or outcome.failure:
            return outcome
        return MergeOutcome(
            state=self._merging.start(clusters_in(cells_state(outcome.state))), left_out=outcome.left_out
        )

    def describe(self, state: bytes) -> dict[str, str | int]:
        """Say what `state` is, for the ledger's readers."""
        return self._at(state).describe(state)

    def slots(self, state: bytes) -> dict[str, Slot]:
        """Return what a site's arrays must look like in the round after `state`."""
        return self._merging.slots(state) if _is_of_strata(state) else self._learner.slots(state)

    def envelope(self, state: bytes, *, weight: int) -> tuple[Kind, dict[str, Any]]:
        """Return kind and header of a contribution to the round after `state`."""
        return self._at(state).envelope(state, weight=weight)

    def failed(self, state: bytes, text: str) -> bytes:
        """Return the state of a study that cannot go on after `state`."""
        return self._at(state).failed(state, text)

    def _at(self, state: bytes) -> Learner | Stratifier:
        return self._own if _is_of_strata(state) else self._learner


def study_of_cells(study: Study) -> Study:
    """Return the study that clusters the cells of a study of strata."""
    return replace(study, strata=None, stages=("features", "clusters"), cell_types=(), cell_type_ids=(), conditions=())


def clusters_in(state: MergedState) -> dict[str, Array]:
    """Return the arrays of a finished study of cells that tell their clusters."""
    return {name: a for name, a in state.arrays.items() if name in _KEPT or name.startswith("clusters.")}


def _is_of_strata(state: bytes) -> bool:
    return decode(state).header.get("kind") == "strata"
