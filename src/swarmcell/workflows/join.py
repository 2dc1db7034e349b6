"""Joining a swarm: the checks before, the peer, and what is left when the study has ended.

Rules: every check runs before the first entry is signed. The run's folder holds the ledger, so an interrupted run
goes on where it was; what is signed is never signed twice.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmcell.config import site as sites
from swarmcell.config import swarm_file as swarm_files
from swarmcell.config.site import Site
from swarmcell.config.swarm_file import SwarmFile
from swarmcell.engine.log import Log
from swarmcell.errors import SwarmError
from swarmcell.node import claims
from swarmcell.node import identity as identities
from swarmcell.node import ledger as ledgers
from swarmcell.node.claims import Others
from swarmcell.node.identity import Identity
from swarmcell.node.peer import Peer
from swarmcell.node.task import Task
from swarmcell.node.telling import Observer
from swarmcell.node.terms import Claim, Ended, Terms
from swarmcell.workflows.swarm.view import Onlooker

LEDGER = "ledger.sqlite"


@dataclass(frozen=True)
class Seat:
    """A place in a swarm: the swarm file, this site's settings and the identity that signs."""

    path: Path
    swarm: SwarmFile
    site: Site | None
    identity: Identity

    def open_log(self) -> Log:
        """Open the engine that the site file names, as this identity."""
        swarm = bytes.fromhex(self.swarm.digest)
        return sites.open_log(self.site, self.path, swarm, engine_secret=self.identity.engine_secret)


def take_seat(
    swarm_file: Path,
    *,
    identity: str | None = None,
    site_file: Path | None = None,
    cells_of: Sequence[str] = (),
) -> Seat:
    """Read the swarm file and open the identity that is a member of it.

    Parameters
    ----------
    identity
        Name or secret file of the identity. By default the one named as the site of the cells, if there is one, else
        that of the site file, else the only local identity in the roster.
    site_file
        Settings of this site; by default `site.toml` in this folder, if there is one.
    cells_of
        Names of the sites whose cells are trained on.

    Raises
    ------
    ConfigError, TamperedError, InputError
        If a file cannot be read, or is not what was agreed on.
    SwarmError
        If no identity of this user is a founder of the swarm.
    """
    swarm = swarm_files.load(swarm_file)
    site = sites.load_site(site_file)
    return Seat(swarm_file, swarm, site, _identity(swarm, swarm_file, site, identity, cells_of))


def _identity(swarm: SwarmFile, path: Path, site: Site | None, wanted: str | None, cells_of: Sequence[str]) -> Identity:
    local = identities.local_names()
    named_as_cells = [name for name in cells_of if name in local]
    in_roster = [founder.name for founder in swarm.founders if founder.name in local]
    choices = [wanted, *named_as_cells, site.signs_as if site else None, in_roster[0] if len(in_roster) == 1 else None]
    choice = next((name for name in choices if name), None)
    if choice is None:
        msg = (
            f"{path}: no identity of this user is chosen. Give one with --identity, or name it in site.toml "
            f"(local: {', '.join(local) or 'none'}; founders: {', '.join(f.name for f in swarm.founders)})."
        )
        raise SwarmError(msg)
    return identities.load(choice)


def refuse_stranger(seat: Seat) -> None:
    """Refuse a swarm that does not know this identity: its peer would wait for ever.

    Raises
    ------
    SwarmError
        If it founded nothing, brings no invitation, and the log neither counts it among the members nor says that it
        may become one; what to do is named.
    EngineError
        If the log cannot be read.
    """
    key = seat.identity.key.hex()
    if seat.swarm.history or key in {founder.signing_key for founder in seat.swarm.founders}:
        return
    seen = asyncio.run(Onlooker(seat.swarm.genesis(), seat.open_log()).look_once())
    proposed = {proposal.member_key for proposal in seen.proposals if proposal.change == "admit"}
    if key in proposed | {member.key for member in seen.members}:
        return
    name, members = seat.identity.name, ", ".join(member.name for member in seen.members)
    same = any(member.name == name for member in seen.members)
    found = "its member of that name has another key" if same else f"its members are {members}"
    msg = (
        f"{seat.path}: {name} is no member of this swarm: {found}. Sign as a member with --identity, or ask a member "
        f"for an invitation: send it your card (swarmcell identity show {name}), and accept what comes back "
        "(swarmcell swarm accept)."
    )
    raise SwarmError(msg)


def refuse_without_result(ended: Ended, result: str) -> None:
    """Say why a study has no result, if it has none.

    Parameters
    ----------
    result
        What it should have made: `a model`.

    Raises
    ------
    SwarmError
        If the study failed, or its members ended the swarm before.
    """
    if ended.failure:
        msg = f"the swarm's study ended without {result}: {ended.failure}"
        raise SwarmError(msg)
    if ended.bodies and ended.bodies[-1].kind == "end":
        msg = (
            f"the members ended this swarm for good by block {ended.height}, before its study had {result}. "
            "Its blocks stay readable: swarmcell swarm show. A study that goes on needs a new swarm: swarm create."
        )
        raise SwarmError(msg)


def take_part(seat: Seat, task: Task, *, run: Path, observer: Observer, claim: Claim | None = None) -> Ended:
    """Run a peer until the study has ended; the folder `run` holds its ledger.

    Parameters
    ----------
    claim
        What this site says that it trains on.

    Raises
    ------
    SwarmError
        If the identity runs elsewhere or is no member, or the ledger is another swarm's.
    """
    genesis = seat.swarm.genesis()
    with identities.hold(seat.identity, genesis.digest), ledgers.opened(run / LEDGER) as ledger:
        return asyncio.run(_run(seat, task, ledger, observer, claim))


def others_trained(seat: Seat, *, run: Path) -> Others:
    """Return what the other members showed of what they trained on, once the study has ended."""
    with ledgers.opened(run / LEDGER) as ledger:
        return claims.read_others(seat.identity, seat.swarm.genesis(), ledger)


async def _run(seat: Seat, task: Task, ledger: ledgers.Ledger, observer: Observer, claim: Claim | None) -> Ended:
    genesis = seat.swarm.genesis()
    log = seat.open_log()
    try:
        kept = {} if seat.site is None else {"history_bytes_max": int(seat.site.history_gb_max * 1e9)}
        terms = Terms(pins=seat.swarm.pins, claim=claim, **kept)
        return await Peer(seat.identity, genesis, log, ledger, task, observer, terms).run()
    finally:
        await log.close()
