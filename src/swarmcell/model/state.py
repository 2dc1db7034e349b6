"""The merged state of a study: everything that peers agree on, as a frozen value with canonical bytes.

Rules: a state is integers and texts only, so its digest is the same at every peer. A stage moves through the phases
``statistics -> fit -> validate`` and its closing rounds (each stage uses the phases that it needs); after the last
stage, or on a failure, the stage is `done` and only results are left: no momenta, no running parameters.

Arrays, by name: `panel`, `mean`, `scale`, `cells_by_type`, `samples_by_condition` (from `features`); `cell.*` and
`patient.*` (a finished stage's parameters, and `patient.mean`, `patient.scale` of the sample features);
`start.*` (until the study ends: the model that it started from); `cell_calibration.*`, `novelty.*` and
`patient_calibration.*` (sums and choices of the closing rounds); `baseline.*`; while a stage runs `now.*` (parameters
that the next round starts from), `best.*` and `memory.*` (what a merge rule remembers: the history of an exact fit,
momenta, control variates), and between the two passes over the counts `genes.*` (their sums, and what follows).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any

from swarmcell import formats
from swarmcell.errors import MergeError
from swarmcell.model.encoding import Array, Named, decode, encode
from swarmcell.model.fixed import STATISTICS_BITS

FORMAT = 2
DONE = "done"


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well parameters do on the inner-validation donors of all sites.

    Attributes
    ----------
    n, correct
        Cells (or samples) judged, and how many of them rightly.
    nll
        Sum of their class-weighted negative log-likelihoods, fixed point 2**-24.
    """

    n: int
    correct: int
    nll: int

    def better_than(self, other: "Score") -> bool:
        """Say whether the mean loss is smaller, by exact comparison of fractions."""
        return self.nll * other.n < other.nll * self.n

    @property
    def loss(self) -> float:
        """Mean class-weighted negative log-likelihood, in nats."""
        return self.nll / max(self.n, 1) / (1 << STATISTICS_BITS)

    @property
    def accuracy(self) -> float:
        """Share judged rightly."""
        return self.correct / max(self.n, 1)


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """How a stage ended.

    Attributes
    ----------
    rounds, best_round
        Rounds of fitting, and the round whose parameters were kept (0: the initial ones).
    sites, n_cells, n_donors
        Contributions to the last round, with their training cells and donors.
    score
        Of the kept parameters; `None` where no site had inner-validation donors.
    exact
        Labels of the sites (sorted) whose cells in one place would give these parameters; empty for an average.
    """

    rounds: int
    best_round: int
    sites: int
    n_cells: int
    n_donors: int
    score: Score | None = None
    exact: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MergedState:
    """What peers agree on after `round` merges; see the module's rules for the arrays.

    Attributes
    ----------
    rules
        SHA-256 (hex) of the study's rules.
    stage_round
        Rounds of fitting that the running stage has merged.
    bad_rounds
        Rounds since the best score.
    best, last
        Score of the best parameters of the running stage, and of the newest that were judged.
    pinned
        Labels of the sites (sorted) that an exact fit runs over; empty otherwise.
    """

    rules: str
    stage: str
    phase: str = "statistics"
    round: int = 0
    stage_round: int = 0
    bad_rounds: int = 0
    best_round: int = 0
    best: Score | None = None
    last: Score | None = None
    pinned: tuple[str, ...] = ()
    results: Mapping[str, StageResult] = field(default_factory=dict)
    failure: str = ""
    arrays: Mapping[str, Array] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the study has ended."""
        return self.stage == DONE

    def group(self, prefix: str) -> dict[str, Array]:
        """Return the arrays `prefix.*` without their prefix."""
        start = prefix + "."
        return {name.removeprefix(start): array for name, array in self.arrays.items() if name.startswith(start)}

    def with_group(self, prefix: str, arrays: Mapping[str, Array]) -> "MergedState":
        """Return the state with the arrays `prefix.*` replaced by `arrays`."""
        kept = {name: a for name, a in self.arrays.items() if not name.startswith(prefix + ".")}
        return replace(self, arrays=kept | {f"{prefix}.{name}": a for name, a in arrays.items()})


def to_bytes(state: MergedState) -> bytes:
    """Return the canonical bytes of `state`."""
    return encode(Named(header(state), state.arrays))


def from_bytes(raw: bytes) -> MergedState:
    """Return the state whose canonical bytes `raw` is.

    Raises
    ------
    MergeError
        If `raw` is not the canonical bytes of a state of this version.
    """
    named = decode(raw)
    return from_header(named.header, named.arrays)


def digest(raw: bytes) -> str:
    """Return the SHA-256 (hex) of a state's canonical bytes."""
    return sha256(raw).hexdigest()


def header(state: MergedState) -> dict[str, Any]:
    """Return everything of `state` but its arrays, as plain integers, texts and mappings (no `None`)."""
    fields = {name: value for name, value in vars(state).items() if name not in ("arrays", "results", "best", "last")}
    fields["pinned"] = list(state.pinned)
    fields["best"] = {} if state.best is None else asdict(state.best)
    fields["last"] = {} if state.last is None else asdict(state.last)
    fields["results"] = {name: _plain(result) for name, result in state.results.items()}
    return {"format": FORMAT, **fields}


def from_header(fields: Mapping[str, Any], arrays: Mapping[str, Array]) -> MergedState:
    """Return the state of a header and arrays.

    Raises
    ------
    MergeError
        If the header is not that of a state of this version.
    """
    rest = dict(fields)
    if rest.pop("format", None) != FORMAT:
        remedy = "Start the run again, or go on with the version that began it."
        raise MergeError(formats.of_another_format("a merged state", fields.get("format"), FORMAT, remedy=remedy))
    try:
        best, last, results = rest.pop("best"), rest.pop("last"), rest.pop("results")
        state = MergedState(
            **rest | {"pinned": tuple(rest["pinned"])},
            best=Score(**best) if best else None,
            last=Score(**last) if last else None,
            results={name: _result(value) for name, value in results.items()},
            arrays=dict(arrays),
        )
    except (TypeError, KeyError, AttributeError) as error:
        msg = "a merged state's header has missing, unknown or wrong keys; it was not written by swarmcell."
        raise MergeError(msg) from error
    return state


def _plain(result: StageResult) -> dict[str, Any]:
    fields = dict(vars(result))
    fields["score"] = {} if result.score is None else asdict(result.score)
    fields["exact"] = list(result.exact)
    return fields


def _result(fields: Mapping[str, Any]) -> StageResult:
    rest = dict(fields)
    score, exact = rest.pop("score"), tuple(rest.pop("exact"))
    return StageResult(**rest, exact=exact, score=Score(**score) if score else None)
