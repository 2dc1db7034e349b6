"""What sites agree on about strata: a frozen value with canonical bytes.

Rules: integers and texts only. Shares, p values and standard deviations are fixed point 2**-24. Arrays by phase:
`kept`, `mean`, `scale` (features); `vectors`, `spread`, `held` (products); `centres`, `settled`, `total`, `count`
(cluster, nested); `best`, `resampled`, `within*`, `tables`, `donors` (agreement); `splits`, `roots` (nested);
`judged`, `stratum_*`, `by_site`, `disguise`, `test_*`, `tested_*`, `tests` (describe).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from swarmcell import formats
from swarmcell.errors import MergeError
from swarmcell.model.encoding import Array, Named, decode, encode

FORMAT = 3
_CELLS = "cells."
PHASES = ("features", "products", "cluster", "agreement", "nested", "describe", "done")


@dataclass(frozen=True, kw_only=True)
class StrataState:
    """The state after `round` merges.

    Attributes
    ----------
    k
        Strata found; 0 before that is known, and where there are none.
    words
        Why there are none.
    sites
        Names of the sites that took part, sorted; none where sites' own sums are secret.
    n_sites
        How many they are.
    cells
        What tells the cells' clusters (`model.clusters.Clusters.of`), where composition counts these.
    site_share
        Share of the variance of features that lies between sites, fixed point 2**-24.
    """

    rules: str
    phase: str = "features"
    round: int = 0
    iteration: int = 0
    n_samples: int = 0
    n_donors: int = 0
    n_cells: int = 0
    n_sites: int = 0
    site_share: int = 0
    k: int = 0
    words: str = ""
    sites: tuple[str, ...] = ()
    failure: str = ""
    arrays: Mapping[str, Array] = field(default_factory=dict)
    cells: Mapping[str, Array] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the study has ended."""
        return self.phase == "done"


def to_bytes(state: StrataState) -> bytes:
    """Return the canonical bytes of `state`."""
    return encode(Named(header(state), all_arrays(state)))


def all_arrays(state: StrataState) -> dict[str, Array]:
    """Return all arrays by name, those of the cells' clusters as `cells.*`."""
    return {**state.arrays, **{f"{_CELLS}{name}": array for name, array in state.cells.items()}}


def header(state: StrataState) -> dict[str, Any]:
    """Return everything but the arrays, as plain values."""
    fields = {name: value for name, value in vars(state).items() if name not in ("arrays", "cells")}
    return {"format": FORMAT, "kind": "strata", **fields, "sites": list(state.sites)}


def from_bytes(raw: bytes) -> StrataState:
    """Return the state whose canonical bytes `raw` is.

    Raises
    ------
    MergeError
        If it is none of this version.
    """
    named = decode(raw)
    return from_header(named.header, named.arrays)


def from_header(fields: Mapping[str, Any], arrays: Mapping[str, Array]) -> StrataState:
    """Return the state of a header and arrays.

    Raises
    ------
    MergeError
        If the header is not that of a state of this version.
    """
    rest = dict(fields)
    number, kind = rest.pop("format", None), rest.pop("kind", None)
    if number != FORMAT or kind != "strata":
        remedy = "Find the strata again, or go on with the version that began."
        said = formats.of_another_format("a state of strata", number, FORMAT, remedy=remedy)
        raise MergeError(said or "not a state of strata. Look at which study this is.")
    try:
        own = {name: array for name, array in arrays.items() if not name.startswith(_CELLS)}
        cells = {name.removeprefix(_CELLS): array for name, array in arrays.items() if name.startswith(_CELLS)}
        state = StrataState(**{**rest, "sites": tuple(rest["sites"])}, arrays=own, cells=cells)
    except (TypeError, KeyError) as error:
        msg = "a state of strata has missing, unknown or wrong keys; it was not written by swarmcell."
        raise MergeError(msg) from error
    if state.phase not in PHASES:
        msg = f"a state of strata has the phase {state.phase!r}; expected one of {', '.join(PHASES)}."
        raise MergeError(msg)
    return state
