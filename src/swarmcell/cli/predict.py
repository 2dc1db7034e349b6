"""`swarmcell predict`."""

from pathlib import Path
from typing import Annotated

import typer

from swarmcell.cli.common import Debug, Force, Json, Quiet, bars, console, next_command, print_json, say
from swarmcell.cli.evaluate import observer

Model = Annotated[Path, typer.Argument(help="Model file (.safetensors).", show_default=False)]
Prepared = Annotated[Path, typer.Argument(help="Prepared file; all of its cells are predicted.", show_default=False)]
Out = Annotated[Path, typer.Option("--out", help="File to write: a copy with predictions.")]
Rate = Annotated[
    float,
    typer.Option("--unknown-rate", min=0, max=1, help="Share of known cells that may be called unknown; 0: none."),
]
Unknown = Annotated[
    float, typer.Option("--unknown-below", min=0, max=1, help="Call cells of a smaller probability unknown; 0: none.")
]
Explain = Annotated[
    bool,
    typer.Option("--explain", help="Write what drives each type, and what each cell adds to its patient's answer."),
]


def predict(  # noqa: PLR0917 (options are arguments)
    model: Model,
    file: Prepared,
    out: Out = Path("predicted.h5ad"),
    unknown_rate: Rate = 0.05,
    unknown_below: Unknown = 0.0,
    explain: Explain = False,
    json: Json = False,
    force: Force = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a model's labels and probabilities into a copy of a prepared file.

    `obs` gets predicted_cell_type and predicted_condition, each with its probability; `obsm` the probabilities of
    all cell types; `uns` those of each sample. Of a study that clustered cells, `obs` gets predicted_cluster. Files of
    any size pass in blocks.

    A cell that is less like any known type than 95 % of the swarm's inner-validation cells is called unknown
    (`--unknown-rate`); `obs` holds its novelty. `--unknown-below` goes by the probability alone, which is weaker. Of
    cells that the model was trained on more are called unknown, for components fit their noise: predict new cells.

    With `--explain`, `varm["predicted_cell_type_drivers"]` gets each type's coefficients per standard deviation
    (integrated gradients of a perceptron), and `obs["predicted_condition_contribution"]` what each cell adds to the
    log-odds of its sample: the mean over a sample's cells is the sample's.

    Example: `swarmcell predict runs/site-a/merged.safetensors new.h5ad --out predicted.h5ad`
    """
    from swarmcell.report import prediction_table
    from swarmcell.workflows import predict as workflow

    with bars() as progress:
        found = workflow.predict(
            model,
            file,
            out,
            unknown_rate=unknown_rate,
            unknown_below=unknown_below,
            explain=explain,
            force=force,
            observer=observer(progress, "cells"),
        )
    if json:
        print_json(found.to_json())
    prediction_table.show(found, console())
    say(f"written: {out}")
    if found.cells_by_type or found.samples:
        next_command("swarmcell evaluate", model, file)
    else:  # clusters alone: there is no label to compare with
        next_command("swarmcell stratify", file, "--cells", model)
