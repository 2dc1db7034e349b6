"""Strata as a file: safetensors (integer arrays, never code) with JSON inside, whose digest the sites agreed on.

Rules: the file holds the merged state itself and the names of its features, and nothing of any sample; `load` checks
both digests. It is all that placing new patients needs, beside the cell model where composition counts.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from swarmcell.errors import InputError, MergeError, ModelError
from swarmcell.files import writing
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import Floats
from swarmcell.model.strata import kmeans
from swarmcell.model.strata.rounds import rows
from swarmcell.model.strata.state import StrataState, from_header, header, to_bytes
from swarmcell.model.strata.table import SampleTable
from swarmcell.model.study import StrataRule, Study, from_plain, rules_digest

FORMAT = 1
_KEY = "swarmcell-strata"


@dataclass(frozen=True)
class Strata:
    """Strata that were found, or that none were.

    Attributes
    ----------
    ids, symbols
        Features of the universe, in order, and their names for people.
    digest
        SHA-256 (hex) of the merged state: equal at every site.
    """

    study: Study
    ids: tuple[str, ...]
    symbols: tuple[str, ...]
    state: StrataState
    card: Mapping[str, Any]
    digest: str

    @property
    def rule(self) -> StrataRule:
        """How the strata were looked for."""
        return self.study.strata or StrataRule()


@dataclass(frozen=True)
class Placed:
    """Samples in the strata.

    Attributes
    ----------
    stratum
        From 0, shape `(n_samples,)`.
    membership
        Share of the resamples of donors whose strata place the sample alike, shape `(n_samples,)`.
    coordinates
        Along the components, shape `(n_samples, n_components)`.
    """

    stratum: npt.NDArray[np.int64]
    membership: Floats
    coordinates: Floats


def place(strata: Strata, table: SampleTable) -> Placed:
    """Place samples in strata, those that they were found in or new ones.

    Raises
    ------
    ModelError
        If there are no strata.
    """
    state = strata.state
    if not state.k:
        msg = f"there are no stable strata to place samples in ({state.words})."
        raise ModelError(msg)
    own = rows(table, state, strata.rule).coordinates
    stratum = kmeans.nearest(own, state.arrays["stratum_centres"][None])[0]
    others = kmeans.nearest(own, state.arrays["stratum_resampled"])
    alike = np.take_along_axis(state.arrays["stratum_matched"], others, axis=1) == stratum
    return Placed(stratum, np.asarray(alike.mean(axis=0)), own / float(1 << 24))


def coordinates(strata: Strata, table: SampleTable) -> Floats:
    """Return samples' coordinates along the components, strata or not, shape `(n_samples, n_components)`."""
    return np.asarray(rows(table, strata.state, strata.rule).coordinates / float(1 << 24))


def assemble(
    state: StrataState, study: Study, ids: tuple[str, ...], symbols: tuple[str, ...], card: Mapping[str, Any]
) -> Strata:
    """Return the strata of a finished state.

    Raises
    ------
    ModelError
        If the study is not finished, failed, or has other rules than `study`.
    """
    if not state.finished or state.failure or state.rules != rules_digest(study):
        msg = f"the study of strata is not finished, or is another's ({state.failure or state.phase})."
        raise ModelError(msg)
    return Strata(study, ids, symbols, state, card, sha256(to_bytes(state)).hexdigest())


def save(strata: Strata, path: Path, *, force: bool = False) -> None:
    """Write strata to a file.

    Raises
    ------
    OutputError
        If it exists (without `force`) or cannot be written.
    """
    document = {
        "format": FORMAT,
        "study": asdict(strata.study),
        "ids": list(strata.ids),
        "symbols": list(strata.symbols),
        "header": header(strata.state),
        "card": dict(strata.card),
        "digest": strata.digest,
    }
    text = json.dumps(document, sort_keys=True)
    arrays: dict[str, Array] = {name: np.ascontiguousarray(array) for name, array in strata.state.arrays.items()}
    digest = sha256(text.encode()).hexdigest()
    content = to_safetensors(arrays, {_KEY: f"{digest} {text}"})  # one key: safetensors keeps no order of several
    with writing(path, force=force) as temporary:
        temporary.write_bytes(content)


def load(path: Path) -> Strata:
    """Read strata and check their digests.

    Raises
    ------
    InputError
        If there is no such file.
    ModelError
        If it is corrupt, was changed, or holds no strata.
    """
    if not path.is_file():
        msg = f"{path}: no such file. Find strata first: swarmcell stratify PREPARED.h5ad."
        raise InputError(msg)
    try:
        with safe_open(path, framework="numpy") as stream:
            metadata = stream.metadata() or {}
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
        digest, _, text = metadata[_KEY].partition(" ")
        document = json.loads(text)
        if sha256(text.encode()).hexdigest() != digest or document["format"] != FORMAT:
            _refuse(path, "its description was changed, or is of another version")
        state, study = from_header(document["header"], arrays), from_plain(document["study"])
        ids, symbols = tuple(document["ids"]), tuple(document["symbols"])
        found = Strata(study, ids, symbols, state, document["card"], sha256(to_bytes(state)).hexdigest())
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, MergeError) as error:
        _refuse(path, f"no strata of swarmcell ({type(error).__name__})")
    if found.digest != document["digest"] or state.rules != rules_digest(study):
        _refuse(path, "its arrays do not have the digest that it states")
    return found


def _refuse(path: Path, why: str) -> NoReturn:
    msg = f"{path}: {why}. Find the strata again, or copy the file again from where it is whole."
    raise ModelError(msg)
