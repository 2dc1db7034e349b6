"""Log-normalisation: log1p of counts per 10,000, with totals over the whole universe."""

import numpy as np

from swarmcell.cells.readers.source import Block

TARGET_COUNTS = 10_000.0


def log1p_cp10k(counts: Block) -> Block:
    """Return log1p(counts per 10,000) as CSR float32, shape `(n_obs, n_vars)`; a cell without counts stays zero.

    Parameters
    ----------
    counts
        CSR of integers over the universe, shape `(n_obs, n_vars)`: a filter of genes would change the totals.
    """
    totals = row_sums(counts)
    scale = np.divide(TARGET_COUNTS, totals, out=np.zeros(len(totals)), where=totals > 0)
    per_value = np.repeat(scale.astype(np.float32), np.diff(counts.indptr))
    values = np.log1p(counts.data.astype(np.float32) * per_value)
    normalised = counts.astype(np.float32)
    normalised.data = values
    return normalised


def row_sums(block: Block) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return exact sums of integer rows, shape `(n_rows,)`."""
    sums = np.concatenate([[0], np.cumsum(block.data, dtype=np.int64)])
    return np.asarray(np.diff(sums[block.indptr]))
