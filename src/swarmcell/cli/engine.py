"""`swarmcell engine`: the server that a founding hospital runs."""

from pathlib import Path
from typing import Annotated

import typer

from swarmcell.cli.common import Debug, Force, Quiet, next_command, say

app = typer.Typer(no_args_is_help=True, help="Run one of the servers that keep the swarm's log (NATS).")

Folder = Annotated[Path, typer.Option("--out", help="Folder of the server's files.")]


@app.command("card")
def card(  # noqa: PLR0917 (typer gives them by name)
    site: Annotated[str, typer.Argument(help="Name of the site that runs the server.")],
    host: Annotated[str, typer.Option("--host", help="Name or address at which all other sites reach the server.")],
    client_port: Annotated[int, typer.Option("--client-port", min=1, max=65535, help="Port for peers.")] = 4222,
    cluster_port: Annotated[
        int, typer.Option("--cluster-port", min=1, max=65535, help="Port for the other founding hospitals' servers.")
    ] = 6222,
    websocket_port: Annotated[
        int,
        typer.Option("--websocket-port", min=0, max=65535, help="Port for peers by WebSocket, such as 443; 0: none."),
    ] = 0,
    out: Folder = Path("engine"),
    force: Force = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make the server's key, and the public engine card that all other sites need.

    Example: `swarmcell engine card site-a --host swarm.hospital-a.example`
    """
    from swarmcell.engine.nats_card import ServerCard
    from swarmcell.workflows import engine

    wanted = ServerCard(
        site=site, host=host, client_port=client_port, cluster_port=cluster_port, websocket_port=websocket_port
    )
    made = engine.make_card(wanted, out, force=force)
    say(f"engine card of {site}: {made.card_file} (send it to all sites); its secret key stays in {made.key_file}")
    next_command("swarmcell engine config swarm.toml", made.card_file, "CARD CARD --out", out)


@app.command("config")
def config(  # noqa: PLR0917 (typer gives them by name)
    swarm: Annotated[Path, typer.Argument(help="The swarm file.")],
    cards: Annotated[
        list[Path], typer.Argument(help="Engine cards of all servers: 1, 3 or 5, this site's among them.")
    ],
    member: Annotated[
        list[str] | None, typer.Option("--member", help="Card of another site that may connect; may be repeated.")
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option("--without", help="Name of a revoked site that may connect no more; may be repeated."),
    ] = None,
    store_gb: Annotated[int, typer.Option("--store-gb", min=1, help="Most that the log may take, in GB.")] = 64,
    out: Folder = Path("engine"),
    force: Force = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write the server's configuration: the cluster, TLS, who may connect and what each may do.

    When members change, write it anew with --force, and let the running server read it: `swarmcell engine reload`.

    Example: `swarmcell engine config swarm.toml site-a.engine.toml site-b.engine.toml site-c.engine.toml`
    """
    from swarmcell.workflows import engine

    made = engine.configure(
        swarm, cards, out, members=member or (), without=without or (), store_gb=store_gb, force=force
    )
    for remark in made.remarks:
        say(remark)
    say(f"{made.server_file} written. Every site file holds this part; `swarmcell init --engine-card` writes it:")
    typer.echo(made.site_engine, nl=False)
    next_command(f"swarmcell engine {'reload' if force else 'run'}", out)


Files = Annotated[Path, typer.Argument(help="Folder of the server's files.")]
Binary = Annotated[
    Path | None, typer.Option("--binary", help="Path of nats-server.  [default: where the system finds it]")
]


@app.command("run")
def run(
    folder: Files = Path("engine"),
    binary: Binary = None,
    check: Annotated[bool, typer.Option("--check", help="Check the configuration, and do not start.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run the server until it is stopped; `swarmcell` becomes `nats-server`, which logs to standard error.

    Example: `swarmcell engine run`
    """
    import os

    from swarmcell.workflows import engine

    command = engine.command(folder, binary)
    next_command("swarmcell train PREPARED --join swarm.toml")
    if check:
        say(f"{folder}: nats-server accepts the configuration")
        return
    os.execv(command[0], command)  # noqa: S606 (no shell is what is wanted)


@app.command("reload")
def reload(folder: Files = Path("engine"), binary: Binary = None, quiet: Quiet = False, debug: Debug = False) -> None:
    """Let the running server read its configuration anew: members that are new may connect, revoked ones no more.

    Example: `swarmcell engine reload`
    """
    from swarmcell.workflows import engine

    pid = engine.reload(folder, binary)
    say(f"{folder}: the server (process {pid}) reads its configuration anew")
    next_command("swarmcell swarm status swarm.toml")
