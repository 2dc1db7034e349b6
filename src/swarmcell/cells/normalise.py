"""Log-normalisation: log1p of counts per 10,000, with totals over the whole universe."""

import numpy as np
import numpy.typing as npt
from scipy import sparse

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
    values = counts.data.astype(np.float32)
    values *= np.repeat(scale.astype(np.float32), np.diff(counts.indptr))
    return sparse.csr_matrix((np.log1p(values, out=values), counts.indices, counts.indptr), shape=counts.shape)


def row_sums(block: Block) -> npt.NDArray[np.int64]:
    """Return exact sums of integer rows, shape `(n_rows,)`."""
    sums = np.zeros(block.shape[0], np.int64)
    filled = np.flatnonzero(np.diff(block.indptr))  # `reduceat` gives an empty row its neighbour's first value
    if filled.size:
        sums[filled] = np.add.reduceat(block.data, block.indptr[filled], dtype=np.int64)
    return sums
