"""Simulate flow cytometry: linear intensities with spillover, planted populations, disease, donors and instruments."""

from dataclasses import dataclass

import numpy as np
from cohort import Site, Specimen

MARKERS = ("CD3", "CD4", "CD8", "CD14", "CD16", "CD19", "CD38", "CD45", "CD56", "HLA-DR")
FLUOROCHROMES = ("FITC", "PE", "APC", "BV421", "BV510", "BV605", "BV711", "BV785", "PE-Cy7", "APC-Cy7")
SCATTER = ("FSC-A", "SSC-A")
TIME = "Time"
LOW, DIM, BRIGHT = 0.3, 2.2, 4.2  # arcsinh(intensity / 150)
POPULATIONS = {  # name: (fraction, log fraction per unit of severity, forward and side scatter, stains)
    "CD4 T cell": (0.30, -0.45, (70e3, 20e3), {"CD3": BRIGHT, "CD4": BRIGHT}),
    "CD8 T cell": (0.16, -0.1, (70e3, 20e3), {"CD3": BRIGHT, "CD8": BRIGHT}),
    "NK cell": (0.10, 0.0, (72e3, 22e3), {"CD56": BRIGHT, "CD16": DIM}),
    "B cell": (0.10, 0.0, (68e3, 18e3), {"CD19": BRIGHT, "HLA-DR": BRIGHT}),
    "classical monocyte": (0.20, 0.2, (110e3, 60e3), {"CD14": BRIGHT, "HLA-DR": DIM, "CD4": DIM}),
    "CD16 monocyte": (0.06, 0.4, (100e3, 50e3), {"CD14": DIM, "CD16": BRIGHT, "HLA-DR": BRIGHT}),
    "plasmablast": (0.02, 0.5, (95e3, 35e3), {"CD19": DIM, "CD38": BRIGHT, "HLA-DR": DIM}),
}
DISEASE = {"HLA-DR": -0.45, "CD38": 0.4}  # change of arcsinh intensity per unit of severity, on monocytes
MONOCYTES = ("classical monocyte", "CD16 monocyte")


@dataclass(frozen=True)
class Instrument:
    """A site's cytometer: gain per detector (arcsinh units), spillover (rows spill into columns)."""

    shift: np.ndarray
    spillover: np.ndarray


def instrument(rng: np.random.Generator) -> Instrument:
    """Draw a site's cytometer; neighbouring fluorochromes spill by a few per cent."""
    n = len(MARKERS)
    spillover = np.eye(n)
    for i in range(n - 1):
        spillover[i, i + 1] = round(float(rng.uniform(0.01, 0.12)), 4)
        spillover[i + 1, i] = round(float(rng.uniform(0.0, 0.03)), 4)
    return Instrument(rng.normal(0.0, 0.15, n), spillover)


def events(site: Site, one: Specimen, machine: Instrument, rng: np.random.Generator) -> np.ndarray:
    """Simulate one sample: scatter, spilled intensities and time, shape `(n_events, 13)`, whole numbers."""
    population = _populations(one, rng)
    names = list(POPULATIONS)
    chosen = rng.choice(len(names), size=site.events_per_sample, p=population)
    stains = np.stack([_stains(name, one.severity) for name in names])
    own = rng.normal(0.0, 0.12, len(MARKERS))
    scaled = stains[chosen] + machine.shift + own + rng.normal(0.0, 0.35, (len(chosen), len(MARKERS)))
    spilled = 150.0 * np.sinh(scaled) @ machine.spillover
    scatter = np.array([POPULATIONS[name][2] for name in names])[chosen] * rng.lognormal(0.0, 0.15, (len(chosen), 2))
    time = np.sort(rng.uniform(0, 30_000, len(chosen)))
    noisy = spilled + rng.normal(0.0, 25.0, spilled.shape)
    return np.round(np.column_stack([scatter, noisy, time])).astype(np.float32)


def _populations(one: Specimen, rng: np.random.Generator) -> np.ndarray:
    fractions = np.array([share * np.exp(shift * one.severity) for share, shift, _, _ in POPULATIONS.values()])
    return rng.dirichlet(60 * fractions / fractions.sum())


def _stains(name: str, severity: float) -> np.ndarray:
    stains = dict.fromkeys(MARKERS, LOW) | {"CD45": BRIGHT} | POPULATIONS[name][3]
    if name in MONOCYTES:
        stains |= {marker: stains[marker] + change * severity for marker, change in DISEASE.items()}
    return np.array([stains[marker] for marker in MARKERS])
