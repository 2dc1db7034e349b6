"""Lists the runs of a folder, and compares two or more: what differed in them, and what came out."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swarmcell.errors import InputError

RUN_FILE = "run.json"
MODELS = ("local", "merged")


@dataclass(frozen=True)
class Run:
    """One folder under `runs/`.

    Attributes
    ----------
    settings
        What `run.json` says: options, seeds, versions, input digests.
    cards
        The card of each model that the run made, by its file's stem: `local`, `merged`. Empty: not finished.
    """

    name: str
    settings: Mapping[str, Any]
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether the run made a model."""
        return bool(self.cards)


def find(folder: Path) -> list[Run]:
    """Return the runs of a folder, by name; an absent folder has none."""
    if not folder.is_dir():
        return []
    return [read(path.parent) for path in sorted(folder.glob(f"*/{RUN_FILE}"))]


def read(folder: Path) -> Run:
    """Read one run.

    Raises
    ------
    InputError
        If the folder is not a run, or a file of it is broken.
    """
    settings = _read_json(folder / RUN_FILE)
    cards = {stem: _read_json(folder / f"{stem}.json") for stem in MODELS if (folder / f"{stem}.json").is_file()}
    return Run(folder.name, settings, cards)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = f"{path}: no such file. List the runs that there are: swarmcell runs."
        raise InputError(msg) from error
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read ({error}). Remove the run, or train it again."
        raise InputError(msg) from error
    if not isinstance(content, dict):
        msg = f"{path}: holds no JSON object. Remove the run, or train it again."
        raise InputError(msg)
    return content


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Return what is not the same in all runs: dotted key -> its value per run (`None` where a run has none)."""
    flat = [dict(_flatten({"run": run.settings, **run.cards})) for run in runs]
    keys = sorted(set().union(*flat))
    rows = {key: [values.get(key) for values in flat] for key in keys}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flatten(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner
