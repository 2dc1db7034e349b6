"""Quantile alignment of markers between sites, from histograms with fixed edges. Only done where a user asks for it.

Rules: the edges belong to the panel's transform, so all sites have the same; a histogram counts training cells only,
and holds integers only. The reference is the sum of all sites' histograms: it depends neither on their order nor on who
adds them. A site's values are moved so that each marker's distribution over its training cells is the reference's.

It cannot tell an instrument's drift from biology: a site with more T cells, or with ill donors only, is moved as well.

References
----------
Bolstad et al. 2003, Bioinformatics 19:185 (quantile normalisation, there of whole samples).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swarmcell.cells.panel import Panel
from swarmcell.errors import InputError, PanelError

Counts = npt.NDArray[np.int64]

FORMAT = 1
N_BINS = 512  # chosen: a bin of arcsinh is 0.05 wide, a tenth of what separates dim from negative
RANGES = {"arcsinh": (-8.0, 16.0), "logicle": (-0.5, 1.5)}  # beyond any intensity that an instrument records; chosen
_SLOPE = 1e-9  # share of an even distribution that is mixed in, so that every quantile has one value
_COUNT_LAST = 1 << 40
_CHUNK_ROWS = 65_536


@dataclass(frozen=True, eq=False)
class Histogram:
    """How one site's training cells are distributed.

    Attributes
    ----------
    site
        Its name.
    universe_sha256
        Of the panel whose markers these are, in order.
    n_donors, n_cells
        Training donors and cells behind it.
    counts
        Cells per marker and bin, shape `(n_markers, N_BINS)`.
    """

    site: str
    universe_sha256: str
    n_donors: int
    n_cells: int
    counts: Counts


def edges(panel: Panel) -> npt.NDArray[np.float64]:
    """Return the edges of the bins, shape `(N_BINS + 1,)`.

    Raises
    ------
    PanelError
        If the panel's transform has none: log-normalised RNA, or untransformed intensities.
    """
    kind = panel.transform.partition("(")[0]
    if kind not in RANGES:
        msg = (
            f"panel {panel.name!r}: values of transform {panel.transform!r} are not aligned by quantiles; expected "
            f"{' or '.join(RANGES)}. Prepare the files with such a transform."
        )
        raise PanelError(msg)
    return np.linspace(*RANGES[kind], N_BINS + 1)


def counted(X: npt.NDArray[np.float32], at: npt.NDArray[np.float64]) -> Counts:
    """Return how many values of each column lie in each bin; what lies beyond counts in the outer ones."""
    n_columns = X.shape[1]
    total = np.zeros(n_columns * N_BINS, np.int64)
    first_bins = np.arange(n_columns) * N_BINS
    for start in range(0, len(X), _CHUNK_ROWS):
        bins = np.searchsorted(at, X[start : start + _CHUNK_ROWS], side="right") - 1
        total += np.bincount((np.clip(bins, 0, N_BINS - 1) + first_bins).ravel(), minlength=len(total))
    return total.reshape(n_columns, N_BINS)


def reference(histograms: Sequence[Histogram]) -> Counts:
    """Return the sum of the sites' histograms.

    Raises
    ------
    PanelError
        If they are of different panels, of one site twice, or of fewer than two sites.
    """
    sites = sorted(one.site for one in histograms)
    if len(set(sites)) < len(sites) or len(sites) < 2:
        msg = f"histograms of {', '.join(sites) or 'no site'}; expected one each of two sites or more."
        raise PanelError(msg)
    first = histograms[0]
    for other in histograms[1:]:
        if other.universe_sha256 != first.universe_sha256:
            msg = (
                f"{other.site}'s histogram is of panel {other.universe_sha256[:12]}, {first.site}'s of "
                f"{first.universe_sha256[:12]}. Prepare both with one universe (swarmcell panel diff)."
            )
            raise PanelError(msg)
    return np.asarray(np.sum([one.counts for one in histograms], axis=0), np.int64)


def digest(counts: Counts, universe_sha256: str) -> str:
    """Return the SHA-256 (hex) of a reference."""
    return sha256(universe_sha256.encode() + counts.astype("<i8").tobytes()).hexdigest()


def aligned(
    X: npt.NDArray[np.float32], own: Counts, target: Counts, at: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Return X with each column's distribution moved from `own` to `target`; a column without cells stays.

    Parameters
    ----------
    X
        Shape `(n_cells, n_markers)`.
    own, target
        Shape `(n_markers, N_BINS)`.
    at
        Edges of the bins.
    """
    moved = X.copy()
    for column, (mine, theirs) in enumerate(zip(own, target, strict=True)):
        if mine.any() and theirs.any():
            quantile = np.interp(X[:, column], at, _cumulative(mine))
            moved[:, column] = np.interp(quantile, _cumulative(theirs), at)
    return moved


def _cumulative(counts: Counts) -> npt.NDArray[np.float64]:
    shares = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    return np.asarray((1 - _SLOPE) * shares + _SLOPE * np.linspace(0, 1, N_BINS + 1))


def to_json(histogram: Histogram) -> str:
    """Return a histogram as JSON: integers, and no value of any cell."""
    content = {
        "format": FORMAT,
        "site": histogram.site,
        "universe_sha256": histogram.universe_sha256,
        "n_donors": histogram.n_donors,
        "n_cells": histogram.n_cells,
        "counts": histogram.counts.tolist(),
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def load(path: Path) -> Histogram:
    """Read a histogram.

    Raises
    ------
    InputError
        If the file cannot be read or is no histogram.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _parsed(content)
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, OverflowError) as error:
        msg = f"{path}: not a site's histogram ({type(error).__name__}: {error}). Make one: swarmcell align histogram."
        raise InputError(msg) from error


def _parsed(content: dict[str, Any]) -> Histogram:
    if content["format"] != FORMAT:
        msg = f"format {content['format']!r} is not {FORMAT}"
        raise ValueError(msg)
    counts = np.array(content["counts"])
    n_donors, n_cells = content["n_donors"], content["n_cells"]
    if counts.ndim != 2 or counts.shape[1] != N_BINS or counts.dtype != np.int64:
        msg = f"its counts are {counts.dtype} of shape {counts.shape}, expected integers of (n_markers, {N_BINS})"
        raise ValueError(msg)
    if type(n_cells) is not int or type(n_donors) is not int or not 1 <= n_donors <= n_cells <= _COUNT_LAST:
        msg = f"it states {n_cells} cells of {n_donors} donors"
        raise ValueError(msg)
    if counts.min() < 0 or (counts.sum(axis=1) != n_cells).any():
        msg = f"the counts of a marker do not add up to its {n_cells} cells"
        raise ValueError(msg)
    return Histogram(str(content["site"]), str(content["universe_sha256"]), n_donors, n_cells, counts)
