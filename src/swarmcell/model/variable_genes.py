"""Highly-variable genes by Seurat v3, exactly those of all sites' cells together, from integer sums of raw counts.

Rules: what a site adds is exact sums over its own training cells, so no partition of the cells changes a bit. What
follows them (logarithms, the trend, powers, scores) is correctly rounded decimal arithmetic, exact integers and
`model.loess`: every peer computes it for itself, from the sums, and gets the same bits on any machine.

Two passes. The sums of counts and of their squares give each gene's mean and variance, and a trend of the variance over
the mean. Then a count far above what the trend expects is clipped, so that one odd cell makes no gene variable; the
sums of what is not clipped, and the number of clipped counts, give each gene's score: its variance over the trend's.

References
----------
Stuart et al. 2019, Cell 177:1888; Hafemeister and Satija 2019, Genome Biology 20:296 (the clipping).
"""

import math
from collections.abc import Iterator
from decimal import Context, Decimal

import numpy as np
import numpy.typing as npt

from swarmcell.cells.batches import Codes, Matrix, is_sparse
from swarmcell.errors import CellsError, ModelError
from swarmcell.model import loess
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import Integers, to_int64
from swarmcell.model.moments import CHUNK_ROWS, column_sums

TREND_BITS = 44  # the trend is log10 of a variance: 2**-44 of it moves a score by 1.3e-13
TREND_LAST = 60.0  # chosen: no count has a variance beyond 10**60, whatever a member says
COUNT_LAST = 1 << 24  # counts are read as float32, which holds every integer up to here
KEPT_LAST = 1 << 53
_DIGITS = Context(prec=24)  # a float64 has 16
_LN_10 = _DIGITS.ln(Decimal(10))


def count_sums(counts: Matrix, rows: Codes | None = None) -> tuple[Integers, Integers]:
    """Return the sum of each gene's raw counts and of their squares, both int64 of shape `(n_genes,)`.

    Parameters
    ----------
    counts
        Shape `(n_cells, n_genes)`: CSR, dense, or rows on disk.
    rows
        Cells to sum, ascending; all by default.

    Raises
    ------
    CellsError
        If a value is no count.
    """
    first, second = np.zeros(counts.shape[1], np.int64), np.zeros(counts.shape[1], np.int64)
    for chunk, values in _chunks(counts, rows):
        first += column_sums(chunk, values)
        second += column_sums(chunk, values * values)
    return first, second


def clipped_sums(
    counts: Matrix, kept_last: Integers, rows: Codes | None = None
) -> tuple[Integers, Integers, Integers, Integers, Integers]:
    """Return the two sums of `count_sums`, the number of clipped counts, and the two sums without these; in one pass.

    Parameters
    ----------
    counts, rows
        As for `count_sums`.
    kept_last
        The largest count of each gene that is not clipped, shape `(n_genes,)`.
    """
    first, second, n_clipped, over, over_squared = (np.zeros(counts.shape[1], np.int64) for _ in range(5))
    for chunk, values in _chunks(counts, rows):
        first += column_sums(chunk, values)
        second += column_sums(chunk, values * values)
        genes = chunk.indices if is_sparse(chunk) else np.broadcast_to(np.arange(counts.shape[1]), values.shape)
        is_over = values > kept_last[genes]
        few, their_genes = values[is_over], genes[is_over]
        n_clipped += np.bincount(their_genes, minlength=counts.shape[1])
        np.add.at(over, their_genes, few)
        np.add.at(over_squared, their_genes, few * few)
    return first, second, n_clipped, first - over, second - over_squared


def _chunks(counts: Matrix, rows: Codes | None) -> Iterator[tuple[Matrix, Integers]]:
    """Yield blocks of cells, with their values (those that a CSR matrix stores) as integers."""
    for start in range(0, counts.shape[0] if rows is None else len(rows), CHUNK_ROWS):
        block = slice(start, start + CHUNK_ROWS)
        chunk = counts[block if rows is None else rows[block]]
        values = np.asarray(chunk.data if is_sparse(chunk) else chunk, np.float64)
        if not ((values >= 0) & (values < COUNT_LAST) & (values == np.floor(values))).all():
            msg = (
                "layers['counts'] holds values that are no counts (negative, fractional, NaN or over 16,777,215). "
                'Prepare the file again from raw counts, or choose features with rule = "top_variance".'
            )
            raise CellsError(msg)
        yield chunk, values.astype(np.int64)


def trend(n: int, first: Array, second: Array) -> Integers:
    """Return log10 of the variance that each gene's mean lets expect, fixed point 2**-44; 0 for a constant gene.

    Parameters
    ----------
    n
        Cells summed.
    first, second
        Exact sums of counts and of their squares, Python integers in object arrays of shape `(n_genes,)`.

    Raises
    ------
    ModelError
        If the genes that vary do not determine a trend, or there is one cell.
    """
    if n < 2:
        msg = f"{n} cell has no variance"
        raise ModelError(msg)
    totals, numerators = first.tolist(), _variances(n, first, second)
    varying = np.array([i for i, v in enumerate(numerators) if v > 0 and totals[i] > 0], np.int64)
    means = {total: _log10(total, n) for total in {totals[i] for i in varying}}
    x = np.array([means[totals[i]] for i in varying])
    y = np.array([_log10(numerators[i], n * (n - 1)) for i in varying])
    fitted = loess.fit(x, y)
    if not (np.abs(fitted) <= TREND_LAST).all():
        msg = "the trend of the variance over the mean runs away"
        raise ModelError(msg)
    logs = np.zeros(len(first), np.int64)
    logs[varying] = to_int64(fitted, TREND_BITS, what="the trend")
    return logs


def kept_last(n: int, first: Array, logs: Integers) -> Integers:
    """Return the largest count of each gene that is not clipped: over it lie `sqrt(n)` standard deviations."""
    tops = [_clip(n, total, expected) for total, expected in zip(first.tolist(), expected_variances(logs), strict=True)]
    return np.array([min(math.floor(top), KEPT_LAST) for top in tops], np.int64)


def scores(n: int, first: Array, logs: Integers, clipped: tuple[Array, Array, Array]) -> list[float]:
    """Return each gene's variance over the expected one, after clipping.

    Parameters
    ----------
    n, first, logs
        Cells, sums of counts, and what `trend` made of them.
    clipped
        Exact sums of the last three that `clipped_sums` returns.
    """
    expected = expected_variances(logs)
    parts = zip(first.tolist(), expected, *(part.tolist() for part in clipped), strict=True)
    return [_score(n, *part) for part in parts]


def top(values: list[float], n_top: int) -> Codes:
    """Return the `n_top` genes of the highest scores, best first; of equal ones the earlier in the universe."""
    best = sorted(range(len(values)), key=lambda gene: (-values[gene], gene))
    return np.array(best[:n_top], np.int64)


def expected_variances(logs: Integers) -> list[float]:
    """Return 10 to the power of the trend, the same bits on any machine: decimal `exp` is correctly rounded."""
    unit = _DIGITS.divide(_LN_10, Decimal(1 << TREND_BITS))
    return [float(_DIGITS.exp(_DIGITS.multiply(Decimal(log), unit))) for log in logs.tolist()]


def _variances(n: int, first: Array, second: Array) -> list[int]:
    """Return `n * (n - 1)` times each gene's variance."""
    return [n * b - a * a for a, b in zip(first.tolist(), second.tolist(), strict=True)]


def _log10(numerator: int, denominator: int) -> float:
    return float(_DIGITS.log10(_DIGITS.divide(Decimal(numerator), Decimal(denominator))))


def _clip(n: int, total: int, expected: float) -> float:
    return math.sqrt(expected) * math.sqrt(n) + total / n


def _score(n: int, total: int, expected: float, n_clipped: int, kept: int, squares: int) -> float:
    p, q = _clip(n, total, expected).as_integer_ratio()
    part, square = kept * q + n_clipped * p, squares * q * q + n_clipped * p * p
    numerator = total * total * q * q + n * square - 2 * total * part * q
    return numerator / (n * (n - 1) * q * q) / expected


def scores_of_cells(counts: Matrix, rows: npt.NDArray[np.int64] | None = None) -> list[float]:
    """Return the scores of these cells alone: both passes at once.

    Raises
    ------
    CellsError
        If a value is no count.
    ModelError
        If the cells do not determine a trend.
    """
    n = counts.shape[0] if rows is None else len(rows)
    first, second = (total.astype(object) for total in count_sums(counts, rows))
    logs = trend(n, first, second)
    clipped = clipped_sums(counts, kept_last(n, first, logs), rows)
    n_clipped, kept, squares = (part.astype(object) for part in clipped[2:])
    return scores(n, first, logs, (n_clipped, kept, squares))
