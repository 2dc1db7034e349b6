"""Options that many commands share, and how a command speaks: what it says, what it ends with, how it fails."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from swarmcell import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console
    from rich.progress import Progress, ProgressColumn
    from rich.text import Text

EXIT_CODES: dict[type[errors.SwarmcellError], int] = {
    errors.UsageError: 2,  # click's own code for a wrong option
    errors.InputError: 3,
    errors.CellsError: 4,
    errors.ConfigError: 5,
    errors.ModelError: 6,
    errors.SwarmError: 7,
    errors.OutputError: 8,
}
EXIT_BUG = 1
EXIT_INTERRUPTED = 130


@dataclass
class _Voice:
    quiet: bool = False
    debug: bool = False


voice = _Voice()


def _set_quiet(value: bool) -> bool:
    voice.quiet = value
    return value


def _set_debug(value: bool) -> bool:
    voice.debug = value
    return value


Quiet = Annotated[bool, typer.Option("--quiet", "-q", callback=_set_quiet, help="Print errors only.")]
Debug = Annotated[bool, typer.Option("--debug", callback=_set_debug, help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output, for programs.")]
SiteFile = Annotated[Path | None, typer.Option("--site", help="Settings of this site.  [default: site.toml, if there]")]
Identity = Annotated[str | None, typer.Option("--identity", help="Identity that signs in the swarm.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of all randomness: same seed, same result.")]
Threads = Annotated[int, typer.Option("--threads", min=0, help="Processor threads; 0 takes all.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what exists at the target.")]


def console() -> "Console":
    """Return the console for people: standard error, silent with `--quiet`; no name of theirs is taken for markup."""
    from rich.console import Console

    return Console(stderr=True, quiet=voice.quiet, highlight=False, markup=False)


def say(text: "str | Text", on: "Console | None" = None) -> None:
    """Print a line for people, as it stands: no path is broken in two.

    `on` is the console of bars that are shown meanwhile: a line on another one would tear them.
    """
    (on or console()).print(text, soft_wrap=True)


def bars(*columns: "str | ProgressColumn", transient: bool = True) -> "Progress":
    """Return progress bars; a log, which is no terminal, gets none, and no blank lines in their place."""
    from rich.progress import Progress

    seen = console()
    return Progress(*columns, console=seen, transient=transient, disable=not seen.is_terminal)


def waiting(facts: dict[str, Any]) -> str:
    """Say what a peer waits for, whom, since when, and what helps; `facts` are those of the event `waiting`."""
    from datetime import UTC, datetime, timedelta

    lasting = timedelta(seconds=round(facts["since_s"]))
    since = (datetime.now(UTC) - lasting).astimezone()
    said = f"waiting: {facts['why']} ({', '.join(facts['who'])}; for {lasting}, since {since:%a %H:%M})"
    if not facts["away"]:
        return said
    away = ", ".join(facts["away"])
    return f"{said}\n  no sign of life of {away}: all goes on by itself once the same command runs there again"


def next_command(*words: "str | Path") -> None:
    """Print the command that comes next, with which every command ends: texts as they are, paths as for a shell."""
    if not voice.quiet:
        typer.echo("next: " + " ".join(w if isinstance(w, str) else shlex.quote(str(w)) for w in words), err=True)


def say_how_it_goes_on(command: str, files: "list[Path]", given: "Mapping[str, Any]", *switches: str) -> None:
    """Say that a command was interrupted, and print the one that goes on: the same, with every option that was given.

    Parameters
    ----------
    given
        Options by their flags; those that are `None` were not given.
    switches
        Flags without a value.
    """
    say("interrupted; the run can go on:")
    options = [part for flag, value in given.items() if value is not None for part in (flag, str(value))]
    next_command(shlex.join(["swarmcell", command, *map(str, files), *options, *switches]))


def print_json(value: dict[str, Any] | list[Any]) -> None:
    """Print one JSON document on standard output."""
    import json

    typer.echo(json.dumps(value, indent=2, sort_keys=True))


def exit_code(error: errors.SwarmcellError) -> int:
    """Return the exit code of the error's branch."""
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), EXIT_BUG)


def fail(error: errors.SwarmcellError) -> NoReturn:
    """End the program as the error's branch of the tree says."""
    if voice.debug:
        import traceback

        traceback.print_exception(error)
    typer.echo(f"error: {error}", err=True)
    for note in getattr(error, "__notes__", ()):
        typer.echo(f"  {note}", err=True)
    sys.exit(exit_code(error))
