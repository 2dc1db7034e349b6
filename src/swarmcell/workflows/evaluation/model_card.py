"""The model card: where a model comes from, what it is for, what it is worth and where it ends, as JSON values.

References
----------
Mitchell et al. 2019, Model Cards for Model Reporting, arXiv:1810.03993.
"""

from collections.abc import Mapping
from typing import Any

from swarmcell.metrics.estimate import Estimate
from swarmcell.model.study import Floors
from swarmcell.workflows.evaluation.values import CellTask, Evaluation, PatientTask, plain
from swarmcell.workflows.floor_words import lowered

INTENDED_USE = (
    "Research on cells prepared with the same universe and transform. It is no medical device; its output is no "
    "diagnosis."
)
LIMITS = (
    "It knows only the labels listed here; what is of no such label gets one all the same, unless predict is told to "
    "call some cells unknown.",
    "Figures hold for donors like those held out: other hospitals, machines, kits, diseases and ages may do worse.",
    "Probabilities are those of the training donors' mix of classes.",
    "A driver or a contribution explains the model, not the disease.",
)


def model_card(evaluation: Evaluation) -> dict[str, Any]:
    """Return the card of the model that was evaluated."""
    first, swarm = evaluation.models[0], evaluation.swarm
    ledger = swarm or evaluation.ledger
    card = dict(first.card)
    made: dict[str, Any] = {
        "model": first.name,
        "study": evaluation.study,
        "modality": evaluation.modality,
        "digests": {
            "model": first.digest,
            "universe": first.universe_sha256,
            "panel": first.panel_sha256,
            "swarm": card.get("swarm", ""),
            "ledger_head": "" if ledger is None else ledger.head,
            "ledger_height": None if ledger is None else ledger.head_height,
        },
        "training": {
            "kind": card.get("trained", "unknown"),
            "sites": list(card.get("sites", ())),
            "rounds": card.get("rounds"),
            "stages": plain(card.get("stages", {})),
            "cells_by_type": dict(first.cells_by_type),
            "samples_by_condition": dict(first.samples_by_condition),
            "by_site": [] if ledger is None else plain(ledger.trained),
            "n_features": first.n_features,
            "rules": plain(first.rules),
            "calibration": plain(first.calibration),
        },
        "privacy": _privacy(card),
        "held_out": {
            "donors": evaluation.cohort.n_donors,
            "samples": evaluation.cohort.n_samples,
            "cells": evaluation.cohort.n_cells,
            "by_site": plain(evaluation.cohort.sites),
        },
        "figures": _figures(evaluation),
        "intended_use": INTENDED_USE,
        "limits": [*LIMITS, *evaluation.caveats],
        "versions": dict(evaluation.versions),
    }
    if swarm is not None:
        made["swarm_figures"] = {
            "cell": plain(swarm.cell),
            "patient": plain(swarm.patient),
            "waiting": [*swarm.waiting],
        }
    return made


def _privacy(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return under which floors sites published, whether these are below the defaults, and what privacy was spent."""
    floors = Floors(**card["floors"]) if "floors" in card else None
    in_swarm = card.get("trained") == "swarm" and floors is not None
    said = {"floors": card.get("floors"), "floors_lowered": lowered(floors) if in_swarm and floors else ""}
    return said | {"differential_privacy": card.get("differential_privacy")}


def _figures(evaluation: Evaluation) -> dict[str, Mapping[str, Any]]:
    tasks: tuple[tuple[str, CellTask | PatientTask | None], ...] = (
        ("cell", evaluation.cell),
        ("patient", evaluation.patient),
    )
    found: dict[str, Mapping[str, Any]] = {}
    for name, task in tasks:
        mine = None if task is None else next((m for m in task.models if m.model == evaluation.models[0].name), None)
        if mine is not None:
            found[name] = {"verdict": mine.verdict, **_plain(mine.figures)}
    return found


def _plain(figures: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: plain(found) for name, found in figures.items()}
