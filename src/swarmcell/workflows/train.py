"""`train`: a site's own model, a pooled one of several files, or a swarm's.

Rules: alone and in a swarm the same two calls learn (`model/learning.py`), so what differs is only who contributes. A
run that is cut off goes on from its last merged state to the model that it would have made.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarmcell import __version__
from swarmcell.errors import CellsError, ModelError, UsageError
from swarmcell.model import released
from swarmcell.model.learning import Learner, check_floors
from swarmcell.model.local_fit import check_device
from swarmcell.model.stages import rounds_limit
from swarmcell.model.state import MergedState, from_bytes
from swarmcell.model.study import Study, rules_digest
from swarmcell.model.training_cells import TrainingCells
from swarmcell.privacy import accountant
from swarmcell.privacy.noise import Noised, alone
from swarmcell.workflows import earlier_studies, training_input
from swarmcell.workflows.evaluation import trained_on
from swarmcell.workflows.fitness import refuse_other_universe
from swarmcell.workflows.floor_words import agreed, spent_privacy
from swarmcell.workflows.round_notes import Observer, noted_round, recording
from swarmcell.workflows.rules import learnable, study_alone
from swarmcell.workflows.run_folder import RunFolder, choose_alone, choose_in_swarm
from swarmcell.workflows.task import Place, SiteTask

if TYPE_CHECKING:
    from swarmcell.node.claims import Others
    from swarmcell.node.terms import Ended
    from swarmcell.swarm.body import Body
    from swarmcell.workflows.join import Seat

_PACKAGES = ("anndata", "numpy", "scipy", "torch")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run computes; none of it changes what is learnt, but for the seed.

    Attributes
    ----------
    seed
        Of the order of batches (and, without a config, of the whole study).
    threads
        0 takes all.
    device
        `auto`, `cpu` or `cuda`.
    out_of_core
        Whether cells are read from disk in passes; the order of batches is then another.
    start
        Path of the model that learning starts from; empty for none.

    Raises
    ------
    UsageError
        If the device is not there: in a swarm it would be missed only in the middle.
    """

    seed: int = 0
    threads: int = 0
    device: str = "auto"
    out_of_core: bool = False
    start: str = ""

    def __post_init__(self) -> None:
        """Check the device."""
        check_device(self.device)

    def start_model(self) -> released.TrainedModel | None:
        """Return the model that learning starts from, if there is one."""
        return released.load(Path(self.start)) if self.start else None


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a run made.

    Attributes
    ----------
    run
        Its folder.
    models
        File of each model: `local`, `merged`.
    cards
        What each says of itself, its digest included.
    notes
        What a reader must know.
    """

    run: Path
    models: dict[str, Path]
    cards: dict[str, dict[str, Any]]
    notes: tuple[str, ...] = ()


def train_alone(
    prepared: Sequence[Path],
    *,
    runs: Path,
    name: str,
    study: Study | None,
    options: Options,
    observer: Observer,
    resume: bool = False,
    force: bool = False,
) -> Trained:
    """Train on these files only: one is a site's local model, several are the pooled one.

    Parameters
    ----------
    prepared
        Files that `preprocess` wrote.
    runs, name
        The run is `runs/name`; see `run_folder.choose_alone` for what stands there already.
    study
        Rules; without them the defaults, with the labels that the training cells have.
    observer
        Called with an event's name and what it carries: `started`, `note`, `round`, `stage_ended`, `model`.

    Raises
    ------
    SwarmcellError
        The branch that fits, before anything is written where that is possible.
    """
    if resume:  # first, for the study takes the run's seed, and the cells come as they came
        options = _stored_options(choose_alone(runs, name, resume=True, force=False), options)
    sources = training_input.read(prepared, out_of_core=options.out_of_core)
    whole = study_alone(study, sources.named, seed=options.seed, start=options.start_model())
    cells = training_input.training_cells(sources, whole)
    sources.clear()  # the counts are no longer needed: memory
    plan, notes = learnable(accountant.resolved(whole), cells)
    if (terms := accountant.terms_of(plan)) is not None:
        notes.append(terms.sentence())
    folder = choose_alone(runs, name, resume=resume, force=force)  # last, for --force clears an earlier run
    settings = _settings("local", prepared, plan, cells, options)
    if resume:
        _check_same(folder, settings)
    folder.make()
    folder.write_settings(settings)
    noted = _tell_start(folder, observer, cells, plan, [*notes, *cells.notes])
    model = _fit_alone(folder, plan, cells, options, observer)
    return Trained(run=folder.path, models={"local": folder.local}, cards={"local": _card(model)}, notes=noted)


def train_in_swarm(
    prepared: Sequence[Path],
    *,
    seat: "Seat",
    runs: Path,
    name: str,
    options: Options,
    observer: Observer,
    fit_local: bool = True,
) -> Trained:
    """Train in a swarm with other sites; then this site's own model by the same rules, for comparison.

    Parameters
    ----------
    seat
        The place in the swarm (`workflows.join.take_seat`).
    fit_local
        Whether to fit this site's own model as well.

    Raises
    ------
    SwarmcellError
        The branch that fits; every check of the site's own cells runs before the first entry is signed.
    """
    from swarmcell.workflows import join  # noqa: PLC0415 (the peer's parts are not needed alone)

    join.refuse_stranger(seat)
    study = seat.swarm.study
    terms = accountant.terms_of(study)
    sources = training_input.read(prepared, out_of_core=options.out_of_core)
    for source, adata in sources.named:
        refuse_other_universe(adata, study, source=source)
    cells = training_input.training_cells(sources, study, publishes=True)
    sources.clear()
    check_floors(study, cells, who=", ".join(path.name for path in prepared))
    place = Place(f=seat.swarm.swarm.f, label=seat.identity.key.hex(), secret=seat.identity.derive(b"secure-sum"))
    start, device = options.start_model(), options.device
    task = SiteTask(study, cells, place=place, seed=options.seed, threads=options.threads, device=device, start=start)
    folder = choose_in_swarm(runs, name, swarm=seat.swarm.digest)
    folder.make()
    settings = _settings("swarm", prepared, study, cells, options) | {"swarm": seat.swarm.digest}
    folder.write_settings(settings)
    earlier = earlier_studies.said(study, seat.swarm.digest, cells)
    noted = _tell_start(folder, observer, cells, study, [*agreed(study, terms), *earlier, *cells.notes])
    earlier_studies.note(study, seat.swarm.digest, seat.identity.key.hex(), cells)
    is_shared = study.privacy.cell_digests
    claim = trained_on.claim(folder.path, prepared, seat.swarm.digest, shown=cells.rows if is_shared else None)
    ended = join.take_part(seat, task, run=folder.path, observer=recording(folder, observer), claim=claim)
    join.refuse_without_result(ended, "a model")
    merged = _release_merged(folder, ended, study, cells, seat.swarm.digest)
    observer("model", {"model": "merged", "path": str(folder.merged), "card": _card(merged)})
    models, cards = {"merged": folder.merged}, {"merged": _card(merged)}
    if is_shared:
        noted += _leaks(folder, join.others_trained(seat, run=folder.path), observer)
    if fit_local and terms is not None:
        text = "no local model: beside a model under differential privacy it would show what the noise hides."
        observer("note", {"text": text})
        noted += (text,)
    elif fit_local:
        local, more = _local_beside(folder, study, cells, options, observer)
        noted += more
        if local is not None:
            models["local"], cards["local"] = folder.local, _card(local)
    return Trained(run=folder.path, models=models, cards=cards, notes=noted)


def _leaks(folder: RunFolder, others: "Others", observer: Observer) -> tuple[str, ...]:
    """Keep what other members showed, and tell what this site's training donors share with theirs."""
    notes = trained_on.keep_others(folder.path, others)
    for note in notes:
        observer("note", {"text": note})
        folder.log(f"note: {note}")
    return notes


def _settings(
    kind: str, prepared: Sequence[Path], study: Study, cells: TrainingCells, options: Options
) -> dict[str, Any]:
    return {
        "kind": kind,
        "inputs": [{"file": str(path), "sha256": training_input.digest(path)} for path in prepared],
        "study": asdict(study),
        "rules": rules_digest(study),
        **asdict(options),
        "n_cells": cells.n_cells,
        "n_donors": cells.n_donors,
        "n_samples": cells.n_samples,
        "train_donors": list(cells.donors),
        "versions": {"swarmcell": __version__, **{name: version(name) for name in _PACKAGES}},
    }


def _stored_options(folder: RunFolder, options: Options) -> Options:
    """Return the options that the run began with: other threads or another device would change bits."""
    stored = folder.settings()
    if options.seed not in (0, stored["seed"]):
        msg = f"--seed {options.seed}: the run {folder.path} began with {stored['seed']}. Resume it without --seed."
        raise UsageError(msg)
    kept = {name: stored.get(name, default) for name, default in asdict(Options()).items()}
    return Options(**kept)


def _check_same(folder: RunFolder, settings: dict[str, Any]) -> None:
    stored = folder.settings()
    for key, what in (("rules", "another study"), ("inputs", "other prepared files")):
        mine, other = settings[key], stored.get(key)
        if key == "inputs":
            mine, other = [i["sha256"] for i in mine], [i["sha256"] for i in other or []]
        if mine != other:
            hint = " (--config too)" if key == "rules" else ""
            msg = f"--resume: the run {folder.path} began with {what}. Give the same{hint}, or another --name."
            raise UsageError(msg)


def _tell_start(
    folder: RunFolder, observer: Observer, cells: TrainingCells, study: Study, notes: list[str]
) -> tuple[str, ...]:
    facts = {"n_cells": cells.n_cells, "n_donors": cells.n_donors, "n_samples": cells.n_samples}
    observer("started", {"run": str(folder.path), "stages": list(study.stages), **facts})
    folder.log(f"started: {facts}")
    for note in notes:
        observer("note", {"text": note})
        folder.log(f"note: {note}")
    return tuple(notes)


def _fit_alone(
    folder: RunFolder, study: Study, cells: TrainingCells, options: Options, observer: Observer
) -> released.TrainedModel:
    if (finished := _made_before(folder, study)) is not None:
        return finished
    start = options.start_model() if study.start_sha256 else None
    made = Learner(study, cells, seed=options.seed, threads=options.threads, device=options.device, start=start)
    learner = alone(made)
    raw = _where_it_was(folder, study, learner)
    stop = threading.Event()
    while not (state := from_bytes(raw)).finished:
        begun_s = time.perf_counter()
        contribution = learner.contribute(raw, stop)
        outcome = learner.merge(raw, [contribution] if contribution is not None else [])
        if outcome.left_out:
            msg = f"this site's own update cannot be merged: {outcome.left_out[0]}."
            raise ModelError(msg)
        raw = outcome.state
        _after_round(folder, study, state, from_bytes(raw), time.perf_counter() - begun_s, observer)
        folder.save_checkpoint(raw)
    if state.failure:
        raise CellsError(state.failure)
    model = _release(folder.local, state, study, cells, {"trained": "pooled" if len(cells.sites) > 1 else "local"})
    folder.drop_checkpoint()
    observer("model", {"model": "local", "path": str(folder.local), "card": _card(model)})
    return model


def _made_before(folder: RunFolder, study: Study) -> released.TrainedModel | None:
    """Return the model of a run that had ended; `None` where it has still to be fitted, or by other rules."""
    if folder.checkpoint() is not None or not folder.local.is_file():
        return None
    found = released.load(folder.local)
    return found if found.study == study else None


def _where_it_was(folder: RunFolder, study: Study, learner: Learner | Noised) -> bytes:
    raw = folder.checkpoint()
    if raw is None or from_bytes(raw).rules != rules_digest(study):
        raw = learner.start()
    folder.cut_metrics("local", after_round=from_bytes(raw).round)
    return raw


def _after_round(
    folder: RunFolder, study: Study, before: MergedState, after: MergedState, seconds: float, observer: Observer
) -> None:
    row = noted_round("local", before.stage, after, seconds)
    folder.add_metrics(row)
    observer("round", row | {"rounds_max": rounds_limit(study, before.stage)})
    if after.stage != before.stage and not after.failure:
        result = after.results[before.stage]
        ended = {"stage": before.stage, "rounds": result.rounds, "best_round": result.best_round}
        observer("stage_ended", {"model": row["model"], **ended})
        folder.log(f"stage {before.stage} ended after {result.rounds} rounds; best: {result.best_round}")


def _release(
    path: Path, state: MergedState, study: Study, cells: TrainingCells, card: dict[str, Any]
) -> released.TrainedModel:
    said = {"sites": list(cells.sites), "floors": asdict(study.floors), "universe": dict(cells.universe)}
    facts = {**said, **spent_privacy(study, state), **card}
    model = released.assemble(state, study, cells.feature_ids, facts)
    released.save(model, path, force=True)
    return model


def _release_merged(
    folder: RunFolder,
    ended: "Ended",
    study: Study,
    cells: TrainingCells,
    swarm: str,
) -> released.TrainedModel:
    names = sorted({site for body in ended.bodies for site in _included(body)})
    state = from_bytes(ended.state)
    return _release(folder.merged, state, study, cells, {"trained": "swarm", "sites": names, "swarm": swarm})


def _included(body: "Body") -> list[str]:
    roster = {standing.member.signing_key: standing.member.name for standing in body.roster}
    return [roster[author] for author, _ in body.included if author in roster]


def _local_beside(
    folder: RunFolder, study: Study, cells: TrainingCells, options: Options, observer: Observer
) -> tuple[released.TrainedModel | None, tuple[str, ...]]:
    """Return this site's own model by the swarm's rules, and notes; none where it cannot be fitted."""
    try:
        own, notes = learnable(study, cells)
    except CellsError as error:
        notes = [f"no local model: {error}"]
        observer("note", {"text": notes[0]})
        return None, tuple(notes)
    notes = [f"local model: {note}" for note in notes]
    for note in notes:
        observer("note", {"text": note})
    return _fit_alone(folder, own, cells, replace(options), observer), tuple(notes)


def _card(model: released.TrainedModel) -> dict[str, Any]:
    return {"digest": model.digest, **model.card}
