"""Checks a site before it joins: versions, disk, files, cells against the study, identity, engine. Changes nothing.

Rules: every check runs, whatever the others found; each says what it found and, where it is not well, what to do. A
check that needs a file that could not be read is left out: the unreadable file is what is reported.
"""

import asyncio
import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from swarmcell.cells import schema
from swarmcell.cells.split import HELD_OUT, INNER_DONORS_MIN, TRAIN
from swarmcell.config import site as sites
from swarmcell.config import swarm_file
from swarmcell.config.swarm_file import SwarmFile
from swarmcell.engine.log import Health, Log
from swarmcell.errors import SwarmcellError
from swarmcell.model.class_floors import floors_at_sites
from swarmcell.model.training_cells import gather
from swarmcell.node import identity as identities
from swarmcell.node.identity import Identity
from swarmcell.privacy import accountant
from swarmcell.workflows import earlier_studies
from swarmcell.workflows.fitness import faults
from swarmcell.workflows.floor_words import lowered

if TYPE_CHECKING:
    from anndata import AnnData

Result = Literal["pass", "warn", "fail"]
FREE_BYTES_MIN = 2 * 2**30  # chosen: the ledger of 100 rounds of 1 MB from ten sites, twice
ENGINE_TIMEOUT_S = 10.0
PACKAGES = ("swarmcell", "anndata", "numpy", "scipy", "torch", "safetensors", "pynacl", "cbor2")
T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """One check: its name, how it went, what was found, and the remedy where it is not well."""

    name: str
    result: Result
    found: str
    remedy: str = ""


@dataclass
class _Examination:
    checks: list[Check] = field(default_factory=list)

    def note(self, name: str, result: Result, found: str, remedy: str = "") -> None:
        self.checks.append(Check(name, result, found, "" if result == "pass" else remedy))

    def attempt(self, name: str, step: Callable[[], T]) -> T | None:
        """Return what `step` returns; an error becomes a failed check."""
        try:
            return step()
        except SwarmcellError as error:
            self.note(name, "fail", str(error))
            return None


def examine(
    prepared: Path | None = None,
    *,
    swarm: Path | None = None,
    site_file: Path | None = None,
    identity: str | None = None,
    runs: Path = Path("runs"),
) -> list[Check]:
    """Check a site, in the order in which a user would mend what is wrong.

    Parameters
    ----------
    prepared
        The prepared file to train on; its checks are left out without it.
    swarm
        The swarm file to join; its checks are left out without it.
    site_file
        The site's private settings; `site.toml` in this folder by default.
    identity
        Name or path of the identity; by default the one that the site file names.
    runs
        Where runs are kept; its disk must have room.
    """
    made = _Examination()
    _versions(made)
    _disk(made, runs)
    adata = made.attempt("prepared file", lambda: schema.read_prepared(prepared)) if prepared else None
    if adata is not None:
        _cells(made, adata)
    file = made.attempt("swarm file", lambda: swarm_file.load(swarm)) if swarm else None
    if file is not None:
        made.note("swarm file", "pass", f"study {file.study.name!r}, {len(file.founders)} founders, unchanged")
    if file is not None and adata is not None:
        _fit(made, adata, file, str(prepared))
    site = made.attempt("site file", lambda: sites.load_site(site_file))
    who = _identity(made, file, identity or (site.signs_as if site else None))
    if file is not None and swarm is not None:
        secret = who.engine_secret if who else None
        _engine(made, lambda: sites.open_log(site, swarm, bytes.fromhex(file.digest), secret))
    return made.checks


def _versions(made: _Examination) -> None:
    python_ok = sys.version_info >= (3, 11)
    made.note("python", "pass" if python_ok else "fail", platform.python_version(), "Install Python 3.11 or newer.")
    found = {name: _version(name) for name in PACKAGES}
    missing = [name for name, version in found.items() if not version]
    text = ", ".join(f"{name} {version or 'missing'}" for name, version in found.items())
    made.note("packages", "fail" if missing else "pass", text, "Install swarmcell again: pip install swarmcell.")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _disk(made: _Examination, runs: Path) -> None:
    folder = next(parent for parent in (runs.absolute(), *runs.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(folder).free
    result: Result = "pass" if free >= FREE_BYTES_MIN else "warn"
    remedy = f"Make room: {FREE_BYTES_MIN / 2**30:.0f} GiB are enough for a long study."
    made.note("disk", result, f"{free / 2**30:.1f} GiB free for {runs}", remedy)


def _cells(made: _Examination, adata: "AnnData") -> None:
    stored = adata.uns[schema.UNS]
    made.note("prepared file", "pass", f"{adata.n_obs} cells x {adata.n_vars} features, {stored['modality']}")
    side = adata.obs[schema.SPLIT].astype(str)
    donors = {s: adata.obs[schema.DONOR][side == s].astype(str).nunique() for s in (TRAIN, HELD_OUT)}
    found = f"{donors[TRAIN]} donors to train on, {donors[HELD_OUT]} held out"
    if donors[TRAIN] < INNER_DONORS_MIN:
        remedy = f"With fewer than {INNER_DONORS_MIN} training donors this site stops after fixed rounds, unvalidated."
        made.note("donors", "warn", found, remedy)
    elif not donors[HELD_OUT]:
        made.note("donors", "warn", found, "Nothing to evaluate on here: preprocess with --split within-site.")
    else:
        made.note("donors", "pass", found)


def _fit(made: _Examination, adata: "AnnData", file: SwarmFile, source: str) -> None:
    found = [str(fault) for fault in faults(adata, file.study, source=source)]
    for fault in found:
        made.note("cells fit the study", "fail", fault)
    if found:
        return
    made.note("cells fit the study", "pass", "same universe, known labels, above the floors")
    _floors(made, adata, file, source)
    if terms := made.attempt("differential privacy", lambda: accountant.terms_of(file.study)):
        made.note("differential privacy", "pass", terms.sentence())


def _floors(made: _Examination, adata: "AnnData", file: SwarmFile, source: str) -> None:
    """Say whether the floors are lowered, what this site would keep to itself, and what earlier studies give away."""
    study = file.study
    if warning := lowered(study.floors):
        made.note("floors", "warn", warning, "Found a swarm with the default floors where the sums are of patients.")
    if study.strata is not None:
        return
    floors = floors_at_sites(study)
    names = {"cell_types": study.cell_types, "conditions": study.conditions}
    cells = made.attempt(
        "floors of classes", lambda: gather([(source, adata)], **names, seed=study.seed, floors=floors)
    )
    if cells is None:
        return
    kept = [note for note in cells.notes if "below the floor" in note]
    for note in kept:
        made.note(
            "floors of classes", "warn", note, "Merge rare labels, or agree on secure_aggregation in a new swarm."
        )
    if floors is not None and not kept:
        made.note("floors of classes", "pass", "every class of this site is above them")
    for said in earlier_studies.said(study, file.digest, cells):
        made.note("earlier studies", "warn", said, "Think of it before the first entry is signed (data-protection.md).")


def _identity(made: _Examination, file: SwarmFile | None, name: str | None) -> Identity | None:
    if name is None:
        made.note("identity", "warn", "none named", "Make a site file and an identity: swarmcell init --name SITE.")
        return None
    identity = made.attempt("identity", lambda: identities.load(name))
    if identity is None:
        return None
    made.note("identity", "pass", f"{identity.name}, readable by you alone")
    if file is None:
        return identity
    is_founder = identity.key.hex() in {founder.signing_key for founder in file.founders}
    if not is_founder and file.history:
        invited = f"{identity.name} comes by an invitation that knows the history to block {file.history[-1].height}"
        made.note("membership", "pass", invited)
        return identity
    remedy = "Send your card (swarmcell identity show) to whoever creates the swarm; it must be admitted."
    found = f"{identity.name} {'is' if is_founder else 'is not'} a founder of this swarm"
    made.note("membership", "pass" if is_founder else "warn", found, remedy)
    return identity


def _engine(made: _Examination, open_log: Callable[[], Log]) -> None:
    async def ask() -> tuple[Health, int]:
        log = open_log()
        try:
            async with asyncio.timeout(ENGINE_TIMEOUT_S):
                return await log.health(), len(await log.announcements())
        finally:
            await log.close()

    try:
        health, n_up = asyncio.run(ask())
    except TimeoutError:
        made.note("engine", "fail", f"no answer within {ENGINE_TIMEOUT_S:.0f} s", "Check [engine] of the site file.")
    except SwarmcellError as error:
        made.note("engine", "fail", str(error))
    else:
        found = f"{health.engine}: {health.about}; {health.last} entries, {n_up} peers announced"
        made.note("engine", "pass", found)
