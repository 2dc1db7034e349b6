"""Panels: made from files, read from a panel file or a prepared one, compared."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swarmcell.cells import aliases as other_names
from swarmcell.cells import genes, hdf5, panel, schema
from swarmcell.cells.cytometry import CytometrySettings
from swarmcell.cells.labels import stem
from swarmcell.cells.panel import Feature, Modality, Panel
from swarmcell.cells.readers import ReadOptions, is_cytometry, open_source
from swarmcell.errors import InputError, PanelError
from swarmcell.workflows.preprocessing.cytometry import prepare_events


def create(
    sources: Sequence[Path],
    out: Path,
    *,
    modality: Modality | None,
    name: str | None,
    reference: str,
    options: ReadOptions,
    aliases: Path | None = None,
    force: bool = False,
) -> tuple[Panel, tuple[str, ...]]:
    """Write the panel of the features that every source has, in the order of the first.

    Parameters
    ----------
    sources
        Matrices of any format that `swarmcell preprocess` reads; no value of a cell is taken from them.
    modality
        `None`: cytometry where the first source is FCS, else RNA.
    options
        What a reader must be told of RNA; where the counts stand tells which features count.
    aliases
        A table of other names (`cells.aliases.read`), which the panel then carries to every site.

    Returns
    -------
    tuple
        The panel, and the aliases of the table that were left out because they would name two features.

    Raises
    ------
    InputError
        If the table of aliases cannot be read.
    PanelError
        If the sources have no feature in common.
    OutputError
        If `out` exists (without `force`) or cannot be written.
    """
    is_events = modality == "cytometry" or (modality is None and sources[0].exists() and is_cytometry(sources[0]))
    pairs = () if aliases is None else other_names.read(aliases)
    made = [_of_events(path) if is_events else _of_matrix(path, options) for path in sources]
    common, left_out = other_names.added(_common(made, name or stem(out.name), reference), pairs)
    panel.dump(common, out, force=force)
    return common, left_out


def read(path: Path) -> Panel:
    """Read a panel from its file, a prepared file that carries one, or a model: the features that it reads.

    Raises
    ------
    InputError
        If there is no such file.
    PanelError
        If it is neither.
    """
    if not path.is_file():
        msg = f"{path}: no such file. Give a panel (.json), a prepared file (.h5ad) or a model (.safetensors)."
        raise InputError(msg)
    if path.suffix == ".safetensors":
        return _of_model(path)
    if not hdf5.is_hdf5(path):
        return panel.load(path)
    with hdf5.open_file(path) as file, hdf5.reading(path):
        stored = file.get(f"uns/{schema.UNS}/universe")
        if stored is None:
            msg = f"{path}: not a prepared file, so it carries no panel. Make one of it: swarmcell panel create."
            raise PanelError(msg)
        return panel.from_json(str(hdf5.strings(stored)[0]), source=str(path))


def described(one: Panel) -> dict[str, Any]:
    """Return what a reader wants to know of a panel, as plain values for JSON."""
    return {
        "name": one.name,
        "modality": one.modality,
        "reference": one.reference,
        "transform": one.transform,
        "cofactor": one.cofactor,
        "n_features": len(one.features),
        "sha256": one.sha256,
        "features": [{"id": f.id, "symbol": f.symbol, "aliases": list(f.aliases)} for f in one.features],
    }


def _of_model(path: Path) -> Panel:
    """Return the panel that a study chose: IDs only, for a model knows no symbols."""
    from swarmcell.model import released  # noqa: PLC0415 (torch is slow to import, and the other panels need it not)

    model = released.load(path)
    features = tuple(Feature(name) for name in model.panel_ids)
    transform = panel.TRANSFORMS[model.study.modality][0]
    return Panel(f"{model.study.name} ({model.study.features.rule})", model.study.modality, "", features, transform)


def _of_matrix(path: Path, options: ReadOptions) -> Panel:
    if path.suffix == ".h5ad" and path.is_file() and hdf5.is_hdf5(path):
        with hdf5.open_file(path) as file:
            is_prepared = f"uns/{schema.UNS}/universe" in file
        if is_prepared:
            return read(path)
    return genes.own_universe([open_source(path, options)], path.name)


def _of_events(path: Path) -> Panel:
    settings = CytometrySettings(events_per_donor=1)
    return prepare_events(
        path, sheet=None, keys={}, site=None, settings=settings, universe=None, seed=0, observer=lambda *_: None
    ).universe


def _common(made: list[Panel], name: str, reference: str) -> Panel:
    shared = set(made[0].ids).intersection(*(set(one.ids) for one in made[1:]))
    features = tuple(_joined(f, made) for f in made[0].features if f.id in shared)
    if not features:
        msg = "the sources have no feature in common. Compare their IDs: symbols and Ensembl IDs do not meet."
        raise PanelError(msg)
    return Panel(name, made[0].modality, reference, features, made[0].transform, made[0].cofactor)


def _joined(feature: Feature, made: list[Panel]) -> Feature:
    """Keep the other sources' symbols as aliases: they are how those sites call the gene."""
    others = [f.symbol for one in made[1:] for f in one.features if f.id == feature.id]
    aliases = dict.fromkeys((*feature.aliases, *(s for s in others if s and s != feature.symbol)))
    return Feature(feature.id, feature.symbol, tuple(aliases))
