"""Samples as bags of cells: rows of one matrix, cut into lists, and never copied before they are asked for.

Rules: a bag is in memory (CSR or dense) when it is iterated over, one at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]
CELLS_MAX = 2000  # of a bag in one training step, drawn anew each time; chosen


@dataclass(frozen=True, eq=False)
class Bags:
    """`X` holds the cells of all samples; `cells[i]` are the rows of sample i, ascending."""

    X: Any
    cells: tuple[Codes, ...]

    @classmethod
    def of(cls, X: Any, sample: Codes, n_samples: int) -> "Bags":  # noqa: ANN401 (CSR, dense or on disk)
        """Return the bags of cells whose samples are `sample`, each in `0 .. n_samples - 1`."""
        order = np.argsort(sample, kind="stable")
        return cls(X, tuple(np.split(order, np.searchsorted(sample[order], np.arange(1, n_samples)))))

    @property
    def shape(self) -> tuple[int, int]:
        """Bags and features."""
        return len(self.cells), int(self.X.shape[1])

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, rows: "Codes | slice") -> "Bags":
        """Return these bags."""
        chosen = np.arange(len(self.cells))[rows]
        return Bags(self.X, tuple(self.cells[i] for i in chosen))

    def __iter__(self) -> Iterator[Any]:
        """Yield the cells of each bag, shape `(n_cells, n_features)`."""
        for rows in self.cells:
            yield self.X[rows]

    def thinned(self, rng: np.random.Generator) -> "Bags":
        """Return the bags with at most `CELLS_MAX` cells each, drawn at random."""
        few = (r if len(r) <= CELLS_MAX else np.sort(rng.choice(r, CELLS_MAX, replace=False)) for r in self.cells)
        return Bags(self.X, tuple(few))
