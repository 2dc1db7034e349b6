"""Clusters of cells: what stands in for cell types where nobody has told them apart.

Rules: a cell's row is its features less the swarm's mean, in units of its standard deviation, cut at `CUT`; its
coordinates are those along the principal components over the square root of the number of features, so that cells have
unit variance in all. Coordinates and centres are multiples of 2**-22 and every product of them stays below 2**53, so
that distances, sums and labels are exact integers: the same bits for any partition of the cells, on any machine.

References
----------
Lloyd 1982, IEEE Trans Inf Theory 28:129.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from swarmcell.cells.batches import Codes, Matrix, columns, filled
from swarmcell.model import components
from swarmcell.model.classifier import Scaling
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import Integers

CUT = 10.0  # standard deviations; as scanpy.pp.scale is commonly called with
BITS = 22  # of coordinates and centres: norms are below CUT, so products are below 2**52
CHUNK_ROWS = 4096
_ONE = 1 << BITS


@dataclass(frozen=True)
class Space:
    """Where cells are clustered.

    Attributes
    ----------
    chosen
        Columns of the panel, shape `(n_features,)`.
    scaling
        Of these columns.
    vectors
        As of `components.Components`.
    """

    chosen: Codes
    scaling: Scaling
    vectors: Integers

    @classmethod
    def of(cls, arrays: Mapping[str, Array], found: Mapping[str, Array]) -> "Space":
        """Return the space of a merged state's `mean` and `scale` (of the panel), and its arrays `clusters.*`."""
        chosen = found["chosen"].astype(np.int64)
        return cls(chosen, Scaling.from_fixed(arrays["mean"][chosen], arrays["scale"][chosen]), found["vectors"])

    def rows(self, X: Matrix, *, bits: int = components.ROW_BITS) -> Integers:
        """Return cells' scaled features as integers; X is a chunk on the panel."""
        return scaled(X, self.chosen, self.scaling, bits=bits)

    def coordinates(self, X: Matrix) -> Integers:
        """Return cells' coordinates, shape `(n_cells, n_components)`; X is a chunk on the panel."""
        along = components.project(self.rows(X), self.vectors) / math.sqrt(len(self.chosen))
        return np.rint(along * _ONE).astype(np.int64)


@dataclass(frozen=True)
class Clusters:
    """Clusters of cells in their space.

    Attributes
    ----------
    centres
        Fixed point 2**-22, shape `(n_clusters, n_components)`.
    """

    space: Space
    centres: Integers

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> "Clusters":
        """Return the clusters of a merged state whose stage `clusters` has ended."""
        found = {name.removeprefix("clusters."): a for name, a in arrays.items() if name.startswith("clusters.")}
        return cls(Space.of(arrays, found), found["centres"])

    def codes(self, X: Matrix) -> Codes:
        """Return each cell's cluster, shape `(n_cells,)`; X is on the panel."""
        size = np.array([len(self.centres)])
        found = [nearest(self.space.coordinates(part), self.centres[None], size)[0] for part in chunks(X)]
        return np.concatenate(found) if found else np.zeros(0, np.int64)


def scaled(X: Matrix, chosen: Codes, scaling: Scaling, *, bits: int = components.ROW_BITS) -> Integers:
    """Return the chosen columns of cells, scaled and cut, as integers."""
    values = filled(columns(X, chosen)).astype(np.float64)
    return components.fixed((values - scaling.mean) / scaling.scale, bits=bits, most=CUT)


def chunks(X: Matrix, rows: Codes | None = None) -> Iterator[Matrix]:
    """Yield X, or some rows of it, a bounded number of cells at a time."""
    n = X.shape[0] if rows is None else len(rows)
    for start in range(0, n, CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        yield X[part] if rows is None else X[rows[part]]


def drawn(sample: Codes, n_max: int) -> Codes:
    """Return rows of at most `n_max` cells of each sample, evenly spread over it: no sample outweighs another.

    Parameters
    ----------
    sample
        Sample of each cell.
    """
    order = np.argsort(sample, kind="stable")
    bounds = np.flatnonzero(np.diff(sample[order], prepend=-1, append=-1))
    found = []
    for first, last in pairwise(bounds.tolist()):
        n = last - first
        kept = np.arange(n) if n <= n_max else np.arange(n_max) * n // n_max
        found.append(order[first + kept])
    return np.sort(np.concatenate(found)) if found else order


def nearest(coordinates: Integers, centres: Integers, size: Integers) -> Codes:
    """Return each cell's nearest centre, the first of equals, shape `(n_runs, n_cells)`.

    Parameters
    ----------
    centres
        Shape `(n_runs, k, n_components)`.
    size
        Centres that each run has so far, shape `(n_runs,)`.
    """
    n_runs, k, n_dims = centres.shape
    norms = (centres * centres).sum(axis=2)
    norms[np.arange(k) >= size[:, None]] = 1 << 62  # a centre that is not there yet is near nobody
    wide = centres.reshape(n_runs * k, n_dims).astype(np.float64)
    apart = norms.reshape(-1) - 2 * (coordinates.astype(np.float64) @ wide.T)  # less the cell's own square: exact
    found: Codes = apart.reshape(len(coordinates), n_runs, k).argmin(axis=2).T
    return found


@dataclass
class Sums:
    """A site's sums over its cells by nearest centre, run by run.

    Attributes
    ----------
    total, squares
        Of coordinates (2**-22) and of their squares (2**-22, each rounded down), shape `(n_runs, k, n_components)`.
    count
        Shape `(n_runs, k)`.
    """

    total: Integers
    squares: Integers
    count: Integers

    @classmethod
    def zero(cls, n_runs: int, k: int, n_dims: int) -> "Sums":
        """Return sums over no cell."""
        wide = (n_runs, k, n_dims)
        return cls(np.zeros(wide, np.int64), np.zeros(wide, np.int64), np.zeros((n_runs, k), np.int64))

    def add(self, coordinates: Integers, labels: Codes) -> None:
        """Add a chunk of cells with their labels, shape `(n_runs, n_cells)`."""
        n_runs, k, n_dims = self.total.shape
        both = np.concatenate([coordinates, coordinates * coordinates >> BITS], axis=1).astype(np.float64)
        for run in range(n_runs):
            member = (labels[run] == np.arange(k)[:, None]).astype(np.float64)
            summed = (member @ both).astype(np.int64)  # integers below 2**53 all along: exact
            self.total[run] += summed[:, :n_dims]
            self.squares[run] += summed[:, n_dims:]
            self.count[run] += member.sum(axis=1).astype(np.int64)


def moved(centres: Integers, total: Array, count: Integers) -> Integers:
    """Return the means, rounded; a centre without a cell stays where it is. `total` may hold Python integers."""
    n = np.maximum(count, 1)[..., None]
    mean = cut((2 * total + n) // (2 * n))
    return np.asarray(np.where(count[..., None] > 0, mean, centres), np.int64)


def cut(centres: Array) -> Integers:
    """Return centres where honest sums put them: within `CUT` of the mean, along every component."""
    most = int(CUT) * _ONE
    return np.clip(centres, -most, most).astype(np.int64)


def within(total: Array, squares: Array, count: Integers) -> list[list[list[int]]]:
    """Return the sum of squares about the means, 2**-22, by run, cluster and component: exact but for rounding."""
    n = np.maximum(count, 1)[..., None].astype(object)
    left = squares.astype(object) - (total.astype(object) ** 2 // n >> BITS)
    found: list[list[list[int]]] = np.maximum(left, 0).tolist()
    return found


def ordered(count: Integers) -> Sequence[int]:
    """Return clusters by their cells, most first."""
    return sorted(range(len(count)), key=lambda i: (-int(count[i]), i))
