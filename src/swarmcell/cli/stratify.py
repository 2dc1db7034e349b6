"""`swarmcell stratify`: strata of patients, alone, pooled or in a swarm, and new patients placed in them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmcell.cli.common import (
    EXIT_INTERRUPTED,
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
    say_how_it_goes_on,
    waiting,
)
from swarmcell.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress

Files = Annotated[list[Path], typer.Argument(help="Prepared files; several are pooled.", show_default=False)]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for strata, samples, report and annotated copies.")]
Cells = Annotated[
    Path | None,
    typer.Option(
        "--cells", help="Model that tells types or clusters of cells; else the files' own labels, if complete."
    ),
]
Clusters = Annotated[
    int, typer.Option("--clusters", min=0, max=100, help="Clusters of cells to count where no types are told; 0: none.")
]
Sheet = Annotated[Path | None, typer.Option("--covariates", help="Sheet (csv) with a column sample or donor.")]
Covariates = Annotated[
    list[str] | None, typer.Option("--covariate", help="Column of the sheet to test (age, sex, ...); may be repeated.")
]
StrataMax = Annotated[int, typer.Option("--k-max", min=2, max=20, help="Largest number of strata that is tried.")]
Resamples = Annotated[int, typer.Option("--resamples", min=5, help="Resamples of donors.")]
Nulls = Annotated[int, typer.Option("--nulls", min=19, help="Null twins; the smallest p is 1 / (nulls + 1).")]
Centre = Annotated[
    bool, typer.Option("--centre-sites", help="Take each site's mean away first: against shifts between sites.")
]
With = Annotated[
    Path | None, typer.Option("--with", metavar="STRATA", help="Place samples in these strata (strata.safetensors).")
]
Join = Annotated[Path | None, typer.Option("--join", metavar="SWARM", help="Swarm file: find strata with other sites.")]
NoObs = Annotated[bool, typer.Option("--no-obs", help="Write no copies of the prepared files with strata in obs.")]


def stratify(  # noqa: PLR0917 (options are arguments)
    files: Files,
    out: Out = Path("strata"),
    cells: Cells = None,
    covariates: Sheet = None,
    covariate: Covariates = None,
    clusters: Clusters = 15,
    k_max: StrataMax = 6,
    resamples: Resamples = 20,
    nulls: Nulls = 99,
    centre_sites: Centre = False,
    with_: With = None,
    join: Join = None,
    site: SiteFile = None,
    identity: Identity = None,
    no_obs: NoObs = False,
    seed: Seed = 0,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Find which patients are alike, across sites, and how sure that is; or say that there are no stable strata.

    Samples are compared by composition (cell types by a model or labels, else clusters of cells) and pseudobulk or
    marker statistics. The folder gets `strata.json`,
    `report.html`, `samples.csv`, `strata.safetensors` (to place new patients, `--with`), and copies of the prepared
    files with `stratum` and `stratum_membership` in obs. All donors count, held out or not.

    Example: `swarmcell stratify site-a.h5ad site-b.h5ad --cells runs/site-a/merged.safetensors`
    """
    from swarmcell.model.study import StrataRule
    from swarmcell.report import strata_page, strata_table
    from swarmcell.workflows import stratify as workflow
    from swarmcell.workflows.strata_folder import MODEL

    given = {"--k-max": k_max != 6, "--resamples": resamples != 20, "--nulls": nulls != 99, "--seed": seed != 0}
    given |= {"--clusters": clusters != 15, "--centre-sites": centre_sites, "--covariate": bool(covariate)}
    if clusters == 1:
        msg = "--clusters 1: one cluster tells nothing. Ask for at least 2, or for none (0)."
        raise UsageError(msg)
    _check_options(with_, join, given, site=site, identity=identity, covariates=covariates)
    rule = StrataRule(k_max=k_max, resamples=resamples, nulls=nulls, centre_sites=centre_sites)
    options = workflow.Options(
        cells=cells,
        sheet=covariates,
        covariates=tuple(covariate or ()),
        clusters=clusters,
        rule=rule,
        seed=seed,
        annotate=not no_obs,
    )
    swarm = {"--join": join, "--site": site, "--identity": identity, "--cells": cells, "--covariates": covariates}
    try:
        with _progress() as progress:
            tell = _observer(progress)
            if with_ is not None:
                made = workflow.place_new(with_, files, out, options, force=force, observer=tell)
            elif join is not None:
                made = workflow.stratify_in_swarm(
                    files, _seat(join, files, site, identity), out, options, force=force, observer=tell
                )
            else:
                made = workflow.stratify_alone(files, out, options, force=force, observer=tell)
    except KeyboardInterrupt:
        if join is not None:
            switches = {"--no-obs": no_obs, "--force": force}
            say_how_it_goes_on(
                "stratify", files, {**swarm, "--out": out}, *(name for name, on in switches.items() if on)
            )
            raise typer.Exit(EXIT_INTERRUPTED) from None
        raise
    report = strata_page.write(made.result, out)
    if json:
        print_json(made.result)
    strata_table.show(made.result, console())
    say(f"report: {report}")
    if made.strata.state.k:
        next_command("swarmcell stratify NEW.h5ad --with", with_ or out / MODEL, "--out placed")
    else:
        next_command("swarmcell train", *files)


def _check_options(
    with_: Path | None,
    join: Path | None,
    given: dict[str, bool],
    *,
    site: Path | None,
    identity: str | None,
    covariates: Path | None,
) -> None:
    if with_ is not None and join is not None:
        msg = "--with places new patients and --join finds strata with other sites: give one of them."
        raise UsageError(msg)
    if join is None and (site or identity):
        msg = "--site and --identity belong to a swarm: give its file with --join."
        raise UsageError(msg)
    fixed = [name for name, is_given in given.items() if is_given]
    if fixed and (join is not None or with_ is not None):
        where = "the swarm file says that for all sites" if join else "the strata were found already"
        msg = f"{', '.join(fixed)} cannot be given here: {where}."
        raise UsageError(msg)
    if with_ is not None and covariates is not None:
        msg = "--covariates are tested when strata are found, not when new patients are placed. Leave it out."
        raise UsageError(msg)


def _seat(join: Path, files: list[Path], site: Path | None, identity: str | None) -> Any:  # noqa: ANN401
    from swarmcell.workflows import training_input
    from swarmcell.workflows.join import take_seat

    return take_seat(join, identity=identity, site_file=site, cells_of=training_input.sites_of(files))


def _progress() -> "Progress":
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn())
    return bars(*columns, TimeElapsedColumn())


def _observer(progress: "Progress") -> Callable[[str, dict[str, Any]], None]:
    tasks: dict[str, Any] = {}

    def tell(event: str, facts: dict[str, Any]) -> None:
        if event == "total":
            tasks["cells"] = progress.add_task("cells", total=facts["n"])
        elif event == "progress":
            progress.advance(tasks["cells"], facts["n"])
        elif event == "round":
            if "rounds" not in tasks:
                tasks["rounds"] = progress.add_task("rounds", total=None)
            progress.update(tasks["rounds"], completed=facts["round"], description=facts["phase"])
        elif event == "block" and facts.get("kind") == "merge":
            about = facts["about"]
            say(f"block {facts['height']}: {about.get('phase', '')} round {about.get('round', 0)}", progress.console)
        elif event == "waiting":
            say(waiting(facts), progress.console)

    return tell
