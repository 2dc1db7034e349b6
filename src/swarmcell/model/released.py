"""A trained model as a file: safetensors (integer arrays, never code) with JSON inside, and a readable card beside it.

Rules: the file holds the merged state itself, so the digest of a released model is the digest that the swarm agreed
on. `load` checks that digest and the file's own (study, features and card included). Prediction needs numpy only.
The bytes hold no time and no path: the same training gives the same file.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from swarmcell import formats
from swarmcell.cells import site_scaling
from swarmcell.cells.bags import Bags
from swarmcell.cells.batches import Codes, Matrix
from swarmcell.errors import InputError, MergeError, ModelError
from swarmcell.files import writing
from swarmcell.model import bag_models, calibration_rounds, described_arrays
from swarmcell.model.classifier import Scaling, folded_embedding, logits, softmax, to_floats
from swarmcell.model.described_arrays import refuse
from swarmcell.model.fixed import Floats
from swarmcell.model.novelty import Density, Novelty
from swarmcell.model.panel_cells import on_panel, samples_of, standardised
from swarmcell.model.sample_rows import counted_codes, sample_rows
from swarmcell.model.stages import parameters_of
from swarmcell.model.state import MergedState, digest, from_header, header, to_bytes
from swarmcell.model.study import Study, from_plain, rules_digest, unsaid
from swarmcell.model.summary import summary
from swarmcell.model.temperature import Calibration

if TYPE_CHECKING:
    from anndata import AnnData

CHUNK_ROWS = 8192  # cells predicted at a time
_KEY = "swarmcell"


@dataclass(frozen=True)
class TrainedModel:
    """A finished study's model.

    Attributes
    ----------
    study
        The rules that it was trained by, with the label vocabularies.
    panel_ids
        The features it reads, in order.
    state
        The finished merged state.
    card
        Who trained it, on how much, how it did on inner validation.
    digest
        SHA-256 (hex) of the merged state: equal at every peer of the swarm.
    """

    study: Study
    panel_ids: tuple[str, ...]
    state: MergedState
    card: Mapping[str, Any]
    digest: str
    _floats: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def cell_types(self) -> tuple[str, ...]:
        """Classes of the cell task, in the order of the probabilities."""
        return self.study.cell_types

    @property
    def conditions(self) -> tuple[str, ...]:
        """Classes of the patient task, in the order of the probabilities."""
        return self.study.conditions

    @property
    def has_cell_task(self) -> bool:
        """Whether `predict_cells` can be called."""
        return "cell" in self.state.results

    @property
    def has_patient_task(self) -> bool:
        """Whether `predict_samples` can be called."""
        return "patient" in self.state.results

    @property
    def has_clusters(self) -> bool:
        """Whether the study clustered cells, so that `counted_cells` tells a cell's cluster."""
        return "clusters" in self.state.results

    def counted_cells(self, adata: "AnnData") -> Codes:
        """Return what composition counts each cell as, an index into `study.counted_types`, shape `(n_obs,)`.

        Raises
        ------
        ModelError
            If the model tells neither types nor clusters of cells.
        PanelError
            As for `predict_cells`.
        """
        codes = counted_codes(self.state, self.on_panel(adata))
        if codes is None:
            msg = "this model tells neither types nor clusters of cells: its study has no stage 'cell' or 'clusters'."
            raise ModelError(msg)
        return codes

    def predict_cells(self, adata: "AnnData") -> Floats:
        """Return each cell's probabilities, shape `(n_obs, n_classes)`, in the order of `cell_types`.

        Raises
        ------
        ModelError
            If the model was trained without cell labels.
        PanelError
            If `adata` has fewer than 80 % of the panel's features.
        """
        return self.judge_cells(adata)[0]

    def judge_cells(self, adata: "AnnData") -> tuple[Floats, Floats]:
        """Return each cell's probabilities (see `predict_cells`) and its novelty, shape `(n_obs,)`.

        The larger the novelty, the less a cell is like any known type; `unknown_from` says where "unknown" begins. It
        is NaN where the model was trained without inner-validation donors.
        """
        outputs, novelty = self.cell_outputs(adata)
        return softmax(self.calibration("cell").apply(outputs)), novelty

    def cell_outputs(self, adata: "AnnData") -> tuple[Floats, Floats]:
        """Return each cell's outputs before temperature, shape `(n_obs, n_classes)`, and its novelty (`judge_cells`).

        Raises
        ------
        ModelError, PanelError
            As for `predict_cells`.
        """
        self._require("cell", "cell labels")
        found, scores = [], []
        for X in self._chunks(adata):
            outputs = self.cell_logits(X)
            found.append(outputs)
            scores.append(np.full(len(outputs), np.nan) if self.novelty is None else self.novelty.score(X, outputs))
        return np.concatenate(found), np.concatenate(scores)

    def nearest_types(self, adata: "AnnData") -> Floats:
        """Return probabilities by the distance to each type: linear discriminant analysis with equal priors.

        Raises
        ------
        ModelError
            If the swarm has not described its cells.
        """
        return self._by_density(adata, lambda density, X: softmax(-density.distances(X) / 2))

    def ridge_types(self, adata: "AnnData") -> Floats:
        """Return each type's indicator as ridge regression tells it, from sums of one round; the largest is called.

        Raises
        ------
        ModelError
            If the swarm has not described its cells.
        """
        return self._by_density(adata, Density.ridge)

    def _by_density(self, adata: "AnnData", tell: Callable[[Density, Matrix], Floats]) -> Floats:
        if (density := self.density) is None:
            msg = "this model's swarm has not described its cells, as under differential privacy."
            raise ModelError(msg)
        present = self.state.arrays["novelty.count"] > 0
        found = np.zeros((adata.n_obs, len(self.cell_types)))
        found[:, present] = np.concatenate([tell(density, X) for X in self._chunks(adata)])
        return found

    def unknown_from(self, rate: float) -> float:
        """Return the novelty that at most `rate` of the swarm's inner-validation cells reach (infinite: unknown)."""
        return float("inf") if self.novelty is None else self.novelty.threshold(rate)

    @cached_property
    def density(self) -> Density | None:
        """Where the cells of each type lie; `None` where the swarm has not described its cells."""
        return calibration_rounds.density_of(self.state)

    @cached_property
    def novelty(self) -> Novelty | None:
        """What scores a cell's novelty; `None` where the swarm had no inner-validation donors."""
        described = "novelty.n_by_score" in self.state.arrays
        return calibration_rounds.novelty_of(self.state) if described else None

    def calibration(self, stage: str) -> Calibration:
        """Return what turns the outputs of `cell` or `patient` into probabilities."""
        return calibration_rounds.calibration_of(self.state, self.study, stage)

    def _require(self, stage: str, what: str) -> None:
        if stage not in self.state.results:
            other = "patient" if stage == "cell" else "cell"
            msg = f"this model has no {stage} task (it was trained without {what}). Use its {other} task."
            raise ModelError(msg)

    def predict_samples(self, adata: "AnnData") -> tuple[list[str], Floats]:
        """Return sample names (sorted) and probabilities, shape `(n_samples, n_conditions)`.

        Parameters
        ----------
        adata
            Cells with `obs["sample"]`; a sample's probability comes from all of its cells given here.

        Raises
        ------
        ModelError
            If the model has no patient task.
        CellsError
            If `obs["sample"]` is missing.
        PanelError
            If `adata` has fewer than 80 % of the panel's features.
        """
        names, outputs = self.sample_outputs(adata)
        return names, softmax(self.calibration("patient").apply(outputs))

    def sample_outputs(self, adata: "AnnData") -> tuple[list[str], Floats]:
        """Return sample names and their outputs before calibration, shape `(n_samples, n_conditions)`.

        Parameters and errors are those of `predict_samples`.
        """
        self._require("patient", "conditions")
        parameters = self._parameters("patient")
        if bag_models.is_of_bags(parameters):
            names, codes = samples_of(adata)
            bags = Bags.of(self.on_panel(adata), codes, len(names))
            return names, logits(parameters, bags, self.scaling)
        names, rows = self.sample_features(adata)
        arrays = self.state.arrays
        return names, logits(parameters, rows, Scaling.from_fixed(arrays["patient.mean"], arrays["patient.scale"]))

    @property
    def has_attention(self) -> bool:
        """Whether the patient task weighs a sample's cells by attention."""
        return self.has_patient_task and bag_models.has_attention(parameters_of(self.state, "patient"))

    def cell_attention(self, adata: "AnnData") -> Floats:
        """Return how much the patient task attends to each cell, shape `(n_obs,)`: 1 is an even share of its sample.

        Raises
        ------
        ModelError
            If the patient task has no attention.
        CellsError, PanelError
            As for `predict_samples`.
        """
        if not self.has_attention:
            msg = 'this model\'s patient task has no attention: [study.patient] model is not "attention".'
            raise ModelError(msg)
        names, codes = samples_of(adata)
        bags = Bags.of(self.on_panel(adata), codes, len(names))
        parameters = self._parameters("patient")
        folded = folded_embedding(parameters, self.scaling)
        found = np.zeros(adata.n_obs)
        for rows, X in zip(bags.cells, bags, strict=True):
            found[rows] = len(rows) * bag_models.attention(parameters, X, folded)
        return found

    def cell_contributions(self, X: Matrix, direction: Floats) -> Floats:
        """Return what each cell of one sample adds to `outputs @ direction`; for a patient task that reads cells.

        Parameters
        ----------
        X
            The sample's cells on the panel; the mean over them is the sample's answer, before calibration.
        direction
            Weight of each condition, shape `(n_conditions,)`.
        """
        parameters = self._parameters("patient")
        return bag_models.contributions(parameters, X, folded_embedding(parameters, self.scaling), direction)

    def sample_features(self, adata: "AnnData") -> tuple[list[str], Floats]:
        """Return sample names (sorted) and their unscaled features, shape `(n_samples, n_features)`.

        Raises
        ------
        CellsError, PanelError
            As for `predict_samples`.
        """
        names, codes = samples_of(adata)
        return names, sample_rows(self.state, self.study, self.on_panel(adata), codes, len(names))

    def cell_logits(self, X: Matrix) -> Floats:
        """Return the cell task's outputs for cells that are already on the panel."""
        return logits(self._parameters("cell"), X, self.scaling)

    @property
    def scaling(self) -> Scaling:
        """The first layer: the swarm's mean and SD of each feature of the panel."""
        return Scaling.from_fixed(self.state.arrays["mean"], self.state.arrays["scale"])

    def _parameters(self, stage: str) -> dict[str, Floats]:
        if stage not in self._floats:
            self._floats[stage] = to_floats(parameters_of(self.state, stage))
        return dict(self._floats[stage])

    def _chunks(self, adata: "AnnData") -> Iterator[Matrix]:
        X = self.on_panel(adata)
        for start in range(0, max(X.shape[0], 1), CHUNK_ROWS):
            yield X[start : start + CHUNK_ROWS]

    def on_panel(self, adata: "AnnData") -> Matrix:
        """Return cells as the model reads them, shape `(n_obs, n_panel)`, unscaled; absent features are zero.

        Where the study scales by site, they are standardised by the moments of their own site: those that
        `adata.uns[site_scaling.KEY]` holds (`stream.PreparedFile.describe_sites`), or else of these cells.

        Raises
        ------
        PanelError
            If `adata` has fewer than 80 % of the panel's features.
        """
        X = on_panel(adata, self.panel_ids)
        if self.study.features.scaling != "site":
            return X
        return standardised(adata, self.panel_ids, X, self.scaling, adata.uns.get(site_scaling.KEY))


def assemble(state: MergedState, study: Study, universe_ids: Sequence[str], card: Mapping[str, Any]) -> TrainedModel:
    """Return the model of a finished state.

    Raises
    ------
    ModelError
        If the study is not finished, failed, or has other rules than `study`.
    """
    if not state.finished or state.failure:
        msg = f"the study is not finished ({state.failure or f'stage {state.stage}'}); only a finished one has a model."
        raise ModelError(msg)
    if state.rules != rules_digest(study):
        msg = "the merged state was made by another study's rules."
        raise ModelError(msg)
    ids = tuple(universe_ids[i] for i in state.arrays["panel"])
    fitted = [stage for stage in study.stages if stage in ("cell", "patient")]
    said = {stage: calibration_rounds.calibration_of(state, study, stage) for stage in fitted}
    calibrated = {"calibration": {stage: vars(found) for stage, found in said.items()}}
    return TrainedModel(study, ids, state, dict(card) | summary(state, study) | calibrated, digest(to_bytes(state)))


def save(model: TrainedModel, path: Path, *, force: bool = False) -> None:
    """Write `path` (safetensors) and a card beside it (`.json`).

    Raises
    ------
    OutputError
        If a file exists (without `force`) or cannot be written.
    """
    document = {
        "study": asdict(model.study),
        "panel_ids": list(model.panel_ids),
        "header": header(model.state),
        "card": dict(model.card),
        "digest": model.digest,
    }
    described_arrays.save(path, _KEY, formats.MODEL, document, model.state.arrays, force=force)
    card = {"study": model.study.name, "digest": model.digest, **model.card}
    with writing(path.with_suffix(".json"), force=True) as temporary:
        temporary.write_text(json.dumps(card, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load(path: Path) -> TrainedModel:
    """Read a model file and check its digests.

    Raises
    ------
    InputError
        If there is no such file.
    ModelError
        If the file is corrupt, was changed, is of another format, or is not a swarmcell model.
    """
    if path.is_dir():
        models = sorted(str(file) for file in path.glob("*.safetensors"))
        msg = f"{path}: a folder, not a model. It holds {', '.join(models) or 'none'}: give one of these."
        raise InputError(msg)
    if not path.is_file():
        msg = f"{path}: no such file. Train a model first: swarmcell train PREPARED.h5ad."
        raise InputError(msg)
    if path.suffix == ".h5ad":
        msg = f"{path}: cells, not a model. The model comes first, then the prepared files."
        raise InputError(msg)
    remedy = "Train it again"
    document, arrays = described_arrays.load(path, _KEY, formats.MODEL, what="a model", remedy=remedy)
    try:
        state = from_header(document["header"], arrays)
        study = from_plain(document["study"])
        model = TrainedModel(study, tuple(document["panel_ids"]), state, document["card"], digest(to_bytes(state)))
        fits = model.digest == document["digest"] and state.rules == rules_digest(study)
    except (KeyError, TypeError, ValueError, MergeError) as error:
        refuse(path, f"made by swarmcell {document['made_by']}; this one cannot take it for a model ({error})", remedy)
    if not fits or len(model.panel_ids) != len(state.arrays.get("panel", ())):
        described_arrays.refuse_digest(path, document, unsaid(document["study"], study), remedy)
    return model
