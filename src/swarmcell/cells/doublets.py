"""Doublets by Scrublet: cells that lie among sums of two cells, sample by sample.

Rules: steps and defaults are those of `scanpy.pp.scrublet` (twice as many simulated as observed, 30 components, exact
neighbours). Nothing is made dense: z-scores are centred within the matrix product. Of one sample its counts stand in
memory, and of its most variable genes a few copies.

References
----------
Wolock, Lopez, Klein 2019, Cell Systems, doi 10.1016/j.cels.2018.11.005.
Satija et al. 2015, Nat Biotechnol, doi 10.1038/nbt.3192 (variable genes by normalised dispersion).
Prewitt, Mendelsohn 1966, doi 10.1111/j.1749-6632.1965.tb11715.x (threshold at the minimum between two modes).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse
from scipy.ndimage import uniform_filter1d

from swarmcell.cells.normalise import row_sums
from swarmcell.cells.readers.source import Block

CELLS_MIN = 100  # of a sample, below which nothing is simulated; chosen
SIMULATED_RATIO = 2.0
RATE_EXPECTED = 0.05  # share of doublets, scanpy's default; it moves the score's scale, not its order
N_COMPONENTS = 30
CALLED_MAX = 0.25  # share of cells above which a threshold is no valley between modes but a tail's; chosen
GENES_MIN = 20  # variable genes below which there is no space to look for neighbours in; chosen
_MEAN_RANGE, _DISPERSION_MIN, _N_BINS, _GENE_CELLS_MIN = (0.0125, 3.0), 0.5, 20, 3  # scanpy's
_SLAB_ROWS = 2048  # rows whose normalised values stand in memory; chosen
_HISTOGRAM_BINS, _SMOOTHINGS_MAX = 256, 10_000
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Doublets:
    """Scores of one sample's cells, shape `(n_obs,)`.

    Attributes
    ----------
    score
        Estimated chance to be a doublet, in 0 to 1.
    called
        Score above the threshold.
    threshold
        Minimum between the two modes of the simulated doublets' scores; `None`: none is called, because there are not
        two modes, or more than a quarter of the cells lie above it.
    """

    score: npt.NDArray[np.float32]
    called: npt.NDArray[np.bool_]
    threshold: float | None


def find(counts: Block, *, seed: int) -> Doublets | None:
    """Score the cells of one sample.

    Parameters
    ----------
    counts
        CSR of integers over all genes of the file, shape `(n_obs, n_features)`: one sample, cells that passed QC.
    seed
        Of the pairs that are summed, and of the decomposition.

    Returns
    -------
    Doublets or None
        `None` if there are too few cells or variable genes.
    """
    if counts.shape[0] < CELLS_MIN:
        return None
    chosen = variable_genes(counts)
    if len(chosen) < GENES_MIN:
        return None
    observed = counts[:, chosen].astype(np.float32)
    observed.sort_indices()
    rng = np.random.default_rng(seed)
    pairs = rng.integers(observed.shape[0], size=(int(SIMULATED_RATIO * observed.shape[0]), 2))
    simulated = observed[pairs[:, 0]] + observed[pairs[:, 1]]
    places = _components(_per_million(observed), _per_million(simulated), seed)
    score = _scores(places, observed.shape[0])
    threshold = minimum_between_modes(score[observed.shape[0] :])
    score = score[: observed.shape[0]]
    if threshold is not None and (score > threshold).mean() > CALLED_MAX:
        threshold = None
    called = np.zeros(len(score), np.bool_) if threshold is None else score > threshold
    return Doublets(score.astype(np.float32), called, threshold)


def variable_genes(counts: Block) -> npt.NDArray[np.intp]:
    """Return the genes with a normalised dispersion above 0.5, as `highly_variable_genes(flavor="seurat")` does.

    Means and variances are those of counts normalised to the median total; genes in fewer than 3 cells are left out.
    """
    n_obs, n_features = counts.shape
    filtered = np.bincount(counts.indices, minlength=n_features) >= _GENE_CELLS_MIN
    inside = np.where(filtered[counts.indices], counts.data, 0)
    totals = row_sums(sparse.csr_matrix((inside, counts.indices, counts.indptr), shape=counts.shape))
    scale = np.divide(np.median(totals), totals, out=np.zeros(n_obs), where=totals > 0)
    sums, squares = np.zeros(n_features), np.zeros(n_features)
    for start in range(0, n_obs, _SLAB_ROWS):
        slab = counts[start : start + _SLAB_ROWS]
        values = slab.data * np.repeat(scale[start : start + _SLAB_ROWS], np.diff(slab.indptr))
        sums += np.bincount(slab.indices, values, n_features)
        squares += np.bincount(slab.indices, values * values, n_features)
    kept = np.flatnonzero(filtered)
    mean = sums[kept] / n_obs
    return kept[_is_variable(mean, (squares[kept] / n_obs - mean**2) * n_obs / (n_obs - 1))]


def _is_variable(mean: Floats, variance: Floats) -> npt.NDArray[np.bool_]:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = variance / mean
        dispersion = np.where(ratio > 0, np.log(ratio), np.nan)
    mean = np.log1p(mean)
    bins = pd.cut(pd.Series(mean), bins=_N_BINS, labels=False)
    groups = pd.Series(dispersion).groupby(bins)
    centre, spread = groups.transform("mean").to_numpy(), groups.transform("std").to_numpy()
    alone = np.isnan(spread)  # a bin of one gene
    spread, centre = np.where(alone, centre, spread), np.where(alone, 0, centre)
    with np.errstate(divide="ignore", invalid="ignore"):
        normalised = (dispersion - centre) / spread
    low, high = _MEAN_RANGE
    return np.asarray((mean > low) & (mean < high) & (np.nan_to_num(normalised) > _DISPERSION_MIN))


def _per_million(counts: Any) -> Any:  # noqa: ANN401 (CSR; its stubs differ between versions)
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    scale = np.divide(1e6, totals, out=np.zeros(len(totals)), where=totals > 0)
    values = counts.data * np.repeat(scale, np.diff(counts.indptr)).astype(np.float32)
    return sparse.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)


def _components(observed: Any, simulated: Any, seed: int) -> npt.NDArray[np.float32]:  # noqa: ANN401
    """Return both on the principal components of the observed z-scores, shape `(n_obs + n_sim, n_components)`."""
    from sklearn.decomposition import PCA  # noqa: PLC0415 (only who looks for doublets waits for it)

    mean = np.asarray(observed.mean(axis=0)).ravel()
    squares = np.asarray(observed.multiply(observed).mean(axis=0)).ravel()
    spread = np.sqrt((squares - mean**2) * observed.shape[0] / (observed.shape[0] - 1))
    scale = np.divide(1, spread, out=np.zeros(len(spread)), where=spread > 0).astype(np.float32)
    scaled = [_by_column(one, scale) for one in (observed, simulated)]
    n_components = min(N_COMPONENTS, min(observed.shape) - 1)
    decompose: Any = PCA  # it has no types
    pca = decompose(n_components, svd_solver="arpack", random_state=seed).fit(scaled[0])
    return np.concatenate([pca.transform(one) for one in scaled]).astype(np.float32)


def _by_column(values: Any, scale: npt.NDArray[np.float32]) -> Any:  # noqa: ANN401
    scaled = values.data * scale[values.indices]
    return sparse.csr_matrix((scaled, values.indices, values.indptr), shape=values.shape)


def _scores(places: npt.NDArray[np.float32], n_obs: int) -> Floats:
    """Return the chance of each to be a doublet, by how many of its neighbours were simulated."""
    from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415

    ratio = len(places) / n_obs - 1
    n_neighbours = round(round(0.5 * np.sqrt(n_obs)) * (1 + ratio))
    search: Any = NearestNeighbors
    near = search(n_neighbors=n_neighbours).fit(places).kneighbors(return_distance=False)
    share = ((near >= n_obs).sum(axis=1) + 1) / (n_neighbours + 2)
    rate = RATE_EXPECTED
    return np.asarray(share * rate / ratio / (1 - rate - share * (1 - rate - rate / ratio)), dtype=np.float64)


def minimum_between_modes(values: Floats) -> float | None:
    """Return the minimum between the two modes of a histogram, smoothed until it has two; `None`: it never has."""
    heights, edges = np.histogram(values, _HISTOGRAM_BINS)
    smooth = heights.astype(np.float32)
    for _ in range(_SMOOTHINGS_MAX):
        smooth = uniform_filter1d(smooth, 3)
        modes = _modes(smooth)
        if len(modes) < 3:
            break
    if len(modes) != 2:
        return None
    lowest = modes[0] + int(np.argmin(smooth[modes[0] : modes[1] + 1]))
    return float((edges[lowest] + edges[lowest + 1]) / 2)


def _modes(heights: npt.NDArray[np.float32]) -> list[int]:
    """Return where heights fall after they have risen; of a plateau its last place."""
    steps = np.sign(np.diff(heights))
    turns = np.flatnonzero(steps)
    signs = np.concatenate([[1.0], steps[turns]])
    return [int(turns[n]) for n in range(len(turns)) if signs[n] > 0 > signs[n + 1]]
