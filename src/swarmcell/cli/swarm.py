"""`swarmcell swarm`."""

from pathlib import Path
from typing import Annotated

import typer

from swarmcell.cli.common import Debug, Force, Json, Quiet, next_command, print_json, say

app = typer.Typer(no_args_is_help=True, help="Found a swarm, and look at one.")


@app.command("create")
def create(
    config: Annotated[Path, typer.Argument(help="TOML file with the study and the swarm's rules.")],
    founder: Annotated[list[str], typer.Option(help="A founder: a public card's file, or a local identity's name.")],
    out: Annotated[Path, typer.Option(help="Where to write the swarm file.")] = Path("swarm.toml"),
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write the swarm file that all sites share; it holds no secret.

    Two peers survive nothing, three survive one crash, and four with f = 1 survive one lying member.

    Example: `swarmcell swarm create configs/swarm-rna.toml --founder site-a --founder b.card.toml --out swarm.toml`
    """
    from swarmcell.workflows.swarm import found

    made = found(config, founder, out, force=force)
    say(f"wrote {made.path}: swarm {made.swarm.digest[:16]}, study {made.swarm.study.name}, {made.n} founders")
    say(made.meaning())
    if json:
        about = {"n": made.n, "f": made.f, "quorum": made.quorum, "may_be_away": made.away}
        print_json({"digest": made.swarm.digest, "path": str(made.path), **about})
    next_command(f"swarmcell train SITE.h5ad --join {made.path}")
