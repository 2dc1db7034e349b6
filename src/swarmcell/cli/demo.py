"""`swarmcell demo`."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from swarmcell.cli.common import Debug, Force, Json, Quiet, console, next_command, print_json, say
from swarmcell.errors import OutputError, UsageError


class Cohort(StrEnum):
    """The simulated cohorts."""

    rna = "rna"
    cytometry = "cytometry"


Out = Annotated[Path, typer.Option("--out", help="Folder to write; all that the demo makes lies there.")]
Source = Annotated[
    Path | None, typer.Option("--sample-data", help="Folder of sample data.  [default: the repository's]")
]
Which = Annotated[Cohort, typer.Option("--modality", help="Which simulated cohort to take.")]


def demo(
    out: Out = Path("demo"),
    sample_data: Source = None,
    modality: Which = Cohort.rna,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run three hospitals on this machine: preprocess, train in a swarm, evaluate on held-out patients.

    It runs the very commands that you would type, each in a process of its own, on simulated data, and prints them.
    Takes about two minutes on two cores.

    Example: `swarmcell demo --out demo`
    """
    from swarmcell.workflows import demo as workflow

    _make_way(out, workflow.MARKER, force=force)
    source = sample_data or _repository() / "sample_data"
    done = workflow.demonstrate(
        source, source.parent / "configs", out, modality=modality.value, observer=_observer(out)
    )
    if json:
        print_json(done.summary())
    digest = next(iter(done.digests.values()))
    say(f"\nAll three sites hold the same merged model: {digest[:16]}.")
    say(f"{done.seconds:.0f} s in all; a peer took at most {done.peer_memory_mb_max:.0f} MB of memory.")
    typer.echo(f"report: {done.report}", err=json)
    next_command("swarmcell init --name YOUR-SITE")


def _make_way(out: Path, marker: str, *, force: bool) -> None:
    """Remove the folder of an earlier demo; refuse any other folder."""
    import shutil

    if not out.exists():
        return
    if not (out / marker).is_file():
        msg = f"{out}: exists, and no demo made it (no {marker} in it). Choose another folder with --out."
        raise OutputError(msg)
    if not force:
        msg = f"{out}: holds a demo already. Replace it with --force, or choose another folder with --out."
        raise OutputError(msg)
    shutil.rmtree(out)


def _repository() -> Path:
    """Find the folder that holds sample_data: this one, or the checkout that swarmcell is installed from."""
    for folder in (Path(), Path(__file__).parents[3]):
        if (folder / "sample_data" / "rna").is_dir():
            return folder
    msg = "no sample data here; they come with the repository, not with the package. Run it there, or --sample-data."
    raise UsageError(msg)


def _observer(out: Path) -> Callable[[str, dict[str, Any]], None]:
    """Print steps and command lines as they come; show the rounds of all peers in one line."""
    terminal = console()
    latest: dict[str, str] = {}
    terminal.print(f"Each hospital's commands run in the folder {out}/ with XDG_CONFIG_HOME={out}/config.")

    def observe(event: str, about: dict[str, Any]) -> None:
        if event == "step":
            terminal.print(f"\n{about['title']}", style="bold")
            latest.clear()
        elif event == "command":
            terminal.print(f"  {about['who']:7} $ {about['text']}", soft_wrap=True)
        elif event == "round":
            _show_round(about, latest)
        elif event == "done":
            terminal.print(f"  {about['who']:7} done in {about['seconds']:.1f} s")

    def _show_round(about: dict[str, Any], latest: dict[str, str]) -> None:
        loss = about.get("validation_loss")
        text = f"{about.get('stage', '')} {about.get('round', '')}" + (f" loss {loss:.3f}" if loss is not None else "")
        if latest.get(about["who"]) != text:
            latest[about["who"]] = text
            terminal.print(f"    {about['who']:7} {text}")

    return observe
