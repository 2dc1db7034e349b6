"""Floors of a class: where no sum over it may leave a site, its cells or samples stay out of all sums.

A gradient holds, per class, the sum of the features of that class's rows, so a class with one cell gives that cell
away, and one with one donor that donor. Leaving such rows out of the fit alone would not do: what the other sums hold
more than the class sums would be the rows themselves. So they leave every sum.

Rules: without secure aggregation each site applies the floors to itself, before it joins. With it members see sums over
sites only, so the merge applies them to what it sees: the rows of a class over all sites (`too_few`).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from swarmcell.cells.batches import Codes
from swarmcell.model.encoding import Array
from swarmcell.model.study import Floors, Study

Flags = npt.NDArray[np.bool_]


def donors_per_class(floors: Floors) -> int:
    """Return the donors that a class needs at a site: half the floor of a site, rounded up; chosen.

    A site at the floor has few donors of each condition, and more than one must stand behind any sum.
    """
    return (floors.donors + 1) // 2


def floors_at_sites(study: Study) -> Floors | None:
    """Return the floors that each site applies to its classes; `None` where members see sums over sites only.

    Under differential privacy there are none either: noise hides a class's one cell, and a class that stays out because
    one cell more is missing would show that cell.
    """
    hidden = study.privacy.secure_aggregation or study.privacy.differential_privacy is not None
    return None if hidden else study.floors


def withheld_cells(
    cell_type: Codes, donor: Codes, fitted: Flags, floors: Floors, names: Sequence[str]
) -> tuple[Flags, list[str]]:
    """Return which cells stay out of all sums, shape `(n_obs,)`, and why, one sentence per class.

    Parameters
    ----------
    cell_type
        Code of each cell, -1 where unlabelled; these count as a class of their own.
    donor
        Code of each cell's donor.
    fitted
        Whether a cell is one to fit (not of an inner-validation donor): class sums are over these.
    floors
        Of the study.
    names
        Of the classes.
    """
    out, said = np.zeros(len(cell_type), np.bool_), []
    for code in np.unique(cell_type):
        rows = cell_type == code
        n_cells, n_donors = int((rows & fitted).sum()), len(np.unique(donor[rows & fitted]))
        if n_cells >= floors.cells and n_donors >= donors_per_class(floors):
            continue
        out |= rows
        said.append(
            f"{_named(code, names, 'cells')}: {n_cells} cells of {n_donors} donor(s) to fit, below the floor of a "
            f"class ({floors.cells} cells of {donors_per_class(floors)} donors); this site keeps them to itself"
        )
    return out, said


def withheld_samples(condition: Codes, donor: Codes, floors: Floors, names: Sequence[str]) -> tuple[Flags, list[str]]:
    """Return which samples stay out of the patient task's sums, shape `(n_samples,)`, and why.

    Parameters
    ----------
    condition
        Code of each sample, -1 where unlabelled.
    donor
        Code of each sample's donor.
    floors
        Of the study.
    names
        Of the conditions.
    """
    out, said = np.zeros(len(condition), np.bool_), []
    for code in np.unique(condition):
        rows = condition == code
        n_donors = len(np.unique(donor[rows]))
        if n_donors >= donors_per_class(floors):
            continue
        out |= rows
        said.append(
            f"{_named(code, names, 'samples')}: {n_donors} training donor(s), below the floor of a condition "
            f"({donors_per_class(floors)}); this site keeps their samples out of the patient task"
        )
    return out, said


def _named(code: int, names: Sequence[str], what: str) -> str:
    return names[code] if code >= 0 else f"{what} without a label"


def too_few(n_by_class: Array, study: Study, least: int) -> Array:
    """Return the rows of each class over all sites, 0 where they are below `least` and sites could not see it.

    Without secure aggregation each site has applied the floors to itself, and nothing changes.
    """
    if not study.privacy.secure_aggregation:
        return n_by_class
    return np.where(n_by_class < least, 0, n_by_class)


def seen(codes: Codes, n_by_class: Array, study: Study) -> Codes:
    """Return the class of each row, -1 where all sites together have too few of it (`too_few`)."""
    if not study.privacy.secure_aggregation:
        return codes
    return np.where((codes >= 0) & (n_by_class[codes] > 0), codes, -1)
