"""What a peer learns, as the peer sees it: bytes in, bytes out.

Rules: `merge` is a pure function, equal to the bit on every machine; `contribute` may take hours and runs off the
loop; neither may raise for what another peer sent: a bad contribution is left out with a reason that depends on its
bytes only.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

ContributionKind = Literal["statistics", "update"]


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """What one site adds to one round.

    `parameters` holds the canonical bytes of named integer arrays (sealed before they leave the site); counts and
    validation `figures` (integers) stand readable in the entry. `author` is the signer's key in hex, told to `merge`.
    """

    kind: ContributionKind
    parameters: bytes
    n_cells: int
    n_donors: int
    figures: Mapping[str, int] = field(default_factory=dict)
    author: str = ""


@dataclass(frozen=True, kw_only=True)
class Merge:
    """The outcome of one round.

    Attributes
    ----------
    state
        Canonical bytes of all merged state: parameters, best parameters so far, stage, round, validation.
    left_out
        Reason per index of the contributions that were not merged.
    finished
        The study has ended (its last stage's stop rule, or `failure`).
    failure
        Why the study cannot go on (one class in the whole swarm, say), equal at every peer; empty if it can.
    """

    state: bytes
    left_out: Mapping[int, str] = field(default_factory=dict)
    finished: bool = False
    failure: str = ""


class Task(Protocol):
    """A study with one site's cells. Implemented by `workflows`, from `model`."""

    def start(self) -> bytes:
        """Return the merged state before round 1, equal at every peer."""
        ...

    def contribute(self, state: bytes, stop: threading.Event) -> Contribution | None:
        """Train from `state` on this site's cells; `None` if `stop` was set meanwhile."""
        ...

    def merge(self, state: bytes, contributions: Sequence[Contribution]) -> Merge:
        """Merge contributions (in any order) into the next state."""
        ...

    def describe(self, state: bytes) -> Mapping[str, str | int]:
        """Say what `state` is, for the ledger's readers: at least `stage` and `round`."""
        ...
