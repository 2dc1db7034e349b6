"""What a run notes of its rounds: a row of `metrics.jsonl` for each, and for a swarm its events in `log.txt`."""

import time
from collections.abc import Callable
from typing import Any

from swarmcell.model.state import MergedState, Score
from swarmcell.workflows.run_folder import RunFolder

Observer = Callable[[str, dict[str, Any]], None]


def recording(folder: RunFolder, observer: Observer) -> Observer:
    """Return an observer that also writes a swarm's rounds to `metrics.jsonl` and its events to `log.txt`."""
    begun_s = time.perf_counter()

    def tell(event: str, facts: dict[str, Any]) -> None:
        nonlocal begun_s
        about = dict(facts.get("about", {}))
        if event == "block" and facts.get("kind") == "merge" and about.get("secure_sum") not in _BETWEEN:
            row = {"model": "merged", "seconds": round(time.perf_counter() - begun_s, 4), **_of_block(about)}
            folder.add_metrics(row | {"sites": facts["included"]})
            begun_s = time.perf_counter()
        folder.log(f"{event}: {facts}")
        observer(event, facts)

    return tell


_BETWEEN = ("shares", "reveal")  # rounds of a secure sum by which the study itself did not move on


def _of_block(about: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {key: about[key] for key in ("stage", "phase", "round", "stage_round") if key in about}
    if not about.get("validation_n"):
        return row
    score = Score(n=about["validation_n"], correct=about["validation_correct"], nll=about["validation_nll"])
    return row | _score(score)


def noted_round(model: str, stage: str, after: MergedState, seconds: float) -> dict[str, Any]:
    """Return the row of a round: where it stands, how long it took, and the newest validation."""
    row: dict[str, Any] = {"model": model, "stage": stage, "round": after.round, "stage_round": after.stage_round}
    row["seconds"] = round(seconds, 4)
    if after.stage != stage and stage in after.results:
        row["stage_round"] = after.results[stage].rounds
    return row | _score(after.last)


def _score(score: Score | None) -> dict[str, Any]:
    """Return the newest swarm-wide validation: of the parameters that the round started from."""
    if score is None or not score.n:
        return {}
    return {"validation_n": score.n, "validation_loss": score.loss, "validation_accuracy": score.accuracy}
