"""From prepared cells, in memory or on disk, to dense batches, and nothing denser than a batch.

Rules: labels become integer codes in the study's order (-1: unlabelled); a permutation depends on its seed only, so a
resumed run sees the batches of an uninterrupted one.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

from swarmcell.cells.bags import Bags
from swarmcell.cells.site_scaling import SiteScaled
from swarmcell.cells.stored import StoredRows

Codes = npt.NDArray[np.int64]
Matrix: TypeAlias = Any  # dense float32, scipy CSR, StoredRows, SiteScaled or Bags; scipy's stubs cannot say all

UNLABELLED = -1


def generator(*parts: str | int) -> np.random.Generator:
    """Return the random generator that belongs to `parts` (seed, stage, round, purpose), and to nothing else."""
    text = "\0".join(str(part) for part in parts)
    key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


def columns(X: Matrix, chosen: Codes) -> Matrix:
    """Return the chosen columns of X (X itself where all are chosen, in order)."""
    if len(chosen) == X.shape[1] and np.array_equal(chosen, np.arange(X.shape[1])):
        return X
    return X.take_columns(chosen) if isinstance(X, StoredRows) else X[:, chosen]


def dense(X: Matrix, rows: Codes) -> Any:  # noqa: ANN401 (a float32 array; of bags, bags)
    """Return the rows of X as a dense float32 array; bags stay bags, whose cells are filled one bag at a time."""
    return X[rows] if isinstance(X, Bags) else filled(X[rows])


def filled(X: Matrix) -> npt.NDArray[np.float32]:
    """Return X (a batch, or one sample) as a dense float32 array."""
    return np.asarray(X.toarray() if is_sparse(X) else X, np.float32)


def is_sparse(X: Matrix) -> bool:
    """Say whether X is a CSR matrix."""
    return bool(sparse.issparse(X))


@dataclass(frozen=True)
class Batch:
    """`X` has shape `(n_rows, n_features)`, dense (or is bags of cells); `rows` are its rows in the whole."""

    X: Any
    rows: Codes


def batches(X: Matrix, rows: Codes, *, n_rows: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Yield all `rows` of X once, in a seeded order, as dense batches.

    In memory the order is one permutation of all rows. On disk it is a permutation of runs of neighbouring rows, some
    of which are read and shuffled together: reading stays sequential.

    Parameters
    ----------
    X
        Shape `(n_obs, n_features)`: CSR, dense or on disk.
    rows
        Rows to visit, each once.
    n_rows
        Rows per batch; the last may be smaller.
    rng
        Order of the rows.
    """
    if isinstance(X.X if isinstance(X, SiteScaled) else X, StoredRows):
        yield from _from_disk(X, rows, n_rows, rng)
        return
    order = rng.permutation(rows)
    if isinstance(X, Bags):
        X = X.thinned(rng)
    for start in range(0, len(order), n_rows):
        chosen = order[start : start + n_rows]
        yield Batch(dense(X, chosen), chosen)


def _from_disk(X: StoredRows | SiteScaled, rows: Codes, n_rows: int, rng: np.random.Generator) -> Iterator[Batch]:
    for window in StoredRows.windows(rows, rng):
        cells = X[window]
        for start in range(0, len(window), n_rows):
            yield Batch(filled(cells[start : start + n_rows]), window[start : start + n_rows])


def encode(labels: Sequence[str | None], vocabulary: Sequence[str]) -> tuple[Codes, tuple[str, ...]]:
    """Return each label's code in `vocabulary` (-1 where missing), and the labels that it lacks, sorted."""
    code = {name: i for i, name in enumerate(vocabulary)}
    unknown = sorted({str(label) for label in labels if label is not None and label not in code})
    return np.array([UNLABELLED if v is None else code.get(v, UNLABELLED) for v in labels], np.int64), tuple(unknown)
