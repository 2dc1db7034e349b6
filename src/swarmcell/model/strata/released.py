"""Strata as a file: safetensors (integer arrays, never code) with JSON inside, whose digest the sites agreed on.

Rules: the file holds the merged state itself and the names of its features, and nothing of any sample; `load` checks
both digests. It is all that placing new patients needs, beside the cell model where composition counts.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swarmcell import formats
from swarmcell.errors import InputError, MergeError, ModelError
from swarmcell.model import described_arrays
from swarmcell.model.described_arrays import refuse
from swarmcell.model.fixed import Floats
from swarmcell.model.strata import kmeans
from swarmcell.model.strata.rounds import rows
from swarmcell.model.strata.state import StrataState, all_arrays, from_header, header, to_bytes
from swarmcell.model.strata.table import SampleTable
from swarmcell.model.study import StrataRule, Study, from_plain, rules_digest, unsaid

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
        "study": asdict(strata.study),
        "ids": list(strata.ids),
        "symbols": list(strata.symbols),
        "header": header(strata.state),
        "card": dict(strata.card),
        "digest": strata.digest,
    }
    described_arrays.save(path, _KEY, formats.STRATA, document, all_arrays(strata.state), force=force)


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
    remedy = "Find the strata again"
    document, arrays = described_arrays.load(path, _KEY, formats.STRATA, what="strata", remedy=remedy)
    try:
        state, study = from_header(document["header"], arrays), from_plain(document["study"])
        ids, symbols = tuple(document["ids"]), tuple(document["symbols"])
        found = Strata(study, ids, symbols, state, document["card"], sha256(to_bytes(state)).hexdigest())
        fits = found.digest == document["digest"] and state.rules == rules_digest(study)
    except (KeyError, TypeError, ValueError, MergeError) as error:
        refuse(path, f"made by swarmcell {document['made_by']}; this one cannot take it for strata ({error})", remedy)
    if not fits:
        described_arrays.refuse_digest(path, document, unsaid(document["study"], study), remedy)
    return found
