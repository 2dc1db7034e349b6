"""The densities of every marker at every site, transformed: what a site should look at before it trains."""

import numpy as np
import numpy.typing as npt
from anndata import AnnData
from matplotlib.figure import Figure

from swarmcell.report import style
from swarmcell.report.style import Picture

N_BINS = 80  # chosen: one bin is a tenth of the width of a usual population
N_COLUMNS = 5
MARKERS_MAX = 60  # chosen: more panels are no longer read


def marker_densities(adata: AnnData) -> Picture:
    """Draw one panel per marker with one line per site.

    Parameters
    ----------
    adata
        A prepared cytometry file: X of shape `(n_cells, n_markers)`, obs with `site` and `donor`.
    """
    names = list(map(str, adata.var_names[:MARKERS_MAX]))
    sites = sorted(map(str, adata.obs["site"].unique()))
    rows = {site: np.flatnonzero((adata.obs["site"].astype(str) == site).to_numpy()) for site in sites}
    table = np.asarray(adata.X)
    n_rows = -(-len(names) // N_COLUMNS)
    with style.theme():
        figure = Figure(figsize=(9.0, 0.5 + 1.35 * n_rows), layout="constrained")
        panels = figure.subplots(n_rows, N_COLUMNS, squeeze=False).ravel()
        for place, (axes, name) in enumerate(zip(panels, names, strict=False)):
            values = table[:, place]
            edges = np.linspace(*_limits(values), N_BINS + 1)
            for index, site in enumerate(sites):
                heights, _ = np.histogram(values[rows[site]], bins=edges, density=True)
                axes.stairs(heights, edges, color=style.model_colour(index), linewidth=1.2, label=site)
            axes.set(title=name, yticks=[])
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        if len(sites) > 1:
            handles, labels = panels[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(sites)), frameon=False)
    n_donors = adata.obs["donor"].nunique()
    shown = "" if adata.n_vars <= MARKERS_MAX else f" The first {MARKERS_MAX} of {adata.n_vars} markers."
    return Picture(
        name="marker_densities",
        title="Densities of markers, by site",
        caption=f"Transformed intensities of {adata.n_obs:,} cells of {n_donors} donors.{shown}",
        alt=f"Histograms of {len(names)} markers at {', '.join(sites)}.",
        figure=figure,
    )


def _limits(values: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Leave out the outermost thousandth of cells, so that a few do not flatten the picture."""
    low, high = (float(edge) for edge in np.quantile(values, [0.001, 0.999]))
    return (low, high) if high > low else (low - 0.5, low + 0.5)
