"""`swarmcell align`."""

from pathlib import Path
from typing import Annotated

import typer

from swarmcell.cli.common import Debug, Force, Json, Quiet, next_command, print_json, say

app = typer.Typer(no_args_is_help=True, help="Quantile alignment of markers between sites; rarely wanted.")
_SHOWN = 8


@app.command("histogram")
def histogram(
    file: Annotated[Path, typer.Argument(help="This site's prepared cytometry file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The histogram to write (.json); send it to the others.")],
    donors: Annotated[int, typer.Option("--donors", min=1, help="Fewest training donors that may be published.")] = 5,
    cells: Annotated[int, typer.Option("--cells", min=1, help="Fewest training cells that may be published.")] = 20,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write how the training cells are distributed: integers per marker and bin, with the same bins at every site.

    Example: `swarmcell align histogram site-a.h5ad --out site-a.histogram.json`
    """
    from swarmcell.model.study import Floors
    from swarmcell.workflows import align

    made = align.publish(file, out, floors=Floors(donors=donors, cells=cells), force=force)
    about = {"site": made.site, "n_donors": made.n_donors, "n_cells": made.n_cells, "n_markers": len(made.counts)}
    if json:
        print_json(about)
    say(f"{out}: {made.n_cells} training cells of {made.n_donors} donors, {len(made.counts)} markers")
    next_command("swarmcell align apply", file, out, "OTHER.histogram.json --out aligned.h5ad")


@app.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(help="This site's prepared cytometry file.")],
    histograms: Annotated[list[Path], typer.Argument(help="Every site's histogram.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The aligned file to write (.h5ad).")],
    universe: Annotated[
        Path | None, typer.Option("--universe", help="Also write the aligned files' universe, for the study (.json).")
    ] = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Move each marker's values so that they are distributed as in all sites together.

    It erases what differs between sites, biology included: a site with more T cells, or with ill donors only, is moved
    like one whose instrument drifted. Compare a model with and without it on held-out donors.

    Example: `swarmcell align apply site-a.h5ad site-a.histogram.json site-b.histogram.json --out aligned.h5ad`
    """
    from swarmcell.workflows import align

    made = align.apply(file, histograms, out, universe_out=universe, force=force)
    if json:
        print_json({"sites": list(made.sites), "universe_sha256": made.universe.sha256, "moved": made.moved})
    say(f"{out}: aligned to {', '.join(made.sites)}; universe {made.universe.sha256}")
    for name, shift in sorted(made.moved.items(), key=lambda item: -abs(item[1]))[:_SHOWN]:
        say(f"  {name}: median moved by {shift:+.3f}")
    next_command("swarmcell train", out)
