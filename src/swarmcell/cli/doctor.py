"""`swarmcell doctor`: checks a site before it joins."""

from pathlib import Path
from typing import Annotated

import typer

from swarmcell.cli.common import Debug, Json, Quiet, SiteFile, console, next_command, print_json

_COLOURS = {"pass": "green", "warn": "yellow", "fail": "red"}


def doctor(
    prepared: Annotated[Path | None, typer.Argument(help="The prepared file that you will train on.")] = None,
    join: Annotated[Path | None, typer.Option("--join", help="The swarm file that you will join.")] = None,
    site: SiteFile = None,
    identity: Annotated[str | None, typer.Option("--identity", help="Name or path of the identity.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Check a site before it joins: versions, disk, files, cells against the study, identity, engine.

    Ends with exit code 1 if a check failed. Changes nothing.

    Example: `swarmcell doctor site-a.h5ad --join swarm.toml`
    """
    from dataclasses import asdict

    from swarmcell.workflows.doctor import examine

    checks = examine(prepared, swarm=join, site_file=site, identity=identity)
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        console().print(_table(checks))
    if any(check.result == "fail" for check in checks):
        raise typer.Exit(1)
    next_command(*_next(prepared, join, identity))


def _next(prepared: Path | None, join: Path | None, identity: str | None) -> list[str | Path]:
    if prepared is None:
        return ["swarmcell preprocess FOLDER --config configs/rna.toml --out site.h5ad"]
    if join is None:
        return ["swarmcell train", prepared]
    from swarmcell.config import swarm_file

    command = "train" if swarm_file.load(join).study.strata is None else "stratify"
    words: list[str | Path] = [f"swarmcell {command}", prepared, "--join", join]
    return [*words, "--identity", Path(identity)] if identity else words


def _table(checks: list) -> object:  # type: ignore[type-arg]
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "result", "found", "remedy", title="swarmcell doctor")
    for check in checks:
        table.add_row(check.name, Text(check.result, _COLOURS[check.result]), check.found, check.remedy)
    return table
