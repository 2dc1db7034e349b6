"""`swarmcell swarm invite`, `accept`, `revoke`, `rotate`, `end`, `approve`, `proposals`: what members decide."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarmcell.cli.common import Debug, Force, Json, Quiet, SiteFile, console, next_command, print_json, say
from swarmcell.cli.swarm import SwarmFile, Who
from swarmcell.cli.swarm import app as swarm_app

if TYPE_CHECKING:
    from swarmcell.workflows.swarm.members import Ordered

app = swarm_app  # these are commands of the same group

Signs = Annotated[str | None, typer.Option("--identity", help="Identity of this user that is a member and signs.")]
Liars = Annotated[
    int | None, typer.Option("--f", min=0, help="Lying members tolerated from then on.  [default: as many as now]")
]


@app.command("invite")
def invite(  # noqa: PLR0917 (typer gives them by name)
    swarm: Annotated[Path, typer.Argument(help="The swarm file.")],
    card: Annotated[Path, typer.Argument(help="Public card of the site to admit.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to write the invitation.  [default: NAME.invitation.toml]")
    ] = None,
    f: Liars = None,
    site: SiteFile = None,
    identity: Signs = None,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Propose to admit a site that comes late, and write its invitation. A quorum of the members must approve.

    This site's running peer signs the proposal; if none runs, the next one does. The invitation holds the swarm file
    and a recent block, by which the newcomer refuses another history; it holds no secret.

    Example: `swarmcell swarm invite swarm.toml site-d.card.toml`
    """
    from swarmcell.workflows.swarm import members

    made = members.invite(swarm, card, out=out, f=f, site_file=site, identity=identity, force=force)
    say(f"invitation: {made.invitation} (send it to the site; it takes it up with `swarmcell swarm accept`)")
    _end(made, swarm, as_json=json)


@app.command("accept")
def accept(
    invitation: Annotated[Path, typer.Argument(help="The invitation that a member sent.")],
    out: Annotated[Path, typer.Option(help="Where to write the swarm file.")] = Path("swarm.toml"),
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Take up an invitation: check that it is for an identity of this user, and write the swarm file.

    The swarm file holds the block that the invitation vouches for, and `train --join` refuses another history.

    Example: `swarmcell swarm accept site-d.invitation.toml --out swarm.toml`
    """
    from swarmcell.workflows.swarm import members

    made = members.accept(invitation, out, force=force)
    say(f"wrote {made.path}: swarm {made.digest[:16]}, known up to block {made.height}; {made.name} is invited")
    say(f"compare the digest with the member that invited you, by telephone: {made.digest}")
    if json:
        print_json({"path": str(made.path), "digest": made.digest, "identity": made.name, "height": made.height})
    next_command("swarmcell train SITE.h5ad --join", made.path, f"--identity {made.name} --name {made.name}")


@app.command("revoke")
def revoke(
    swarm: Annotated[Path, typer.Argument(help="The swarm file.")],
    member: Annotated[str, typer.Argument(help="Name of the member, or the beginning of its key.")],
    f: Liars = None,
    site: SiteFile = None,
    identity: Signs = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Propose to revoke a member: its entries count no more, and the swarm's key is renewed for those who stay.

    For a key that was lost, stolen or cloned, and for a site that leaves. A quorum of the members must approve.

    Example: `swarmcell swarm revoke swarm.toml site-c`
    """
    from swarmcell.workflows.swarm import members

    made = members.revoke(swarm, member, f=f, site_file=site, identity=identity)
    say(f"{member} still reaches an engine of many machines: write its servers' configuration anew, --without {member}")
    _end(made, swarm, as_json=json)


@app.command("rotate")
def rotate(
    swarm: Annotated[Path, typer.Argument(help="The swarm file.")],
    site: SiteFile = None,
    identity: Signs = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Propose to renew the swarm's key, sealed for all members. A quorum of them must approve.

    For a swarm key that may be known elsewhere: what is sealed after the block, it does not open. What was sealed
    before stays readable with it. Where a member's own identity may be known, `swarm revoke` it instead: that renews
    the swarm's key as well, and the member comes back under a new identity (`swarm invite`).

    Example: `swarmcell swarm rotate swarm.toml`
    """
    from swarmcell.workflows.swarm import members

    _end(members.rotate(swarm, site_file=site, identity=identity), swarm, as_json=json)


@app.command("end")
def end(
    swarm: Annotated[Path, typer.Argument(help="The swarm file.")],
    site: SiteFile = None,
    identity: Signs = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Propose to end the swarm for good, before its study has a model. A quorum of the members must approve.

    No block follows on the one that carries this out: every peer stops, and the swarm file serves for nothing but
    `swarm show` and `swarm verify`. A study that goes on needs a new swarm.

    Example: `swarmcell swarm end swarm.toml`
    """
    from swarmcell.workflows.swarm import members

    _end(members.end(swarm, site_file=site, identity=identity), swarm, as_json=json)


@app.command("approve")
def approve(
    swarm: Annotated[Path, typer.Argument(help="The swarm file.")],
    proposal: Annotated[
        str,
        typer.Argument(
            help="Beginning of the proposal's digest (6 digits or more), its member's name, or rotate, or end."
        ),
    ],
    site: SiteFile = None,
    identity: Signs = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Approve an open proposal. This site's running peer signs the approval; if none runs, the next one does.

    Example: `swarmcell swarm approve swarm.toml site-d`
    """
    from swarmcell.workflows.swarm import members

    _end(members.approve(swarm, proposal, site_file=site, identity=identity), swarm, as_json=json)


@app.command("proposals")
def proposals(
    swarm: SwarmFile = Path("swarm.toml"),
    site: SiteFile = None,
    identity: Who = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show the open proposals: who proposed what, who approved, and how many are needed. Signs nothing.

    Example: `swarmcell swarm proposals swarm.toml`
    """
    import asyncio

    from swarmcell.report import swarm_tables
    from swarmcell.workflows.swarm.view import open_onlooker

    seen = asyncio.run(open_onlooker(swarm, site_file=site, identity=identity).look_once())
    if json:
        print_json([dict(vars(proposal)) for proposal in seen.proposals])
    console().print(swarm_tables.proposals(seen) if seen.proposals else "no proposal is open")
    if seen.proposals:
        next_command("swarmcell swarm approve", swarm, seen.proposals[0].digest[:16])
    else:
        next_command("swarmcell swarm status", swarm)


def _end(made: "Ordered", swarm: Path, *, as_json: bool) -> None:
    """Say how far a decision has come, and what comes next."""
    if made.done:
        say("done: the swarm has carried it out")
    elif made.proposal is not None:
        shown = made.proposal
        say(
            f"proposal {shown.digest[:16]}: {shown.change} {shown.member}, approved by {', '.join(shown.approved_by)}. "
            f"The other members approve it with: swarmcell swarm approve {swarm} {shown.digest[:16]}"
        )
    elif made.is_running:
        say("the running peer has the order and will sign it; the log does not show it yet")
    else:
        say("no peer of this identity runs on this machine now: the next `swarmcell train --join` signs it")
    if as_json:
        proposal = None if made.proposal is None else dict(vars(made.proposal))
        print_json({"done": made.done, "is_running": made.is_running, "proposal": proposal})
    next_command(f"swarmcell swarm {'status' if made.done else 'proposals'}", swarm)
