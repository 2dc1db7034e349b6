"""`evaluate`: what a model is worth on donors that nobody trained on.

Rules: held-out donors only; every model sees the same ones; figures have intervals over donors or say why not.
"""

import json
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from swarmcell import __version__
from swarmcell.errors import CellsError, UsageError
from swarmcell.model import released
from swarmcell.model.baselines import SiteOnly
from swarmcell.model.released import TrainedModel
from swarmcell.workflows import training_input
from swarmcell.workflows.evaluation import ledger_facts, sentences
from swarmcell.workflows.evaluation.cell_figures import cell_task
from swarmcell.workflows.evaluation.cohort import UNLABELLED, Cohort, gather
from swarmcell.workflows.evaluation.covariates import covariates
from swarmcell.workflows.evaluation.fit import check_fit
from swarmcell.workflows.evaluation.history import history
from swarmcell.workflows.evaluation.leaks import refuse_shared_cells
from swarmcell.workflows.evaluation.patient_figures import patient_task
from swarmcell.workflows.evaluation.portrait import portray
from swarmcell.workflows.evaluation.reference_figures import cell_baselines, patient_baselines, site_alarm
from swarmcell.workflows.evaluation.scores import score_cells, score_samples
from swarmcell.workflows.evaluation.trained_on import refuse_trained_on
from swarmcell.workflows.evaluation.values import (
    CohortFacts,
    Evaluation,
    ModelFacts,
    Settings,
    SiteCount,
)
from swarmcell.workflows.stream import PreparedFile

Observer = Callable[[str, dict[str, Any]], None]
N_PERMUTATIONS = 2000  # chosen: the smallest p is 0.0005
LOCAL_MODEL = "local.safetensors"
NAMES = {"merged": "swarm", "local": "local", "pooled": "pooled"}


def silent(event: str, facts: dict[str, Any]) -> None:
    """Observe nothing."""


@dataclass(frozen=True, eq=False)
class _Named:
    name: str
    path: Path
    model: TrainedModel


def evaluate(
    model: Path,
    files: Sequence[Path],
    *,
    against: Mapping[str, Path] | None = None,
    seed: int = 0,
    n_bootstrap: int = 2000,
    n_mapped: int = 0,
    observer: Observer = silent,
) -> Evaluation:
    """Evaluate a model, and others beside it, on the held-out donors of prepared files.

    Parameters
    ----------
    model
        The model file. A `local.safetensors` beside it is evaluated too.
    files
        Prepared files, each named once.
    against
        Name -> file of further models.
    seed
        Seed of resamples and permutations.
    n_bootstrap
        Resamples of donors.
    n_mapped
        Held-out cells to show in a UMAP, at most; 0 makes none.
    observer
        Called with `("total", {"n": n})` and `("progress", {"n": n})`: cells to pass, cells passed.

    Raises
    ------
    UsageError
        If a file or a name is given twice.
    InputError
        If a file is missing or unreadable.
    CellsError
        If no donor is held out, or a file breaks the data contract.
    ModelError
        If a model is corrupt, does not fit the cells, or was trained on a held-out donor.
    """
    training_input.refuse_repeated(files)
    models = _models(model, against or {})
    with ExitStack() as opened:
        inputs = [opened.enter_context(PreparedFile(path)) for path in files]
        for named in models:
            for file in inputs:
                check_fit(named.model, named.path, file)
        cohort = gather(
            inputs,
            cell_types=_union(m.model.cell_types for m in models),
            conditions=_union(m.model.conditions for m in models),
            trained_on=_trained_on(models),
        )
        leaked = refuse_shared_cells(inputs)
        known = refuse_trained_on([file.path for file in inputs], {m.path: m.model.study for m in models})
        settings = Settings(seed=seed, n_bootstrap=n_bootstrap, n_permutations=N_PERMUTATIONS, level=0.95)
        found = _evaluated(models, cohort, inputs, settings, observer)
        portrait = portray(models[0].model, cohort, n_mapped=n_mapped, seed=seed, progress=_progress(observer))
        beside = covariates(cohort)
        caveats = (
            *found.caveats,
            *filter(None, [leaked]),
            *known,
            *(sentences.uneven(one) for one in beside if one.is_uneven),
        )
        ledger = ledger_facts.beside(model, models[0].model.digest)
        return replace(
            found,
            portrait=portrait,
            covariates=beside,
            history=history(model),
            ledger=ledger,
            caveats=tuple(dict.fromkeys(caveats)),
        )


def _evaluated(
    models: Sequence[_Named], cohort: Cohort, files: Sequence[PreparedFile], settings: Settings, observer: Observer
) -> Evaluation:
    by_cell = [m for m in models if m.model.has_cell_task and cohort.has_cell_types]
    by_patient = [m for m in models if m.model.has_patient_task and cohort.has_conditions]
    if not by_cell and not by_patient:
        msg = (
            f"{models[0].path}: nothing to compare: the held-out cells have neither cell types nor conditions that "
            "this model predicts. Attach labels when preparing (--cell-type-key, --condition-key), or use predict."
        )
        raise CellsError(msg)
    passes = len(by_cell) + len(by_patient) + 2 * models[0].model.has_cell_task + models[0].model.has_patient_task
    observer("total", {"n": cohort.n_cells * (passes + 1)})
    progress = _progress(observer)
    cells = {m.name: score_cells(m.model, cohort, progress) for m in by_cell}
    samples = {m.name: score_samples(m.model, cohort, progress) for m in by_patient}
    cell = cell_task(cohort, cells, settings) if cells else None
    patient = patient_task(cohort, samples, settings) if samples else None
    baselines = cell_baselines(by_cell[0].model, cohort, settings, progress) if by_cell else ()
    baselines += patient_baselines(by_patient[0].model, cohort, files, settings, progress) if by_patient else ()
    alarm = site_alarm(cohort, files, by_patient[0].model) if by_patient else None
    return Evaluation(
        study=models[0].model.study.name,
        modality=models[0].model.study.modality,
        models=tuple(_facts(m) for m in models),
        cohort=_cohort_facts(cohort),
        cell=cell,
        patient=patient,
        summary=tuple(sentences.summary(cell, patient)),
        caveats=(*_confounded(alarm), *sentences.caveats(cohort, {m.name: m.model for m in models}, cell, patient)),
        settings=settings,
        versions=_versions(),
        baselines=baselines,
        site_only=alarm,
    )


def _progress(observer: Observer) -> Callable[[int], None]:
    return lambda n: observer("progress", {"n": n})


def _confounded(alarm: SiteOnly | None) -> Iterator[str]:
    if alarm is not None and alarm.is_alarm:
        yield alarm.sentence()


def _models(path: Path, against: Mapping[str, Path]) -> list[_Named]:
    named = [_Named(_name_of(path), path, released.load(path))]
    beside = path.parent / LOCAL_MODEL
    if path.name != LOCAL_MODEL and beside.is_file() and "local" not in against:
        named.append(_Named("local", beside, released.load(beside)))
    for name, other in against.items():
        if name in {m.name for m in named}:
            msg = f"--against {name}={other}: there is a model of that name already. Choose another name."
            raise UsageError(msg)
        named.append(_Named(name, other, released.load(other)))
    return named


def _name_of(path: Path) -> str:
    return NAMES.get(path.stem, path.stem)


def _union(vocabularies: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Return all labels, in the order of the first vocabulary that has them."""
    return tuple(dict.fromkeys(label for vocabulary in vocabularies for label in vocabulary))


def _trained_on(models: Sequence[_Named]) -> frozenset[str]:
    """Return the donors that the models' runs say they were trained on, as `site/donor`."""
    return frozenset(donor for named in models for donor in run_facts(named.path).get("train_donors", ()))


def run_facts(path: Path) -> dict[str, Any]:
    """Return what stands in `run.json` beside a model; empty where there is none."""
    try:
        facts = json.loads((path.parent / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _facts(named: _Named) -> ModelFacts:
    model = named.model
    return ModelFacts(
        name=named.name,
        file=str(named.path),
        digest=model.digest,
        study=model.study.name,
        n_features=len(model.panel_ids),
        card=dict(model.card),
        universe_sha256=model.study.universe_sha256,
        panel_sha256=sha256("\n".join(model.panel_ids).encode()).hexdigest(),
        cells_by_type=_training(model, "cells_by_type", model.cell_types),
        samples_by_condition=_training(model, "samples_by_condition", model.conditions),
        rules=_rules(model),
        calibration={stage: vars(model.calibration(stage)) for stage in model.state.results if stage != "features"},
    )


def _rules(model: TrainedModel) -> dict[str, dict[str, Any]]:
    study = model.study
    fits = {stage: rule for stage, rule in (("cell", study.cell), ("patient", study.patient)) if stage in study.stages}
    said = {stage: {"model": rule.model, "merge": rule.merge, "l2": rule.l2} for stage, rule in fits.items()}
    return {"features": asdict(study.features)} | said


def _training(model: TrainedModel, name: str, labels: tuple[str, ...]) -> dict[str, int]:
    counts = model.state.arrays.get(name, ())
    return dict(zip(labels, map(int, counts), strict=True)) if len(counts) == len(labels) else {}


def _cohort_facts(cohort: Cohort) -> CohortFacts:
    return CohortFacts(
        n_donors=len(cohort.donors),
        n_samples=len(cohort.samples),
        n_cells=cohort.n_cells,
        n_training_donors=cohort.n_training_donors,
        sites=tuple(_site_count(cohort, site) for site in cohort.sites),
        files={part.file.name: str(part.file.contents["universe_sha256"]) for part in cohort.parts},
    )


def _site_count(cohort: Cohort, site: str) -> SiteCount:
    donors = {i for i, donor in enumerate(cohort.donors) if donor.site == site}
    samples = [sample for sample in cohort.samples if sample.donor in donors]
    conditions = Counter(cohort.conditions[s.condition] for s in samples if s.condition != UNLABELLED)
    types: Counter[str] = Counter()
    for part in cohort.parts:
        codes = part.cell_type[np.isin(part.donor, list(donors)) & (part.cell_type != UNLABELLED)]
        counts = np.bincount(codes, minlength=len(cohort.cell_types))
        types.update({name: int(n) for name, n in zip(cohort.cell_types, counts, strict=True) if n})
    n_cells = sum(sample.n_cells for sample in samples)
    return SiteCount(
        site=site,
        n_donors=len(donors),
        n_samples=len(samples),
        n_cells=n_cells,
        conditions=dict(conditions),
        cell_types=dict(types),
    )


def _versions() -> dict[str, str]:
    packages = ("anndata", "numpy", "scipy", "scikit-learn", "torch")
    return {"swarmcell": __version__, "python": platform.python_version()} | {name: version(name) for name in packages}
