"""The cells of a file as a model reads them: the features of its panel in their order, and the samples they are of."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import sparse

from swarmcell.cells.batches import Matrix, columns, is_sparse
from swarmcell.cells.panel import COVERAGE_MIN
from swarmcell.cells.site_scaling import SiteMoments, SiteScaled, described_rows, own_moments, sites_of
from swarmcell.errors import CellsError, PanelError
from swarmcell.model.classifier import Scaling

if TYPE_CHECKING:
    from anndata import AnnData


def samples_of(adata: "AnnData") -> tuple[list[str], npt.NDArray[np.int64]]:
    """Return the names of the samples, sorted, and each cell's code among them.

    Raises
    ------
    CellsError
        If `obs["sample"]` is missing.
    """
    if "sample" not in adata.obs:
        msg = "obs['sample'] is missing: which specimen each cell is from. Prepare the file again."
        raise CellsError(msg)
    names, codes = np.unique(np.asarray(adata.obs["sample"].astype(str), dtype=str), return_inverse=True)
    return [str(name) for name in names], codes.astype(np.int64)


def standardised(
    adata: "AnnData", panel_ids: Sequence[str], X: Matrix, scaling: Scaling, moments: SiteMoments | None
) -> npt.NDArray[np.float32]:
    """Return cells on the panel, moved from the mean and SD of their own site to those of the swarm.

    Parameters
    ----------
    X
        The cells on the panel.
    scaling
        The swarm's.
    moments
        Of the sites of the file that the cells are from, over its features; without them, those of these cells.
    """
    place = {name: i for i, name in enumerate(adata.var_names)}
    found = np.array([place.get(name, -1) for name in panel_ids], np.int64)
    names, site = sites_of(adata.obs)
    if moments is None:
        rows = described_rows(adata.obs)
        own = own_moments(X[rows], site[rows], names)
    else:
        own = moments.of_features(found)
        site = np.array([own.sites.index(name) for name in names], np.int64)[site]
    return SiteScaled.of(X, site, own, mean=scaling.mean, scale=scaling.scale)[:]


def on_panel(adata: "AnnData", panel_ids: Sequence[str]) -> Matrix:
    """Return X on the panel, shape `(n_obs, n_panel)`; absent features are zero.

    Raises
    ------
    PanelError
        If fewer than 80 % of the panel's features are there.
    """
    X: Matrix = adata.X
    X = sparse.csr_matrix(X) if is_sparse(X) else X
    place = {name: i for i, name in enumerate(adata.var_names)}
    found = np.array([place.get(name, -1) for name in panel_ids], np.int64)
    share = float((found >= 0).mean()) if len(found) else 1.0
    if share < COVERAGE_MIN:
        missing = [name for name, i in zip(panel_ids, found, strict=True) if i < 0]
        msg = (
            f"the cells have {share:.0%} of the model's {len(found)} features, expected at least {COVERAGE_MIN:.0%}; "
            f"missing: {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}. "
            "Prepare them with the universe that the model was trained with."
        )
        raise PanelError(msg)
    if (found >= 0).all():
        return columns(X, found)
    taken = columns(X, np.where(found < 0, 0, found))
    mask = (found >= 0).astype(np.float32)
    return taken @ sparse.csr_matrix(sparse.diags_array(mask)) if is_sparse(taken) else taken * mask
