"""Cells standardised by their own site, where a study asks for it: opt-in, for it also takes away what differs truly.

Rules: a site's cells are moved and stretched, feature by feature, from the site's own mean and SD to those of the
swarm; everything downstream reads them as any other cells. The site's moments are those of its training cells in the
file, or of all its cells there if none is for training; they never leave the site. Only the rows that are asked for are
made dense.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from swarmcell.cells.schema import SITE, SPLIT
from swarmcell.cells.split import TRAIN

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

KEY = "swarmcell_site_moments"  # of `uns`, in memory only
_CHUNK_ROWS = 4096


@dataclass(frozen=True, eq=False)
class SiteMoments:
    """Mean and SD of each feature at each site, shape `(n_sites, n_features)`; a constant feature has SD 1."""

    sites: tuple[str, ...]
    mean: Floats
    scale: Floats

    def of_features(self, chosen: Codes) -> "SiteMoments":
        """Return the moments of these features; -1 is a feature that the sites lack: always 0."""
        here = chosen >= 0
        mean, scale = self.mean[:, np.where(here, chosen, 0)], self.scale[:, np.where(here, chosen, 0)]
        return SiteMoments(self.sites, np.where(here, mean, 0.0), np.where(here, scale, 1.0))


class MomentSums:
    """Sums over cells, added up block by block."""

    def __init__(self, sites: tuple[str, ...], n_features: int) -> None:
        self._sites = sites
        self._n = np.zeros(len(sites))
        self._first, self._second = (np.zeros((len(sites), n_features)) for _ in range(2))

    def add(self, X: Any, site: Codes) -> None:  # noqa: ANN401 (CSR or dense)
        """Add cells: X of shape `(n_rows, n_features)`, and the code of each cell's site."""
        for k in np.unique(site):
            mine: Any = X[np.flatnonzero(site == k)]
            squares = mine.multiply(mine) if _is_sparse(mine) else np.square(mine, dtype=np.float64)
            self._n[k] += mine.shape[0]
            self._first[k] += np.asarray(mine.sum(axis=0, dtype=np.float64)).ravel()
            self._second[k] += np.asarray(squares.sum(axis=0, dtype=np.float64)).ravel()

    def moments(self) -> SiteMoments:
        """Return mean and SD of what was added."""
        n = np.maximum(self._n, 1)[:, None]
        mean = self._first / n
        variance = self._second / n - mean**2
        flat = variance <= 1e-9 * (1 + mean**2)  # float32 values, squared: beyond their rounding
        return SiteMoments(self._sites, mean, np.sqrt(np.where(flat, 1.0, variance)))


@dataclass(frozen=True, eq=False)
class SiteScaled:
    """Cells as a matrix whose rows are standardised by their site when they are asked for: `X.shape`, `X[rows]`.

    Attributes
    ----------
    X
        The cells as they are: CSR, dense or on disk.
    site
        Code of each cell's site.
    factor, offset
        A cell becomes `x * factor + offset` of its site, shape `(n_sites, n_features)`, float32.
    """

    X: Any
    site: Codes
    factor: npt.NDArray[np.float32]
    offset: npt.NDArray[np.float32]

    @classmethod
    def of(cls, X: Any, site: Codes, own: SiteMoments, *, mean: Floats, scale: Floats) -> "SiteScaled":  # noqa: ANN401
        """Return cells moved from their sites' moments to the swarm's mean and scale, shape `(n_features,)`."""
        factor = scale / own.scale
        return cls(X, site, factor.astype(np.float32), (mean - own.mean * factor).astype(np.float32))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.X.shape[0]), int(self.X.shape[1])

    def __getitem__(self, rows: Codes | slice) -> npt.NDArray[np.float32]:
        """Return rows, dense."""
        found: Any = self.X[rows]
        values = np.asarray(found.toarray() if _is_sparse(found) else found, np.float32)
        site = self.site[rows]
        return np.asarray(values * self.factor[site] + self.offset[site], np.float32)


def _is_sparse(X: Any) -> bool:  # noqa: ANN401
    return bool(sparse.issparse(X))


def own_moments(X: Any, site: Codes, sites: tuple[str, ...]) -> SiteMoments:  # noqa: ANN401 (CSR, dense or on disk)
    """Return the moments of each site over these cells, read in chunks."""
    sums = MomentSums(sites, int(X.shape[1]))
    for start in range(0, X.shape[0], _CHUNK_ROWS):
        sums.add(X[start : start + _CHUNK_ROWS], site[start : start + _CHUNK_ROWS])
    return sums.moments()


def sites_of(obs: Any) -> tuple[tuple[str, ...], Codes]:  # noqa: ANN401 (a frame)
    """Return the names of the sites, sorted, and each cell's code among them; one site where none is named."""
    if SITE not in obs:
        return ("",), np.zeros(len(obs), np.int64)
    names, codes = np.unique(np.asarray(obs[SITE].astype(str), dtype=str), return_inverse=True)
    return tuple(map(str, names)), codes.astype(np.int64)


def described_rows(obs: Any) -> Codes:  # noqa: ANN401 (a frame)
    """Return the rows whose moments stand for their site: its training cells, or all where it has none."""
    _, site = sites_of(obs)
    train = np.asarray(obs[SPLIT].astype(str) == TRAIN) if SPLIT in obs else np.zeros(len(obs), bool)
    has_training = np.bincount(site[train], minlength=int(site.max(initial=0)) + 1) > 0
    return np.flatnonzero(train | ~has_training[site])
