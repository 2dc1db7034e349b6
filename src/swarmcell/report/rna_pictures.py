"""Figures of the quality of RNA cells: what was measured of those kept and dropped, and why, sample by sample."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from swarmcell.report import style
from swarmcell.report.style import Picture

N_BINS = 60  # chosen
SAMPLES_MAX = 60  # bars that can be told apart; chosen
_PANELS = (
    ("n_counts", "counts per cell", True),
    ("n_genes", "genes per cell", True),
    ("mito_share", "mitochondrial share", False),
    ("top20_share", "share of the 20 largest genes", False),
    ("ribo_share", "ribosomal share", False),
    ("hb_share", "haemoglobin share", False),
)


def rna_pictures(quality: pd.DataFrame, limits: Mapping[str, float]) -> list[Picture]:
    """Draw the figures of the QC report.

    Parameters
    ----------
    quality
        One row per cell that was read, as `workflows.preprocessing.rna.PreparedRna.quality`.
    limits
        Column of `quality` to the limit that is drawn in its panel.
    """
    pictures = [] if "n_counts" not in quality else [_distributions(quality, limits), _depth(quality, limits)]
    pictures.append(_reasons(quality))
    if "doublet_score" in quality and quality["doublet_score"].notna().any():
        pictures.append(_doublets(quality))
    return pictures


def _distributions(quality: pd.DataFrame, limits: Mapping[str, float]) -> Picture:
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    kept = (quality["reason"] == "").to_numpy()
    for axes, (name, label, is_log) in zip(figure.subplots(2, 3).ravel(), _PANELS, strict=True):
        _histogram(axes, quality[name].to_numpy(dtype=np.float64), kept, is_log=is_log)
        if name in limits:
            axes.axvline(limits[name], color=style.INK, linewidth=1, linestyle="--")
        axes.set(title=label, yticks=[])
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    return Picture(
        name="qc_distributions",
        title="What was measured of each cell",
        caption=f"{int(kept.sum()):,} cells kept and {int((~kept).sum()):,} dropped, all samples together; dashed: the "
        "floor or limit. Outliers by MADs are judged per sample, so they have no one line here.",
        alt="Histograms of counts, genes and shares of gene sets, of cells kept and cells dropped.",
        figure=figure,
    )


def _histogram(axes: Axes, values: npt.NDArray[np.float64], kept: npt.NDArray[np.bool_], *, is_log: bool) -> None:
    low, high = (float(edge) for edge in np.quantile(values, [0.0, 0.999]))
    low = max(low, 1.0) if is_log else low
    edges = (
        np.geomspace(low, max(high, low * 1.1), N_BINS) if is_log else np.linspace(low, max(high, low + 1e-3), N_BINS)
    )
    for index, (chosen, label) in enumerate(((kept, "kept"), (~kept, "dropped"))):
        heights, _ = np.histogram(values[chosen], bins=edges)
        axes.stairs(heights, edges, color=style.model_colour(index), linewidth=1.4, label=label)
    if is_log:
        axes.set_xscale("log")


def _depth(quality: pd.DataFrame, limits: Mapping[str, float]) -> Picture:
    figure, (axes,) = style.blank(5.2, 3.8)
    counts, genes = (np.maximum(quality[name].to_numpy(dtype=np.float64), 1) for name in ("n_counts", "n_genes"))
    mito = 100 * quality["mito_share"].to_numpy()
    drawn = axes.hexbin(
        counts, genes, C=mito, gridsize=45, xscale="log", yscale="log", cmap="viridis", linewidths=0.1,
        vmin=0, vmax=max(5.0, float(np.quantile(mito, 0.98))),
    )  # fmt: skip
    figure.colorbar(drawn, ax=axes, label="mitochondrial share, %")
    for name, draw in (("n_counts", axes.axvline), ("n_genes", axes.axhline)):
        if limits.get(name, 0) > 0:
            draw(limits[name], color=style.INK, linewidth=1, linestyle="--")
    axes.set(xlabel="counts per cell", ylabel="genes per cell")
    return Picture(
        name="qc_depth",
        title="Counts, genes and mitochondrial share",
        caption="Mean mitochondrial share of the cells at each place. Damaged cells have few genes and a large share.",
        alt="Genes per cell against counts per cell, coloured by the mitochondrial share.",
        figure=figure,
    )


def _reasons(quality: pd.DataFrame) -> Picture:
    table = pd.crosstab(quality["sample"], quality["reason"].astype(str).replace("", "kept"))
    names = ["kept", *sorted(name for name in map(str, table.columns) if name != "kept")]
    table = table.reindex(columns=names, fill_value=0).head(SAMPLES_MAX)
    shares = 100 * table.to_numpy() / table.to_numpy().sum(axis=1, keepdims=True)
    figure, (axes,) = style.blank(9.0, 1.0 + 0.22 * len(table))
    left, colours = np.zeros(len(table)), _colours(names)
    for column, name in enumerate(names):
        axes.barh(
            list(map(str, table.index)),
            shares[:, column],
            left=left,
            color=colours[column],
            label=name.replace("_", " "),
        )
        left += shares[:, column]
    axes.invert_yaxis()
    axes.set(xlabel="share of the sample's cells, %", xlim=(0, 100))
    axes.tick_params(length=0)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    n_samples = quality["sample"].nunique()
    shown = f" The first {SAMPLES_MAX} of {n_samples} samples." if n_samples > SAMPLES_MAX else ""
    return Picture(
        name="qc_reasons",
        title="Why cells were dropped, per sample",
        caption=f"Each cell has one reason: the first that applies.{shown}",
        alt="Stacked bars per sample: the share of cells kept, and dropped for each reason.",
        figure=figure,
    )


def _colours(names: Sequence[str]) -> list[Any]:
    """Return grey for what is kept, and the models' colours for reasons."""
    return [style.GRID, *(style.model_colour(index) for index in range(len(names) - 1))]


def _doublets(quality: pd.DataFrame) -> Picture:
    scores = quality["doublet_score"].dropna().to_numpy()
    figure, (axes,) = style.blank(5.2, 2.8)
    heights, edges = np.histogram(scores, bins=N_BINS)
    axes.stairs(heights, edges, color=style.model_colour(0), linewidth=1.4)
    axes.set(xlabel="doublet score", ylabel="cells", yscale="log")
    return Picture(
        name="qc_doublets",
        title="Doublet scores",
        caption=f"{len(scores):,} cells, scored sample by sample (Scrublet). Two modes part doublets of different "
        "types from single cells; doublets of one type are not seen.",
        alt="Histogram of doublet scores with a logarithmic count of cells.",
        figure=figure,
    )
