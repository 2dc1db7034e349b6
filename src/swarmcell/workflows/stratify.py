"""`stratify`: which patients are alike, of this site, of several files, or of a swarm; and new patients placed.

Rules: alone and in a swarm the same two calls find strata (`model/strata/rounds.py`). What is agreed on goes into
`strata.safetensors` and `strata.json`; what is known of a sample stays in this site's own folder.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from swarmcell.errors import CellsError, MergeError, ModelError, UsageError
from swarmcell.files import make_folder, write_whole
from swarmcell.model import released as classifiers
from swarmcell.model.encoding import Array
from swarmcell.model.learning import Learner
from swarmcell.model.stages import check_numbers
from swarmcell.model.state import from_bytes as cells_state
from swarmcell.model.strata import released
from swarmcell.model.strata.clustered import ClusteredStratifier, clusters_in, study_of_cells
from swarmcell.model.strata.released import Strata
from swarmcell.model.strata.rounds import Stratifier
from swarmcell.model.strata.state import StrataState, from_bytes
from swarmcell.model.strata.table import SampleTable
from swarmcell.model.strata_rules import CONDITION
from swarmcell.model.study import ClusterRule, Floors, StrataRule, Study
from swarmcell.model.training_cells import universe_facts
from swarmcell.workflows import sample_table, strata_folder, strata_words
from swarmcell.workflows.evaluation.fit import refuse_other_universe
from swarmcell.workflows.sample_table import CellTypes, Covariate
from swarmcell.workflows.strata_folder import MODEL, RESULT, SAMPLES, STRATUM
from swarmcell.workflows.strata_task import StrataTask, Whose, n_features_of
from swarmcell.workflows.stream import PreparedFile
from swarmcell.workflows.task import Place

if TYPE_CHECKING:
    from swarmcell.workflows.join import Seat

Observer = Callable[[str, dict[str, Any]], None]
ROUNDS_MAX = 1000
SAMPLES_TO_CENTRE = 3  # of a site whose mean is taken away from new samples; chosen


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a person asks for.

    Attributes
    ----------
    cells
        Model that tells the cells' types; without one the files' own labels count, if all cells have one.
    sheet, covariates
        Sheet of covariates, and the columns of it to test.
    clusters
        Clusters of cells that composition counts where neither a model nor labels tell types; 0 for none.
    rule
        How strata are looked for, alone; in a swarm its file says that.
    annotate
        Whether to write copies of the prepared files with each cell's stratum in `obs`.
    """

    cells: Path | None = None
    sheet: Path | None = None
    covariates: tuple[str, ...] = ()
    clusters: int = ClusterRule.n
    rule: StrataRule = field(default_factory=StrataRule)
    seed: int = 0
    annotate: bool = True


@dataclass(frozen=True)
class Stratified:
    """What was found: `result` is plain values for JSON and the report; `folder` holds the files."""

    folder: Path
    strata: Strata
    result: dict[str, Any]


def stratify_alone(
    prepared: Sequence[Path], folder: Path, options: Options, *, force: bool = False, observer: Observer
) -> Stratified:
    """Find strata among the samples of these files; several sites in them are told apart, as a swarm would.

    Raises
    ------
    SwarmcellError
        The branch that fits, before anything is written where that is possible.
    """
    strata_folder.refuse(folder, prepared, annotate=options.annotate, force=force)
    types = _types(prepared, options.cells)
    covariates = _covariates(options.sheet, options.covariates, None)
    study = _study_alone(prepared, types, covariates, options)
    clustered = _clustered(prepared, study, covariates, observer) if "clusters" in study.stages else {}
    if clustered:
        types = CellTypes.by_clusters(study, clustered)
    table = sample_table.read(prepared, study, types, covariates=covariates, observer=observer)
    observer("samples", {"n": len(table.samples), "n_donors": table.n_donors, "n_cells": int(table.n_cells.sum())})
    sites = [Stratifier(study, part) for part in table.by_site()]
    state = from_bytes(_solved(sites, sites[0].start(clustered), observer))
    return _written(state, study, table, prepared, folder, options, {"found": "alone"})


def stratify_in_swarm(
    prepared: Sequence[Path], seat: "Seat", folder: Path, options: Options, *, force: bool = False, observer: Observer
) -> Stratified:
    """Find strata together with the other sites of a swarm; every check runs before the first entry is signed.

    Raises
    ------
    SwarmcellError
        The branch that fits.
    """
    from swarmcell.workflows import join  # noqa: PLC0415 (the peer's parts are not needed alone)

    study = seat.swarm.study
    if study.strata is None:
        msg = f"{seat.path}: a study of classifiers, without [study.strata]. Join it with swarmcell train --join."
        raise UsageError(msg)
    check_numbers(study)
    strata_folder.refuse(folder, prepared, annotate=options.annotate, force=force)
    join.refuse_stranger(seat)
    model = None if options.cells is None else classifiers.load(options.cells)
    sample_table.check_model(study, model, options.cells)
    types = CellTypes(study.counted_types, model, options.cells)
    names = tuple(sorted(study.strata.covariates))
    covariates = _covariates(options.sheet, names, study.strata.covariates)

    def samples(types: CellTypes) -> SampleTable:
        table = sample_table.read(prepared, study, types, covariates=covariates, observer=observer)
        observer("samples", {"n": len(table.samples), "n_donors": table.n_donors, "n_cells": int(table.n_cells.sum())})
        return _as_one_site(table, seat.identity.name)

    site, whose = _site(prepared, study, types, covariates, samples)
    _check_floors(whose, study, ", ".join(path.name for path in prepared))
    make_folder(folder, mode=0o700)
    place = Place(f=seat.swarm.swarm.f, label=seat.identity.key.hex(), secret=seat.identity.derive(b"secure-sum"))
    ended = join.take_part(seat, StrataTask(study, site, place, whose), run=folder, observer=observer)
    join.refuse_without_result(ended, "strata")
    card = {"found": "swarm", "swarm": seat.swarm.digest}
    state = from_bytes(ended.state)
    table = samples(CellTypes.by_clusters(study, state.cells)) if state.cells else _table_of(site)
    return _written(state, study, table, prepared, folder, options, card)


def _table_of(site: Stratifier | ClusteredStratifier) -> SampleTable:
    assert isinstance(site, Stratifier)  # noqa: S101 (our own bug)
    assert site.table is not None  # noqa: S101
    return site.table


def _site(
    prepared: Sequence[Path],
    study: Study,
    types: CellTypes,
    covariates: Mapping[str, Covariate],
    samples: Callable[[CellTypes], SampleTable],
) -> tuple[Stratifier | ClusteredStratifier, Whose]:
    """Return this site's part of a swarm's study; its samples are known at once, or once cells are clustered."""
    if "clusters" not in study.stages:
        table = samples(types)
        return Stratifier(study, table), Whose(int(table.n_cells.sum()), table.n_donors)
    cells, n_cells = sample_table.cells_of(prepared, study, covariates)
    n_features = n_features_of(study, cells.feature_ids)

    def table_of(arrays: Mapping[str, Array]) -> SampleTable:
        return samples(CellTypes.by_clusters(study, arrays))

    site = ClusteredStratifier(study, cells, table_of, n_universe=len(cells.feature_ids), n_features=n_features)
    return site, Whose(n_cells, cells.n_donors)


def _clustered(
    prepared: Sequence[Path], study: Study, covariates: Mapping[str, Covariate], observer: Observer
) -> dict[str, Array]:
    """Return the arrays that tell the clusters of these files' cells."""
    learner = Learner(study_of_cells(study), sample_table.cells_of(prepared, study, covariates)[0])
    return clusters_in(cells_state(_solved([learner], learner.start(), observer)))


def place_new(
    strata_file: Path, prepared: Sequence[Path], folder: Path, options: Options, *, force: bool, observer: Observer
) -> Stratified:
    """Place the samples of prepared files in strata that were found before.

    Raises
    ------
    SwarmcellError
        The branch that fits: no strata in the file, another universe, another cell model.
    """
    strata_folder.refuse(folder, prepared, annotate=options.annotate, force=force)
    strata = released.load(strata_file)
    if not strata.state.k:
        msg = f"{strata_file}: holds no stable strata ({strata.state.words}), so nobody can be placed in them."
        raise ModelError(msg)
    model = None if options.cells is None else classifiers.load(options.cells)
    sample_table.check_model(strata.study, model, options.cells)
    types = CellTypes(strata.study.cell_types, model, options.cells)
    if strata.state.cells:
        types = CellTypes.by_clusters(strata.study, strata.state.cells)
    for path in prepared:
        with PreparedFile(path) as file:
            if file.contents["modality"] == strata.study.modality:  # else `read` says so
                made = f"the strata {strata_file} were found"
                refuse_other_universe(file, strata.study, strata.ids, strata.card, made=made)
    study = replace(strata.study, conditions=())
    table = sample_table.read(prepared, study, types, covariates={}, observer=observer)
    if strata.rule.centre_sites:
        _check_centred(table, strata_file)
    return _write(strata, table, prepared, folder, options, placed_from=str(strata_file))


def _check_centred(table: SampleTable, strata_file: Path) -> None:
    for site in table.by_site():
        if (n := len(site.samples)) < SAMPLES_TO_CENTRE:
            msg = (
                f"{site.sites[0]}: {n} sample(s), and {strata_file} takes each site's mean away (--centre-sites), "
                f"which needs at least {SAMPLES_TO_CENTRE}. Place them together with other samples of the site."
            )
            raise CellsError(msg)


def _solved(sites: Sequence[Stratifier | Learner], raw: bytes, observer: Observer) -> bytes:
    """Run rounds from the state `raw` until the study has ended; return its last state."""
    stop = threading.Event()
    for number in range(1, ROUNDS_MAX + 1):
        phase = sites[0].describe(raw)["phase"]
        made = [one for one in (site.contribute(raw, stop) for site in sites) if one is not None]
        outcome = sites[0].merge(raw, made)
        if outcome.left_out:
            msg = f"a site's own sums cannot be merged: {next(iter(outcome.left_out.values()))}."
            raise MergeError(msg)
        if outcome.failure:
            raise CellsError(outcome.failure)
        raw = outcome.state
        observer("round", {"phase": phase, "round": number})
        if outcome.finished:
            return raw
    msg = f"the study did not end within {ROUNDS_MAX} rounds."
    raise MergeError(msg)


def _types(prepared: Sequence[Path], cells: Path | None) -> CellTypes:
    if cells is not None:
        model = classifiers.load(cells)
        if not model.study.counted_types:
            msg = f"{cells}: tells neither types nor clusters of cells. Give another model, or none."
            raise ModelError(msg)
        return CellTypes(model.study.counted_types, model, cells)
    names: set[str] = set()
    for path in prepared:
        with PreparedFile(path) as file:
            if "cell_type" not in file.obs or file.obs["cell_type"].isna().any():
                return CellTypes(())
            names.update(map(str, file.obs["cell_type"].unique()))
    return CellTypes(tuple(sorted(names)) if len(names) > 1 else ())


def _covariates(
    sheet: Path | None, names: Sequence[str], categories: Mapping[str, tuple[str, ...]] | None
) -> dict[str, Covariate]:
    if names and sheet is None:
        msg = f"the covariates {', '.join(names)} stand in no sheet. Give one with --covariates SHEET.csv."
        raise UsageError(msg)
    if sheet is not None and not names:
        msg = f"{sheet}: no column of it is tested. Name columns with --covariate, or leave the sheet out."
        raise UsageError(msg)
    if CONDITION in names:
        msg = f"{CONDITION!r} is tested as the prepared files say it. Call the column of the sheet something else."
        raise UsageError(msg)
    return {} if sheet is None else sample_table.covariates_from(sheet, names, categories)


def _study_alone(
    prepared: Sequence[Path], types: CellTypes, covariates: Mapping[str, Covariate], options: Options
) -> Study:
    conditions: set[str] = set()
    for path in prepared:
        with PreparedFile(path) as file:
            if "condition" in file.obs:
                conditions.update(map(str, file.obs["condition"].dropna().unique()))
    with PreparedFile(prepared[0]) as file:
        found = file.contents
    rule = replace(
        options.rule,
        cell_model="" if types.model is None else types.model.digest,
        covariates={name: one.categories for name, one in covariates.items()},
    )
    return Study(
        name="strata",
        modality=found["modality"],
        stages=("features",) if types.names or not options.clusters else ("features", "clusters"),
        clusters=ClusterRule(n=max(options.clusters, 2)),
        cell_types=types.names,
        conditions=tuple(sorted(conditions)),
        universe_sha256=str(found["universe_sha256"]),
        floors=Floors(donors=1, cells=1),
        seed=options.seed,
        strata=rule,
    )


def _as_one_site(table: SampleTable, name: str) -> SampleTable:
    """Return the samples as those of one member of the swarm, with donors that keep their own site's name apart."""
    if set(table.sites) == {name}:
        return table
    donors = tuple(
        donor if site == name else f"{site}:{donor}" for site, donor in zip(table.sites, table.donors, strict=True)
    )
    return replace(table, sites=(name,) * len(table.sites), donors=donors)


def _check_floors(whose: Whose, study: Study, source: str) -> None:
    floors = study.floors
    if whose.n_donors >= floors.donors and whose.n_cells >= floors.cells:
        return
    msg = (
        f"{source}: {whose.n_cells} cells of {whose.n_donors} donor(s); the study's floors are {floors.cells} cells "
        f"and {floors.donors} donors, and a site below them publishes nothing. Add donors, or stratify alone."
    )
    raise CellsError(msg)


def _written(
    state: StrataState,
    study: Study,
    table: SampleTable,
    prepared: Sequence[Path],
    folder: Path,
    options: Options,
    card: dict[str, Any],
) -> Stratified:
    with PreparedFile(prepared[0]) as file:
        ids, symbols = sample_table.ids_of(file)
        facts = {"sites": list(state.sites), "universe": universe_facts(file.contents)}
    strata = released.assemble(state, study, ids, symbols, {**card, **facts})
    made = _write(strata, table, prepared, folder, options, placed_from="")
    released.save(strata, folder / MODEL, force=True)
    return made


def _write(
    strata: Strata, table: SampleTable, prepared: Sequence[Path], folder: Path, options: Options, *, placed_from: str
) -> Stratified:
    samples = _samples(strata, table)
    rows = [{str(key): value for key, value in row.items()} for row in samples.to_dict(orient="records")]
    result = strata_words.result(strata, rows, placed_from=placed_from)
    make_folder(folder, mode=0o700)
    write_whole(folder / SAMPLES, samples.to_csv(index=False).encode(), force=True)
    text = json.dumps({**result, "rule": asdict(strata.rule)}, indent=2, sort_keys=True) + "\n"
    write_whole(folder / RESULT, text.encode(), force=True)
    if options.annotate and strata.state.k:
        for path in prepared:
            strata_folder.annotate(path, folder / path.name, samples)
    return Stratified(folder, strata, result)


def _samples(strata: Strata, table: SampleTable) -> pd.DataFrame:
    frame = pd.DataFrame({"site": table.sites, "donor": table.donors, "sample": table.samples})
    frame["n_cells"] = table.n_cells
    conditions = strata.study.conditions
    frame["condition"] = [conditions[c] if c >= 0 else "" for c in table.condition]
    if strata.state.k:
        placed = released.place(strata, table)
        frame[STRATUM], frame["membership"] = placed.stratum + 1, placed.membership.round(4)
        points = placed.coordinates
    else:
        points = released.coordinates(strata, table)
    for i in range(min(2, points.shape[1])):
        frame[f"component_{i + 1}"] = points[:, i].round(6)
    return frame
