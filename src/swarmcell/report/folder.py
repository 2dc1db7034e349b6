"""The output folder of `evaluate`, written whole or not at all.

Rules: everything is written into a folder beside the target, which takes its name at the end. `--force` replaces only
a folder that an evaluation made; whatever else lies at the target is left alone.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from swarmcell.errors import OutputError
from swarmcell.report import style
from swarmcell.report.page import render
from swarmcell.report.pictures import draw
from swarmcell.workflows.evaluation.model_card import model_card
from swarmcell.workflows.evaluation.values import Evaluation

RESULT, REPORT, FIGURES, CARD = "evaluation.json", "report.html", "figures", "model_card.json"


def refuse_existing(folder: Path, *, force: bool) -> None:
    """Refuse a target that exists, unless it is an evaluation and `force` is set.

    Raises
    ------
    OutputError
        If the target exists and may not be replaced.
    """
    if not folder.exists():
        return
    if not (folder / RESULT).is_file():
        msg = f"{folder}: exists, and is no evaluation (no {RESULT} in it). Choose another folder with --out."
        raise OutputError(msg)
    if not force:
        msg = f"{folder}: holds an evaluation already. Replace it with --force, or choose another folder with --out."
        raise OutputError(msg)


def write(evaluation: Evaluation, folder: Path, *, force: bool = False) -> Path:
    """Write `evaluation.json`, `model_card.json`, `report.html` and `figures/`; return the report's path.

    Raises
    ------
    OutputError
        If the target exists and may not be replaced, cannot be written, or the disk is full.
    """
    refuse_existing(folder, force=force)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        beside.mkdir(parents=True, mode=0o700)  # its report names donors
        _fill(evaluation, beside)
        if folder.exists():
            folder.rename(old)
        beside.rename(folder)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        msg = (
            f"{folder}: cannot be written ({error.strerror or error}). Make room, or choose another folder with --out."
        )
        raise OutputError(msg) from error
    finally:
        for rest in (beside, old):
            shutil.rmtree(rest, ignore_errors=True)
    return folder / REPORT


def _fill(evaluation: Evaluation, folder: Path) -> None:
    (folder / FIGURES).mkdir()
    with style.theme():
        pictures = draw(evaluation)
        for picture in pictures.all:
            _store(folder / FIGURES / f"{picture.name}.png", style.png(picture))
            _store(folder / FIGURES / f"{picture.name}.svg", style.svg_alone(picture))
        _store(folder / REPORT, render(evaluation, pictures).encode())
    _store(folder / CARD, _json(model_card(evaluation)))
    _store(folder / RESULT, _json(evaluation.to_json()))


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _store(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
