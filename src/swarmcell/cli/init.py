"""`swarmcell init`."""

from pathlib import Path
from typing import Annotated

import typer

from swarmcell.cli.common import Debug, Force, Quiet, next_command, say
from swarmcell.errors import UsageError


def init(
    name: Annotated[str, typer.Option(help="Name of this site and of its identity.")] = "site-a",
    out: Annotated[Path, typer.Option(help="Where to write the site file.")] = Path("site.toml"),
    engine_card: Annotated[
        list[Path] | None,
        typer.Option("--engine-card", help="Engine card of a server of the cluster; may be repeated."),
    ] = None,
    websocket: Annotated[
        bool, typer.Option("--websocket", help="Dial the cluster by WebSocket, which most firewalls let pass.")
    ] = False,
    proxy: Annotated[str, typer.Option("--proxy", help="http://host:port of the proxy to dial through.")] = "",
    force: Force = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Set up this site: a commented site file and an identity.

    An identity that exists is kept, also with --force. Without --engine-card the log is one file on this machine.

    Example: `swarmcell init --name site-a`
    """
    from swarmcell.workflows.init import initialise

    nats = None
    if engine_card:
        nats = {"cards": [str(card) for card in engine_card], "websocket": websocket, "proxy": proxy}
    elif websocket or proxy:
        msg = "--websocket and --proxy say how to reach a cluster: name its engine cards with --engine-card."
        raise UsageError(msg)
    done = initialise(name, out, nats=nats, force=force)
    say(f"wrote {done.site_file}; identity {name} {'made' if done.is_new_identity else 'was there before: kept'}")
    say(f"public card: {done.card_file} (send it to whoever creates the swarm)")
    next_command(f"swarmcell identity show {name}")
