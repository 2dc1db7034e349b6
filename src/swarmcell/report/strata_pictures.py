"""Figures of strata: a map of the samples, the stability curve, compositions, and what marks each stratum."""

from typing import Any

from swarmcell.report import style
from swarmcell.report.style import Picture

MARKERS_SHOWN = 8
_STABLE = 0.75
_SHADES = (1.0, 0.55, 0.25)  # of the same colours, for the seventh type and on; chosen


def draw(found: dict[str, Any]) -> list[Picture]:
    """Draw a result of `workflows.stratify`; call it within `style.theme()`."""
    pictures = [_tried(found)]
    if found["n_sites"] > 1:
        pictures.append(_sites(found))
    if found["samples"]:
        pictures.insert(0, _map(found))
    if found["k"] and any(one["composition"] for one in found["strata"]):
        pictures.append(_compositions(found))
    if found["k"] and any(one["markers"] for one in found["strata"]):
        pictures.append(_markers(found))
    return pictures


def _map(found: dict[str, Any]) -> Picture:
    sites = sorted({row["site"] for row in found["samples"]})
    has_shapes = 1 < len(sites) <= len(style.MARKERS)  # else they would repeat
    is_line = found["components"] == 1  # then a line of samples for each site
    height = 1.2 + 0.4 * len(sites) if is_line else 4.4
    figure, (axes,) = style.blank(6.4, height + _legend_inches(max(found["k"], 1) + has_shapes * len(sites)))
    for i in range(max(found["k"], 1)):
        look: dict[str, Any] = {"s": 26, "color": style.model_colour(i)}
        marker = style.model_marker(0 if has_shapes else i)
        axes.scatter([], [], marker=marker, label=f"stratum {i + 1}" if found["k"] else "no strata", **look)
        for place, site in enumerate(sites):
            mine = [r for r in found["samples"] if r["site"] == site and (not found["k"] or r["stratum"] == i + 1)]
            across = [place if is_line else row["component_2"] for row in mine]
            shape = style.model_marker(place) if has_shapes else marker
            axes.scatter([row["component_1"] for row in mine], across, marker=shape, alpha=0.85, **look)
    for place, site in enumerate(sites if has_shapes else []):
        axes.scatter([], [], s=26, color=style.MUTED, marker=style.model_marker(place), label=site)
    axes.set(xlabel="component 1", ylabel="" if is_line else "component 2")
    if is_line:
        axes.set_yticks(range(len(sites)), sites)
        axes.set_ylim(len(sites) - 0.5, -0.5)
    style.gridlines(axes)
    style.legend(axes, outside=True)
    return Picture(
        name="map",
        title="The samples of these files",
        caption=f"{len(found['samples'])} samples along the "
        f"{'component that holds' if is_line else 'two components that hold'} most of the variance; "
        f"{found['components']} component(s) ({found['components_share']:.0%} of the variance) were used."
        + (" Colours are strata, shapes are sites." if has_shapes else ""),
        alt=f"Scatter of {len(found['samples'])} samples, coloured by stratum.",
        figure=figure,
    )


def _legend_inches(n_labels: int) -> float:
    """Return the height that a legend above the panel takes, in three columns, beyond its first row."""
    return 0.19 * ((n_labels - 1) // 3)


def _tried(found: dict[str, Any]) -> Picture:
    figure, (left, right) = style.blank(8.6, 3.1, n_columns=2)
    ks = [one["k"] for one in found["tried"]]
    left.plot(ks, [one["stability"] for one in found["tried"]], marker="o", color=style.ACCENT)
    left.axhline(_STABLE, color=style.MUTED, linewidth=1, linestyle="--")
    left.set(xlabel="number of strata", ylabel="stability", ylim=(0, 1.05), xticks=ks, title="Found again")
    right.plot(ks, [one["within"] for one in found["tried"]], marker="o", color=style.ACCENT, label="samples")
    nulls = [one["within_null"] for one in found["tried"]]
    right.plot(ks, nulls, marker="s", color=style.MUTED, linestyle="--", label="without strata")
    right.set(
        xlabel="number of strata", ylabel="squares within", ylim=(0, 1.05), xticks=ks, title="Tighter than chance"
    )
    for axes in (left, right):
        style.gridlines(axes)
        if found["k"]:
            axes.axvline(found["k"], color=style.GRID, linewidth=6, zorder=0)
    style.legend(right)
    chosen = f"{found['k']} strata were taken" if found["k"] else "no number of strata passed all tests"
    return Picture(
        name="stability",
        title="How many strata",
        caption="Left: the least stable stratum's mean Jaccard index when donors are drawn anew; 0.75 (dashed) is "
        "called stable. Right: the share of squares within strata, and that of normal samples of the same variances; "
        f"{chosen}.",
        alt=f"Stability and tightness for {ks[0]} to {ks[-1]} strata; {chosen}.",
        figure=figure,
    )


def _sites(found: dict[str, Any]) -> Picture:
    figure, (axes,) = style.blank(6.4, 1.5)
    shares = [found["site_share"], found["site_share_by_chance"]]
    axes.barh(["found", "by chance"], shares, color=[style.ACCENT, style.MUTED], height=0.6)
    axes.set(xlim=(0, 1), xlabel="share of the samples' variance that lies between sites")
    axes.invert_yaxis()
    style.gridlines(axes, axis="x")
    return Picture(
        name="sites",
        title="How much is site",
        caption="What hospitals differ in: their patients, their laboratories, or both. Far beyond chance, read strata "
        "with care; --centre-sites takes it away.",
        alt=f"Between sites: {shares[0]:.0%} of the variance; by chance {shares[1]:.0%}.",
        figure=figure,
    )


def _compositions(found: dict[str, Any]) -> Picture:
    names = list(found["strata"][0]["composition"])
    figure, (axes,) = style.blank(8.6, 0.9 + 0.45 * found["k"] + _legend_inches(len(names)))
    left = [0.0] * found["k"]
    rows = [f"stratum {one['stratum']}" for one in found["strata"]]
    for i, name in enumerate(names):
        widths = [one["composition"][name] for one in found["strata"]]
        shade = _SHADES[i // len(style.MARKERS) % len(_SHADES)]
        axes.barh(rows, widths, left=left, color=style.model_colour(i), alpha=shade, label=name, edgecolor=style.PAPER)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set(xlim=(0, 1), xlabel="share of cells")
    axes.invert_yaxis()
    style.legend(axes, outside=True)
    return Picture(
        name="composition",
        title="Composition of each stratum",
        caption="Centre of the samples' compositions (from the means of their centred log-ratios).",
        alt=f"Bars of the shares of {len(names)} types or clusters of cells in {found['k']} strata.",
        figure=figure,
    )


def _markers(found: dict[str, Any]) -> Picture:
    shown = [one for one in found["strata"] if one["markers"]]
    height = sum(0.7 + 0.26 * min(len(one["markers"]), MARKERS_SHOWN) for one in shown)
    ratios = [0.7 + 0.26 * min(len(one["markers"]), MARKERS_SHOWN) for one in shown]
    figure = style.blank(8.0, 0.3 + height)[0]
    figure.clear()
    panels = figure.subplots(len(shown), 1, squeeze=False, sharex=True, height_ratios=ratios)[:, 0]
    for axes, one in zip(panels, shown, strict=True):
        marks = one["markers"][:MARKERS_SHOWN][::-1]
        effects = [mark["effect"] for mark in marks]
        spans = [[m["effect"] - m["low"] for m in marks], [m["high"] - m["effect"] for m in marks]]
        colour = style.model_colour(one["stratum"] - 1)
        axes.errorbar(effects, [mark["feature"] for mark in marks], xerr=spans, fmt="o", color=colour, capsize=0)
        axes.axvline(0, color=style.MUTED, linewidth=1)
        axes.set(title=f"Stratum {one['stratum']}")
        style.gridlines(axes, axis="x")
    panels[-1].set(xlabel="standardised difference from all other samples (Hedges' g)")
    return Picture(
        name="markers",
        title="What marks each stratum",
        caption="Standardised mean difference with 95 % interval, donors as units; looked for on the same samples that "
        "made the strata, so too large for new ones.",
        alt="Largest differences of each stratum from all other samples.",
        figure=figure,
    )
