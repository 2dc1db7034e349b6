"""Whether a prepared file is what a model was made for, and in words what differs: species, transform, features.

Rules: the digest of the universe decides; the words come from what the model's card and the file say of theirs. A
model whose card does not tell its transform (one of an older version) says so.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from swarmcell.errors import ModelError, PanelError
from swarmcell.model.released import TrainedModel
from swarmcell.model.study import Study
from swarmcell.workflows.stream import PreparedFile

SHOWN = 5
SPECIES = {"ENSG": "human", "ENSMUSG": "mouse", "ENSRNOG": "rat", "ENSMMUG": "macaque", "ENSSSCG": "pig"}  # Ensembl's


def check_fit(model: TrainedModel, path: Path, file: PreparedFile) -> None:
    """Check that a prepared file is what a model was made for, and describe its sites where the model asks for it.

    Raises
    ------
    ModelError
        If the modality differs.
    PanelError
        If the file was prepared with another universe (features, species or transform).
    """
    found, study = file.contents, model.study
    if found["modality"] != study.modality:
        msg = (
            f"{file.name}: {found['modality']} cells, and the model {path} reads {study.modality}. "
            "Choose the model or the file that fits."
        )
        raise ModelError(msg)
    refuse_other_universe(file, study, model.panel_ids, model.card, made=f"the model {path} was trained")
    if study.features.scaling == "site":
        file.describe_sites()


def refuse_other_universe(
    file: PreparedFile, study: Study, ids: Sequence[str], card: Mapping[str, Any], *, made: str
) -> None:
    """Refuse a file of another universe than that of a study, and say what differs.

    Parameters
    ----------
    ids, card
        Features that are read, and what is said of their universe.
    made
        What was made of the study, and how: `the model m.safetensors was trained`.

    Raises
    ------
    PanelError
        If the file was prepared with another universe.
    """
    found = file.contents["universe_sha256"]
    if not study.universe_sha256 or found == study.universe_sha256:
        return
    said = "; ".join(differences(ids, card.get("universe", {}), file))
    msg = (
        f"{file.name}: prepared with universe {found[:12]}, and {made} with {study.universe_sha256[:12]}. What "
        f"differs: {said}. Prepare the file with the study's universe file (swarmcell panel diff compares the two)."
    )
    raise PanelError(msg)


def differences(expected: Sequence[str], theirs: Mapping[str, Any], file: PreparedFile) -> list[str]:
    """Say what differs between a model's universe and a file's: species, transform, reference, features."""
    ids = [str(name) for name in file.var.index]
    own: Mapping[str, Any] = json.loads(str(file.contents["universe"]))
    said = [*_species(expected, ids), *_transform(theirs, own), *_features(expected, ids)]
    return said or ["the order of the features, or their symbols and aliases"]


def _species(panel: Sequence[str], ids: Sequence[str]) -> Iterator[str]:
    expected, found = species(panel), species(ids)
    if expected and found and expected != found:
        yield f"the species: the file holds {found} genes, the model reads {expected} ones"


def species(ids: Sequence[str]) -> str:
    """Return the species that Ensembl gene IDs are of, by their prefix; empty where they are none or not known."""
    prefixes = {name.rstrip("0123456789") for name in ids[:1000]}
    known = {SPECIES.get(prefix, "") for prefix in prefixes}
    return known.pop() if len(known) == 1 else ""


def _transform(theirs: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[str]:
    if not theirs:
        yield f"perhaps the transform (the model does not tell its own; the file's is {_named(own)})"
    elif _named(theirs) != _named(own):
        yield f"the transform: {_named(own)} in the file, {_named(theirs)} for the model"
    if theirs and theirs.get("reference") and own.get("reference") and theirs["reference"] != own["reference"]:
        yield f"the reference: {own['reference']!r} in the file, {theirs['reference']!r} for the model"


def _named(universe: Mapping[str, Any]) -> str:
    cofactor = universe.get("cofactor")
    return str(universe.get("transform", "unknown")) + (f" (cofactor {cofactor:g})" if cofactor is not None else "")


def _features(panel: Sequence[str], ids: Sequence[str]) -> Iterator[str]:
    there = set(ids)
    missing = [name for name in panel if name not in there]
    if missing:
        shown = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        yield f"the features: {len(missing)} of the {len(panel)} that the model reads are not in the file ({shown})"
