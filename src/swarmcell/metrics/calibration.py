"""Whether a probability means what it says: reliability curve and expected calibration error.

Rules: a curve is three sums per bin (rows, confidence, hits), which add over donors; so donors can be resampled by
their sums, and sites could publish them.
"""

import numpy as np

from swarmcell.metrics.arrays import BoolArray, FloatArray, IntArray, ratio

N_BINS = 10  # Guo et al. 2017 use 15 on 10,000 images; 10 is chosen for fewer rows


def reliability_sums(confidence: FloatArray, hit: BoolArray, *, n_bins: int = N_BINS) -> FloatArray:
    """Sum rows, confidence and hits per bin of equal width.

    Parameters
    ----------
    confidence
        Probability of the predicted class (or of the positive one), shape `(n_rows,)`.
    hit
        Whether the prediction was right (or the row positive), shape `(n_rows,)`.

    Returns
    -------
    Shape `(n_bins, 3)`: rows, sum of confidence, hits. A bin holds its right edge, as scikit-learn has it.
    """
    edges = np.linspace(0, 1, n_bins + 1)[1:-1]
    index = np.searchsorted(edges, confidence, side="left")
    sums = [np.bincount(index, weights=part, minlength=n_bins) for part in (np.ones(len(hit)), confidence, hit)]
    return np.stack(sums, axis=-1)


def reliability_curve(sums: FloatArray) -> tuple[FloatArray, FloatArray, IntArray]:
    """Return mean confidence, share of hits and rows per bin; `nan` for empty bins."""
    rows = sums[..., 0]
    return ratio(sums[..., 1], rows), ratio(sums[..., 2], rows), rows.astype(np.int64)


def expected_calibration_error(sums: FloatArray) -> FloatArray:
    """Mean gap between confidence and hits, each bin weighted by its rows; shape `(...)` of `(..., n_bins, 3)`.

    References
    ----------
    Guo et al. 2017, arXiv:1706.04599, equation 3.
    """
    gap: FloatArray = np.abs(sums[..., 1] - sums[..., 2]).sum(axis=-1)
    return ratio(gap, sums[..., 0].sum(axis=-1))
