"""Exact models of one round: ridge by the Gram matrix, LDA by class sums, PCA by the covariance.

Rules: every site publishes sums over its rows, scaled by the swarm's mean and scale, once (`site_sums`); they add up
to those of all cells in one place (`Moments.of`), and each model follows by arithmetic with the same bits at every
peer. Beyond `linear.LIMIT` features there is no Gram matrix: PCA then goes by subspace iteration, one round per step
(`subspace_sums`, `subspace_step`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from swarmcell.cells.batches import Codes, Matrix, dense
from swarmcell.errors import MergeError
from swarmcell.model.classifier import Scaling
from swarmcell.model.contribution import COUNT_MAX, SUM_MAX, Slot
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import Floats, Integers, to_float, to_int64
from swarmcell.model.merges import linear
from swarmcell.model.merges.elementwise import dot, norm, total

SUM_BITS = 22  # 2**53 then holds sums of a billion squares of 2; each site's sum is rounded once
_CHUNK_ROWS = 2048


@dataclass(frozen=True)
class Moments:
    """Sums over all sites' rows, in units of scaled features.

    Attributes
    ----------
    by_class
        Rows of each class, shape `(n_classes,)`; rows without a label count in none.
    class_sums
        Shape `(n_classes, n_features)`.
    n, first, gram
        Rows, their sum and their products' sum (shapes `(n_features,)` and `(n_features, n_features)`).
    """

    by_class: Integers
    class_sums: Floats
    n: int
    first: Floats
    gram: Floats

    @classmethod
    def of(cls, parts: Sequence[Mapping[str, Array]]) -> "Moments":
        """Add up the sites' sums; exact integers, so in any order.

        Raises
        ------
        MergeError
            If there is no row.
        """
        added = {name: _added([part[name] for part in parts]) for name in parts[0]}
        n = int(added["n"][0])
        if n < 1:
            msg = "no site has a row: there is nothing to fit."
            raise MergeError(msg)
        floats = {name: _float(array) for name, array in added.items()}
        return cls(
            by_class=added["by_class"].astype(np.int64),
            class_sums=floats["class_sums"],
            n=n,
            first=floats["first"],
            gram=_square(floats["gram"]),
        )

    @property
    def mean(self) -> Floats:
        """Mean of the rows."""
        return np.asarray(self.first / self.n)

    @property
    def scatter(self) -> Floats:
        """Sum of products of the centred rows."""
        return np.asarray(self.gram - self.first[:, None] * self.mean)

    @property
    def covariance(self) -> Floats:
        """Covariance with divisor `n - 1`."""
        return np.asarray(self.scatter / max(self.n - 1, 1))


@dataclass(frozen=True)
class Linear:
    """A linear classifier of scaled features: the largest of `weight @ x + bias` wins."""

    bias: Floats
    weight: Floats


@dataclass(frozen=True)
class Components:
    """Principal components of scaled features.

    Attributes
    ----------
    mean
        Shape `(n_features,)`, subtracted before projecting.
    axes
        Unit vectors as rows, shape `(n_components, n_features)`; the largest coordinate of each is positive.
    variances
        Along each axis, descending.
    """

    mean: Floats
    axes: Floats
    variances: Floats

    def project(self, X: Matrix, scaling: Scaling) -> Floats:
        """Return the rows' coordinates, shape `(n_rows, n_components)` (at one site: BLAS is allowed)."""
        folded = self.axes / scaling.scale
        return np.asarray(X @ folded.T - (folded @ scaling.mean + self.axes @ self.mean), np.float64)


def site_sums(X: Matrix, y: Codes, n_classes: int, scaling: Scaling) -> dict[str, Array]:
    """Return a site's sums in fixed point 2**-22; of the Gram matrix the upper triangle, row by row.

    Parameters
    ----------
    X
        Unscaled rows, shape `(n_rows, n_features)`, CSR or dense; only chunks become dense.
    y
        Classes, -1 where unlabelled.

    Raises
    ------
    MergeError
        If there are more than `linear.LIMIT` features.
    """
    n_features = X.shape[1]
    if n_features > linear.LIMIT:
        msg = f"{n_features} features are too many for a Gram matrix (at most {linear.LIMIT}). Use subspace iteration."
        raise MergeError(msg)
    gram, by_type = np.zeros((n_features, n_features)), np.zeros((n_classes, n_features))
    first = np.zeros(n_features)
    for start in range(0, X.shape[0], _CHUNK_ROWS):
        rows = np.arange(start, min(start + _CHUNK_ROWS, X.shape[0]))
        scaled = (dense(X, rows).astype(np.float64) - scaling.mean) / scaling.scale
        gram += scaled.T @ scaled
        first += scaled.sum(axis=0)
        by_type += (y[rows][None, :] == np.arange(n_classes)[:, None]).astype(np.float64) @ scaled
    fixed = {"class_sums": by_type, "first": first, "gram": gram[np.triu_indices(n_features)]}
    counts = np.bincount(y[y >= 0], minlength=n_classes).astype(np.int64)
    sums: dict[str, Array] = {"by_class": counts, "n": np.array([X.shape[0]], np.int64)}
    return sums | {name: to_int64(values, SUM_BITS, what=f"the sum {name!r}") for name, values in fixed.items()}


def slots(n_classes: int, n_features: int) -> dict[str, Slot]:
    """Return what a site's sums must look like."""
    return {
        "by_class": Slot(bits=64, shape=(n_classes,), last=COUNT_MAX, signed=False),
        "class_sums": Slot(bits=64, shape=(n_classes, n_features), last=SUM_MAX),
        "first": Slot(bits=64, shape=(n_features,), last=SUM_MAX),
        "gram": Slot(bits=64, shape=(n_features * (n_features + 1) // 2,), last=SUM_MAX),
        "n": Slot(bits=64, shape=(1,), last=COUNT_MAX, signed=False),
    }


def ridge(moments: Moments, *, penalty: float) -> Linear:
    """Return the least-squares fit of class indicators with an unpenalised intercept (`alpha` in scikit-learn).

    Every row must have a label.
    """
    centred = moments.scatter
    centred[np.diag_indices(len(centred))] += penalty
    counts = moments.by_class.astype(np.float64)
    right = moments.class_sums - counts[:, None] * moments.mean
    weight = linear.solve(centred, right.T).T
    shares = counts / moments.n
    return Linear(np.array([s - dot(w, moments.mean) for s, w in zip(shares, weight, strict=True)]), weight)


def lda(moments: Moments, *, shrinkage: float) -> Linear:
    """Return linear discriminants with equal priors; a class without rows never wins.

    Parameters
    ----------
    shrinkage
        Share of the identity (times the mean variance) in the within-class covariance, 0 to 1; above 0 where features
        outnumber cells.

    References
    ----------
    Hastie, Tibshirani and Friedman 2009, The Elements of Statistical Learning, equation 4.10 and section 4.3.1.
    """
    present = moments.by_class > 0
    counts = np.maximum(moments.by_class, 1).astype(np.float64)
    means = moments.class_sums / counts[:, None]
    within = moments.gram.copy()
    for mean, count in zip(means[present], counts[present], strict=True):
        within -= count * (mean[:, None] * mean)
    within = within / float(moments.by_class.sum())
    spread = total(np.diag(within)) / len(within)
    within = (1 - shrinkage) * within
    within[np.diag_indices(len(within))] += shrinkage * spread
    weight = linear.solve(within, means.T).T
    bias = np.array([-dot(m, w) / 2 for m, w in zip(means, weight, strict=True)])
    return Linear(np.where(present, bias, -1e9), np.where(present[:, None], weight, 0.0))


def pca(moments: Moments, n_components: int) -> Components:
    """Return the leading principal components: those of all sites' rows in one place."""
    variances, axes = linear.leading_eigenvectors(moments.covariance, n_components)
    return Components(moments.mean, axes, variances)


def subspace_start(n_features: int, n_components: int) -> Floats:
    """Return the first subspace as orthonormal columns, equal at every peer; take some more than are wanted."""
    drawn = np.stack([linear.pseudo_random(n_features, -1 - j) for j in range(n_components)], axis=1)
    return linear.orthonormal(drawn)


def subspace_sums(X: Matrix, scaling: Scaling, mean: Floats, columns: Floats) -> Integers:
    """Return a site's part of `scatter @ columns`, fixed point 2**-22, shape `(n_features, n_columns)`.

    Parameters
    ----------
    mean
        Of the scaled features over all sites (zero where the scaling is that of the same rows).
    """
    part = np.zeros(columns.shape)
    for start in range(0, X.shape[0], _CHUNK_ROWS):
        rows = np.arange(start, min(start + _CHUNK_ROWS, X.shape[0]))
        centred = (dense(X, rows).astype(np.float64) - scaling.mean) / scaling.scale - mean
        part += centred.T @ (centred @ columns)
    return to_int64(part, SUM_BITS, what="the sum of a subspace step")


def subspace_step(parts: Sequence[Array], n: int, mean: Floats) -> Components:
    """Return the subspace after a step; its `axes.T` are the next step's columns, its variances converge from below.

    Iterate until the variances stand still; convergence goes by the ratio of the first variance left out to the last
    one kept, so carry more columns than are wanted.
    """
    image = _float(_added(parts)) / max(n - 1, 1)
    lengths = np.array([norm(image[:, j]) for j in range(image.shape[1])])
    order = np.argsort(-lengths, kind="stable")
    return Components(mean, linear.orthonormal(image[:, order]).T, lengths[order])


def _added(arrays: Sequence[Array]) -> Array:
    if len(arrays) * SUM_MAX >= 1 << 62:
        return np.asarray(sum(array.astype(object) for array in arrays))
    return np.asarray(sum(array.astype(np.int64) for array in arrays))


def _float(array: Array) -> Floats:
    return to_float(np.asarray(array), SUM_BITS)


def _square(upper: Floats) -> Floats:
    n = int((np.sqrt(8.0 * len(upper) + 1) - 1) / 2)
    square = np.zeros((n, n))
    square[np.triu_indices(n)] = upper
    return np.asarray(square + np.triu(square, 1).T)
