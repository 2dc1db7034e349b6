"""What a merged state says of its stages, for cards and tables: plain values, no arrays."""

from dataclasses import asdict
from typing import Any

from swarmcell.model import baselines
from swarmcell.model.state import MergedState
from swarmcell.model.study import Study


def summary(state: MergedState, study: Study) -> dict[str, Any]:
    """Return what a state says of its stages, for cards and tables."""
    noised = study.privacy.differential_privacy is not None  # then sites state the floors for their numbers
    stages: dict[str, Any] = {}
    for name, result in state.results.items():
        stages[name] = {"rounds": result.rounds, "best_round": result.best_round, "sites": result.sites}
        stages[name] |= {} if noised else {"n_cells": result.n_cells, "n_donors": result.n_donors}
        if result.exact:
            stages[name]["exact_over_sites"] = len(result.exact)
        if result.score is not None:
            stages[name] |= {
                "validation_n": result.score.n,
                "validation_loss": round(result.score.loss, 6),
                "validation_accuracy": round(result.score.accuracy, 6),
            }
    said = {"rounds": state.round, "n_features": len(state.arrays.get("panel", ())), "stages": stages}
    found = baselines.site_only_of(state.arrays)
    return said if found is None else said | {"site_only": asdict(found) | {"sentence": found.sentence()}}
