"""`swarmcell panel`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swarmcell.cli.common import Debug, Force, Json, Quiet, console, next_command, print_json, say

if TYPE_CHECKING:
    from swarmcell.cells.panel import Difference

app = typer.Typer(no_args_is_help=True, help="The ordered features that all sites of a study share.")
_SHOWN = 20


@app.command("create")
def create(  # noqa: PLR0917 (options are arguments)
    sources: Annotated[list[Path], typer.Argument(help="Files or folders; the features that all of them have.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The panel file to write (.json).")],
    name: Annotated[str | None, typer.Option("--name", help="Its name.  [default: that of the file]")] = None,
    reference: Annotated[str, typer.Option("--reference", help="Where the IDs come from, such as GRCh38.")] = "",
    modality: Annotated[
        str | None, typer.Option("--modality", help="rna or cytometry.  [default: told by the file]")
    ] = None,
    genome: Annotated[str | None, typer.Option("--genome", help="Genome of a 10x h5 file with several.")] = None,
    input_kind: Annotated[str, typer.Option("--input", help="counts, or lognorm (log-normalised X).")] = "counts",
    aliases: Annotated[
        Path | None, typer.Option("--aliases", help="Table (csv, tsv) of other names: columns alias, feature.")
    ] = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a panel of the features that files have in common. It holds names only, no value of any cell.

    Example: `swarmcell panel create sample_data/rna/site-a/A01-1 --reference GRCh38 --out universe.json`
    """
    from swarmcell.cells.readers import ReadOptions
    from swarmcell.errors import UsageError
    from swarmcell.workflows import panel

    if modality not in (None, "rna", "cytometry"):
        msg = f"--modality {modality}: expected rna or cytometry."
        raise UsageError(msg)
    if input_kind not in {"counts", "lognorm"}:
        msg = f"--input {input_kind}: expected counts or lognorm."
        raise UsageError(msg)
    chosen: Any = modality
    options = ReadOptions(kind="lognorm" if input_kind == "lognorm" else "counts", genome=genome)
    made, left_out = panel.create(
        sources, out, modality=chosen, name=name, reference=reference, options=options, aliases=aliases, force=force
    )
    if left_out:
        say(f"{len(left_out)} aliases left out, for they would name two features: {', '.join(left_out[:_SHOWN])}")
    say(f"{out}: {len(made.features)} features, {made.modality}, sha256 {made.sha256}")
    if json:
        print_json({key: value for key, value in panel.described(made).items() if key != "features"})
    next_command("swarmcell preprocess SOURCE --universe", out, "--out PREPARED.h5ad")


@app.command("show")
def show(
    path: Annotated[Path, typer.Argument(help="A panel (.json), a prepared file (.h5ad), or a model (.safetensors).")],
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show a panel: what it is of, its digest, its features; of a model, those that its sites chose together.

    Example: `swarmcell panel show sample_data/rna/universe.json`
    """
    from swarmcell.workflows import panel

    about = panel.described(panel.read(path))
    if json:
        print_json(about)
    for key in ("name", "modality", "reference", "transform", "cofactor", "n_features", "sha256"):
        say(f"{key.replace('_', ' ')}: {about[key]}")
    for feature in about["features"][:_SHOWN]:
        aliases = f" ({', '.join(feature['aliases'])})" if feature["aliases"] else ""
        say(f"  {feature['id']}  {feature['symbol']}{aliases}")
    if about["n_features"] > _SHOWN:
        say(f"  ... and {about['n_features'] - _SHOWN} more (--json shows all)")
    is_model = path.suffix == ".safetensors"
    if is_model:
        next_command("swarmcell predict", path, "PREPARED.h5ad")
    else:
        next_command("swarmcell preprocess SOURCE --universe", path, "--out PREPARED.h5ad")


@app.command("diff")
def diff(
    a: Annotated[Path, typer.Argument(help="A panel (.json), a prepared file (.h5ad), or a model (.safetensors).")],
    b: Annotated[Path, typer.Argument(help="Another.")],
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare two panels; they are the same if their digests are. The exit code is 4 if they differ.

    Example: `swarmcell panel diff site-a.h5ad site-b.h5ad`
    """
    from swarmcell.cells.panel import diff as compare
    from swarmcell.errors import PanelError
    from swarmcell.workflows import panel

    difference = compare(panel.read(a), panel.read(b))
    if json:
        print_json(_plain(difference))
    if not difference.same:
        _say_difference(difference, a, b)
        msg = f"{a} and {b} differ. All sites of a study preprocess with the same panel: agree on one file."
        raise PanelError(msg)
    say(f"{a} and {b} are the same panel.")
    next_command("swarmcell swarm create STUDY.toml --out swarm.toml")


def _plain(difference: "Difference") -> dict[str, Any]:
    return {
        "same": difference.same,
        "coverage": round(difference.coverage, 4),
        "only_in_a": list(difference.only_in_a),
        "only_in_b": list(difference.only_in_b),
        "reordered": difference.reordered,
        "changed": {name: list(pair) for name, pair in difference.changed.items()},
    }


def _say_difference(difference: "Difference", a: Path, b: Path) -> None:
    from swarmcell.cells.panel import COVERAGE_MIN

    for path, names in ((a, difference.only_in_a), (b, difference.only_in_b)):
        if names:
            say(f"only in {path}: {len(names)} ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})")
    say(f"{b} has {difference.coverage:.0%} of the features of {a}; a site needs at least {COVERAGE_MIN:.0%}")
    if difference.reordered:
        say("the same features stand in another order")
    for name, (before, after) in list(difference.changed.items())[:_SHOWN]:
        console().print(f"{name}: {before} in {a.name}, {after} in {b.name}", markup=False)
