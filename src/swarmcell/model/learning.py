"""Everything learns by two calls, in a swarm or alone: `contribute(state)` and `merge(state, contributions)`.

Rules: `merge` is pure: exact integers, the same bits on any machine, in any order of the contributions. `contribute`
is heavy, reads the site's own cells, and may use torch. What a contribution is random about depends on (seed, stage,
round) only.
"""

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from swarmcell.cells.bags import Bags
from swarmcell.cells.batches import Codes, Matrix, columns
from swarmcell.cells.site_scaling import SiteScaled, own_moments
from swarmcell.errors import CellsError, MergeError, ModelError, PanelError
from swarmcell.model import (
    bag_models,
    calibration_rounds,
    class_floors,
    clipped_sums,
    cluster_rounds,
    exact_fit,
    feature_rounds,
    fit_rounds,
    local_fit,
    local_rounds,
    noised_rounds,
    warm_start,
)
from swarmcell.model.classifier import Scaling, to_floats
from swarmcell.model.clipped_sums import Noise, Units
from swarmcell.model.cluster_rounds import Drawn
from swarmcell.model.contribution import FIGURES, Contribution, Kind, MergeOutcome, Slot, Update, kind_of, screen, stamp
from swarmcell.model.encoding import Array, Named, encode
from swarmcell.model.exact_rounds import ABSENT
from swarmcell.model.fixed import Floats
from swarmcell.model.local_fit import Examples, labelled
from swarmcell.model.released import TrainedModel
from swarmcell.model.sample_rows import sample_rows
from swarmcell.model.stages import CELL, CLUSTERS, FEATURES, PATIENT, check_study, class_weights, counts, fail, rule_of
from swarmcell.model.state import MergedState, from_bytes, to_bytes
from swarmcell.model.study import EXACT, Study, rules_digest
from swarmcell.model.training_cells import TrainingCells
from swarmcell.model.warm_start import check_start


class Learner:
    """A study with one site's cells.

    Parameters
    ----------
    study
        The rules, label vocabularies included.
    cells
        The site's training cells; `None` for one who only merges.
    n_features
        Features of the universe, where the cells are `None`.
    seed
        Seed of the order of batches; the study's own seed makes the initial parameters.
    threads
        Processor threads of torch; 0 takes all.
    device
        `auto`, `cpu` or `cuda`.
    start
        The model that the study starts from, if it does.

    Raises
    ------
    ConfigError, CellsError, PanelError, ModelError
        If the study cannot be learnt, or the cells or the start do not fit it.
    """

    def __init__(
        self,
        study: Study,
        cells: TrainingCells | None,
        *,
        n_features: int | None = None,
        seed: int = 0,
        threads: int = 0,
        device: str = "cpu",
        start: TrainedModel | None = None,
    ) -> None:
        check_study(study)
        check_start(study, start)
        if cells is not None:
            _check_fit(study, cells)
        self.study = study
        self._cells = cells
        self._n_features = len(cells.feature_ids) if cells is not None else n_features
        self._seed, self._threads, self._device = seed, threads, device
        self._examples: tuple[tuple[str, str], Examples] | None = None
        self._samples: Floats | None = None
        self._drawn: Drawn | None = None
        self._start = {} if start is None or cells is None else warm_start.arrays_of(start, study, cells.feature_ids)

    def start(self) -> bytes:
        """Return the merged state before round 1, equal at every peer."""
        return to_bytes(MergedState(rules=rules_digest(self.study), stage=FEATURES, arrays=self._start))

    def contribute(self, state: bytes, stop: threading.Event, *, noise: Noise | None = None) -> Contribution | None:
        """Return this site's part of the round after `state`; `None` if `stop` was set meanwhile.

        Parameters
        ----------
        noise
            What hides the site's units; a study under differential privacy contributes nothing without.

        Raises
        ------
        ModelError
            If the local fit diverges, or the site has no cells.
        """
        now = from_bytes(state)
        if self._cells is None or now.finished:
            msg = "nothing to contribute: the study has ended" if now.finished else "this site has no training cells."
            raise ModelError(msg)
        if self.study.privacy.differential_privacy is not None:
            return self._noised(now, noise)
        if now.stage == FEATURES:
            arrays = feature_rounds.cell_statistics(self._cells, self.study, now)
            return self._statistics(now, arrays, self._cells.n_cells)
        if now.stage == CLUSTERS:
            return self._statistics(now, self._drawn_cells(now).statistics(now), self._cells.n_cells)
        if calibration_rounds.is_closing(now):
            examples = self._examples_of(now)
            return self._statistics(now, calibration_rounds.statistics(now, self.study, examples), len(examples.train))
        if now.phase == "statistics":
            condition = self._conditions(now)
            summed = self._cells.in_sums & (condition == self._cells.sample_condition)
            rows, n_conditions = self._sample_rows(now)[summed], len(self.study.conditions)
            site = self._cells.sample_site[summed]
            sums = feature_rounds.sample_statistics(rows, condition[summed], n_conditions, site)
            return self._statistics(now, sums, len(rows))
        return self._update(now, stop)

    def merge(self, state: bytes, contributions: Sequence[Contribution]) -> MergeOutcome:
        """Merge contributions, in any order, into the next state. Pure.

        Raises
        ------
        MergeError
            If `state` is not a state of this study; never for what a contribution holds.
        """
        now = from_bytes(state)
        if now.rules != rules_digest(self.study):
            msg = "the merged state was made by another study's rules."
            raise MergeError(msg)
        updates, left_out = screen(now, self._slots(now), contributions)
        merged = _advance(now, self.study, updates)
        return MergeOutcome(state=to_bytes(merged), left_out=left_out, finished=merged.finished, failure=merged.failure)

    def describe(self, state: bytes) -> dict[str, str | int]:
        """Say what `state` is: stage, phase, rounds; under differential privacy also how many noised sums it took."""
        now = from_bytes(state)
        if self.study.privacy.differential_privacy is None:
            return describe(now)
        return describe(now) | {"noised_sums": noised_rounds.n_spent(now, self.study)}

    def slots(self, state: bytes) -> dict[str, Slot]:
        """Return what a site's part of the round after `state` must look like."""
        return self._slots(from_bytes(state))

    def envelope(self, state: bytes, *, weight: int) -> tuple[Kind, dict[str, Any]]:
        """Return kind and header of a contribution to the round after `state`."""
        now = from_bytes(state)
        return kind_of(now), stamp(now, weight=weight)

    def failed(self, state: bytes, text: str) -> bytes:
        """Return the state of a study that cannot go on after `state`."""
        return to_bytes(fail(from_bytes(state), text))

    def _slots(self, state: MergedState) -> dict[str, Slot]:
        if state.stage == FEATURES and self._n_features is None:
            msg = "the number of features of the universe is not known; give the universe."
            raise MergeError(msg)
        if self.study.privacy.differential_privacy is not None:
            return noised_rounds.slots(state, self.study, self._n_features or 0)
        if state.stage == FEATURES and self._n_features is not None:
            return feature_rounds.cell_slots(self.study, self._n_features, state)
        if state.stage == CLUSTERS:
            return cluster_rounds.slots(state, self.study)
        if state.phase == "statistics":
            return feature_rounds.sample_slots(state, self.study)
        if calibration_rounds.is_closing(state):
            return calibration_rounds.slots(state, self.study)
        return fit_rounds.fit_slots(state, self.study)

    def _statistics(self, state: MergedState, arrays: dict[str, Array], weight: int) -> Contribution:
        cells = self._own
        parameters = encode(Named(stamp(state, weight=weight), arrays))
        return Contribution(kind="statistics", parameters=parameters, n_cells=cells.n_cells, n_donors=cells.n_donors)

    def _update(self, state: MergedState, stop: threading.Event) -> Contribution | None:
        examples, rule = self._examples_of(state), rule_of(self.study, state.stage)
        parameters = to_floats(state.group("now"))
        score = local_fit.judge(parameters, examples)
        arrays: dict[str, Array] = {}
        if rule.merge == EXACT:
            arrays = _exact(state, parameters, examples, threads=self._threads or len(os.sched_getaffinity(0)))
        elif state.phase == "fit":
            device = local_fit.set_up(threads=self._threads, device=self._device)
            found = local_rounds.trained(state, rule, examples, seed=self._seed, device=device, stop=stop)
            if found is None:
                return None
            summed = self.study.privacy.secure_aggregation
            arrays = local_rounds.weighted(state, rule, found, len(examples.train)) if summed else found
        return Contribution(
            kind="update",
            parameters=encode(Named(stamp(state, weight=len(examples.train)), arrays)),
            n_cells=self._own.n_cells,
            n_donors=self._own.n_donors,
            figures={"n": score.n, "correct": score.correct, "nll": score.nll},
        )

    def _noised(self, state: MergedState, noise: Noise | None) -> Contribution:
        """Return sums over clipped units, with noise; of the site's numbers it states the floors and nothing else."""
        if noise is None:
            msg = "a study under differential privacy contributes nothing without noise; this is a bug of swarmcell."
            raise ModelError(msg)
        cells, floors = self._own, self.study.floors
        sums = clipped_sums.on_grid(self._clipped(state, noise))
        deviation = noised_rounds.deviation(state, self.study, len(cells.feature_ids))
        kind = kind_of(state)
        return Contribution(
            kind=kind,
            parameters=encode(Named(stamp(state, weight=0), noise.added(sums, deviation))),
            n_cells=max(floors.cells, floors.donors),
            n_donors=floors.donors,
            figures=dict.fromkeys(FIGURES, 0) if kind == "update" else {},
        )

    def _clipped(self, state: MergedState, noise: Noise) -> dict[str, Floats]:
        rule, cells = noised_rounds.private(self.study), self._own
        by_cell = rule.unit == "cell"
        if state.stage == FEATURES:
            rows = np.arange(cells.n_cells)
            return clipped_sums.statistics(cells, self.study, Units.of(rows, rows if by_cell else cells.donor))
        found = self._examples_of(state)
        rows = np.sort(np.concatenate([found.train, found.validation]))
        examples = replace(found, class_weights=noised_rounds.class_weights(state, self.study))
        donors = cells.donor if state.stage == CELL else _donor_of_samples(cells)
        units = Units.of(rows, rows if by_cell else donors[rows])
        if rule.sampling < 1:
            units = units.drawn(noise.coins(units.n), rule.sampling)
        device = local_fit.set_up(threads=self._threads, device=self._device)
        parameters = to_floats(state.group("now"))
        return clipped_sums.gradients(parameters, examples, units, by_cell=by_cell, clip=rule.clip, device=device)

    @property
    def _own(self) -> TrainingCells:
        if self._cells is None:
            msg = "this site has no training cells."
            raise ModelError(msg)
        return self._cells

    def _examples_of(self, state: MergedState) -> Examples:
        key = (state.stage + (" closing" if calibration_rounds.is_closing(state) else ""), state.rules)
        if self._examples is None or self._examples[0] != key:
            made = self._cell_examples(state) if state.stage == CELL else self._sample_examples(state)
            self._examples = (key, made)
        return self._examples[1]

    def _cell_examples(self, state: MergedState) -> Examples:
        cells, n_by_type = self._own, counts(state, CELL)
        if f"{CELL}.bias" in state.arrays and self.study.cell.merge == EXACT:  # fitted: what it left out stays out
            n_by_type = np.where(state.arrays[f"{CELL}.bias"] == ABSENT, 0, n_by_type)
        y = class_floors.seen(cells.cell_type, n_by_type, self.study)
        return Examples(
            X=self._on_panel(state),
            y=y,
            train=labelled(y, ~cells.validation),
            validation=labelled(y, cells.validation),
            scaling=Scaling.from_fixed(state.arrays["mean"], state.arrays["scale"]),
            class_weights=class_weights(counts(state, CELL)),
        )

    def _sample_examples(self, state: MergedState) -> Examples:
        cells, first = self._own, "patient."
        X: Matrix = self._sample_rows(state)
        if self.study.patient.model in bag_models.MODELS:
            X, first = Bags.of(self._on_panel(state), cells.sample, cells.n_samples), ""
        y = self._conditions(state)
        return Examples(
            X=X,
            y=y,
            train=labelled(y, ~cells.sample_validation),
            validation=labelled(y, cells.sample_validation),
            scaling=Scaling.from_fixed(state.arrays[first + "mean"], state.arrays[first + "scale"]),
            class_weights=class_weights(counts(state, PATIENT)),
        )

    def _conditions(self, state: MergedState) -> Codes:
        return class_floors.seen(self._own.sample_condition, counts(state, PATIENT), self.study)

    def _on_panel(self, state: MergedState) -> Matrix:
        """Return the cells on the panel; standardised by their own site where the study says so."""
        cells = self._own
        X = columns(cells.X, state.arrays["panel"].astype(np.int64))
        if self.study.features.scaling != "site":
            return X
        site = cells.site if len(cells.site) else np.zeros(cells.n_cells, np.int64)
        scaling = Scaling.from_fixed(state.arrays["mean"], state.arrays["scale"])
        own = own_moments(X, site, cells.sites)
        return SiteScaled.of(X, site, own, mean=scaling.mean, scale=scaling.scale)

    def _drawn_cells(self, state: MergedState) -> Drawn:
        if self._drawn is None:
            n_max = self.study.clusters.cells_per_sample
            self._drawn = Drawn(self._on_panel(state), self._own.sample, n_max)
        return self._drawn

    def _sample_rows(self, state: MergedState) -> Floats:
        if self._samples is None:
            X, own = self._on_panel(state), self._own
            self._samples = sample_rows(state, self.study, X, own.sample, own.n_samples)
        return self._samples


def _donor_of_samples(cells: TrainingCells) -> Codes:
    """Return the donor of each sample."""
    found = np.zeros(cells.n_samples, np.int64)
    found[cells.sample] = cells.donor
    return found


def describe(state: MergedState) -> dict[str, str | int]:
    """Return stage, phase and rounds, and the newest swarm-wide validation where there is one (integers)."""
    said: dict[str, str | int] = {"stage": state.stage, "phase": state.phase}
    said |= {"round": state.round, "stage_round": state.stage_round}
    if state.last is not None:
        said |= {"validation_n": state.last.n, "validation_correct": state.last.correct}
        said["validation_nll"] = state.last.nll
    return said


def _exact(state: MergedState, parameters: dict[str, Floats], examples: Examples, *, threads: int) -> dict[str, Array]:
    """Return a site's class counts, and its sums over them once the sites are pinned."""
    counted = {"by_class": exact_fit.by_class(examples)}
    if not state.pinned:
        return counted
    return counted | exact_fit.published(parameters, examples, state.arrays["memory.by_class"], threads=threads)


def _advance(state: MergedState, study: Study, updates: Sequence[Update]) -> MergedState:
    if state.finished:
        msg = "the study has ended; there is no round to merge."
        raise MergeError(msg)
    if study.privacy.differential_privacy is not None:
        return replace(noised_rounds.advance(state, study, updates), round=state.round + 1)
    if not updates:
        return replace(state, round=state.round + 1)
    if state.stage == FEATURES:
        merged = feature_rounds.merge_cell_statistics(state, study, updates)
    elif state.stage == CLUSTERS:
        merged = cluster_rounds.merge(state, study, updates)
    elif state.phase == "statistics":
        merged = feature_rounds.merge_sample_statistics(state, study, updates)
    elif calibration_rounds.is_closing(state):
        merged = calibration_rounds.merge(state, study, updates)
    else:
        merged = fit_rounds.merge_fit(state, study, updates)
    return replace(merged, round=state.round + 1)


def _check_fit(study: Study, cells: TrainingCells) -> None:
    if cells.modality != study.modality:
        msg = f"the cells are {cells.modality}, the study is of {study.modality}. Prepare them with the study's config."
        raise CellsError(msg)
    if study.universe_sha256 and study.universe_sha256 != cells.universe_sha256:
        msg = (
            f"the cells were prepared with universe {cells.universe_sha256[:12]}, the study has "
            f"{study.universe_sha256[:12]}. Prepare them with the study's universe file."
        )
        raise PanelError(msg)


def check_floors(study: Study, cells: TrainingCells, *, who: str) -> None:
    """Refuse a site that is below the study's floors: it must publish no sum.

    Raises
    ------
    CellsError
        If it has too few training donors or cells.
    """
    floors = study.floors
    if cells.n_donors >= floors.donors and cells.n_cells >= floors.cells:
        return
    msg = (
        f"{who}: {cells.n_cells} training cells of {cells.n_donors} donor(s); the study's floors are "
        f"{floors.cells} cells and {floors.donors} donors, and a site below them publishes nothing. "
        "Add donors, or train alone (without --join)."
    )
    raise CellsError(msg)
