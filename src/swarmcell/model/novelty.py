"""How unlike a cell is to all cells that the model was taught: the distance to the nearest type, and the energy.

Rules: everything follows from sums that sites add up: a sketch of the principal components, class sums and second
moments in its space, and the spread of both figures over the inner-validation cells, of which `score` has mean 0 and
a spread of about 1; it is for prediction at one site (float64, BLAS allowed), merges never call it.

References
----------
Lee et al. 2018, arXiv:1807.03888 (Mahalanobis distance to the nearest class). Liu et al. 2020, arXiv:2010.03759
(energy). Halko et al. 2011, doi 10.1137/090771806, algorithm 4.4 (principal components by a random range and power
passes).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from swarmcell.cells.batches import Matrix
from swarmcell.model.classifier import Scaling, log_sum_exp
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import STATISTICS_BITS, Floats, to_float

WIDTH = 40  # columns of the sketch; 30 components and 10 to spare
COMPONENTS = 30
ENERGY_WEIGHT = 0.25  # AUROC .84 on PBMC and .96 on cell lines; with weight 1 it is .79 and .97
RIDGE = 1e-3  # of the mean within-class variance; chosen
_TINY = 1e-9


def start_basis(n_features: int) -> Floats:
    """Return the random signs that the first pass starts from, shape `(n_features, width)`, equal everywhere."""
    width = min(WIDTH, n_features)
    n_bits = n_features * width
    stream = hashlib.shake_256(b"swarmcell/sketch").digest((n_bits + 7) // 8)
    bits = np.unpackbits(np.frombuffer(stream, np.uint8))[:n_bits]
    return np.asarray(2.0 * bits.reshape(n_features, width) - 1.0, np.float64)


def orthonormal(sketch: Array) -> Floats:
    """Return an orthonormal basis of a summed sketch, each column's largest value positive."""
    basis = np.linalg.qr(to_float(sketch, STATISTICS_BITS))[0]
    largest = basis[np.abs(basis).argmax(axis=0), np.arange(basis.shape[1])]
    return np.asarray(basis * np.where(largest < 0, -1.0, 1.0))


@dataclass(frozen=True, eq=False)
class Projection:
    """Scaled cells on a few directions: `(x - mean) / scale @ basis`, without a scaled or dense copy of X."""

    scaling: Scaling
    basis: Floats

    def __call__(self, X: Matrix) -> Floats:
        """Return the projection, shape `(n_rows, width)`."""
        folded = self.basis / self.scaling.scale[:, None]
        return np.asarray(X @ folded - self.scaling.mean @ folded, np.float64)

    def back(self, X: Matrix, projected: Floats) -> Floats:
        """Return the scaled cells' transpose times their projection, shape `(n_features, width)`."""
        centre = np.outer(self.scaling.mean, projected.sum(axis=0))
        return np.asarray((X.T @ projected - centre) / self.scaling.scale[:, None], np.float64)


@dataclass(frozen=True, eq=False)
class Density:
    """Where the cells of each type lie.

    Attributes
    ----------
    projection
        To the principal components of the training cells.
    means
        Of each type that has cells, shape `(n_present, n_components)`.
    precision
        Inverse of the covariance within types.
    shares
        Of each of these types among the cells, shape `(n_present,)`.
    within
        Covariance within types.
    """

    projection: Projection
    means: Floats
    precision: Floats
    shares: Floats
    within: Floats

    @classmethod
    def of(cls, sums: Mapping[str, Array], scaling: Scaling, *, share: float) -> "Density":
        """Return the density of the summed `sketch`, `count`, `first` and `second` (see `calibration_rounds`).

        Parameters
        ----------
        share
            What `first` and `second` were divided by, over the number of cells that they sum.
        """
        basis = orthonormal(sums["sketch"])
        count = sums["count"].astype(np.float64)
        present, n = count > 0, count.sum()
        first, second = (to_float(sums[name], STATISTICS_BITS) * share for name in ("first", "second"))
        total = first.sum(axis=0)
        _, vectors = np.linalg.eigh(second - np.outer(total, total))
        kept = vectors[:, ::-1][:, :COMPONENTS]
        means = (first[present] * (n / count[present])[:, None]) @ kept
        weights = count[present] / n
        within = kept.T @ second @ kept - (means * weights[:, None]).T @ means
        ridge = (RIDGE * np.trace(within) / len(within) + _TINY) * np.eye(len(within))
        return cls(Projection(scaling, basis @ kept), means, np.linalg.inv(within + ridge), weights, within)

    def ridge(self, X: Matrix) -> Floats:
        """Return each present type as ridge regression of its indicator tells it, shape `(n_rows, n_present)`."""
        middle = self.shares @ self.means
        offsets = self.means - middle
        total = self.within + (offsets * self.shares[:, None]).T @ offsets
        penalty = (RIDGE * np.trace(total) / len(total) + _TINY) * np.eye(len(total))
        weight = np.linalg.solve(total + penalty, (offsets * self.shares[:, None]).T)
        return np.asarray((self.projection(X) - middle) @ weight + self.shares)

    def log_distance(self, X: Matrix) -> Floats:
        """Return the logarithm of the squared Mahalanobis distance to the nearest type, shape `(n_rows,)`."""
        return np.asarray(np.log(np.maximum(self.distances(X).min(axis=1), _TINY)))

    def distances(self, X: Matrix) -> Floats:
        """Return the squared Mahalanobis distance to each present type, shape `(n_rows, n_present)`."""
        projected = self.projection(X)
        offsets = (projected - mean for mean in self.means)
        return np.column_stack([((offset @ self.precision) * offset).sum(axis=1) for offset in offsets])


def energy(outputs: Floats) -> Floats:
    """Return minus the log-sum-exp of the classifier's outputs: high where no type speaks up, shape `(n_rows,)`."""
    return np.asarray(-log_sum_exp(outputs))


@dataclass(frozen=True, eq=False)
class Novelty:
    """The score of a finished model; see the module's rules.

    Attributes
    ----------
    density
        Where the cells of each type lie.
    centre, spread
        Mean and standard deviation over inner-validation cells, of log distance and of energy.
    n_by_score
        Inner-validation cells per bin of the score; bin i begins at `edges[i]`.
    """

    density: Density
    centre: tuple[float, float]
    spread: tuple[float, float]
    n_by_score: npt.NDArray[np.int64]

    def score(self, X: Matrix, outputs: Floats) -> Floats:
        """Return each cell's score, shape `(n_rows,)`; the larger, the less like any known type.

        Parameters
        ----------
        X
            Cells on the panel, unscaled.
        outputs
            The classifier's outputs for them, without temperature.
        """
        parts = (self.density.log_distance(X), energy(outputs))
        distance, lack = ((p - c) / s for p, c, s in zip(parts, self.centre, self.spread, strict=True))
        return np.asarray(distance + ENERGY_WEIGHT * lack)

    def threshold(self, rate: float) -> float:
        """Return the least bin edge that at most `rate` of the inner-validation cells reach; infinite at rate 0."""
        total = int(self.n_by_score.sum())
        if rate <= 0 or not total:
            return float("inf")
        reached = np.cumsum(self.n_by_score[::-1])[::-1] / total
        fits = np.flatnonzero(reached <= rate)
        return float(EDGES[fits[0]]) if len(fits) else float("inf")


EDGES: Floats = np.arange(-64, 192) / 16.0  # of the score: -4 to 12, open at both ends; chosen


def histogram(score: Floats) -> npt.NDArray[np.int64]:
    """Return the number of cells per bin of the score, shape `(256,)`."""
    at = np.clip(np.searchsorted(EDGES, score, side="right") - 1, 0, len(EDGES) - 1)
    return np.bincount(at, minlength=len(EDGES)).astype(np.int64)
