"""Quality control of RNA cells, per sample: floors, then outliers by MADs, and a summary of what was dropped and why.

Rules: metrics are those of `scanpy.pp.calculate_qc_metrics`, over all genes of the file. MADs are unscaled and taken
over the cells of one sample that pass the floors. A cell has one reason: the first that applies.

References
----------
Heumos et al. 2023, Nat Rev Genet, doi 10.1038/s41576-023-00586-w (sc-best-practices.org, quality control).
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from swarmcell.cells.normalise import row_sums
from swarmcell.cells.readers.source import COUNT_MAX, Block, Names

Share = Annotated[float, Field(ge=0, le=1)]
Mads = Annotated[float, Field(ge=0)]
KEPT = ""
TOP_GENES = 20
MITO_SHARE_MAX = {"cells": 0.08, "nuclei": 0.02}  # Heumos et al.; nuclei: chosen, they hold no mitochondria
MAD_CELLS_MIN = 20  # cells of a sample below which its MADs mean nothing; chosen
EMPTY_COUNTS_MAX = 100  # counts below which a droplet is taken for empty, for the note only; chosen
_ROWS_LOOKED_AT = 256  # rows by which the threshold of `_top_sums` is set; chosen
_STRICT = {"extra": "forbid"}
_GENES = {
    "mito": re.compile(r"^MT[-.]", re.I),
    "ribo": re.compile(r"^RP[SL]", re.I),
    "hb": re.compile(r"^HB([ABDEGMQZ]\d?$|[AB]-)", re.I),
}


@dataclass(frozen=True, kw_only=True)
class QcSettings:
    """The `[qc]` table; 0 switches a floor or a rule of MADs off, 1 the limit on the mitochondrial share."""

    __pydantic_config__ = _STRICT

    preset: Literal["cells", "nuclei"] = "cells"
    min_genes: Annotated[int, Field(ge=0)] = 200
    min_counts: Annotated[int, Field(ge=0)] = 500
    mads_counts: Mads = 5.0
    mads_genes: Mads = 5.0
    mads_top20: Mads = 5.0
    mads_mito: Mads = 3.0
    max_mito_share: Share | None = None  # None: 0.08, or 0.02 for nuclei
    doublets: Literal["flag", "drop", "off"] = "flag"  # by Scrublet, per sample

    @property
    def mito_share_max(self) -> float:
        """The limit on the mitochondrial share, in 0 to 1."""
        return MITO_SHARE_MAX[self.preset] if self.max_mito_share is None else self.max_mito_share

    @property
    def limits(self) -> dict[str, float]:
        """The floors and the limit, by the metric that they bound."""
        return {"n_genes": self.min_genes, "n_counts": self.min_counts, "mito_share": self.mito_share_max}


@dataclass(frozen=True)
class GeneSets:
    """Which features are mitochondrial, ribosomal or of haemoglobin, shape `(n_features,)` each."""

    mito: npt.NDArray[np.bool_]
    ribo: npt.NDArray[np.bool_]
    hb: npt.NDArray[np.bool_]


def gene_sets(symbols: Names) -> GeneSets:
    """Tell the gene sets by symbol, whatever the case: human and mouse."""
    found = {name: np.array([bool(p.match(str(s))) for s in symbols], dtype=np.bool_) for name, p in _GENES.items()}
    return GeneSets(**found)


def metrics(counts: Block, sets: GeneSets) -> pd.DataFrame:
    """Measure cells.

    Parameters
    ----------
    counts
        CSR of integers over all genes of the file, shape `(n_rows, n_features)`, without explicit zeros.

    Returns
    -------
    pandas.DataFrame
        `n_counts`, `n_genes`, and shares of counts in 0 to 1 (0 for a cell without counts): `top20_share`,
        `mito_share`, `ribo_share`, `hb_share`.
    """
    totals = row_sums(counts)
    frame = {"n_counts": totals, "n_genes": np.diff(counts.indptr).astype(np.int64)}
    frame["top20_share"] = _share(_top_sums(counts), totals)
    for name, sums in zip(_GENES, _set_sums(counts, sets), strict=True):
        frame[f"{name}_share"] = _share(sums, totals)
    return pd.DataFrame(frame)


def judge(cells: pd.DataFrame, samples: "pd.Series[Any]", settings: QcSettings) -> npt.NDArray[np.object_]:
    """Return why each cell is dropped, shape `(n_obs,)`; `""`: it is kept.

    Parameters
    ----------
    cells
        What `metrics` returned, for all cells of the site.
    samples
        Sample of each cell.
    """
    reasons = np.full(len(cells), KEPT, dtype=object)
    _mark(reasons, cells["n_genes"].to_numpy() < settings.min_genes, "few_genes")
    _mark(reasons, cells["n_counts"].to_numpy() < settings.min_counts, "few_counts")
    passing = np.flatnonzero(reasons == KEPT)
    outliers = {name: np.zeros(len(cells), dtype=np.bool_) for name, *_ in _rules(settings)}
    for rows in pd.Series(passing).groupby(samples.to_numpy()[passing], observed=True).indices.values():
        for name, column, n_mads, sides in _rules(settings):
            chosen = passing[rows]
            outliers[name][chosen] = _outliers(_scaled(cells, column)[chosen], n_mads, sides)
    for name, wrong in outliers.items():
        _mark(reasons, wrong, name)
    if settings.mito_share_max < 1:
        _mark(reasons, cells["mito_share"].to_numpy() > settings.mito_share_max, "high_mito")
    return reasons


def summary(reasons: npt.NDArray[np.object_], obs: pd.DataFrame, cells: pd.DataFrame | None) -> dict[str, Any]:
    """Return cells in, cells out and why, in all and per donor and sample, as plain values for JSON."""
    kept = reasons == KEPT
    content: dict[str, Any] = _counted(Counter(reasons.tolist()))
    content["by_donor"] = _grouped(reasons, obs["donor"])
    content["by_sample"] = _grouped(reasons, obs["sample"])
    if cells is not None and kept.any():
        medians = {str(name): float(np.median(cells[name].to_numpy()[kept])) for name in cells}
        content["medians"] = {name: round(value, 6) for name, value in medians.items()}
    return content


def n_empty(cells: pd.DataFrame) -> int:
    """Return how many barcodes hold so few counts that they are taken for empty droplets."""
    return int((cells["n_counts"] < EMPTY_COUNTS_MAX).sum())


def _rules(settings: QcSettings) -> list[tuple[str, str, float, str]]:
    rules = [
        ("outlier_counts", "n_counts", settings.mads_counts, "both"),
        ("outlier_genes", "n_genes", settings.mads_genes, "both"),
        ("outlier_top20", "top20_share", settings.mads_top20, "both"),
        ("outlier_mito", "mito_share", settings.mads_mito, "above"),
    ]
    return [rule for rule in rules if rule[2] > 0]


def _scaled(cells: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    values = cells[column].to_numpy(dtype=np.float64)
    return np.log1p(values) if column.startswith("n_") else values


def _outliers(values: npt.NDArray[np.float64], n_mads: float, sides: str) -> npt.NDArray[np.bool_]:
    if len(values) < MAD_CELLS_MIN:
        return np.zeros(len(values), dtype=np.bool_)
    centre = np.median(values)
    mad = np.median(np.abs(values - centre))
    if mad == 0:  # more than half are equal: any other cell would count as an outlier
        return np.zeros(len(values), dtype=np.bool_)
    wrong: npt.NDArray[np.bool_] = values > centre + n_mads * mad
    return wrong | (values < centre - n_mads * mad) if sides == "both" else wrong


def _mark(reasons: npt.NDArray[np.object_], wrong: npt.NDArray[np.bool_], reason: str) -> None:
    reasons[wrong & (reasons == KEPT)] = reason


def _set_sums(counts: Block, sets: GeneSets) -> npt.NDArray[np.int64]:
    """Return the counts within each gene set per row, shape `(n_sets, n_rows)`; a gene is in one set at most."""
    code = np.zeros(counts.shape[1], np.int8)
    for number, name in enumerate(_GENES, 1):
        code[getattr(sets, name)] = number
    of_value = code[counts.indices]
    found = np.flatnonzero(of_value)
    rows = np.searchsorted(counts.indptr, found, side="right") - 1
    places = (of_value[found] - 1) * np.int64(counts.shape[0]) + rows
    sums = np.bincount(places, weights=counts.data[found], minlength=len(_GENES) * counts.shape[0])
    return sums.astype(np.int64).reshape(len(_GENES), -1)  # exact: float64 holds integers below 2^53


def _top_sums(counts: Block) -> npt.NDArray[np.int64]:
    """Return the sum of the `TOP_GENES` largest counts per row, shape `(n_rows,)`.

    Only values from a threshold up are sorted: chosen so that nearly every row has `TOP_GENES` of them; the few rows
    that have not are sorted whole.
    """
    some = counts.data[: int(counts.indptr[min(_ROWS_LOOKED_AT, counts.shape[0])])]
    n_wanted = 3 * TOP_GENES * min(_ROWS_LOOKED_AT, counts.shape[0])
    least = np.partition(some, len(some) - n_wanted)[-n_wanted] if len(some) > n_wanted else 0
    large = np.flatnonzero(counts.data >= least)
    ends = np.searchsorted(large, counts.indptr)
    sums = _summed_tops(counts.data[large], np.diff(ends))
    few = np.flatnonzero((np.diff(ends) < TOP_GENES) & (np.diff(counts.indptr) > np.diff(ends)))
    for row in few:
        values = np.sort(counts.data[counts.indptr[row] : counts.indptr[row + 1]])
        sums[row] = values[-TOP_GENES:].sum(dtype=np.int64)
    return sums


def _summed_tops(values: npt.NDArray[np.int32], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    rows = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    keys = np.sort((rows << 32) | (COUNT_MAX - values.astype(np.int64)))  # by row, the largest value first
    rank = np.arange(len(keys)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    first = keys[rank < TOP_GENES]
    tops = (COUNT_MAX - (first & 0xFFFFFFFF)).astype(np.float64)
    return np.bincount(first >> 32, weights=tops, minlength=len(lengths)).astype(np.int64)


def _share(part: npt.NDArray[np.int64], totals: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.divide(part, totals, out=np.zeros(len(totals)), where=totals > 0)


def _counted(numbers: Mapping[str, int]) -> dict[str, Any]:
    """Return cells in, out and dropped of what has `numbers` of cells per reason."""
    dropped = {name: numbers[name] for name in sorted(numbers) if name != KEPT and numbers[name]}
    n_cells = sum(numbers.values())
    return {"cells_in": n_cells, "cells_out": n_cells - sum(dropped.values()), "dropped": dropped}


def _grouped(reasons: npt.NDArray[np.object_], labels: "pd.Series[Any]") -> dict[str, Any]:
    names, groups = pd.Categorical(reasons), pd.Categorical(labels.astype("category"))
    table = np.zeros((len(groups.categories), len(names.categories)), np.int64)
    np.add.at(table, (groups.codes, names.codes), 1)
    counted = {
        str(group): _counted(dict(zip(map(str, names.categories), map(int, row), strict=True)))
        for group, row in zip(groups.categories, table, strict=True)
        if row.any()
    }
    return dict(sorted(counted.items()))
