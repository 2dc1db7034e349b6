"""`swarmcell swarm`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarmcell.cli.common import Debug, Force, Json, Quiet, SiteFile, console, next_command, print_json, say

if TYPE_CHECKING:
    from swarmcell.workflows.swarm.verify import Verified
    from swarmcell.workflows.swarm.view import Onlooker

app = typer.Typer(no_args_is_help=True, help="Found a swarm, and look at one.")


@app.command("create")
def create(
    config: Annotated[Path, typer.Argument(help="TOML file with the study and the swarm's rules.")],
    founder: Annotated[list[str], typer.Option(help="Card (or local identity) of a founder; repeat it for each.")],
    out: Annotated[Path, typer.Option(help="Where to write the swarm file.")] = Path("swarm.toml"),
    secure_aggregation: Annotated[
        bool, typer.Option("--secure-aggregation", help="Hide each site's part, as the line of that name in the study.")
    ] = False,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write the swarm file that all sites share; it holds no secret.

    Two peers survive nothing, three survive one crash, and four with f = 1 survive one lying member. With
    --secure-aggregation members see sums over sites only; a sum needs three, so of three sites none may stay away.

    Example: `swarmcell swarm create configs/swarm-rna.toml --founder site-a --founder b.card.toml --out swarm.toml`
    """
    from swarmcell.workflows.floor_words import terms
    from swarmcell.workflows.swarm.founding import found

    made = found(config, founder, out, secure_aggregation=secure_aggregation, force=force)
    say(f"wrote {made.path}: swarm {made.swarm.digest[:16]}, study {made.swarm.study.name}, {made.n} founders")
    say(made.meaning())
    say(terms(made.swarm.study))
    if json:
        floors = {"floors": dict(vars(made.swarm.study.floors)), "terms": terms(made.swarm.study)}
        about = {"n": made.n, "f": made.f, "quorum": made.quorum, "may_be_away": made.away}
        print_json({"digest": made.swarm.digest, "path": str(made.path), **about, **floors})
    command = "train" if made.swarm.study.strata is None else "stratify"
    next_command(f"swarmcell {command} SITE.h5ad --join", made.path)


SwarmFile = Annotated[Path, typer.Argument(help="The swarm file.")]
Who = Annotated[str | None, typer.Option("--identity", help="Identity by which an engine of many machines knows you.")]
Ledger = Annotated[Path | None, typer.Option("--ledger", help="Read a run's ledger.sqlite instead of the engine.")]


@app.command("status")
def status(
    swarm: SwarmFile = Path("swarm.toml"),
    watch: Annotated[bool, typer.Option("--watch", help="Show it live, until Ctrl-C.")] = False,
    site: SiteFile = None,
    identity: Who = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show who is up, where the swarm stands, and whom it waits for. Signs nothing.

    Example: `swarmcell swarm status swarm.toml --watch`
    """
    import asyncio
    import contextlib

    from swarmcell.config import swarm_file
    from swarmcell.report import swarm_tables
    from swarmcell.workflows.floor_words import terms
    from swarmcell.workflows.swarm.view import open_onlooker, status_json

    onlooker = open_onlooker(swarm, site_file=site, identity=identity)
    if watch:
        with contextlib.suppress(KeyboardInterrupt):  # the way to end it
            asyncio.run(_watch(onlooker))
        return
    seen = asyncio.run(onlooker.look_once())
    if json:
        print_json(status_json(seen))
    console().print(swarm_tables.status(seen))
    say(terms(swarm_file.load(swarm).study))
    next_command("swarmcell swarm show", swarm)


async def _watch(onlooker: "Onlooker") -> None:
    import asyncio

    from rich.live import Live

    from swarmcell.report import swarm_tables

    try:
        with Live(swarm_tables.status(await onlooker.look()), console=console(), auto_refresh=False) as live:
            while True:
                await asyncio.sleep(1)
                live.update(swarm_tables.status(await onlooker.look()), refresh=True)
    finally:
        await onlooker.close()


@app.command("show")
def show(  # noqa: PLR0917 (options are arguments)
    swarm: SwarmFile = Path("swarm.toml"),
    ledger: Ledger = None,
    mine: Annotated[
        bool, typer.Option("--mine", help="List every entry that this site ever signed (--ledger).")
    ] = False,
    contents: Annotated[
        bool, typer.Option("--contents", help="With --mine: also open what was sealed for the members (--identity).")
    ] = False,
    site: SiteFile = None,
    identity: Who = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show the swarm's blocks: what was merged, what was left out and why, and the digest of each state.

    A block that changed the members or the swarm's key says who proposed it and who approved it, at which entry of the
    log it became final, and, with --ledger, since when this site knows it. What was trimmed is said.

    With --mine: what this site ever published, from its own ledger, and what of it the engine can read; with
    --contents also the arrays that the members can read, by name and shape.

    Example: `swarmcell swarm show swarm.toml --ledger runs/site-a/ledger.sqlite`
    """
    import asyncio

    from swarmcell.report import swarm_tables
    from swarmcell.workflows.swarm.view import blocks_json, open_onlooker, view_ledger

    if mine:
        _show_mine(swarm, ledger, identity if contents else None, opened=contents, as_json=json)
        return
    if ledger is not None:
        seen = view_ledger(swarm, ledger)
    else:
        seen = asyncio.run(open_onlooker(swarm, site_file=site, identity=identity).look_once())
    if json:
        print_json(blocks_json(seen))
    console().print(swarm_tables.blocks(seen))
    if seen.blocks and (first := seen.blocks[0].body.height) > 0:
        say(
            f"blocks 0 to {first - 1} are not here: they were trimmed below a checkpoint. A ledger that followed them "
            "still names them: --ledger runs/NAME/ledger.sqlite"
        )
    next_command("swarmcell swarm verify", swarm)


def _show_mine(swarm: Path, ledger: Path | None, identity: str | None, *, opened: bool, as_json: bool) -> None:
    from dataclasses import replace

    from swarmcell.errors import UsageError
    from swarmcell.report import swarm_tables
    from swarmcell.workflows.swarm import published_contents
    from swarmcell.workflows.swarm.published import published, published_json

    if ledger is None:
        msg = "--mine lists what one peer signed. Name its ledger: --ledger runs/NAME/ledger.sqlite."
        raise UsageError(msg)
    if opened and identity is None:
        msg = "--contents opens what was sealed. Name the identity that this ledger belongs to: --identity NAME."
        raise UsageError(msg)
    found = published(swarm, ledger)
    if identity is not None:
        inside = published_contents.contents(swarm, ledger, identity)
        found = tuple(replace(one, contents=inside.get(one.sequence, {})) for one in found)
    if as_json:
        print_json(published_json(found))
    console().print(swarm_tables.mine(found))
    next_command("swarmcell swarm verify", swarm, "--ledger", ledger)


@app.command("verify")
def verify(  # noqa: PLR0917 (options are arguments)
    swarm: SwarmFile = Path("swarm.toml"),
    ledger: Ledger = None,
    cells: Annotated[
        list[Path] | None, typer.Option(help="Prepared cells of the study: compute every merge again, too.")
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="The model that a fine-tuned study started from.")
    ] = None,
    site: SiteFile = None,
    identity: Who = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Check every signature, chain, block and certificate again; with --cells, every merge too.

    Where the beginning of log or ledger was trimmed, it begins at a checkpoint that a quorum of the founders signed (or
    the invitation in the swarm file vouches for), and says what is proven and what is taken on trust. Ends with exit
    code 7 if anything is wrong.

    Example: `swarmcell swarm verify swarm.toml --cells site-a.h5ad --identity site-a`
    """
    from swarmcell.errors import TamperedError
    from swarmcell.workflows.swarm.verify_run import verify_swarm

    found = verify_swarm(swarm, ledger=ledger, cells=cells or [], site_file=site, identity=identity, start=start)
    if json:
        print_json(dict(vars(found)))
    say(
        f"{found.entries} entries, {found.signatures} signatures, {found.blocks} blocks, {found.commits} commits, "
        f"{found.merges} merges and {found.evaluations} evaluations checked"
    )
    _say_where_it_begins(found)
    if not cells:
        say("no merge was computed again: --cells SITE.h5ad (prepared cells of the study) does that")
    for why, n in found.strange.items():
        say(f"{n} entries of the log count for nothing: {why}")
    for path, n in found.lacking.items():
        say(f"the engine's log lacks {n} entries that {path} holds")
        next_command("swarmcell swarm give-back", swarm, "--ledger", path)
    if found.faults:
        msg = "\n  ".join([f"{swarm}: this history is not right:", *found.faults])
        if ledger is None:
            msg += (
                "\nA server may have lost what members hold. Verify a member's copy: --ledger runs/NAME/ledger.sqlite; "
                "and give the engine back what it lacks: swarmcell swarm give-back"
            )
        raise TamperedError(msg)
    next_command("swarmcell swarm status", swarm)


def _say_where_it_begins(found: "Verified") -> None:
    """Say what a history whose beginning is trimmed proves, and what not."""
    if not found.on_trust:
        return
    say(f"the beginning is trimmed: checked from the checkpoint of block {found.begins} on")
    for said in found.proven:
        say(f"proven: {said}")
    for said in found.on_trust:
        say(f"on trust: {said}")
    say("a member's ledger that was never trimmed proves the rest: --ledger runs/NAME/ledger.sqlite")


@app.command("give-back")
def give_back(
    ledger: Annotated[Path, typer.Option("--ledger", help="The ledger of this site's run: runs/NAME/ledger.sqlite.")],
    swarm: SwarmFile = Path("swarm.toml"),
    look: Annotated[bool, typer.Option("--look", help="Only say how many entries the engine's log lacks.")] = False,
    site: SiteFile = None,
    identity: Who = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Append to the engine's log what it has lost and this site's ledger holds. Signs nothing.

    Running peers do that by themselves. This is for a log that lost something after all peers had ended.

    Example: `swarmcell swarm give-back swarm.toml --ledger runs/site-a/ledger.sqlite`
    """
    from swarmcell.workflows.swarm import give_back as giving

    found = giving.give_back(swarm, ledger, only_look=look, site_file=site, identity=identity)
    if json:
        print_json(dict(vars(found)))
    if not found.lacking:
        say(f"the engine's log holds all {found.held} entries that this ledger holds")
    elif look:
        say(f"the engine's log lacks {found.lacking} of {found.held} entries that this ledger holds")
        next_command("swarmcell swarm give-back", swarm, "--ledger", ledger)
        return
    else:
        say(f"the engine's log lacked {found.lacking} of {found.held} entries that this ledger holds: given back")
    next_command("swarmcell swarm verify", swarm)
