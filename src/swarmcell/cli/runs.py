"""`swarmcell runs`: lists and compares runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmcell.cli.common import Debug, Json, Quiet, console, next_command, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from swarmcell.workflows.runs import Run

_SHOWN_CHARACTERS = 40


def runs(
    names: Annotated[list[str] | None, typer.Argument(help="Runs to compare; without names, all are listed.")] = None,
    folder: Annotated[Path, typer.Option("--runs", help="The folder that holds the runs.")] = Path("runs"),
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List the runs of a folder, or compare the named ones: what differed in them, and what came out.

    Example: `swarmcell runs site-a site-a-2`
    """
    from dataclasses import asdict

    from swarmcell.workflows.runs import differences, find, read

    found = [read(folder / name) for name in names] if names else find(folder)
    if as_json:
        rows: dict[str, Any] = {"runs": [asdict(run) for run in found]}
        print_json(rows | {"differences": differences(found)} if names else rows)
    else:
        console().print(_comparison(found, differences(found)) if names else _list(found, folder))
    next_command(*_next(found, folder, compared=bool(names)))


def _next(found: "list[Run]", folder: Path, *, compared: bool) -> list[str | Path]:
    if not found:
        return ["swarmcell train site-a.h5ad"]
    if compared or len(found) == 1:
        model = next(iter(reversed(list(found[0].cards))), "local")
        return ["swarmcell evaluate", folder / found[0].name / f"{model}.safetensors", "PREPARED.h5ad"]
    return ["swarmcell runs", Path(found[0].name), Path(found[1].name)]


def _list(found: "list[Run]", folder: Path) -> "Table":
    from rich.table import Table

    table = Table("run", "model", "rounds", "features", "stages", "digest", title=f"Runs in {folder}")
    for run in found:
        for model, card in run.cards.items():
            digest = str(card.get("digest", ""))[:12]
            rounds, features = str(card.get("rounds", "")), str(card.get("n_features", ""))
            table.add_row(run.name, model, rounds, features, _stages(card), digest)
        if not run.finished:
            table.add_row(run.name, "not finished", "", "", "go on with: swarmcell train ... --resume", "")
    return table


def _stages(card: Any) -> str:  # noqa: ANN401 (a card is JSON)
    texts = []
    for name, stage in card.get("stages", {}).items():
        if name == "features":  # nothing to validate
            continue
        accuracy = stage.get("validation_accuracy")
        shown = (
            "not validated"
            if accuracy is None
            else f"accuracy {accuracy:.3f} of {stage['validation_n']} (inner validation)"
        )
        texts.append(f"{name}: {shown}")
    return "\n".join(texts)


def _comparison(found: "list[Run]", rows: dict[str, list[Any]]) -> "Table":
    from rich.table import Table

    table = Table("what differs", *(run.name for run in found))
    for key, values in rows.items():
        table.add_row(key, *("" if value is None else str(value)[:_SHOWN_CHARACTERS] for value in values))
    return table
