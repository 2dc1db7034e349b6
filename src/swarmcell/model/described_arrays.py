"""A file of arrays with a JSON description that states its own digest: models and strata on disk.

Rules: safetensors, never code. The description is one key of metadata, for safetensors keeps no order of several, and
the bytes hold no time and no path: the same content gives the same file. It carries the number of its format.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from swarmcell import __version__, formats
from swarmcell.errors import ModelError
from swarmcell.files import writing
from swarmcell.model.encoding import Array

KINDS = {"swarmcell": "a model", "swarmcell-strata": "strata"}  # of files, by their key


def save(
    path: Path, key: str, number: int, document: Mapping[str, Any], arrays: Mapping[str, Array], *, force: bool
) -> None:
    """Write arrays and their description, of format `number`, under the `key` that tells the kind of file.

    Raises
    ------
    OutputError
        If the file exists (without `force`) or cannot be written.
    """
    text = json.dumps({**document, "format": number, "made_by": __version__}, sort_keys=True)
    whole: dict[str, Array] = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    content = to_safetensors(whole, {key: f"{sha256(text.encode()).hexdigest()} {text}"})
    with writing(path, force=force) as temporary:
        temporary.write_bytes(content)


def load(path: Path, key: str, number: int, *, what: str, remedy: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read a description and its arrays.

    Parameters
    ----------
    what, remedy
        What the file should be, and how to make it again, for the errors.

    Raises
    ------
    ModelError
        If the file is none of this kind, was changed, or is of another format than `number`.
    """
    try:
        with safe_open(path, framework="numpy") as stream:
            metadata = stream.metadata() or {}
            _check_kind(path, key, metadata, what)
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
        stated, _, text = metadata[key].partition(" ")
        document = {"format": 1} if "sha256" in metadata else dict(json.loads(text))  # the first format had two keys
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        refuse(path, f"not {what} of swarmcell ({type(error).__name__})", remedy)
    _check_format(path, document, number, remedy)
    if sha256(text.encode()).hexdigest() != stated:
        refuse(path, "its description does not have the digest that it states", remedy)
    return document, arrays


def _check_kind(path: Path, key: str, metadata: Mapping[str, str], what: str) -> None:
    other = next((kind for name, kind in KINDS.items() if name in metadata), None)
    if key not in metadata and other is not None:
        msg = f"{path}: holds {other}, expected {what}. Give the file that holds {what}."
        raise ModelError(msg)


def refuse(path: Path, why: str, remedy: str) -> NoReturn:
    """Refuse a file.

    Raises
    ------
    ModelError
        Always.
    """
    msg = f"{path}: {why}. {remedy}, or copy it again from where it is whole."
    raise ModelError(msg)


def refuse_digest(path: Path, document: Mapping[str, Any], unsaid: Sequence[str], remedy: str) -> NoReturn:
    """Refuse a file whose digests do not fit its content, or whose study does not mention rules that this version has.

    Raises
    ------
    ModelError
        Always.
    """
    if unsaid:
        maker = document["made_by"]
        refuse(path, f"made by a swarmcell {maker} that did not know {', '.join(unsaid)} among a study's rules", remedy)
    refuse(path, "its arrays do not have the digest that it states", remedy)


def _check_format(path: Path, document: Mapping[str, Any], number: int, remedy: str) -> None:
    maker, found = str(document.get("made_by", "")), document.get("format")
    said = formats.of_another_format(
        path, found, number, made_by=maker, remedy=f"{remedy}, or go on with that version."
    )
    if said:
        raise ModelError(said)
