"""Digests of cells, and sketches of donors: the lowest few of a donor's digests, by which two donors are compared.

Rules: a cell is its raw counts over the universe (without counts: X in steps of 0.001). Two projections of them onto
random directions, integers modulo 2**64, are equal for equal cells, and for different ones but once in 2**128; a keyed
BLAKE2b of both is the digest. So it does not depend on the file format, the order of cells, the order of a row's values
in memory, on labels, or on what other cells were kept. Cells with few values are left out: they are equal by chance.
A sketch is a fair sample of a donor's cells, whoever made it: whatever of another donor lies below its highest digest
can be looked up in it.

References
----------
Broder 1997, doi 10.1109/SEQUEN.1997.666900 (a set is compared by its smallest digests).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from swarmcell.cells import schema
from swarmcell.cells.batches import Matrix
from swarmcell.cells.stored import StoredRows, open_cells, open_counts

KEPT_MAX = 256  # digests of a donor; chosen: a twentieth of 5,000 shared cells shows as about 13 of them
KEPT_TOTAL_MAX = 32_768  # digests of a site: 256 KiB; chosen
VALUES_MIN = 5  # measured: of 9,459 blood cells with so many of 100 genes, none equals another donor's cell
SHARED_MIN, SHARE_MIN = 3, 0.05  # chosen: debris and saturated events are equal by chance, now and then
BLOCK_ROWS = 2048  # of 2,000 values each: about 110 MB with all that is made of them; chosen
STEPS = 1000  # of X, per unit
Digests = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Sketch:
    """A donor's lowest digests, ascending, shape `(n,)`. `whole`: these are all that the donor has."""

    digests: Digests
    whole: bool

    def shared_with(self, all_digests: Digests) -> tuple[int, int]:
        """Count the cells that another donor has too.

        Parameters
        ----------
        all_digests
            Of all cells of the other donor.

        Returns
        -------
        Cells that both have, and the cells of the smaller donor, both among the cells whose digests the sketch covers.
        """
        if not len(self.digests):
            return 0, 0
        mine = all_digests if self.whole else all_digests[all_digests <= self.digests[-1]]
        shared = int(np.isin(mine, self.digests).sum())
        return shared, min(len(mine), len(self.digests))

    def is_of(self, all_digests: Digests) -> bool:
        """Say whether the other donor is, for all that is known, the same person."""
        shared, n = self.shared_with(all_digests)
        return shared >= SHARED_MIN and shared > SHARE_MIN * n


@dataclass(frozen=True, eq=False)
class Crowd:
    """The sketches of many donors, looked up together; `owner` says whose each of `digests` is."""

    sketches: tuple[Sketch, ...]
    digests: Digests
    owner: npt.NDArray[np.int64]

    @classmethod
    def of(cls, sketches: Sequence[Sketch]) -> "Crowd":
        """Gather sketches."""
        parts = [one.digests for one in sketches]
        owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        return cls(tuple(sketches), np.concatenate([np.zeros(0, np.uint64), *parts]), owner)

    def near(self, all_digests: Digests) -> tuple[Sketch, ...]:
        """Return the sketches that share enough cells with a donor to be looked at."""
        n_shared = np.bincount(self.owner[np.isin(self.digests, all_digests)], minlength=len(self.sketches))
        return tuple(self.sketches[i] for i in np.flatnonzero(n_shared >= SHARED_MIN))


def kept_per_donor(n_donors: int) -> int:
    """Return how many digests of each donor a site keeps, so that all of them stay below a bound."""
    return max(1, min(KEPT_MAX, KEPT_TOTAL_MAX // max(1, n_donors)))


def sketch(digests: Digests, n_kept: int) -> Sketch:
    """Return the sketch of a donor with these digests."""
    lowest = np.unique(digests)
    return Sketch(digests=lowest[:n_kept], whole=len(lowest) <= n_kept)


@dataclass(frozen=True, eq=False)
class FileDigests:
    """Cells of a file: row, donor (`site/name`), digest, and whether the cell has values enough to be known by it."""

    rows: npt.NDArray[np.int64]
    donor: npt.NDArray[np.object_]
    digests: Digests
    known: npt.NDArray[np.bool_]

    def by_donor(self, among: npt.NDArray[np.int64] | None = None) -> Mapping[str, Digests]:
        """Return the digests of each donor's cells, by name; with `among`, of those in these rows of the file."""
        known = self.known if among is None else self.known & np.isin(self.rows, among)
        return {donor: self.digests[(self.donor == donor) & known] for donor in sorted(set(self.donor))}


def of_file(path: Path, key: bytes, split: str) -> FileDigests:
    """Return the digests of the cells on one side of a prepared file's split.

    Parameters
    ----------
    key
        At most 64 bytes; digests under two keys say nothing of each other.
    split
        `train` or `held_out`.

    Raises
    ------
    InputError, CellsError
        If the file cannot be read.
    """
    labels, X = open_cells(path)
    obs = labels.obs
    stored = open_counts(path) if labels.uns[schema.UNS]["input"] == "counts" else X
    rows = np.flatnonzero(np.asarray(obs[schema.SPLIT].astype(str) == split))
    who = (obs[schema.SITE].astype(str) + "/" + obs[schema.DONOR].astype(str)).to_numpy(dtype=object)[rows]
    steps = 1 if stored is not X else STEPS
    found, known = _of_rows(StoredRows.of(stored, rows, source=path.name), key, steps)
    return FileDigests(rows, who, found, known)


def _of_rows(cells: StoredRows, key: bytes, steps: int) -> tuple[Digests, npt.NDArray[np.bool_]]:
    n = cells.shape[0]
    parts = [digests(cells[i : i + BLOCK_ROWS], key, steps=steps) for i in range(0, n, BLOCK_ROWS)]
    empty = (np.zeros(0, np.uint64), np.zeros(0, np.bool_))
    return tuple(np.concatenate(arrays) for arrays in zip(empty, *parts, strict=True))  # type: ignore[return-value]


def digests(X: Matrix, key: bytes, *, steps: int = 1) -> tuple[Digests, npt.NDArray[np.bool_]]:
    """Return the digest of each row, and whether the row has values enough to be known by it.

    Parameters
    ----------
    X
        Shape `(n_rows, n_vars)`, sparse or dense.
    key
        At most 64 bytes.
    steps
        Values are rounded to so many steps per unit.
    """
    rows = sparse.csr_matrix(X)
    whole = np.rint(rows.data if steps == 1 else rows.data.astype(np.float64) * steps).astype(np.int64)
    projected = _like(rows, whole.view(np.uint64)) @ _directions(key, X.shape[1])
    n_values = _like(rows, (whole != 0).astype(np.int64)) @ np.ones(X.shape[1], np.int64)
    return _mixed(projected, key), n_values >= min(VALUES_MIN, X.shape[1])


def _like(rows: Any, values: Any) -> Any:  # noqa: ANN401 (CSR; arrays of integers)
    return sparse.csr_matrix((values, rows.indices, rows.indptr), shape=rows.shape)


def _directions(key: bytes, n_vars: int) -> Digests:
    """Return two vectors of 64-bit integers, the same on every machine, shape `(n_vars, 2)`."""
    stream = hashlib.shake_256(b"directions" + key).digest(2 * 8 * n_vars)
    return np.frombuffer(stream, "<u8").astype(np.uint64).reshape(n_vars, 2)


def _mixed(projected: Digests, key: bytes) -> Digests:
    rows = projected.astype("<u8")
    found = [hashlib.blake2b(row.tobytes(), digest_size=8, key=key).digest() for row in rows]
    return np.frombuffer(b"".join(found), ">u8").astype(np.uint64)
