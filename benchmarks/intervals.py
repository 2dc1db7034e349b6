"""How often intervals hold the truth, in simulated cohorts: `python -m benchmarks.intervals [--cohorts 1000]`.

Rules: what `evaluate` computes of a cohort is computed here, of cohorts whose truth is known because one that is large
enough was drawn the same way. Prints Markdown: of 95 % intervals, the share that held the truth.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from swarmcell.metrics import calibration, cell
from swarmcell.metrics.estimate import Estimate
from swarmcell.workflows.evaluation.cell_figures import cell_task
from swarmcell.workflows.evaluation.cohort import Cohort, Donor, Specimen
from swarmcell.workflows.evaluation.patient_figures import patient_task
from swarmcell.workflows.evaluation.scores import THRESHOLDS, CellScores, SampleScores
from swarmcell.workflows.evaluation.values import Settings

Figures = Mapping[str, Estimate]
PATIENTS = ((2, 2), (3, 3), (5, 5), (15, 15), (6, 30), (40, 40))  # donors of the condition, and of the other
EFFECTS = (0.0, 1.6)  # shift of the log-odds between the conditions, of standard deviation 1: chance, and AUROC 0.87
DONORS = (2, 3, 5, 8, 12, 30)  # of the cell task
TYPES, CELLS = (0.5, 0.3, 0.2), 150  # shares of three types, and cells of a donor
N_TRUE = 20_000  # samples of the cohort whose figures are taken for the truth
N_TRUE_CELLS = 3_000  # donors of it, in the cell task


class Study(NamedTuple):
    """A row of the table: its name, a draw of a cohort's figures, and the true ones."""

    name: str
    draw: Callable[[], Figures]
    truth: Mapping[str, float]


def patients(rng: np.random.Generator, n_ill: int, n_well: int, effect: float, *, n_bootstrap: int) -> Figures:
    """Return the figures of donors with one sample each, whose log-odds are normal around half the effect."""
    true = np.arange(n_ill + n_well) < n_ill
    odds = rng.normal(size=len(true)) + effect * (true - 0.5)
    ill = 1 / (1 + np.exp(-odds))
    donors = tuple(Donor("site", f"{i:06d}") for i in range(len(true)))
    samples = tuple(Specimen(i, donor.name, int(true[i]), 1) for i, donor in enumerate(donors))
    scores = {"swarm": SampleScores(np.stack([1 - ill, ill], axis=1))}
    found = patient_task(_cohort(donors, samples), scores, _settings(rng, n_bootstrap))
    return found.models[0].figures


def cells(rng: np.random.Generator, n_donors: int, *, n_bootstrap: int) -> Figures:
    """Return the figures of donors whose skill differs (Beta, mean 0.8); confidence is 0.9 whatever the skill."""
    n_types = len(TYPES)
    confusion = np.zeros((n_donors, n_types, n_types), np.int64)
    reliability = np.zeros((n_donors, calibration.N_BINS, 3))
    for d, skill in enumerate(rng.beta(16, 4, n_donors)):
        true, hit = rng.choice(n_types, CELLS, p=TYPES), rng.uniform(size=CELLS) < skill
        predicted = np.where(hit, true, (true + rng.integers(1, n_types, CELLS)) % n_types)
        confusion[d] = cell.confusion(true, predicted, n_types)
        reliability[d] = calibration.reliability_sums(np.clip(rng.normal(0.9, 0.03, CELLS), 0, 1), hit)
    called = np.ones((n_donors, len(THRESHOLDS), 2), np.int64)
    donors = tuple(Donor("site", f"{i:06d}") for i in range(n_donors))
    scores = {"swarm": CellScores(confusion, reliability, called)}
    found = cell_task(_cohort(donors, ()), scores, _settings(rng, n_bootstrap)).models[0]
    by_type = {
        f"{name} of {c.name}": getattr(c, name) for c in found.per_class[-1:] for name in ("precision", "recall")
    }
    return {**found.figures, **by_type}


def _cohort(donors: tuple[Donor, ...], samples: tuple[Specimen, ...]) -> Cohort:
    types = tuple("ABC"[: len(TYPES)])
    return Cohort((), donors, samples, types, ("healthy", "ill"), n_training_donors=0, notes=())


def _settings(rng: np.random.Generator, n_bootstrap: int) -> Settings:
    return Settings(seed=int(rng.integers(2**31)), n_bootstrap=n_bootstrap, n_permutations=1, level=0.95)


def studies(rng: np.random.Generator, *, n_bootstrap: int) -> Iterator[Study]:
    """Yield the rows: patients by the size of their groups and the effect, then cells by the number of donors."""
    for n_ill, n_well in PATIENTS:
        for effect in EFFECTS:
            yield of_patients(rng, n_ill, n_well, effect, n_bootstrap=n_bootstrap)
    for n in DONORS:
        yield of_cells(rng, n, n_bootstrap=n_bootstrap)


def of_patients(rng: np.random.Generator, n_ill: int, n_well: int, effect: float, *, n_bootstrap: int) -> Study:
    """Return the row of groups of these sizes."""
    n_true = N_TRUE // (n_ill + n_well)
    truth = _values(patients(rng, n_ill * n_true, n_well * n_true, effect, n_bootstrap=0))
    what = f"patients, {n_ill} + {n_well} donors, {'an effect' if effect else 'chance'}"
    return Study(what, lambda: patients(rng, n_ill, n_well, effect, n_bootstrap=n_bootstrap), truth)


def of_cells(rng: np.random.Generator, n_donors: int, *, n_bootstrap: int) -> Study:
    """Return the row of so many donors."""
    truth = _values(cells(rng, N_TRUE_CELLS, n_bootstrap=0))
    return Study(f"cells, {n_donors} donors", lambda: cells(rng, n_donors, n_bootstrap=n_bootstrap), truth)


def _values(figures: Figures) -> dict[str, float]:
    return {name: float(found.value) for name, found in figures.items() if found.value is not None}


def held(study: Study, n_cohorts: int) -> dict[str, float]:
    """Return figure -> share of cohorts whose interval holds the truth, among those that have one."""
    found: dict[str, list[bool]] = defaultdict(list)
    for _ in range(n_cohorts):
        for name, figure in study.draw().items():
            if figure.has_interval:
                found[name].append(figure.contains(study.truth[name]))
    return {name: float(np.mean(each)) for name, each in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table of the patient task, and one of the cell task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=1000, help="simulated cohorts of each row")
    parser.add_argument("--bootstrap", type=int, default=500, help="resamples of donors of each cohort")
    options = parser.parse_args(arguments)
    head: list[str] = []
    for study in studies(np.random.default_rng(0), n_bootstrap=options.bootstrap):
        shares = held(study, options.cohorts)
        if list(shares) != head:
            head = list(shares)
            print(f"\n| {' | '.join(['simulated', *head])} |\n|{'---|' * (len(head) + 1)}")
        print(f"| {study.name} | {' | '.join(f'{share:.1%}' for share in shares.values())} |", flush=True)


if __name__ == "__main__":
    main()
