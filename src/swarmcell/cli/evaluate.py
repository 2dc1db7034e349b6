"""`swarmcell evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmcell.cli.common import (
    Debug,
    Force,
    Identity,
    Json,
    Quiet,
    Seed,
    SiteFile,
    bars,
    console,
    next_command,
    print_json,
    say,
)
from swarmcell.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress

    from swarmcell.workflows.evaluation.swarm_figures import SwarmFigures

Model = Annotated[Path, typer.Argument(help="Model file (.safetensors) that train wrote.", show_default=False)]
Files = Annotated[list[Path], typer.Argument(help="Prepared files with held-out donors.", show_default=False)]
Against = Annotated[
    list[str] | None,
    typer.Option("--against", metavar="NAME=MODEL", help="A further model on the same donors; may be repeated."),
]
Compare = Annotated[
    bool, typer.Option("--compare", help="Train each site of these files alone, and all pooled, to compare with.")
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder to write.  [default: evaluation/ beside the model]")]
Bootstrap = Annotated[int, typer.Option("--bootstrap", min=0, max=100_000, help="Resamples of donors for intervals.")]
Umap = Annotated[int, typer.Option("--umap", min=0, max=5000, help="Held-out cells in a map (UMAP); 0: no map.")]
Refit = Annotated[
    str | None,
    typer.Option("--refit", metavar="donors|N", help="Fit the study again: each donor held out, or N random splits."),
]
Join = Annotated[
    Path | None,
    typer.Option("--join", metavar="SWARM", help="Swarm file: publish this site's counts, show the swarm's figures."),
]
NoPublish = Annotated[bool, typer.Option("--no-publish", help="With --join: read the others' counts, sign nothing.")]
Wait = Annotated[float, typer.Option("--wait", min=0, help="With --join: seconds to wait for the others' counts.")]


def evaluate(  # noqa: PLR0917 (options are arguments)
    model: Model,
    files: Files,
    against: Against = None,
    compare: Compare = False,
    out: Out = None,
    bootstrap: Bootstrap = 2000,
    umap: Umap = 0,
    refit: Refit = None,
    join: Join = None,
    no_publish: NoPublish = False,
    wait: Wait = 0.0,
    site: SiteFile = None,
    identity: Identity = None,
    seed: Seed = 0,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say what a model is worth on held-out donors: figures with intervals, and a report.

    Only donors with `split` = `held_out` count. A `local.safetensors` beside the model is evaluated on the same
    donors; other models join by `--against`. The folder gets `report.html` (one file, needs no network),
    `evaluation.json` and `figures/`.

    With `--join` this site's counts (never cells, donors or probabilities; nothing below the study's floors) go
    into the swarm's log, signed, and the report shows the figures of all members who published: the same at each.

    With `--refit` the study is fitted again on other splits of the donors of these files, on this machine: how much
    the figures depend on who was held out.

    Example: `swarmcell evaluate runs/site-a/merged.safetensors site-a.h5ad --against site-b=b.safetensors`

    Example: `swarmcell evaluate runs/site-a/merged.safetensors site-a.h5ad site-b.h5ad --compare`

    Example: `swarmcell evaluate runs/site-a/merged.safetensors site-a.h5ad --join swarm.toml`
    """
    from dataclasses import replace
    from tempfile import TemporaryDirectory

    from swarmcell.report import evaluation_table, folder
    from swarmcell.workflows import comparison
    from swarmcell.workflows import evaluate as workflow

    if join is None and (no_publish or wait or site or identity):
        msg = "--no-publish, --wait, --site and --identity belong to a swarm: give its file with --join."
        raise UsageError(msg)
    target = out or model.parent / "evaluation"
    folder.refuse_existing(target, force=force)
    others = named_models(against or [])
    with TemporaryDirectory(prefix="swarmcell-compare-") as scratch:
        made = comparison.peers(model, files, Path(scratch), tell=say) if compare else {}
        with bars() as progress:
            found = workflow.evaluate(
                model,
                files,
                against=made | others,
                seed=seed,
                n_bootstrap=bootstrap,
                n_mapped=umap,
                observer=observer(progress, "held-out cells"),
            )
    found = comparison.said_so(found, {name: path for name, path in made.items() if name not in others})
    if refit is not None:
        from swarmcell.workflows.evaluation.refit import refit as fit_again

        found = replace(found, refit=fit_again(model, files, refit, seed=seed, tell=say))
    if join is not None:
        swarm = _across(join, model, files, site=site, identity=identity, publish=not no_publish, wait_s=wait)
        found = replace(found, swarm=swarm)
    report = folder.write(found, target, force=force)
    if json:
        print_json(found.to_json())
    evaluation_table.show(found, console())
    say(f"report: {report}")
    next_command("swarmcell predict", model, files[0], "--out predicted.h5ad")


def _across(
    swarm_file: Path,
    model: Path,
    files: list[Path],
    *,
    site: Path | None,
    identity: str | None,
    publish: bool,
    wait_s: float,
) -> "SwarmFigures":
    from swarmcell.workflows.evaluate_join import across_the_swarm
    from swarmcell.workflows.join import take_seat
    from swarmcell.workflows.training_input import sites_of

    seat = take_seat(swarm_file, identity=identity, site_file=site, cells_of=sites_of(files))
    return across_the_swarm(model, files, seat=seat, publish=publish, wait_s=wait_s, tell=say)


def named_models(given: list[str]) -> dict[str, Path]:
    """Read `NAME=MODEL` options.

    Raises
    ------
    UsageError
        If one is not of that form, or a name is given twice.
    """
    found: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            msg = f"--against {text}: expected NAME=MODEL, such as pooled=runs/pooled/local.safetensors."
            raise UsageError(msg)
        if name in found:
            msg = f"--against {name}: given twice. Give each model its own name."
            raise UsageError(msg)
        found[name] = Path(path)
    return found


def observer(progress: "Progress", what: str) -> "Callable[[str, dict[str, Any]], None]":
    """Return an observer that moves the bar by cells."""
    task = progress.add_task(what, total=None)

    def observe(event: str, facts: dict[str, Any]) -> None:
        if event == "total":
            progress.update(task, total=facts["n"])
        elif event == "progress":
            progress.update(task, advance=facts["n"])

    return observe
