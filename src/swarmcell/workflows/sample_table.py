"""From prepared files to one row of features per sample: composition, and pseudobulk or marker statistics.

Rules: a file is read in passes of bounded size, whole samples at a time. All donors count, held out or not: nothing is
learnt of labels here. Covariates come from a sheet by sample or donor; a sample that the sheet lacks is an error.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from swarmcell.cells import missing
from swarmcell.cells.batches import Matrix, columns
from swarmcell.cells.stored import StoredRows, open_cells, stack
from swarmcell.errors import CellsError, InputError, ModelError, PanelError
from swarmcell.model import clusters, sample_features
from swarmcell.model.clusters import Clusters
from swarmcell.model.encoding import Array
from swarmcell.model.released import TrainedModel
from swarmcell.model.strata.describe import NUMBER_MAX
from swarmcell.model.strata.table import UNKNOWN, SampleTable, blocks_of
from swarmcell.model.study import Study
from swarmcell.model.training_cells import TrainingCells
from swarmcell.workflows.evaluation.covariates import LEVELS_MAX
from swarmcell.workflows.evaluation.fit import check_fit
from swarmcell.workflows.stream import Block, PreparedFile

Observer = Callable[[str, dict[str, Any]], None]
Codes = npt.NDArray[np.int64]
_SHOWN = 5
_NONE = np.zeros(0)


@dataclass(frozen=True)
class CellTypes:
    """Where the types of cells come from: a model, clusters, the file's own labels, or nowhere (no names)."""

    names: tuple[str, ...]
    model: TrainedModel | None = None
    path: Path | None = None
    clusters: Clusters | None = None
    panel: Codes | None = None

    def of(self, block: Block, source: str) -> Codes | None:
        """Return the type of each cell; `None` where composition does not count."""
        if not self.names:
            return None
        if self.model is not None:
            return self.model.counted_cells(block.cells)
        if self.clusters is not None and self.panel is not None:
            return self.clusters.codes(columns(cast("Matrix", block.cells.X), self.panel))
        labels = block.cells.obs.get("cell_type")
        code = {name: i for i, name in enumerate(self.names)}
        found = [UNKNOWN] * block.cells.n_obs if labels is None else [code.get(str(one), UNKNOWN) for one in labels]
        if UNKNOWN in found:
            n = found.count(UNKNOWN)
            odd = sorted({str(one) for one in labels if str(one) not in code}) if labels is not None else ["no label"]
            msg = (
                f"{source}: {n} cells are {', '.join(odd[:_SHOWN])}, and the study counts {', '.join(self.names)}. "
                "Give a model that tells types with --cells, or map the labels when preparing the file."
            )
            raise CellsError(msg)
        return np.array(found, np.int64)

    @classmethod
    def by_clusters(cls, study: Study, arrays: Mapping[str, Array]) -> "CellTypes":
        """Return clusters of cells for types, by the arrays of a state of strata (`StrataState.cells`)."""
        panel = arrays["panel"].astype(np.int64)
        return cls(study.counted_types, clusters=Clusters.of(arrays), panel=panel)


def ids_of(file: PreparedFile) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the universe's features and their symbols, in order."""
    symbols = file.var["symbol"].astype(str) if "symbol" in file.var else file.var.index
    return tuple(map(str, file.var.index)), tuple(map(str, symbols))


def read(
    paths: Sequence[Path],
    study: Study,
    types: CellTypes,
    *,
    covariates: Mapping[str, "Covariate"],
    observer: Observer,
) -> SampleTable:
    """Return the samples of prepared files, which are opened one by one.

    Parameters
    ----------
    study
        Its universe, cell types and conditions.
    observer
        Is told `total` and `progress` (cells).

    Raises
    ------
    CellsError, PanelError, ModelError
        If files do not fit each other, the study or the cell model, or a sample stands in two files.
    """
    parts: list[Sample] = []
    ids: tuple[str, ...] = ()
    for path in paths:
        with PreparedFile(path) as file:
            check_file(file, study, types)
            observer("total", {"n": file.n_cells})
            parts += _samples(file, study, types, observer)
            ids = ids_of(file)[0]
    _check_once(parts)
    parts.sort(key=lambda part: (part.site, part.donor, part.sample))
    return SampleTable(
        blocks=blocks_of(study.modality, types.names, ids),
        features=np.vstack([part.features for part in parts]),
        sites=tuple(part.site for part in parts),
        donors=tuple(part.donor for part in parts),
        samples=tuple(part.sample for part in parts),
        n_cells=np.array([part.n_cells for part in parts], np.int64),
        condition=np.array([part.condition for part in parts], np.int64),
        covariates={name: one.values(parts) for name, one in covariates.items()},
    )


def cells_of(paths: Sequence[Path], study: Study, covariates: Mapping[str, "Covariate"]) -> tuple[TrainingCells, int]:
    """Return the cells that make the clusters, left on disk, and how many cells there are in all.

    They are of all donors, at most `cells_per_sample` of each sample.

    Conditions and covariates of the samples are checked too, so that what does not fit is refused before any round.

    Raises
    ------
    CellsError, PanelError
        As for `read`.
    """
    parts: list[Sample] = []
    ids: tuple[str, ...] = ()
    stored, codes = [], []
    for path in paths:
        with PreparedFile(path) as file:
            check_file(file, study, CellTypes(()))
            ids = ids_of(file)[0]
            code, here = sample_codes(file)[0], _labelled(file, study)
        rows = clusters.drawn(code, study.clusters.cells_per_sample)
        stored.append(StoredRows.of(open_cells(path)[1], rows, source=path.name))
        codes.append(code[rows] + len(parts))
        parts += here
    _check_once(parts)
    for one in covariates.values():
        one.values(parts)
    sample = np.concatenate(codes)
    cells = TrainingCells(
        X=stack(stored),
        feature_ids=ids,
        universe_sha256=study.universe_sha256,
        modality=study.modality,
        cell_type=np.full(len(sample), UNKNOWN, np.int64),
        sample=sample,
        validation=np.zeros(len(sample), bool),
        sample_condition=np.full(len(parts), UNKNOWN, np.int64),
        sample_validation=np.zeros(len(parts), bool),
        donors=tuple(sorted({f"{part.site}/{part.donor}" for part in parts})),
    )
    return cells, sum(part.n_cells for part in parts)


def _check_once(parts: Sequence["Sample"]) -> None:
    keys = [(part.site, part.donor, part.sample) for part in parts]
    if len(set(keys)) < len(keys):
        twice = next(key for i, key in enumerate(keys) if key in keys[:i])
        msg = f"sample {'/'.join(twice)} stands in two files. Name each file once."
        raise CellsError(msg)


@dataclass(frozen=True)
class Sample:
    """One sample: whose it is, and its features."""

    site: str
    donor: str
    sample: str
    n_cells: int
    condition: int
    features: npt.NDArray[np.float64]


def check_file(file: PreparedFile, study: Study, types: CellTypes) -> None:
    """Check that a prepared file is of the study, and fits the cell model.

    Raises
    ------
    CellsError, PanelError
        If it is not, or does not.
    """
    found = file.contents
    if found["modality"] != study.modality:
        msg = f"{file.name}: {found['modality']} cells; the study is of {study.modality}. Choose files that fit."
        raise CellsError(msg)
    if study.universe_sha256 and found["universe_sha256"] != study.universe_sha256:
        msg = (
            f"{file.name}: prepared with universe {found['universe_sha256'][:12]}, expected "
            f"{study.universe_sha256[:12]}. Prepare all files with the study's universe file."
        )
        raise PanelError(msg)
    if types.model is not None and types.path is not None:
        check_fit(types.model, types.path, file)


def _labelled(file: PreparedFile, study: Study) -> list[Sample]:
    """Return the samples of a file without features: X is not read."""
    code, names = sample_codes(file)
    conditions = {name: i for i, name in enumerate(study.conditions)}
    labels = file.obs["condition"].astype(object) if "condition" in file.obs else None
    _, first, n = np.unique(code, return_index=True, return_counts=True)
    said = [None if labels is None else labels.iloc[int(at)] for at in first]
    codes = [_condition(label, conditions, file.name) for label in said]
    return [Sample(*names[i], int(n[i]), codes[i], _NONE) for i in range(len(first))]


def _samples(file: PreparedFile, study: Study, types: CellTypes, observer: Observer) -> Iterator[Sample]:
    code, names = sample_codes(file)
    conditions = {name: i for i, name in enumerate(study.conditions)}
    kinds = [block.kind for block in blocks_of(study.modality, types.names, ())]
    labels = file.obs["condition"].astype(object) if "condition" in file.obs else None
    for block in file.groups(np.arange(file.n_cells), code):
        inside = code[block.rows]
        here = np.unique(inside)
        rows = sample_features.compute(
            cast("Matrix", block.cells.X),
            np.searchsorted(here, inside).astype(np.int64),
            len(here),
            kinds=kinds,
            cell_type=types.of(block, file.name),
            n_types=len(types.names),
        )
        for row, one in zip(rows, here, strict=True):
            cells = block.rows[inside == one]
            label = None if labels is None else labels.iloc[int(cells[0])]
            site, donor, sample = names[one]
            yield Sample(site, donor, sample, len(cells), _condition(label, conditions, file.name), row)
        observer("progress", {"n": len(block.rows)})


def sample_codes(file: PreparedFile) -> tuple[Codes, list[tuple[str, str, str]]]:
    """Return the sample of each cell, shape `(n_cells,)`, and each sample's site, donor and name."""
    columns = [file.obs[name].astype("category").cat for name in ("site", "donor", "sample")]
    whole = np.zeros(file.n_cells, np.int64)
    for column in columns:
        whole = whole * len(column.categories) + column.codes.to_numpy().astype(np.int64)
    _, first, code = np.unique(whole, return_index=True, return_inverse=True)
    site, donor, sample = ([str(c.categories[c.codes.iloc[int(i)]]) for i in first] for c in columns)
    return code.astype(np.int64), list(zip(site, donor, sample, strict=True))


def _condition(label: object, conditions: Mapping[str, int], source: str) -> int:
    if label is None or label != label or not conditions:  # noqa: PLR0124 (NaN is not itself)
        return UNKNOWN
    if str(label) not in conditions:
        msg = f"{source}: condition {str(label)!r} is not among the study's: {', '.join(conditions)}."
        raise CellsError(msg)
    return conditions[str(label)]


@dataclass(frozen=True)
class Covariate:
    """A column of a sheet: what it says of each sample or donor, and its categories (none: a number)."""

    name: str
    by: str
    said: Mapping[str, str]
    categories: tuple[str, ...]
    source: str

    def values(self, samples: Sequence[Sample]) -> npt.NDArray[np.float64]:
        """Return the value of each sample: a number or the index of a category, `nan` where the sheet is blank."""
        absent = [getattr(one, self.by) for one in samples if getattr(one, self.by) not in self.said]
        if absent:
            msg = (
                f"{self.source}: no row for {self.by} {', '.join(absent[:_SHOWN])} ({len(absent)} in all), so their "
                f"{self.name!r} is missing. Add the rows; leave the value blank where it is not known."
            )
            raise CellsError(msg)
        return np.array([self._value(self.said[getattr(one, self.by)]) for one in samples], np.float64)

    def _value(self, text: str) -> float:
        if not text:
            return float("nan")
        if self.categories:
            if text not in self.categories:
                msg = f"{self.source}: {self.name} {text!r} is not among {', '.join(self.categories)}."
                raise CellsError(msg)
            return float(self.categories.index(text))
        return float(text)


def covariates_from(
    path: Path, names: Sequence[str], categories: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, Covariate]:
    """Read covariates from a sheet with a column `sample` or `donor`.

    Parameters
    ----------
    categories
        Name -> categories (none for a number), as a swarm's study fixes them; without it by their look.

    Raises
    ------
    InputError
        If the sheet cannot be read.
    CellsError
        If a column is missing, or two rows contradict each other.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, sep=None, engine="python")
    except (OSError, ValueError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        msg = f"{path}: the sheet cannot be read ({why}). It must be csv with a column sample or donor."
        raise InputError(msg) from error
    by = next((name for name in ("sample", "donor") if name in frame), None)
    absent = [name for name in ("sample", *names) if name not in frame] if by is None else []
    absent += [name for name in names if name not in frame]
    if absent:
        msg = f"{path}: has no column {absent[0]!r} (it has {', '.join(map(str, frame.columns))})."
        raise CellsError(msg)
    return {name: _covariate(path, frame, str(by), name, categories) for name in names}


def _covariate(
    path: Path, frame: pd.DataFrame, by: str, name: str, categories: Mapping[str, tuple[str, ...]] | None
) -> Covariate:
    said: dict[str, str] = {}
    for key, value in zip(frame[by].str.strip(), frame[name].map(lambda text: missing.known(text) or ""), strict=True):
        if said.setdefault(key, value) != value:
            msg = f"{path}: {by} {key!r} has two values of {name!r}: {said[key]!r} and {value!r}. Give it one."
            raise CellsError(msg)
    known = sorted({value for value in said.values() if value})
    fixed = _categories(path, name, known) if categories is None else categories[name]
    if not fixed and (odd := next((value for value in known if not _is_number(value)), None)):
        msg = (
            f"{path}: {name!r} is a number by the study's rules, and {odd!r} stands there; expected numbers between "
            f"-{NUMBER_MAX:,} and {NUMBER_MAX:,}, blank where it is not known. Correct the sheet."
        )
        raise CellsError(msg)
    return Covariate(name, by, said, fixed, str(path))


def _categories(path: Path, name: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return the categories that a column has by its look: none, a number, where all values are numbers."""
    if not known:
        msg = f"{path}: {name!r} is known of nobody. Fill it in, or leave out --covariate {name}."
        raise CellsError(msg)
    odd = [value for value in known if not _is_number(value)]
    if odd and len(known) > LEVELS_MAX:
        msg = (
            f"{path}: {name!r} has {len(known)} different values, among them {odd[0]!r}; expected numbers between "
            f"-{NUMBER_MAX:,} and {NUMBER_MAX:,}, or at most {LEVELS_MAX} categories. Leave blank what is not known."
        )
        raise CellsError(msg)
    return tuple(known) if odd else ()


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) < NUMBER_MAX
    except ValueError:
        return False


def check_model(study: Study, model: TrainedModel | None, path: Path | None) -> None:
    """Check that the cell model given is the one that a study of strata names, and that the study counts what it tells.

    Raises
    ------
    ModelError
        If the study names another, or one and none is given, or its types are not the model's.
    """
    wanted = study.strata.cell_model if study.strata else ""
    found = "" if model is None else model.digest
    if wanted != found:
        said = f"the model {path} has the digest {found[:12]}" if found else "none is given"
        msg = f"the strata count the cell types of model {wanted[:12]}, and {said}. Give it with --cells."
        if not wanted:
            msg = f"the strata count the cell types of no model, and {path} is given. Leave out --cells."
        raise ModelError(msg)
    if model is not None and model.study.counted_types != study.counted_types:
        msg = (
            f"the study counts {_listed(study.counted_types)}, and the model {path} tells "
            f"{_listed(model.study.counted_types)}. [study] cell_types must be the model's, in its order: found the "
            "swarm anew with them."
        )
        raise ModelError(msg)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "no types"
