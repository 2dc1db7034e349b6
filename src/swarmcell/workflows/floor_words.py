"""What a site agrees to in words: the floors, that a study has lowered them, and what its privacy costs."""

from typing import Any

from swarmcell.cells.sketches import KEPT_MAX
from swarmcell.model import noised_rounds
from swarmcell.model.class_floors import donors_per_class
from swarmcell.model.state import MergedState
from swarmcell.model.study import Floors, Study
from swarmcell.privacy import accountant


def are_lower(floors: Floors) -> bool:
    """Say whether floors are below the defaults."""
    default = Floors()
    return floors.donors < default.donors or floors.cells < default.cells


def lowered(floors: Floors, whose: str = "This study") -> str:
    """Say that a study lowered the floors; empty if it did not.

    Parameters
    ----------
    floors
        Of the study.
    whose
        The beginning of the sentence.
    """
    default = Floors()
    if not are_lower(floors):
        return ""
    return (
        f"{whose} lowered the floors: a site could publish sums of {floors.donors} donor(s) and {floors.cells} cells "
        f"(by default {default.donors} and {default.cells}). Such sums say much of each donor; this is for research "
        "sets."
    )


def terms(study: Study) -> str:
    """Return the floors of a study, with the warning where they are lowered, and the epsilon of all that it publishes.

    Raises
    ------
    ConfigError
        If the study spends more than its budget of differential privacy.
    """
    floors = study.floors
    whole = f"below {floors.donors} donors or {floors.cells} cells a site publishes nothing"
    by_class = f"of a class below {floors.cells} cells of {donors_per_class(floors)} donors, nothing either"
    if study.privacy.secure_aggregation:
        by_class = f"a class of fewer than {floors.cells} cells over all sites is left out; sums need three sites"
    private = accountant.terms_of(study)
    if private is not None:
        by_class = "the cells of a rare class are hidden by noise"
    said = "" if private is None else private.sentence()
    return " ".join(filter(None, [f"floors: {whole}; {by_class}.", lowered(floors), _digests(study), said]))


def _digests(study: Study) -> str:
    """Say that members can read digests of cells; empty if they cannot."""
    if not study.privacy.cell_digests:
        return ""
    return (
        f"cell_digests: the other members can read keyed digests of up to {KEPT_MAX} cells of each training donor, by "
        "which they tell whether a cell that they hold is among them (docs/data-protection.md)."
    )


def agreed(study: Study, terms: accountant.Terms | None) -> list[str]:
    """Return what a site agrees to by joining, before anything leaves it."""
    return [*filter(None, [lowered(study.floors), _digests(study)]), *([] if terms is None else [terms.sentence()])]


def spent_privacy(study: Study, state: MergedState) -> dict[str, Any]:
    """Return what a model spent of its budget of differential privacy, for its card."""
    if study.privacy.differential_privacy is None:
        return {}
    terms = accountant.terms_of(study, noised_rounds.n_spent(state, study))
    return {} if terms is None else {"differential_privacy": terms.plain()}
