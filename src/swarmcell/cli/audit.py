"""`swarmcell audit`."""

from pathlib import Path
from typing import Annotated

import typer

from swarmcell.cli.common import Debug, Force, Json, Quiet, Seed, bars, console, next_command, print_json, say
from swarmcell.cli.evaluate import Against, named_models, observer

app = typer.Typer(no_args_is_help=True, help="Measure what a model gives away.")


@app.callback()
def audit() -> None:
    """Measure what a model gives away."""


@app.command("privacy")
def privacy(  # noqa: PLR0917 (options are arguments)
    model: Annotated[Path, typer.Argument(help="Model file (.safetensors) with a cell task.", show_default=False)],
    files: Annotated[
        list[Path], typer.Argument(help="Prepared files with training and held-out donors.", show_default=False)
    ],
    shadows: Annotated[
        int, typer.Option("--shadows", min=0, help="Shadow models to train on random halves of the donors; 0: none.")
    ] = 8,
    bootstrap: Annotated[
        int, typer.Option("--bootstrap", min=0, max=100_000, help="Resamples of donors for intervals.")
    ] = 1000,
    against: Against = None,
    protect: Annotated[
        list[str] | None,
        typer.Option(
            "--protect",
            metavar="KEY=VALUE",
            help="Train here without and with this protection, and attack both: l2=1, epsilon=8; may be repeated.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the result here (.json).")] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Also write it as one HTML page (.html).")] = None,
    seed: Seed = 0,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Attack a model as a curious reader would: say whether trained cells can be told from others.

    Two attacks on this site's own cells: the loss of each cell (Yeom et al. 2018), and shadow models that this site
    trains on random halves of its donors (Carlini et al. 2022). An AUROC of 0.5 is guessing.

    `--against own=runs/site-a/local.safetensors` puts the model of this site alone beside the merged one: what its own
    updates come to without secure aggregation, beside what is seen with it. `--protect` measures what a rule would do.

    Example: `swarmcell audit privacy runs/site-a/merged.safetensors site-a.h5ad --protect l2=1 --report audit.html`
    """
    from swarmcell.errors import UsageError
    from swarmcell.files import refuse_existing, write_whole
    from swarmcell.report import audit_page, audit_table
    from swarmcell.workflows.audit_privacy import audit_privacy, protection

    if shadows == 1:
        msg = "--shadows 1: a cell needs models with it and without it. Give 2 or more, or 0 for none."
        raise UsageError(msg)
    protections = [protection(text) for text in protect or []]
    for target in filter(None, (out, report)):
        refuse_existing(target, force=force)
    with bars() as progress:
        found = audit_privacy(
            model,
            files,
            n_shadows=shadows,
            n_resamples=bootstrap,
            seed=seed,
            against=named_models(against or []),
            protections=protections,
            observer=observer(progress, "models"),
        )
    if json:
        print_json(found.to_json())
    audit_table.show(found, console())
    if out is not None:
        write_whole(out, audit_table.as_json(found), force=force)
        say(f"written: {out}")
    if report is not None:
        write_whole(report, audit_page.render(found), force=force)
        say(f"report: {report}")
    next_command("swarmcell evaluate", model, *files)
