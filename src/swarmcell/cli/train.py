"""`swarmcell train`: a site's own model, a pooled one, or a swarm's."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmcell.cli.common import (
    EXIT_INTERRUPTED,
    Debug,
    Device,
    Force,
    Identity,
    Json,
    Quiet,
    Seed,
    SiteFile,
    Threads,
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
    from collections.abc import Callable

    from rich.progress import Progress

    from swarmcell.workflows.train import Trained

Files = Annotated[list[Path], typer.Argument(help="Prepared files; several make one pooled model.", show_default=False)]
Name = Annotated[str | None, typer.Option("--name", help="Name of the run.  [default: the first file's stem]")]
Runs = Annotated[Path, typer.Option("--runs", help="The folder that holds the runs.")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file with a [study]; a swarm file will do.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that was cut off, to the very same model.")]
Join = Annotated[Path | None, typer.Option("--join", metavar="SWARM", help="Swarm file: train with other sites.")]
OutOfCore = Annotated[bool, typer.Option("--out-of-core", help="Read cells from disk in passes, not into memory.")]
Start = Annotated[Path | None, typer.Option("--from", help="Released model to start from: fine-tuning.")]
NoLocal = Annotated[bool, typer.Option("--no-local", help="In a swarm: do not fit this site's own model as well.")]


def train(  # noqa: PLR0917 (options are arguments)
    files: Files,
    name: Name = None,
    runs: Runs = Path("runs"),
    config: Config = None,
    seed: Seed = 0,
    threads: Threads = 0,
    device: Device = "auto",
    resume: Resume = False,
    join: Join = None,
    site: SiteFile = None,
    identity: Identity = None,
    no_local: NoLocal = False,
    out_of_core: OutOfCore = False,
    start: Start = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a model on prepared cells: alone, pooled from several files, or in a swarm (`--join`).

    The run is `runs/NAME`: `run.json`, `metrics.jsonl`, `log.txt` and the model, `local.safetensors` (alone, pooled) or
    `merged.safetensors` (swarm). Without `--config` the labels are those of the training cells.

    What if `runs/NAME` exists? Alone: the run is called NAME-2, unless `--resume` goes on with it (one that
    has ended stays as it is) or `--force` replaces it. With `--join`: a run of this site alone gets the merged model
    beside its own, a run in the same swarm goes on by itself, and beside a run in another swarm it is called NAME-2. In
    a swarm this site's own model is fitted at the end, by the same rules, so that `evaluate` can compare.

    Files larger than memory: `--out-of-core` reads `.h5ad` and `.zarr` from disk in passes. Batches then come in
    another seeded order, so the model differs by a little from that of the same cells in memory.

    Fine-tuning: `--from MODEL` takes over a released model's panel, scaling and coefficients; new classes start at
    zero. A swarm names the model in its rules (`[study] start`), and every site gives the same file.

    Example: `swarmcell train site-a.h5ad --join swarm.toml`
    """
    from swarmcell.workflows import train as workflow

    options = workflow.Options(
        seed=seed, threads=threads, device=device, out_of_core=out_of_core, start=str(start or "")
    )
    chosen = name or files[0].stem
    _check_options(join, config=config, site=site, identity=identity, force=force, no_local=no_local)
    if resume and force:
        msg = "--resume goes on with a run and --force replaces it: give one of them."
        raise UsageError(msg)
    given = {
        "--name": name,
        "--runs": None if runs == Path("runs") else runs,
        "--config": config,
        "--join": join,
        "--site": site,
        "--identity": identity,
        "--seed": seed or None,
        "--threads": threads or None,
        "--device": None if device == "auto" else device,
        "--from": start,
    }
    try:
        with _progress() as progress:
            tell = _naming(given, chosen, _observer(progress))
            if join is not None:
                made = _in_swarm(files, join, site, identity, chosen, runs, options, tell, not no_local)
            else:
                made = workflow.train_alone(
                    files,
                    runs=runs,
                    name=chosen,
                    study=_study(config),
                    options=options,
                    observer=tell,
                    resume=resume,
                    force=force,
                )
    except KeyboardInterrupt:
        switches = {"--no-local": no_local, "--out-of-core": out_of_core, "--resume": join is None}
        say_how_it_goes_on("train", files, given, *(switch for switch, on in switches.items() if on))
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _end(made, files, as_json=json)


def _naming(
    given: dict[str, Any], name: str, tell: "Callable[[str, dict[str, Any]], None]"
) -> "Callable[[str, dict[str, Any]], None]":
    """Return the observer; it also notes which name the run got, if not the one it would have got: NAME-2."""

    def observe(event: str, facts: dict[str, Any]) -> None:
        if event == "started" and (got := Path(facts["run"]).name) != name:
            given["--name"] = got
        tell(event, facts)

    return observe


def _check_options(
    join: Path | None,
    *,
    config: Path | None,
    site: Path | None,
    identity: str | None,
    force: bool,
    no_local: bool,
) -> None:
    if join is None and (site or identity or no_local):
        msg = "--site, --identity and --no-local belong to a swarm: give its file with --join."
        raise UsageError(msg)
    if join is not None and (config or force):
        msg = "--config and --force do not go with --join: the swarm file holds the rules, and its ledger is kept."
        raise UsageError(msg)


def _study(config: Path | None) -> Any:  # noqa: ANN401 (model.study.Study, which is not imported here)
    from swarmcell.workflows.rules import read_study

    return read_study(config) if config else None


def _in_swarm(  # noqa: PLR0917 (options are arguments)
    files: list[Path],
    join: Path,
    site: Path | None,
    identity: str | None,
    name: str,
    runs: Path,
    options: Any,  # noqa: ANN401
    observer: "Callable[[str, dict[str, Any]], None]",
    fit_local: bool,
) -> "Trained":
    from swarmcell.workflows import train as workflow
    from swarmcell.workflows import training_input
    from swarmcell.workflows.join import take_seat

    seat = take_seat(join, identity=identity, site_file=site, cells_of=training_input.sites_of(files))
    return workflow.train_in_swarm(
        files, seat=seat, runs=runs, name=name, options=options, observer=observer, fit_local=fit_local
    )


def _progress() -> "Progress":
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<16}"), BarColumn(), TextColumn("{task.fields[said]}"))
    return bars(*columns, TimeElapsedColumn(), transient=False)


class _StageBars:
    """A bar per stage; one that ends early is full then: an exact fit needs fewer rounds than the rules allow."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}

    def move(self, facts: dict[str, Any]) -> None:
        """Show a round."""
        key = f"{facts['model']}: {facts['stage']}"
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task(key, total=max(facts["rounds_max"], 1), said="")
        self._progress.update(self._tasks[key], completed=facts["stage_round"], said=_said(facts))

    def end(self, facts: dict[str, Any]) -> None:
        """Fill the bar of a stage that has ended."""
        if (task := self._tasks.get(f"{facts['model']}: {facts['stage']}")) is not None:
            self._progress.update(task, total=max(facts["rounds"], 1), completed=max(facts["rounds"], 1))


def _observer(progress: "Progress") -> "Callable[[str, dict[str, Any]], None]":
    """Return an observer that shows a bar per stage, and prints what else is said."""
    from rich.text import Text

    stages = _StageBars(progress)
    seen = progress.console

    def tell(event: str, facts: dict[str, Any]) -> None:
        if event == "round":
            stages.move(facts)
        elif event == "block":
            say(_block(facts), seen)
        elif event == "stage_ended":
            stages.end(facts)
            said = f"{facts['rounds']} round(s), best {facts['best_round']}"
            say(f"{facts['model']} {facts['stage']}: {said}", seen)
        elif event == "note":
            say(Text.assemble(("note", "bold yellow"), f" {facts['text']}"), seen)
        elif event in _SHOWN:
            say(_SHOWN[event].format(**facts), seen)
        elif event == "waiting":
            say(waiting(facts), seen)

    return tell


_SHOWN = {
    "started": "{run}: {n_cells} training cells of {n_donors} donors",
    "abstains": "abstains: {why}",
    "engine_away": "the engine cannot be reached: {why}",
    "engine_mended": "{what}",
    "resumed": "the swarm goes on",
    "model": "{model} model: {path}",
}


def _said(facts: dict[str, Any]) -> str:
    if "validation_loss" not in facts:
        return f"round {facts['stage_round']}"
    loss, accuracy = facts["validation_loss"], facts["validation_accuracy"]
    return f"round {facts['stage_round']}  validation loss {loss:.3f}  accuracy {accuracy:.3f}"


def _block(facts: dict[str, Any]) -> str:
    about = facts["about"]
    stands = f"{about.get('stage', facts['kind'])} round {about.get('stage_round', 0)}"
    text = f"block {facts['height']}: {'the study has ended' if facts['finished'] else stands}"
    text += f", {len(facts['included'])} update(s), state {facts['state'][:12]}"
    if n := about.get("validation_n"):
        text += f", validation accuracy {about['validation_correct'] / n:.3f}"
    if "noised_sums" in about:
        text += f", {about['noised_sums']} noised sums"
    for name, reason in facts["left_out"].items():
        text += f"\n  left out: {name}: {reason}"
    return text


def _end(made: "Trained", files: list[Path], *, as_json: bool) -> None:
    from swarmcell.report.card_table import card_table

    if as_json:
        models = {name: str(path) for name, path in made.models.items()}
        print_json({"run": str(made.run), "models": models, "cards": made.cards, "notes": list(made.notes)})
    for model, card in made.cards.items():
        console().print(card_table(model, card))
    best = made.models.get("merged") or made.models["local"]
    is_judged = any(stage in card["stages"] for card in made.cards.values() for stage in ("cell", "patient"))
    read_by = ["evaluate", str(best), *map(str, files)] if is_judged else ["predict", str(best), str(files[0])]
    next_command(shlex.join(["swarmcell", *read_by]))
