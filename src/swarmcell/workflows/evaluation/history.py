"""The rounds of training that a run wrote down beside its models."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from swarmcell.workflows.evaluation.portrait_values import RoundRow
from swarmcell.workflows.run_folder import METRICS

ROWS_MAX = 10_000  # chosen; a run has some tens


def history(model: Path) -> tuple[RoundRow, ...]:
    """Return the rounds in `metrics.jsonl` beside a model; empty where there is none, broken lines left out."""
    try:
        lines = (model.parent / METRICS).read_text(encoding="utf-8").splitlines()[-ROWS_MAX:]
    except (OSError, UnicodeDecodeError):
        return ()
    return tuple(_rows(lines))


def _rows(lines: Iterable[str]) -> Iterable[RoundRow]:
    for line in lines:
        try:
            row = json.loads(line)
            yield _row(row)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue


def _row(row: Mapping[str, Any]) -> RoundRow:
    loss, accuracy = row.get("validation_loss"), row.get("validation_accuracy")
    return RoundRow(
        model=str(row["model"]),
        stage=str(row["stage"]),
        round=int(row["round"]),
        validation_loss=None if loss is None else float(loss),
        validation_accuracy=None if accuracy is None else float(accuracy),
        sites=tuple(map(str, row.get("sites", ()))),
    )
