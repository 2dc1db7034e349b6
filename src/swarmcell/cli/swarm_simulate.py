"""`swarmcell swarm simulate`."""

from typing import Annotated

import typer

from swarmcell.cli.common import Debug, Json, Quiet, Seed, console, next_command, print_json


def simulate(  # noqa: PLR0917 (options)
    peers: Annotated[int, typer.Option(min=1, max=1000, help="Members of the swarm.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds to merge.")] = 10,
    f: Annotated[int, typer.Option("--f", min=0, help="Lying members that the rules tolerate.")] = 0,
    update_mb: Annotated[float, typer.Option(min=0, help="Size of one site's update, in MB.")] = 1.0,
    down: Annotated[float, typer.Option(min=0, help="Share of the peers that are down, chosen anew each round.")] = 0.0,
    liars: Annotated[int, typer.Option(min=0, help="Members that vote for bodies of their own.")] = 0,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a swarm of virtual peers on this machine: what a consortium of this size costs, and what it survives.

    Nothing is trained, and no file is read or written. Ends with exit code 7 if the swarm stands still.

    Example: `swarmcell swarm simulate --peers 12 --f 1 --update-mb 20 --down 0.2`
    """
    from swarmcell.errors import SwarmError
    from swarmcell.report import simulation_table
    from swarmcell.workflows.swarm.simulate import Plan, simulate, simulated_json

    plan = Plan(peers=peers, f=f, rounds=rounds, update_bytes=int(update_mb * 1e6), down=down, liars=liars, seed=seed)
    with console().status("founding the swarm") as status:
        found = simulate(plan, lambda number: status.update(f"round {number} of {rounds}"))
    if json:
        print_json(simulated_json(found))
    console().print(simulation_table.simulated(found))
    if found.stalled:
        msg = (
            f"the swarm stands still after round {found.rounds}: {found.stalled}. Of {peers} members {found.quorum} "
            "must be up and honest: plan with more members, or fewer of them down or lying."
        )
        raise SwarmError(msg)
    next_command("swarmcell swarm create CONFIG.toml --founder CARD --out swarm.toml")
