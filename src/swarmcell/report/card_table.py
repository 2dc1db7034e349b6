"""What a trained model's card says of its stages, as a table."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from swarmcell.model.study import Floors
from swarmcell.workflows.floor_words import are_lower

STAGES = ("features", "cell", "clusters", "patient")


def card_table(model: str, card: Mapping[str, Any]) -> Table:
    """Return a table of what each stage was trained on.

    Parameters
    ----------
    model
        `local` or `merged`.
    card
        The model's card, with its digest.
    """
    table = Table("stage", "trained on", title=f"{model} model, digest {card['digest'][:16]}")
    for stage in STAGES:
        if stage in card["stages"]:
            table.add_row(stage, _trained_on(card["stages"][stage], with_rounds=stage != "features"))
    if card.get("trained") == "swarm" and are_lower(floors := Floors(**card["floors"])):
        table.add_row("floors", f"LOWERED to {floors.donors} donor(s) and {floors.cells} cells: for research sets")
    if "differential_privacy" in card:
        table.add_row("privacy", card["differential_privacy"]["sentence"])
    if "site_only" in card:
        table.add_row("site alone", card["site_only"]["sentence"])
    return table


def _trained_on(facts: Mapping[str, Any], *, with_rounds: bool) -> str:
    text = f"{facts['sites']} site(s)"
    if "n_cells" in facts:  # not under differential privacy
        text = f"{facts['n_cells']} cells, {facts['n_donors']} donors, {text}"
    if with_rounds:
        text += f"; best of {facts['rounds']} rounds: {facts['best_round']}"
    if "validation_loss" in facts:
        text += f"; inner validation: loss {facts['validation_loss']:.3f}, "
        text += f"accuracy {facts['validation_accuracy']:.3f} on {facts['validation_n']}"
    return text
