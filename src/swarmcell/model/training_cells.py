"""A site's own training cells, as the learner needs them: integer codes, whole samples, inner-validation donors.

Rules: held-out donors never enter; donors are told apart by site and name, so that a pooled run of several files has
the same inner-validation donors as a swarm of the same sites.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from swarmcell.cells.batches import Codes, Matrix, encode, is_sparse
from swarmcell.cells.schema import CELL_TYPE, CONDITION, DONOR, SAMPLE, SITE, SPLIT, UNS, universe_of
from swarmcell.cells.split import INNER_DONORS_MIN, TRAIN, inner_validation
from swarmcell.cells.stored import StoredRows, stack
from swarmcell.errors import CellsError, PanelError
from swarmcell.model.class_floors import withheld_cells, withheld_samples
from swarmcell.model.study import Floors

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, kw_only=True)
class TrainingCells:
    """Cells that a site trains on.

    Attributes
    ----------
    X
        Shape `(n_obs, n_universe)`, CSR or dense float32.
    cell_type, sample
        Codes of each cell, shape `(n_obs,)`; -1 is an unlabelled cell.
    validation
        Whether a cell's donor is for inner validation, shape `(n_obs,)`.
    sample_condition, sample_validation
        The same of each sample, shape `(n_samples,)`.
    donors
        Training donors as `site/name`, sorted, those for inner validation included. Never leaves the site.
    counts
        Raw counts of the same cells over the universe, or `None` where the rule of features needs none.
    donor
        Code of each cell's donor, in the order of `donors`, shape `(n_obs,)`.
    site
        Code of each cell's site, in the order of `sites`, shape `(n_obs,)`.
    withheld
        Samples that stay out of the patient task's sums (`model.class_floors`), shape `(n_samples,)`; empty: none do.
    notes
        What a reader of the result must know.
    universe
        What the universe says of itself: name, reference, transform, cofactor.
    rows
        Which rows of each file these cells are, in the order of the files.
    """

    X: Matrix
    feature_ids: tuple[str, ...]
    universe_sha256: str
    modality: str
    cell_type: Codes
    sample: Codes
    validation: npt.NDArray[np.bool_]
    sample_condition: Codes
    sample_validation: npt.NDArray[np.bool_]
    donors: tuple[str, ...]
    notes: tuple[str, ...] = ()
    counts: Matrix | None = None
    site: Codes = field(default_factory=lambda: np.zeros(0, np.int64))
    withheld: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    donor: Codes = field(default_factory=lambda: np.zeros(0, np.int64))
    universe: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[Codes, ...] = ()

    @property
    def n_cells(self) -> int:
        """Number of training cells."""
        return int(self.X.shape[0])

    @property
    def n_donors(self) -> int:
        """Number of training donors."""
        return len(self.donors)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites that the cells are from, sorted."""
        return tuple(sorted({donor.partition("/")[0] for donor in self.donors}))

    @property
    def in_sums(self) -> npt.NDArray[np.bool_]:
        """Samples over which the patient task sums."""
        return ~self.withheld if len(self.withheld) else np.ones(self.n_samples, np.bool_)

    @property
    def sample_site(self) -> Codes:
        """Code of each sample's site, shape `(n_samples,)`; all 0 where the cells' sites are not told apart."""
        found = np.zeros(self.n_samples, np.int64)
        if len(self.site):
            found[self.sample] = self.site
        return found

    @property
    def n_samples(self) -> int:
        """Number of training samples."""
        return len(self.sample_condition)


def universe_facts(contents: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the universe of a prepared file, of these contents, says of itself."""
    said = json.loads(str(contents["universe"]))
    return {name: said.get(name) for name in ("name", "reference", "transform", "cofactor")}


def gather(
    sources: Sequence[tuple[str, "AnnData"]],
    *,
    cell_types: Sequence[str],
    conditions: Sequence[str],
    seed: int,
    stored: Sequence[Any] = (),
    counts: Sequence[Any] = (),
    floors: Floors | None = None,
) -> TrainingCells:
    """Return the training cells of one or several prepared files.

    Parameters
    ----------
    sources
        Name (for messages) and prepared cells of each file.
    cell_types, conditions
        Label vocabularies, in order; an empty one means that the task is not learnt.
    seed
        Seed of the choice of inner-validation donors.
    stored
        X of each file as it lies on disk (`cells.stored.open_cells`), to be read when it is needed; none: in memory.
    counts
        Raw counts of each file, as they lie on disk or in memory; none where they are not needed.
    floors
        Of classes of which no sum may leave (`model.class_floors`); `None` where none leaves.

    Raises
    ------
    CellsError
        If there is no training cell, or a label is not in the vocabulary.
    PanelError
        If the files have different universes.
    """
    _check_universes(sources)
    rows = [_training_rows(name, adata) for name, adata in sources]
    frames: list[Any] = [adata.obs.iloc[mine] for (_, adata), mine in zip(sources, rows, strict=True)]
    obs: pd.DataFrame = pd.concat(frames, ignore_index=True)
    who = obs[SITE].astype(str) + "\x1f" + obs[DONOR].astype(str)
    chosen, notes = _choose_validation(obs, who, seed)
    validation = np.asarray(who.isin(chosen), bool)
    cell_type = _labels(obs, CELL_TYPE, cell_types, "cell_types")
    if floors is not None and cell_types:
        out, said = withheld_cells(cell_type, _codes_in_order(who)[0], ~validation, floors, cell_types)
        notes += said
        rows = _without(rows, out)
        obs, who, validation, cell_type = obs[~out], who[~out], validation[~out], cell_type[~out]
        _refuse_nothing(sources, rows, said)
    sample, first = _codes_in_order(obs[SITE].astype(str) + "\x1f" + obs[SAMPLE].astype(str))
    condition = _labels(obs, CONDITION, conditions, "conditions")[first]
    withheld = np.zeros(len(first), np.bool_)
    if floors is not None and conditions:
        withheld, said = withheld_samples(condition, _codes_in_order(who)[0][first], floors, conditions)
        notes += said
    return TrainingCells(
        X=_from_disk(sources, rows, stored) if stored else _stack(_in_memory(sources, rows)),
        counts=_counts(sources, rows, counts) if counts else None,
        site=_codes_in_order(obs[SITE])[0],
        donor=_codes_in_order(who)[0],
        feature_ids=tuple(map(str, sources[0][1].var_names)),
        universe_sha256=str(sources[0][1].uns[UNS]["universe_sha256"]),
        universe=universe_facts(sources[0][1].uns[UNS]),
        modality=str(sources[0][1].uns[UNS]["modality"]),
        cell_type=cell_type,
        sample=sample,
        validation=validation,
        sample_condition=np.where(withheld, -1, condition),
        withheld=withheld,
        sample_validation=validation[first],
        donors=tuple(sorted(str(key).replace("\x1f", "/") for key in who.unique())),
        notes=tuple(notes),
        rows=tuple(rows),
    )


def vocabulary(sources: Sequence[tuple[str, "AnnData"]], column: str) -> tuple[str, ...]:
    """Return the labels of the training cells, sorted; empty where no file has the column."""
    found: set[str] = set()
    for _, adata in sources:
        if column in adata.obs:
            labels = adata.obs[column][np.asarray(adata.obs[SPLIT].astype(str) == TRAIN)]
            found.update(str(label) for label in labels.dropna().unique())
    return tuple(sorted(found))


def _check_universes(sources: Sequence[tuple[str, "AnnData"]]) -> None:
    name, first = sources[0]
    for other, adata in sources[1:]:
        if adata.uns[UNS]["universe_sha256"] != first.uns[UNS]["universe_sha256"]:
            msg = (
                f"{other}: prepared with universe {_named(adata)}, but {name} with {_named(first)}. Prepare both with "
                "one universe file (`universe` in the config)."
            )
            raise PanelError(msg)


def _named(adata: "AnnData") -> str:
    """Return what tells two universes apart."""
    found = universe_of(adata)
    cofactor = "" if found.cofactor is None else f" with cofactor {found.cofactor:g}"
    return f"{found.name!r} ({found.sha256[:12]}: {len(found.ids)} features, {found.transform}{cofactor})"


def _training_rows(name: str, adata: "AnnData") -> Codes:
    rows = np.flatnonzero(np.asarray(adata.obs[SPLIT].astype(str) == TRAIN))
    if not len(rows):
        msg = (
            f"{name}: no training donor (all {adata.obs[DONOR].nunique()} are held out). "
            "Prepare it with another split, or evaluate another site's model on it."
        )
        raise CellsError(msg)
    return rows


def _without(rows: Sequence[Codes], out: npt.NDArray[np.bool_]) -> list[Codes]:
    """Return the rows of each file that are not `out`, which counts through all files."""
    stops = np.cumsum([len(mine) for mine in rows])[:-1]
    return [mine[~gone] for mine, gone in zip(rows, np.split(out, stops), strict=True)]


def _refuse_nothing(sources: Sequence[tuple[str, "AnnData"]], rows: Sequence[Codes], said: Sequence[str]) -> None:
    if not sum(map(len, rows)):
        msg = (
            f"{', '.join(name for name, _ in sources)}: no class is above the floors, so this site publishes nothing "
            f"({'; '.join(said)}). Add donors, agree on secure_aggregation, or train alone (without --join)."
        )
        raise CellsError(msg)


def _in_memory(sources: Sequence[tuple[str, "AnnData"]], rows: Sequence[Codes]) -> list[Matrix]:
    matrices: list[Matrix] = [adata.X for _, adata in sources]
    return [X if len(mine) == X.shape[0] else X[mine] for X, mine in zip(matrices, rows, strict=True)]


def _from_disk(sources: Sequence[tuple[str, "AnnData"]], rows: Sequence[Codes], stored: Sequence[Any]) -> StoredRows:
    named = zip(sources, rows, stored, strict=True)
    return stack([StoredRows.of(X, mine, source=name) for (name, _), mine, X in named])


def _counts(sources: Sequence[tuple[str, "AnnData"]], rows: Sequence[Codes], counts: Sequence[Any]) -> Matrix:
    if not all(map(is_sparse, counts)):
        return _from_disk(sources, rows, counts)
    return _stack([layer[mine] for layer, mine in zip(counts, rows, strict=True)])


def _stack(parts: Sequence[Matrix]) -> Matrix:
    if len(parts) == 1:
        return sparse.csr_matrix(parts[0]) if is_sparse(parts[0]) else np.asarray(parts[0])
    return sparse.vstack(parts, format="csr") if any(map(is_sparse, parts)) else np.concatenate(parts)


def _codes_in_order(keys: "pd.Series[str]") -> tuple[Codes, Codes]:
    """Return codes in sorted order of the keys, and the first row of each code."""
    _, first, codes = np.unique(np.asarray(keys, dtype=str), return_index=True, return_inverse=True)
    return codes.astype(np.int64), first.astype(np.int64)


def _labels(obs: pd.DataFrame, column: str, known: Sequence[str], key: str) -> Codes:
    if column not in obs or not known:
        return np.full(len(obs), -1, np.int64)
    labels = obs[column].astype(object)
    codes, unknown = encode([None if pd.isna(v) else str(v) for v in labels], known)
    if unknown:
        where = "/".join(sorted(obs[SITE][labels.isin(unknown)].astype(str).unique()))
        msg = (
            f"{where}: obs[{column!r}] holds {', '.join(map(repr, unknown[:5]))}, which the study does not know "
            f"(it knows {', '.join(map(repr, known[:12]))}). Rename it in the sheet, or add it to [study] {key}."
        )
        raise CellsError(msg)
    return codes


def _choose_validation(obs: pd.DataFrame, who: "pd.Series[str]", seed: int) -> tuple[set[str], list[str]]:
    chosen: set[str] = set()
    notes: list[str] = []
    for site in sorted(obs[SITE].astype(str).unique()):
        here = obs[obs[SITE].astype(str) == site]
        strata = _strata(here)
        picked = inner_validation(strata, strata, seed)
        if not picked:
            notes.append(
                f"{site}: {len(strata)} training donor(s), fewer than {INNER_DONORS_MIN}: no inner validation there; "
                "it trains on all of them, and others decide when to stop (none at all: fixed rounds)."
            )
        chosen.update(f"{site}\x1f{donor}" for donor in picked)
    return chosen, notes


def _strata(obs: pd.DataFrame) -> dict[str, str]:
    donors = obs[DONOR].astype(str)
    if CONDITION not in obs:
        return dict.fromkeys(sorted(donors.unique()), "")
    pairs = pd.DataFrame({DONOR: donors, CONDITION: obs[CONDITION].astype(object).fillna("").astype(str)})
    grouped = pairs.drop_duplicates().sort_values([DONOR, CONDITION]).groupby(DONOR)[CONDITION]
    return {str(donor): "+".join(labels) for donor, labels in grouped}
