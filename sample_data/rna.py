"""Simulate single-cell RNA counts: negative binomial, with planted cell types, disease, donors and batches.

Every gene is invented and its name says so (`SIMG...`, `SIM12`); those of the simulated mitochondrion begin with `MT-`.
"""

from dataclasses import dataclass

import numpy as np
from cohort import Site, Specimen

FloatArray = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

N_MITOCHONDRIAL = 13
N_GENES = 1000
DISPERSION = 0.35  # variance = mean + 0.35 mean^2, typical of droplet counts
CELL_TYPES = ("B cell", "CD4 T cell", "CD8 T cell", "NK cell", "dendritic cell", "monocyte", "plasmablast")
FRACTIONS = np.array([0.14, 0.30, 0.17, 0.12, 0.05, 0.19, 0.03])
SHIFT = np.array([0.0, -0.5, -0.15, 0.0, -0.35, 0.55, 0.7])  # log fraction per unit of severity
MYELOID = ("dendritic cell", "monocyte")
PROGRAMS = {  # markers shared by relatives make them hard to tell apart
    "T": ("CD4 T cell", "CD8 T cell"),
    "cytotoxic": ("CD8 T cell", "NK cell"),
    "B lineage": ("B cell", "plasmablast"),
    "myeloid": MYELOID,
}
N_MARKERS = 16
N_DISEASE_GENES = 40
LOW_QUALITY_SHARE = 0.04


@dataclass(frozen=True)
class Biology:
    """What is true everywhere: log expression per cell type, and the disease's log change per unit of severity."""

    log_expression: FloatArray  # (n_types, n_genes)
    disease: FloatArray  # (n_types, n_genes)


@dataclass(frozen=True)
class SiteCells:
    """The cells of a site: counts of shape `(n_cells, n_genes)`, and a specimen and a type per cell."""

    counts: np.ndarray[tuple[int, ...], np.dtype[np.int32]]
    specimen: np.ndarray[tuple[int, ...], np.dtype[np.intp]]
    cell_type: np.ndarray[tuple[int, ...], np.dtype[np.intp]]


def genes() -> list[tuple[str, str]]:
    """Return id and symbol of every gene, in the order of the universe."""
    symbols = [f"MT-SIM{i}" for i in range(1, N_MITOCHONDRIAL + 1)]
    symbols += [f"SIM{i}" for i in range(1, N_GENES - N_MITOCHONDRIAL + 1)]
    return [(f"SIMG{i:011d}", symbol) for i, symbol in enumerate(symbols, start=1)]


def biology(rng: np.random.Generator) -> Biology:
    """Draw baseline expression, marker programs and the disease program."""
    baseline = rng.normal(0.0, 1.1, N_GENES)
    baseline[:N_MITOCHONDRIAL] = rng.normal(1.6, 0.3, N_MITOCHONDRIAL)
    log_expression = np.tile(baseline, (len(CELL_TYPES), 1))
    free = rng.permutation(np.arange(N_MITOCHONDRIAL, N_GENES))
    groups = [(name,) for name in CELL_TYPES] + list(PROGRAMS.values())
    for number, members in enumerate(groups):
        markers = free[number * N_MARKERS : (number + 1) * N_MARKERS]
        rows = [CELL_TYPES.index(name) for name in members]
        log_expression[np.ix_(rows, markers)] += rng.normal(1.0, 0.35, N_MARKERS)
    return Biology(log_expression, _disease(free[len(groups) * N_MARKERS :], rng))


def _disease(free: np.ndarray, rng: np.random.Generator) -> FloatArray:
    """Plant the disease program: strong in myeloid cells, faint in all others."""
    change = np.zeros((len(CELL_TYPES), N_GENES))
    effect = rng.normal(0.0, 1.2, N_DISEASE_GENES)
    for row, name in enumerate(CELL_TYPES):
        change[row, free[:N_DISEASE_GENES]] = effect * (1.0 if name in MYELOID else 0.3)
    return change


def site_cells(site: Site, donors: list[Specimen], truth: Biology, rng: np.random.Generator) -> SiteCells:
    """Simulate the cells of a site, with its own batch effect on every gene and on every cell type."""
    batch = rng.normal(0.0, 0.2, N_GENES) + rng.normal(0.0, 0.25, (len(CELL_TYPES), N_GENES))
    depth = float(rng.normal(7.1, 0.15))
    parts = [_specimen_cells(site, one, truth, batch, depth, rng) for one in donors]
    return SiteCells(
        np.concatenate([counts for counts, _ in parts]),
        np.repeat(np.arange(len(donors)), [len(types) for _, types in parts]),
        np.concatenate([types for _, types in parts]),
    )


def _specimen_cells(
    site: Site, one: Specimen, truth: Biology, batch: FloatArray, depth: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    types = _cell_types(site, one, rng)
    own = rng.normal(0.0, 0.4, N_GENES)
    log_rate = truth.log_expression + batch + own + one.severity * truth.disease
    rate = np.exp(log_rate)[types]
    rate /= rate.sum(axis=1, keepdims=True)
    size = np.exp(rng.normal(depth, 0.35, len(types)))
    rate, size = _spoil(rate, size, rng)
    mean = rate * size[:, None]
    counts = rng.poisson(mean * rng.gamma(1 / DISPERSION, DISPERSION, mean.shape))
    return counts.astype(np.int32), types


def _cell_types(site: Site, one: Specimen, rng: np.random.Generator) -> np.ndarray:
    fractions = FRACTIONS * np.exp(SHIFT * one.severity)
    fractions[[CELL_TYPES.index(name) for name in site.missing_cell_types]] = 0.0
    present = fractions > 0
    fractions[present] = rng.dirichlet(40 * fractions[present] / fractions.sum())
    n_cells = max(20, int(rng.normal(site.cells_per_sample, site.cells_per_sample / 8)))
    return rng.choice(len(CELL_TYPES), size=n_cells, p=fractions)


def _spoil(rate: FloatArray, size: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Break a few cells, for QC to find: half nearly empty, half full of mitochondrial counts."""
    broken = rng.random(len(size)) < LOW_QUALITY_SHARE
    empty = broken & (rng.random(len(size)) < 0.5)
    size = np.where(empty, size * 0.08, size)
    dying = broken & ~empty
    rate = rate.copy()
    rate[np.ix_(dying, np.arange(N_MITOCHONDRIAL))] *= 12.0
    return rate / rate.sum(axis=1, keepdims=True), size
