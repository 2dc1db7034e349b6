"""The prepared files of a run: read into memory, or opened to be read from disk in passes.

Rules: layers (the counts) are never read into memory; a rule of features that needs them reads them from disk in
passes; every file is checked against the data contract before anything is learnt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarmcell.cells.schema import SITE
from swarmcell.cells.stored import open_cells, open_counts, read_cells
from swarmcell.errors import UsageError
from swarmcell.model.class_floors import floors_at_sites
from swarmcell.model.study import Study
from swarmcell.model.training_cells import TrainingCells, gather

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class Sources:
    """Prepared files: name and cells of each, and its X on disk where it is not in memory."""

    named: list[tuple[str, "AnnData"]]
    paths: tuple[Path, ...]
    stored: list[Any] = field(default_factory=list)

    def clear(self) -> None:
        """Forget the files: what is needed of them is gathered."""
        self.named.clear()
        self.stored.clear()


def read(prepared: Sequence[Path], *, out_of_core: bool) -> Sources:
    """Read, or with `out_of_core` open, prepared files; a zarr store is always opened.

    Raises
    ------
    UsageError
        If there is none, or one is given twice.
    InputError, CellsError, PanelError
        If one is missing, unreadable or breaks the data contract.
    """
    refuse_repeated(prepared)
    if not prepared:
        msg = "no prepared file is given. Make one with: swarmcell preprocess."
        raise UsageError(msg)
    if out_of_core or any(path.is_dir() for path in prepared):
        opened = [(path.name, *open_cells(path)) for path in prepared]
        return Sources([(name, adata) for name, adata, _ in opened], tuple(prepared), [X for _, _, X in opened])
    return Sources([(path.name, read_cells(path)) for path in prepared], tuple(prepared))


def refuse_repeated(files: Sequence[Path]) -> None:
    """Refuse a file that is given twice.

    Raises
    ------
    UsageError
        If one is.
    """
    resolved = [file.resolve() for file in files]
    for file in files:
        if resolved.count(file.resolve()) > 1:
            msg = f"{file}: given twice; its donors would count twice. Name each file once."
            raise UsageError(msg)


def training_cells(sources: Sources, study: Study, *, publishes: bool = False) -> TrainingCells:
    """Return the training cells of the files, by the study's vocabularies.

    Parameters
    ----------
    publishes
        Whether sums over them leave this site: classes below the study's floors are then left out.

    Raises
    ------
    CellsError
        If there is no training cell, a label is not in the vocabulary, or there are no counts and the study needs them.
    PanelError
        If the files have different universes.
    """
    return gather(
        sources.named,
        cell_types=study.cell_types,
        conditions=study.conditions,
        seed=study.seed,
        stored=sources.stored,
        counts=[open_counts(path) for path in sources.paths] if study.features.needs_counts else (),
        floors=floors_at_sites(study) if publishes else None,
    )


def digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file; of a folder, of the names and digests of its files."""
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file())
        return sha256("\n".join(f"{p.relative_to(path)} {digest(p)}" for p in inside).encode()).hexdigest()
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def sites_of(prepared: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of the sites whose cells the files hold, sorted; X is not read.

    Raises
    ------
    InputError, CellsError
        If a file is missing or not prepared.
    """
    found: set[str] = set()
    for path in prepared:
        found.update(map(str, open_cells(path)[0].obs[SITE].astype(str).unique()))
    return tuple(sorted(found))
