"""What a site adds to a round, what a merge returns, and the screening between them.

Rules: screening is a total function of the contribution's own content and of the state that it is merged into: it
never raises for what another peer sent, and every peer leaves out the same contributions with the same reasons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

import numpy as np

from swarmcell.errors import MergeError
from swarmcell.model.encoding import Array, Named, decode
from swarmcell.model.fixed import Integers
from swarmcell.model.state import MergedState, Score

COUNT_MAX = 1 << 40  # cells of one site; chosen: beyond any cohort, and sums of thousands of sites stay in 64 bits
SUM_MAX = 1 << 53  # of one site's fixed-point sum: what float64 resolves
NLL_MAX = 1 << 60
FIGURES = ("correct", "n", "nll")
Kind = Literal["statistics", "update"]


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """What one site adds to one round.

    Attributes
    ----------
    kind
        `statistics` (exact sums) or `update` (parameters).
    parameters
        Canonical bytes of named integer arrays.
    n_cells, n_donors
        Training cells and donors behind it, both > 0.
    figures
        Inner validation of the state it started from: `n`, `correct`, `nll` (`statistics` has none).
    author
        Opaque label of the site, told by whoever carried the contribution; empty alone. A rule that pins its sites
        compares these, nothing else reads them. A sum of several sites' contributions has all labels, apart by spaces.
    """

    kind: Kind
    parameters: bytes
    n_cells: int
    n_donors: int
    figures: Mapping[str, int] = field(default_factory=dict)
    author: str = ""


@dataclass(frozen=True, kw_only=True)
class MergeOutcome:
    """The next state (canonical bytes), and why each contribution that was left out was."""

    state: bytes
    left_out: Mapping[int, str] = field(default_factory=dict)
    finished: bool = False
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class Slot:
    """What an array must be: `bits` 32 or 64, its shape, the largest magnitude, whether it may be negative."""

    bits: Literal[32, 64]
    shape: tuple[int, ...]
    last: int
    signed: bool = True


@dataclass(frozen=True, kw_only=True)
class Update:
    """A contribution that passed the screening.

    Attributes
    ----------
    weight
        Training examples of this stage at the site; may be 0 (a site without labels).
    score
        Of the incoming parameters on the site's inner-validation donors; `n` may be 0.
    author
        Label of the site.
    digest
        Of the contribution's bytes: updates are merged in this order, whatever order they came in.
    """

    weight: int
    n_cells: int
    n_donors: int
    score: Score
    arrays: Mapping[str, Array]
    author: str = ""
    digest: bytes = b""

    @property
    def authors(self) -> tuple[str, ...]:
        """Labels of the sites whose sum this is: one, but for secure aggregation."""
        return tuple(self.author.split()) or ("",)


def kind_of(state: MergedState) -> Kind:
    """Return the kind of contribution that the round after `state` takes."""
    return "update" if state.phase in ("fit", "validate") else "statistics"


def n_sites(updates: "Sequence[Update]") -> int:
    """Return the number of sites behind these updates."""
    return sum(len(update.authors) for update in updates)


def stamp(state: MergedState, *, weight: int) -> dict[str, Any]:
    """Return the header of a contribution to the round after `state`."""
    return {"phase": state.phase, "round": state.round, "stage": state.stage, "weight": weight}


def screen(
    state: MergedState, slots: Mapping[str, Slot], contributions: Sequence[Contribution]
) -> tuple[list[Update], dict[int, str]]:
    """Return the contributions that can be merged into `state`, by their digests, and why not the others, by index."""
    updates: list[Update] = []
    reasons: dict[int, str] = {}
    for index, contribution in enumerate(contributions):
        try:
            updates.append(_open(state, slots, contribution))
        except MergeError as error:
            reasons[index] = str(error)
    return sorted(updates, key=lambda update: (update.digest, update.author)), reasons


def _open(state: MergedState, slots: Mapping[str, Slot], contribution: Contribution) -> Update:
    kind = kind_of(state)
    if contribution.kind != kind:
        msg = f"is of kind {contribution.kind}; this round takes {kind}"
        raise MergeError(msg)
    check_counts(contribution)
    named = decode(contribution.parameters)
    weight = named.header.get("weight")
    if type(weight) is not int or not 0 <= weight <= contribution.n_cells:
        msg = "states a weight that is no count of its cells"
        raise MergeError(msg)
    if dict(named.header) != stamp(state, weight=weight):
        msg = "belongs to another round or stage"
        raise MergeError(msg)
    check_arrays(named, slots)
    return Update(
        weight=weight,
        n_cells=contribution.n_cells,
        n_donors=contribution.n_donors,
        score=_score(kind, contribution.figures),
        arrays=named.arrays,
        author=contribution.author,
        digest=sha256(contribution.parameters).digest(),
    )


def check_counts(contribution: Contribution) -> None:
    """Check that a contribution states possible numbers of cells and donors.

    Raises
    ------
    MergeError
        If it does not; so do the other checks.
    """
    n_cells, n_donors = contribution.n_cells, contribution.n_donors
    if not (_is_count(n_cells) and _is_count(n_donors) and 1 <= n_donors <= n_cells):
        msg = f"states {n_cells} cells of {n_donors} donors"
        raise MergeError(msg)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= COUNT_MAX


def _score(kind: str, figures: Mapping[str, int]) -> Score:
    if kind == "statistics":
        if figures:
            msg = "has validation figures; statistics have none"
            raise MergeError(msg)
        return Score(n=0, correct=0, nll=0)
    if sorted(figures) != list(FIGURES) or not all(type(v) is int for v in figures.values()):
        msg = f"has figures {sorted(map(str, figures))[:5]}, expected {list(FIGURES)}"
        raise MergeError(msg)
    n, correct, nll = figures["n"], figures["correct"], figures["nll"]
    if not (0 <= correct <= n <= COUNT_MAX and 0 <= nll <= NLL_MAX and (n or not nll)):
        msg = "has impossible validation figures"
        raise MergeError(msg)
    return Score(n=n, correct=correct, nll=nll)


def check_arrays(named: Named, slots: Mapping[str, Slot]) -> None:
    """Check that a contribution holds the arrays that the round takes, and none beyond its bound."""
    if sorted(named.arrays) != sorted(slots):
        msg = f"holds arrays {sorted(named.arrays)[:8]}, expected {sorted(slots)}"
        raise MergeError(msg)
    for name, slot in slots.items():
        array = named.arrays[name]
        if array.dtype.itemsize * 8 != slot.bits or array.shape != slot.shape:
            msg = f"{name!r} is int{array.dtype.itemsize * 8} {array.shape}, expected int{slot.bits} {slot.shape}"
            raise MergeError(msg)
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        if high > slot.last or low < (-slot.last if slot.signed else 0):
            msg = f"{name!r} is over the bound ({'-' if slot.signed else '0 .. '}{slot.last})"
            raise MergeError(msg)


def total_score(updates: Sequence[Update]) -> Score:
    """Return the swarm-wide score: exact sums over sites."""
    parts = [update.score for update in updates]
    return Score(n=sum(s.n for s in parts), correct=sum(s.correct for s in parts), nll=sum(s.nll for s in parts))


def add_below(updates: Sequence[Update], name: str, last: int) -> Integers:
    """Return the exact sum of the sites' arrays `name` as int64, none of whose values exceeds `last`.

    Raises
    ------
    MergeError
        If so many sites could overflow 62 bits.
    """
    if len(updates) * last >= 1 << 62:
        msg = f"{len(updates)} sites are too many for sums of {name!r}"
        raise MergeError(msg)
    total = np.zeros(updates[0].arrays[name].shape, np.int64)
    for update in updates:
        total += update.arrays[name]
    return total


def add(updates: Sequence[Update], name: str) -> Array:
    """Return the exact sum of the sites' arrays `name`, as Python integers in an object array."""
    total = np.zeros(updates[0].arrays[name].shape, object)
    for update in updates:
        total = total + update.arrays[name].astype(object)
    return total
