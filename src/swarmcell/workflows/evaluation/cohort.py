"""The held-out donors of one or several prepared files, with what a model must be compared to.

Rules: a donor is known by site and name. No cell of a training donor gets past this module; neither does a donor whom
the model was trained on, whatever the file says.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swarmcell.cells.split import HELD_OUT
from swarmcell.errors import CellsError, ModelError
from swarmcell.workflows.stream import PreparedFile

Codes = npt.NDArray[np.int64]
UNLABELLED = -1


@dataclass(frozen=True, order=True)
class Donor:
    """A person, as a site names them."""

    site: str
    name: str

    def __str__(self) -> str:
        return f"{self.site}/{self.name}"


@dataclass(frozen=True)
class Specimen:
    """A held-out sample: whose it is, its condition (`UNLABELLED` if unknown) and its cells."""

    donor: int
    name: str
    condition: int
    n_cells: int


@dataclass(frozen=True, eq=False)
class Part:
    """The held-out cells of one file.

    Attributes
    ----------
    rows
        Their positions in the file, ascending, shape `(n_rows,)`.
    donor, sample, cell_type
        Per row: indices into the cohort's donors, samples and the model's cell types (`UNLABELLED` if unknown).
    """

    file: PreparedFile
    rows: Codes
    donor: Codes
    sample: Codes
    cell_type: Codes


@dataclass(frozen=True, eq=False)
class Cohort:
    """All held-out donors of the files given, in order of site and name."""

    parts: tuple[Part, ...]
    donors: tuple[Donor, ...]
    samples: tuple[Specimen, ...]
    cell_types: tuple[str, ...]
    conditions: tuple[str, ...]
    n_training_donors: int
    notes: tuple[str, ...]

    @property
    def n_cells(self) -> int:
        """Held-out cells."""
        return sum(len(part.rows) for part in self.parts)

    @property
    def sites(self) -> tuple[str, ...]:
        """Sites with a held-out donor, sorted."""
        return tuple(sorted({donor.site for donor in self.donors}))

    @property
    def has_cell_types(self) -> bool:
        """Whether any held-out cell has a known type."""
        return any((part.cell_type != UNLABELLED).any() for part in self.parts)

    @property
    def has_conditions(self) -> bool:
        """Whether any held-out sample has a known condition."""
        return any(sample.condition != UNLABELLED for sample in self.samples)


def gather(
    files: Sequence[PreparedFile],
    *,
    cell_types: tuple[str, ...],
    conditions: tuple[str, ...],
    trained_on: Collection[str],
) -> Cohort:
    """Collect the held-out donors of `files`.

    Parameters
    ----------
    cell_types, conditions
        The model's vocabularies; labels of held-out cells must be in them.
    trained_on
        Donors that the model is known to have been trained on, as `site/name`.

    Raises
    ------
    CellsError
        If no donor is held out, one donor lies on both sides, or one sample lies in two files.
    ModelError
        If a held-out donor was trained on, or a label is not in the model's vocabulary.
    """
    held, trained = _sides(files)
    if not held:
        raise CellsError(_nobody(files))
    _refuse_both_sides(held, trained)
    _refuse_trained_on(held, trained_on)
    donors = tuple(sorted(held))
    collected = _Collected({donor: i for i, donor in enumerate(donors)}, cell_types, conditions)
    parts = tuple(collected.part(file) for file in files if (file.labels("split") == HELD_OUT).any())
    samples = tuple(collected.samples)
    notes = _notes(files, held, trained)
    return Cohort(parts, donors, samples, cell_types, conditions, len(trained), notes)


class _Collected:
    """Samples met so far, and how labels become codes."""

    def __init__(self, donor_code: dict[Donor, int], cell_types: tuple[str, ...], conditions: tuple[str, ...]) -> None:
        self.donor_code = donor_code
        self.vocabulary = {"cell_type": cell_types, "condition": conditions}
        self.samples: list[Specimen] = []
        self._files: dict[tuple[int, str], str] = {}

    def part(self, file: PreparedFile) -> Part:
        rows = np.flatnonzero(file.labels("split") == HELD_OUT).astype(np.int64)
        pairs = zip(file.labels("site")[rows], file.labels("donor")[rows], strict=True)
        donor = np.array([self.donor_code[Donor(site, name)] for site, name in pairs], dtype=np.int64)
        sample = self._samples(file, rows, donor)
        return Part(file, rows, donor, sample, self._codes(file, rows, "cell_type"))

    def _samples(self, file: PreparedFile, rows: Codes, donor: Codes) -> Codes:
        condition = self._codes(file, rows, "condition")
        names, first, code, n_cells = np.unique(
            file.labels("sample")[rows].astype(str), return_index=True, return_inverse=True, return_counts=True
        )
        offset = len(self.samples)
        for name, at, n in zip(names, first, n_cells, strict=True):
            key = (int(donor[at]), str(name))
            if key in self._files:
                msg = (
                    f"{file.name}: sample {name!r} of donor {self._donor(key[0])} stands in {self._files[key]} too. "
                    "Name each file once."
                )
                raise CellsError(msg)
            self._files[key] = file.name
            self.samples.append(Specimen(key[0], key[1], int(condition[at]), int(n)))
        return (code + offset).astype(np.int64)

    def _donor(self, code: int) -> Donor:
        return next(donor for donor, number in self.donor_code.items() if number == code)

    def _codes(self, file: PreparedFile, rows: Codes, name: str) -> Codes:
        vocabulary = self.vocabulary[name]
        if name not in file.obs or not vocabulary:
            return np.full(len(rows), UNLABELLED, dtype=np.int64)
        labels = file.obs[name].iloc[rows]
        code: dict[Any, int] = {label: i for i, label in enumerate(vocabulary)}
        unknown = Counter(str(label) for label in labels.dropna() if str(label) not in code)
        if unknown:
            listed = ", ".join(f"{label!r} ({n} cells)" for label, n in unknown.most_common(5))
            msg = (
                f"{file.name}: {name} {listed} is not in the model's vocabulary ({', '.join(vocabulary)}). "
                "Map the labels when preparing the file, or use a model that knows them."
            )
            raise ModelError(msg)
        known = labels.notna().to_numpy()
        return np.array([code[str(v)] if k else UNLABELLED for v, k in zip(labels, known, strict=True)], dtype=np.int64)


def _sides(files: Sequence[PreparedFile]) -> tuple[dict[Donor, str], dict[Donor, str]]:
    held: dict[Donor, str] = {}
    trained: dict[Donor, str] = {}
    for file in files:
        frame = file.obs[["site", "donor", "split"]].astype(str).drop_duplicates()
        for site, name, split in frame.itertuples(index=False):
            (held if split == HELD_OUT else trained)[Donor(site, name)] = file.name
    return held, trained


def _nobody(files: Sequence[PreparedFile]) -> str:
    names = ", ".join(file.name for file in files)
    return (
        f"{names}: no held-out donor: every donor was given to training (obs['split'] is 'train' throughout), and "
        "figures on them would say nothing about new patients. Prepare with --split within-site (or give the file of "
        "a site that was held out whole, --split by-site), train again, and evaluate."
    )


def _refuse_both_sides(held: dict[Donor, str], trained: dict[Donor, str]) -> None:
    for donor in sorted(held.keys() & trained.keys()):
        msg = (
            f"donor {donor} is held out in {held[donor]} and trained on in {trained[donor]}. "
            "Prepare both files with one split, or leave one out."
        )
        raise CellsError(msg)


def _refuse_trained_on(held: dict[Donor, str], trained_on: Collection[str]) -> None:
    known = sorted(str(donor) for donor in held if str(donor) in set(trained_on))
    if known:
        listed = ", ".join(known[:5]) + (", ..." if len(known) > 5 else "")
        msg = (
            f"the model was trained on {len(known)} of the donors that the files hold out ({listed}): figures on them "
            "would flatter it. Evaluate with the files that it was trained from, or train it again."
        )
        raise ModelError(msg)


def _notes(files: Sequence[PreparedFile], held: dict[Donor, str], trained: dict[Donor, str]) -> tuple[str, ...]:
    notes = [
        f"{file.name} holds out no donor and adds nothing here." for file in files if file.name not in held.values()
    ]
    names = {donor.name for donor in held}
    twice = sorted({donor.name for donor in trained} & names)
    if twice:
        notes.append(
            f"{len(twice)} donor name(s) stand on both sides at different sites (such as {twice[0]}). They are taken "
            "for different people; make sure that they are."
        )
    several = sorted(name for name, n in Counter(donor.name for donor in held).items() if n > 1)
    if several:
        notes.append(
            f"{len(several)} donor name(s) are held out at several sites (such as {several[0]}). They are taken for "
            "different people; make sure that they are."
        )
    return tuple(notes)
