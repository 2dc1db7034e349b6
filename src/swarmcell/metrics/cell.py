"""Figures of the cell task, all of them computed from confusion matrices.

Rules: rows are the true class, columns the predicted one; the last two axes are classes, all axes before them are
batches (resamples), so one call computes a figure for all resamples. The sum of donors' matrices is the matrix of all.
"""

import numpy as np

from swarmcell.metrics.arrays import FloatArray, IntArray, mean_of_defined, ratio


def confusion(true: IntArray, predicted: IntArray, n_classes: int) -> IntArray:
    """Count cells by true and predicted class.

    Parameters
    ----------
    true, predicted
        Class indices, shape `(n_cells,)`, from 0 to `n_classes - 1`.

    Returns
    -------
    Shape `(n_classes, n_classes)`.
    """
    pair = true.astype(np.int64) * n_classes + predicted
    return np.bincount(pair, minlength=n_classes * n_classes).reshape(n_classes, n_classes).astype(np.int64)


def resampled_confusion(per_donor: IntArray, weights: IntArray) -> IntArray:
    """Sum donors' matrices `(n_donors, K, K)` by weights `(n_batches, n_donors)`: shape `(n_batches, K, K)`."""
    total: IntArray = np.tensordot(weights, per_donor, axes=1)
    return total


def support(counts: IntArray) -> IntArray:
    """Cells per true class, shape `(..., K)`."""
    total: IntArray = counts.sum(axis=-1)
    return total


def accuracy(counts: IntArray) -> FloatArray:
    """Share of cells given their true class."""
    return ratio(_hits(counts).sum(axis=-1), counts.sum(axis=(-2, -1)))


def recall(counts: IntArray) -> FloatArray:
    """Share of each class's cells that were found, shape `(..., K)`; undefined for a class without cells."""
    return ratio(_hits(counts), counts.sum(axis=-1))


def precision(counts: IntArray) -> FloatArray:
    """Share of the cells called a class that are of it, shape `(..., K)`; undefined for a class never called."""
    return ratio(_hits(counts), counts.sum(axis=-2))


def f1(counts: IntArray) -> FloatArray:
    """Harmonic mean of precision and recall per class, shape `(..., K)`.

    Undefined for a class that neither the truth nor the predictions hold; 0 for one that only one of them holds.
    """
    return ratio(2 * _hits(counts), counts.sum(axis=-1) + counts.sum(axis=-2))


def balanced_accuracy(counts: IntArray) -> FloatArray:
    """Mean recall over the classes that the truth holds."""
    return mean_of_defined(recall(counts))


def macro_f1(counts: IntArray) -> FloatArray:
    """Mean F1 over the classes that the truth or the predictions hold."""
    return mean_of_defined(f1(counts))


def _hits(counts: IntArray) -> IntArray:
    hits: IntArray = np.diagonal(counts, axis1=-2, axis2=-1)
    return hits
