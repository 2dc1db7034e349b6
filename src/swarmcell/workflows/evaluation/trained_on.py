"""Whom a site trained on: what it writes down, what the ledger proves of it, and who may not be evaluated for it.

Rules: `trained.json` of a run lists the training donors with sketches of their cells, and never leaves the site; its
digest, signed, stands in the ledger before the site's first contribution, so the list cannot be shortened later. It
only grows. `elsewhere.json` holds what other members showed of their own, where the study allows that; the ledger knows
its digest. A held-out donor in either is refused, whatever the file calls the donor.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np

from swarmcell.cells import sketches
from swarmcell.cells.batches import Codes
from swarmcell.cells.sketches import Crowd, Digests, Sketch
from swarmcell.cells.split import HELD_OUT, TRAIN
from swarmcell.errors import ModelError, TamperedError
from swarmcell.files import write_whole
from swarmcell.model.study import Study
from swarmcell.node import claims
from swarmcell.node import ledger as ledgers
from swarmcell.node.claims import Others
from swarmcell.node.terms import Claim
from swarmcell.swarm.encoding import EncodingError, decode, encode
from swarmcell.workflows.run_folder import LEDGER

TRAINED, ELSEWHERE = "trained.json", "elsewhere.json"
_CELL_DOMAIN, _LIST_DOMAIN = b"swarmcell/cells/v1\0", b"swarmcell/trained/v1\0"
_BYTES = 8  # of one digest
NAMED_MAX = 5
NOT_ALLOWED = (
    "Whether another hospital trained on the same cells under another name was not looked for: the study's rules have "
    "no cell_digests."
)
NOT_UNDER_NOISE = (
    "Whether another hospital trained on the same cells under another name was not looked for: under the study's "
    "differential privacy no digest of a cell may leave a site."
)
NOT_HERE = (
    f"Whether another hospital trained on the same cells under another name was not looked for: {ELSEWHERE} is not "
    "beside the model. The run's train --join, given once more, writes it."
)


@dataclass(frozen=True, eq=False)
class _Sides:
    """What a run knows: this site's training donors, and those of each other member (unnamed).

    `is_allowed`: the study allows members to show theirs; `is_here`: what they showed was kept.
    """

    own: Mapping[str, Sketch]
    others: Mapping[str, Crowd]
    silent: tuple[str, ...]
    is_allowed: bool
    is_here: bool


# -- when training -------------------------------------------------------------------------------------------------


def claim(run: Path, prepared: Sequence[Path], swarm: str, *, shown: Sequence[Codes] | None = None) -> Claim:
    """Write down whom this site trains on, and return what the peer says of it.

    Parameters
    ----------
    run
        The run's folder; what its list holds already stays in it.
    prepared
        This site's prepared files.
    swarm
        Digest of the swarm (hex): sketches of two swarms say nothing of each other.
    shown
        Rows of each file whose cells are in sums that leave this site: other members may read sketches of these
        (never the names). A cell that the floors keep at the site is in no sum, and in no sketch. `None`: no sketch.
    """
    kept = _stored(run / TRAINED)
    files = [sketches.of_file(path, _key(swarm), TRAIN) for path in prepared]
    here = _gathered(file.by_donor() for file in files)
    n_kept = int(kept.get("kept", 0)) or sketches.kept_per_donor(len(here))
    content: dict[str, Any] = {"swarm": swarm, "salt": kept.get("salt") or token_hex(32), "kept": n_kept}
    content["donors"] = _grown(kept.get("donors", {}), here, n_kept)
    if shown is not None:
        there = _gathered(file.by_donor(among) for file, among in zip(files, shown, strict=True))
        content["shown"] = _grown(kept.get("shown", {}), there, n_kept)
    raw = (json.dumps(content, sort_keys=True, indent=1) + "\n").encode()
    write_whole(run / TRAINED, raw, force=True, mode=0o600)
    return Claim(commitment=_commitment(raw), shared=b"" if shown is None else _shared(content["shown"], n_kept))


def _gathered(files: Iterable[Mapping[str, Digests]]) -> dict[str, list[Digests]]:
    """Return the digests of each donor in several files."""
    found: dict[str, list[Digests]] = {}
    for digests_of in files:
        for donor, digests in digests_of.items():
            found.setdefault(donor, []).append(digests)
    return found


def _grown(
    kept: Mapping[str, Sequence[str]], found: Mapping[str, Sequence[Digests]], n_kept: int
) -> dict[str, Sequence[str]]:
    """Return the sketches that were kept, grown by what was found."""
    grown = dict(kept)
    for donor, parts in found.items():
        lowest = sketches.sketch(np.concatenate([*parts, _digests(kept.get(donor, []))]), n_kept).digests
        grown[donor] = [f"{value:016x}" for value in lowest]
    return grown


def _shared(donors: Mapping[str, Sequence[str]], n_kept: int) -> bytes:
    """Return the sketches without names, in an order that says nothing; donors without a digest are not counted."""
    n = min(n_kept, sketches.kept_per_donor(len(donors)))
    rows = (bytes.fromhex("".join(lowest[:n])) for lowest in donors.values() if lowest)
    return encode({"kept": n, "donors": sorted(rows)})


def keep_others(run: Path, others: Others) -> tuple[str, ...]:
    """Keep what other members showed beside the run's models, and say what this site's own donors share with them."""
    shared, silent = {}, list(others.silent)
    for name, content in others.shared.items():
        try:
            _opened(content)
        except EncodingError:
            silent.append(name)
        else:
            shared[name] = content.hex()
    table = {"sites": shared, "silent": sorted(silent)}
    raw = (json.dumps(table, sort_keys=True) + "\n").encode()
    with ledgers.opened_to_look(run / LEDGER) as ledger:
        ledger.note(ELSEWHERE, sha256(raw).digest())
    write_whole(run / ELSEWHERE, raw, force=True, mode=0o600)
    kept = _stored(run / TRAINED)
    own = {donor: _sketch(lowest, kept) for donor, lowest in kept["donors"].items()}
    twice = _twice(own, {name: _opened(bytes.fromhex(raw)) for name, raw in shared.items()})
    if not twice:
        return ()
    sites, n = ", ".join(sorted({site for _, site in twice})), len({donor for donor, _ in twice})
    return (f"{n} training donor(s) of this site were trained on at {sites} too; evaluate names them.",)


# -- when evaluating -----------------------------------------------------------------------------------------------


def refuse_trained_on(files: Sequence[Path], models: Mapping[Path, Study]) -> tuple[str, ...]:
    """Refuse held-out donors whom a model's swarm trained on, by the run beside the model; return what is to be said.

    Parameters
    ----------
    files
        Prepared files that hold out donors.
    models
        Model files, and the study of each. Only a run in a swarm has a ledger beside them.

    Raises
    ------
    ModelError
        If this site trained on a held-out donor, by name or by cells, or another site by cells.
    TamperedError
        If a list beside a model is not the one that the ledger holds the digest of, or this site's own is gone.
    """
    notes: list[str] = []
    private = {path.parent for path, study in models.items() if study.privacy.differential_privacy is not None}
    for run in sorted({model.parent for model in models}):
        if (run / LEDGER).is_file() and (proved := _proved(run)) is not None:
            kept, sides = proved
            for path in files:
                held = sketches.of_file(path, _key(kept["swarm"]), HELD_OUT).by_donor()
                _refuse_own(path, held, sides.own)
                _refuse_elsewhere(path, held, sides.others)
            notes += [NOT_UNDER_NOISE] if run in private else _said(sides)
    return tuple(notes)


def _proved(run: Path) -> tuple[dict[str, Any], _Sides] | None:
    """Return the list of a run that its ledger holds the digest of; `None` where this site never said anything."""
    with ledgers.opened_to_look(run / LEDGER) as ledger:
        said, noted = claims.newest_own(ledger), ledger.noted(ELSEWHERE)
    if said is None:
        return None
    path = run / TRAINED
    if not path.is_file() or _commitment(path.read_bytes()) != said.commitment:
        what = "is not the list" if path.is_file() else "is gone; it is the list"
        msg = (
            f"{path}: {what} of training donors that this site's ledger holds the digest of, so nobody can tell who "
            "was trained on. Bring the file back from a copy of the run, or train again."
        )
        raise TamperedError(msg)
    kept, elsewhere = _stored(path), _elsewhere(run / ELSEWHERE, noted)
    others = {name: _opened(bytes.fromhex(raw)) for name, raw in elsewhere.get("sites", {}).items()}
    own = {donor: _sketch(lowest, kept) for donor, lowest in kept["donors"].items()}
    silent = tuple(elsewhere.get("silent", ()))
    return kept, _Sides(own, others, silent, is_allowed=bool(said.content), is_here=bool(elsewhere))


def _elsewhere(path: Path, noted: bytes) -> dict[str, Any]:
    """Return what other members showed, as the run kept it; empty where it is gone, which is said."""
    if noted and path.is_file() and sha256(path.read_bytes()).digest() != noted:
        msg = (
            f"{path}: is not what other members showed by this site's ledger, so nobody can tell whom they trained on. "
            "The run's train --join, given once more, writes it anew."
        )
        raise TamperedError(msg)
    return _stored(path)


def _refuse_own(path: Path, held: Mapping[str, Digests], own: Mapping[str, Sketch]) -> None:
    crowd, name_of = Crowd.of(tuple(own.values())), {id(known): name for name, known in own.items()}
    found = []
    for donor, digests in held.items():
        known = next((one for one in crowd.near(digests) if one.is_of(digests)), None)
        if donor in own or known is not None:
            found.append(donor if donor in own else f"{donor} (trained on as {name_of[id(known)]})")
    if found:
        msg = (
            f"{path}: by its ledger this site trained on {len(found)} of the donors that the file holds out "
            f"({_listed(found)}): figures on them would flatter the model. Evaluate with the split that was trained "
            "with, or train again."
        )
        raise ModelError(msg)


def _refuse_elsewhere(path: Path, held: Mapping[str, Digests], others: Mapping[str, Crowd]) -> None:
    found = []
    for donor, digests in held.items():
        for site, crowd in others.items():
            shared = [one.shared_with(digests)[0] for one in crowd.near(digests) if one.is_of(digests)]
            if shared:
                found.append(f"{donor} ({max(shared)} of its cells at {site})")
    if found:
        msg = (
            f"{path}: other hospitals trained on cells of donors that the file holds out, value for value: "
            f"{_listed(found)}. It is one person under two names, or one measurement at two sites, and figures on it "
            "would flatter the model. Prepare the file without these donors, or agree who has them, and train again."
        )
        raise ModelError(msg)


def _said(sides: _Sides) -> Iterator[str]:
    if not sides.is_allowed or not sides.is_here:
        yield NOT_HERE if sides.is_allowed else NOT_ALLOWED
        return
    for donor, site in _twice(sides.own, sides.others)[:NAMED_MAX]:
        yield (
            f"Training donor {donor}: {site} trained on the same cells, value for value. One person may count twice in "
            "training."
        )
    looked = f"at {', '.join(sorted(sides.others))}" if sides.others else "nowhere"
    silent = f"; not shown by {', '.join(sides.silent)}" if sides.silent else ""
    yield f"Held-out cells were looked for among the training cells of other hospitals, by digests: {looked}{silent}."


def _twice(own: Mapping[str, Sketch], others: Mapping[str, Crowd]) -> list[tuple[str, str]]:
    return [
        (donor, site)
        for donor, mine in own.items()
        for site, crowd in others.items()
        if any(_same(mine, known) for known in crowd.near(mine.digests))
    ]


def _same(mine: Sketch, other: Sketch) -> bool:
    """Compare two sketches where both cover: below the lower of their bounds."""
    covered = mine.digests if other.whole else mine.digests[mine.digests <= other.digests[-1]]
    bound = None if mine.whole else mine.digests[-1]
    below = other.digests if bound is None else other.digests[other.digests <= bound]
    return Sketch(below, whole=True).is_of(covered)


# -- files ---------------------------------------------------------------------------------------------------------


def _key(swarm: str) -> bytes:
    return sha256(_CELL_DOMAIN + bytes.fromhex(swarm)).digest()


def _commitment(raw: bytes) -> bytes:
    return sha256(_LIST_DOMAIN + raw).digest()


def _stored(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read ({error}). Bring it back from a copy of the run, or train under another --name."
        raise TamperedError(msg) from error


def _digests(listed: Sequence[str]) -> Digests:
    return np.array([int(text, 16) for text in listed], np.uint64)


def _sketch(listed: Sequence[str], kept: Mapping[str, Any]) -> Sketch:
    return Sketch(_digests(listed), whole=len(listed) < int(kept["kept"]))


def _opened(content: bytes) -> Crowd:
    """Read what a member showed.

    Raises
    ------
    EncodingError
        If it is not sketches of donors.
    """
    held = decode(content)
    donors, n_kept = (held.get("donors"), held.get("kept")) if isinstance(held, Mapping) else (None, None)
    if not isinstance(donors, list) or not isinstance(n_kept, int):
        msg = "not sketches of donors"
        raise EncodingError(msg)
    rows = [row for row in donors if isinstance(row, bytes) and row and len(row) % _BYTES == 0]
    found = [np.unique(np.frombuffer(row, ">u8").astype(np.uint64)) for row in rows]
    return Crowd.of([Sketch(digests, whole=len(digests) < n_kept) for digests in found])


def _listed(found: Sequence[str]) -> str:
    return ", ".join(found[:NAMED_MAX]) + (", ..." if len(found) > NAMED_MAX else "")
