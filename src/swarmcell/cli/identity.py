"""`swarmcell identity`."""

from typing import Annotated

import typer

from swarmcell.cli.common import Debug, Force, Json, Quiet, next_command, print_json, say

app = typer.Typer(no_args_is_help=True, help="Make or show the keys with which this site signs.")

Keyring = Annotated[
    bool,
    typer.Option("--keyring", help="Let the keyring of this system make and keep the passphrase (extra `keyring`)."),
]
Name = Annotated[str, typer.Argument(help="Name of the identity, such as the site's name.")]


@app.command("create")
def create(
    name: Name,
    passphrase: Annotated[bool, typer.Option("--passphrase", help="Encrypt the secrets under a passphrase.")] = False,
    keyring: Keyring = False,
    force: Force = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make a new identity; its secret file is for this user only (mode 0600).

    Replacing one with --force leaves the swarms that know the old one. A passphrase is asked for, or taken from
    SWARMCELL_PASSPHRASE, or from the file that SWARMCELL_PASSPHRASE_FILE names.

    Example: `swarmcell identity create site-a --passphrase`
    """
    from swarmcell.errors import UsageError
    from swarmcell.node import identity

    if passphrase and keyring:
        msg = "--passphrase and --keyring: give one of them; the keyring keeps a passphrase that it makes itself."
        raise UsageError(msg)
    identity.create(name, force=force, protect=passphrase, keyring=keyring)
    secret = identity.secret_path(name)
    say(f"identity {name}: secret {secret}, public card {identity.card_path(secret)}")
    next_command(f"swarmcell identity show {name}")


@app.command("protect")
def protect(
    name: Name,
    remove: Annotated[bool, typer.Option("--remove", help="Take the passphrase away.")] = False,
    keyring: Keyring = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Put an identity's secrets under a passphrase, so that a copy of the file is of no use; the keys stay the same.

    One that has a passphrase is asked for it first: take it away with --remove, and set another. The passphrase is
    asked for, or taken from SWARMCELL_PASSPHRASE, or from the file that SWARMCELL_PASSPHRASE_FILE names.

    Example: `swarmcell identity protect site-a`
    """
    from swarmcell.errors import UsageError
    from swarmcell.node import identity

    if identity.is_protected(name) is not remove:
        msg = f"{name}: has a passphrase already. Take it away first: --remove." if not remove else f"{name}: has none."
        raise UsageError(msg)
    path = identity.protect(name, remove=remove, keyring=keyring)
    kept = " that the keyring of this system keeps" if keyring and not remove else ""
    say(f"{path}: {'no longer ' if remove else ''}under a passphrase{kept}")
    next_command(f"swarmcell identity show {name}")


@app.command("show")
def show(
    name: Annotated[str | None, typer.Argument(help="Name of the identity; without it, all names are listed.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Print the public card of an identity, to be sent to whoever creates the swarm. It holds no secret.

    Example: `swarmcell identity show site-a > site-a.card.toml`
    """
    from swarmcell.node import identity

    if name is None:
        names = identity.local_names()
        print_json(names) if json else typer.echo("\n".join(names) or "no identity yet")
        next_command("swarmcell identity create site-a" if not names else f"swarmcell identity show {names[0]}")
        return
    card = identity.load(name).card
    if json:
        keys = {key: getattr(card, key).hex() for key in ("signing_key", "sealing_key", "engine_key")}
        print_json({"name": card.name, **keys})
    else:
        typer.echo(card.to_toml().decode(), nl=False)
    next_command(f"swarmcell swarm create CONFIG --founder {name} --founder ... --out swarm.toml")
