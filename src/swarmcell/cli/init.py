"""`swarmcell init`."""

from pathlib import Path
from typing import Annotated

import typer

from swarmcell.cli.common import Debug, Force, Quiet, next_command, say


def init(
    name: Annotated[str, typer.Option(help="Name of this site and of its identity.")] = "site-a",
    out: Annotated[Path, typer.Option(help="Where to write the site file.")] = Path("site.toml"),
    force: Force = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Set up this site: a commented site file and an identity.

    An identity that exists is kept, also with --force.

    Example: `swarmcell init --name site-a`
    """
    from swarmcell.workflows.init import initialise

    done = initialise(name, out, force=force)
    say(f"wrote {done.site_file}; identity {name} {'made' if done.is_new_identity else 'was there before: kept'}")
    say(f"public card: {done.card_file} (send it to whoever creates the swarm)")
    next_command(f"swarmcell identity show {name}")
