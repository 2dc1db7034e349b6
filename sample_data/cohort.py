"""Who is in the simulated cohort: sites, donors, conditions, specimens. Both modalities use this design."""

from dataclasses import dataclass

import numpy as np

CONDITIONS = ("healthy", "sepsis")


@dataclass(frozen=True)
class Site:
    """One simulated hospital."""

    name: str
    n_healthy: int
    n_sepsis: int
    cells_per_sample: int
    events_per_sample: int
    missing_cell_types: tuple[str, ...] = ()
    n_second_specimens: int = 0  # donors who gave blood twice

    @property
    def letter(self) -> str:
        """The last letter of the name, which opens the names of its donors."""
        return self.name[-1].upper()


SITES = (
    Site("site-a", 8, 8, 90, 900, missing_cell_types=("plasmablast",)),
    Site("site-b", 7, 5, 90, 900, n_second_specimens=2),
    Site("site-c", 4, 4, 50, 400),
)


@dataclass(frozen=True)
class Specimen:
    """One blood sample of one donor. `severity` is 0 for a donor without the disease."""

    donor: str
    name: str
    condition: str
    severity: float


def specimens(site: Site, rng: np.random.Generator) -> list[Specimen]:
    """Draw the donors of a site and their specimens; severities vary, so that mild cases are hard."""
    labels = [CONDITIONS[0]] * site.n_healthy + [CONDITIONS[1]] * site.n_sepsis
    drawn: list[Specimen] = []
    for number, condition in enumerate(rng.permutation(labels), start=1):
        donor = f"{site.letter}{number:02d}"
        severity = float(rng.gamma(4.0, 0.25)) if condition == CONDITIONS[1] else 0.0
        count = 2 if number <= site.n_second_specimens else 1
        drawn += [Specimen(donor, f"{donor}-{visit}", str(condition), severity) for visit in range(1, count + 1)]
    return drawn
