"""What this site published before, over whom: so that a few donors more or less, or a budget spent twice, are said.

Sums over nearly the same donors give away the few who differ: whoever reads both takes the difference. And epsilons of
several studies on the same donors add up. No swarm knows of another, so each site keeps a note of its own.

Rules: a note per swarm and identity beside the identities, for this user only; it is never sent, and names no donor
(salted digests, and how many cells each had). What is said warns and refuses nothing. A note that was deleted says
nothing, which nobody can notice.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np

from swarmcell.files import write_whole
from swarmcell.model.study import Study
from swarmcell.model.training_cells import TrainingCells
from swarmcell.node.identity import identity_folder
from swarmcell.privacy import accountant

STUDIES_MAX = 1000  # notes that are looked at, the newest; chosen
_TAG_BYTES = 16
Donors = Mapping[str, int]  # digest of a donor's name -> how many of its cells are in the sums


@dataclass(frozen=True, kw_only=True)
class _Earlier:
    """What was published once: by which study, when, over whom, and at what epsilon (0: without noise)."""

    swarm: str
    study: str
    begun: str
    salt: str
    donors: Donors
    epsilon: float
    delta: float

    def shared_with(self, cells: TrainingCells) -> tuple[int, int]:
        """Return how many donors are in both, and how many differ: are in one only, or have other cells."""
        now = _donors(cells, self.salt)
        same = sum(self.donors.get(donor) == n for donor, n in now.items())
        return len(self.donors.keys() & now.keys()), len(self.donors.keys() | now.keys()) - same


def said(study: Study, swarm: str, cells: TrainingCells) -> list[str]:
    """Return what a site should know of its earlier studies before it joins a swarm.

    Parameters
    ----------
    study
        What it would join.
    swarm
        The swarm's digest (hex).
    cells
        The cells over which sums would leave the site.
    """
    earlier, notes = _kept()
    about = [(one, *one.shared_with(cells)) for one in earlier]
    if study.privacy.differential_privacy is not None:
        return [*notes, *_spent(study, [one for one, shared, _ in about if shared and one.swarm != swarm])]
    few = [(one, n) for one, shared, n in about if shared and 0 < n < study.floors.donors and not one.epsilon]
    return [*notes, *(_difference(one, n, study) for one, n in few)]


def note(study: Study, swarm: str, identity: str, cells: TrainingCells) -> None:
    """Keep what this site is about to publish sums over; what it kept of this swarm before stays.

    Parameters
    ----------
    identity
        The signing key (hex).

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path = _folder() / f"{swarm[:16]}-{identity[:16]}.json"
    rows = _rows(path)
    salt = str(rows[0]["salt"]) if rows else token_hex(16)
    donors = _donors(cells, salt)
    if any(row["donors"] == donors for row in rows):
        return
    terms = accountant.terms_of(study)
    spent = {"epsilon": 0.0, "delta": 0.0} if terms is None else {"epsilon": terms.epsilon, "delta": terms.delta}
    begun = datetime.now(UTC).date().isoformat()
    row = {"swarm": swarm, "study": study.name, "begun": begun, "salt": salt, "donors": donors, **spent}
    _folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(path, (json.dumps([*rows, row], sort_keys=True, indent=1) + "\n").encode(), force=True, mode=0o600)


def _difference(one: _Earlier, n: int, study: Study) -> str:
    secure = ", where the other sites' donors are the same in both," if study.privacy.secure_aggregation else ""
    return (
        f"{n} training donor(s) differ from those of study {one.study!r}, which this site joined on {one.begun}: new, "
        f"gone, or with other cells. That is fewer than the floor of {study.floors.donors}, and{secure} the difference "
        "of the sums of both is a sum over these few; who reads both can take it. Wait until more donors differ, or "
        "agree on differential_privacy."
    )


def _spent(study: Study, shared: Sequence[_Earlier]) -> Iterator[str]:
    """Say what other studies on some of these donors cost them besides."""
    terms = accountant.terms_of(study)
    noised = {one.swarm: one for one in shared if one.epsilon}
    if noised and terms is not None:
        epsilon = terms.epsilon + sum(one.epsilon for one in noised.values())
        delta = terms.delta + sum(one.delta for one in noised.values())
        yield (
            f"some training donors of this site were in {len(noised)} earlier study(ies) under differential privacy "
            f"({_names(noised.values())}): the budgets add up, to at most epsilon = {epsilon:.2f} at delta = {delta:g}."
        )
    if bare := {one.swarm: one for one in shared if not one.epsilon}:
        yield (
            f"some training donors of this site were in {len(bare)} earlier study(ies) without noise "
            f"({_names(bare.values())}): what these published, no epsilon of this study covers."
        )


def _names(studies: Any) -> str:  # noqa: ANN401 (a view of a dict)
    return ", ".join(sorted(f"{one.study!r} of {one.begun}" for one in studies))


def _donors(cells: TrainingCells, salt: str) -> dict[str, int]:
    n_cells = np.bincount(cells.donor, minlength=len(cells.donors))
    return {_tag(name, salt): int(n) for name, n in zip(cells.donors, n_cells, strict=True)}


def _tag(name: str, salt: str) -> str:
    return blake2b(name.encode(), digest_size=_TAG_BYTES, key=bytes.fromhex(salt)).hexdigest()


def _folder() -> Path:
    return identity_folder().parent / "studies"


def _kept() -> tuple[list[_Earlier], list[str]]:
    """Return what was kept, and what to say of notes that cannot be read."""
    found: list[_Earlier] = []
    broken: list[str] = []
    paths = sorted(_folder().glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)[:STUDIES_MAX]
    for path in paths:
        try:
            found += [_Earlier(**row) for row in _rows(path)]
        except (OSError, ValueError, TypeError) as error:
            broken.append(f"{path}: cannot be read ({error}), so what differs from that study is not known.")
    return found, broken


def _rows(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []
