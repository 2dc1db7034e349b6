"""The command `swarmcell`. Command modules import what they need when they run, so that `--help` is quick."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from swarmcell import __version__
from swarmcell.cli import (
    align,
    audit,
    demo,
    doctor,
    engine,
    evaluate,
    identity,
    init,
    model,
    panel,
    predict,
    preprocess,
    runs,
    start,
    stratify,
    swarm_members,
    swarm_simulate,
    train,
)
from swarmcell.cli.common import EXIT_INTERRUPTED, fail, say
from swarmcell.errors import SwarmcellError


class Program(TyperGroup):
    """All commands; one that Ctrl-C stops ends in words, where typer says nothing."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 (typer's own context differs by version)
        """Run the command that was asked for."""
        start.begin()
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say("interrupted; what was asked for has not been done, and nothing half-written is left.")
            raise typer.Exit(EXIT_INTERRUPTED) from None


app = typer.Typer(
    name="swarmcell",
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"swarmcell {__version__}")
        raise typer.Exit


@app.callback()
def swarmcell(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Single-cell swarm classification: hospitals train one model together; no cell leaves its hospital.

    Start with `swarmcell demo`, or by hand: preprocess, train, evaluate.
    """


app.command("preprocess")(preprocess.preprocess)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("stratify")(stratify.stratify)
app.command("init")(init.init)
app.command("doctor")(doctor.doctor)
app.command("runs")(runs.runs)
app.command("demo")(demo.demo)
swarm_members.app.command("simulate")(swarm_simulate.simulate)
app.add_typer(identity.app, name="identity")
app.add_typer(swarm_members.app, name="swarm")  # the app of cli/swarm.py, with the commands on members
app.add_typer(engine.app, name="engine")
app.add_typer(panel.app, name="panel")
app.add_typer(model.app, name="model")
app.add_typer(audit.app, name="audit")
app.add_typer(align.app, name="align")


def main() -> None:
    """Run the command line; errors become exit codes here and nowhere else."""
    try:
        app()
    except SwarmcellError as error:
        fail(error)
