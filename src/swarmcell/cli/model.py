"""`swarmcell model`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from swarmcell.cli.common import Debug, Force, Quiet, next_command, say

app = typer.Typer(no_args_is_help=True, help="Take a model elsewhere.")


@app.callback()
def model() -> None:
    """Take a model elsewhere."""


@app.command("export")
def export(
    model: Annotated[
        Path, typer.Argument(help="Model file (.safetensors) with a linear cell task.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Table to write (.csv).")] = Path("coefficients.csv"),
    symbols_of: Annotated[
        Path | None, typer.Option("--symbols-of", help="Prepared file whose gene symbols name the columns.")
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write the coefficients of the cell task as a table, in the layout of CellTypist's models.

    Rows: the scaling (scaler_mean, scaler_scale), then each cell type with its intercept and coefficients of scaled
    values. docs/models.md shows how CellTypist reads it.

    Example: `swarmcell model export runs/site-a/merged.safetensors --out coefficients.csv --symbols-of site-a.h5ad`
    """
    from swarmcell.workflows import model_export

    n = model_export.export(model, out, symbols_of=symbols_of, force=force)
    say(f"written: {out}, {n} cell types")
    next_command(shlex.join(["swarmcell", "predict", str(model), str(symbols_of or "PREPARED.h5ad")]))
