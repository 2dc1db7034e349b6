"""A panel (or universe): the ordered features that all sites share, known by its canonical SHA-256.

Rules: a panel is a JSON file without a value of any cell; its order is the order of `X`; IDs carry no version. Whoever
holds the same bytes of meaning (however they are indented) holds the same digest.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from swarmcell.errors import InputError, PanelError
from swarmcell.files import writing

Modality = Literal["rna", "cytometry"]
FORMAT = 1
LOG1P_CP10K = "log1p_cp10k"
ARCSINH = "arcsinh"
TRANSFORMS: dict[str, tuple[str, ...]] = {
    "rna": (LOG1P_CP10K,),
    "cytometry": (ARCSINH, "logicle", "none"),
}  # where a panel names none
ALLOWED_TRANSFORMS: dict[str, tuple[str, ...]] = {"rna": (LOG1P_CP10K,), "cytometry": (ARCSINH, "logicle", "none")}
COVERAGE_MIN = 0.8  # share of a panel's features that a site's file must have; DESIGN section 4
FEATURES_MAX = 200_000  # chosen: three times the transcripts of any annotation in use
_VERSIONED = re.compile(r"^ENS[A-Z]*[GT]\d{11}\.\d+$")


@dataclass(frozen=True)
class Feature:
    """One gene or marker: `id` is the Ensembl ID without its version, or the marker's name."""

    id: str
    symbol: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    """Ordered features with the transform that makes `X`.

    Parameters
    ----------
    modality
        `rna` or `cytometry`.
    reference
        Where the IDs come from, such as `GRCh38 Ensembl 110`.
    transform
        `log1p_cp10k` (RNA); `arcsinh`, `logicle(t,w,m,a)` or `none` (cytometry).
    cofactor
        Divisor before arcsinh (5 for CyTOF, 150 for flow); `None` for RNA.

    Raises
    ------
    PanelError
        If an ID is empty, versioned or given twice, or the transform does not fit the modality.
    """

    name: str
    modality: Modality
    reference: str
    features: tuple[Feature, ...]
    transform: str = LOG1P_CP10K
    cofactor: float | None = None

    def __post_init__(self) -> None:
        for fault in _faults(self):
            msg = f"panel {self.name!r}: {fault}"
            raise PanelError(msg)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Feature IDs, in the order of `X`."""
        return tuple(feature.id for feature in self.features)

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Feature symbols (the ID where there is none), in the order of `X`."""
        return tuple(feature.symbol or feature.id for feature in self.features)

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the canonical JSON: sorted keys, no spaces, UTF-8."""
        return hashlib.sha256(to_json(self).encode()).hexdigest()


@dataclass(frozen=True)
class Difference:
    """How panel `b` differs from panel `a`.

    Attributes
    ----------
    reordered
        The same IDs stand in another order.
    coverage
        Share of the features of `a` that `b` has.
    """

    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    reordered: bool
    coverage: float
    changed: dict[str, tuple[str, str]]  # name of a property -> (its value in a, in b)

    @property
    def same(self) -> bool:
        """Both panels have the same digest."""
        return not (self.only_in_a or self.only_in_b or self.reordered or self.changed)


def from_ids(ids: Iterable[str], symbols: Iterable[str], *, name: str, reference: str = "") -> Panel:
    """Make an RNA panel of a file's own features."""
    features = tuple(Feature(i, s) for i, s in zip(ids, symbols, strict=True))
    return Panel(name, "rna", reference, features)


def to_json(panel: Panel) -> str:
    """Return the canonical JSON of `panel`."""
    return json.dumps(_plain(panel), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def from_json(text: str, *, source: str) -> Panel:
    """Read a panel from JSON text; `source` is the name that an error shows.

    Raises
    ------
    PanelError
        If the text is not a panel.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        msg = f"{source}: not JSON ({error}). A panel file is made by: swarmcell panel create."
        raise PanelError(msg) from error
    try:
        return _parse(content)
    except (KeyError, TypeError, ValueError) as error:
        msg = f"{source}: not a panel ({type(error).__name__}: {error}). Make one with: swarmcell panel create."
        raise PanelError(msg) from error
    except PanelError as error:
        msg = f"{source}: {error}"
        raise PanelError(msg) from error


def load(path: Path) -> Panel:
    """Read a panel file.

    Raises
    ------
    InputError
        If the file cannot be read.
    PanelError
        If it is not a panel.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: the panel cannot be read ({error}). Check the path, or make it with: swarmcell panel create."
        raise InputError(msg) from error
    return from_json(text, source=str(path))


def dump(panel: Panel, path: Path, *, force: bool = False) -> None:
    """Write a panel file, one feature per line, by a temporary file and a rename.

    Raises
    ------
    OutputError
        If `path` exists (without `force`) or cannot be written.
    """
    content = _plain(panel)
    features = content.pop("features")
    head = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)[:-2]
    lines = ",\n".join("  " + json.dumps(f, sort_keys=True, ensure_ascii=False) for f in features)
    with writing(path, force=force) as temporary:
        temporary.write_text(f'{head},\n "features": [\n{lines}\n ]\n}}\n', encoding="utf-8")


def diff(a: Panel, b: Panel) -> Difference:
    """Compare two panels."""
    in_a, in_b = set(a.ids), set(b.ids)
    changed = {
        key: (str(getattr(a, key)), str(getattr(b, key)))
        for key in ("name", "modality", "reference", "transform", "cofactor")
        if getattr(a, key) != getattr(b, key)
    }
    of_a = {f.id: f for f in a.features}
    for f in b.features:
        if f.id in of_a and of_a[f.id] != f:
            changed[f.id] = (_described(of_a[f.id]), _described(f))
    return Difference(
        only_in_a=tuple(i for i in a.ids if i not in in_b),
        only_in_b=tuple(i for i in b.ids if i not in in_a),
        reordered=in_a == in_b and a.ids != b.ids,
        coverage=len(in_a & in_b) / len(in_a),
        changed=changed,
    )


def _described(feature: Feature) -> str:
    return f"{feature.symbol} ({', '.join(feature.aliases) or 'no aliases'})"


def _plain(panel: Panel) -> dict[str, Any]:
    cofactor = None if panel.cofactor is None else float(panel.cofactor)
    features = [{"id": f.id, "symbol": f.symbol, "aliases": list(f.aliases)} for f in panel.features]
    return {
        "cofactor": cofactor,
        "features": features,
        "format": FORMAT,
        "modality": panel.modality,
        "name": panel.name,
        "reference": panel.reference,
        "transform": panel.transform,
    }


def _parse(content: dict[str, Any]) -> Panel:
    if not isinstance(content, dict):
        msg = f"expected an object, got {type(content).__name__}"
        raise TypeError(msg)
    known = {"name", "modality", "reference", "transform", "cofactor", "features", "format"}
    if unknown := set(content) - known:
        msg = f"unknown keys {sorted(unknown)}"
        raise ValueError(msg)
    if content.get("format", FORMAT) != FORMAT:
        msg = f"format {content['format']!r} is not {FORMAT}; it was written by another version of swarmcell"
        raise ValueError(msg)
    features = tuple(
        Feature(str(f["id"]), str(f.get("symbol", "")), tuple(map(str, f.get("aliases", ()))))
        for f in content["features"]
    )
    cofactor = content.get("cofactor")
    return Panel(
        name=str(content["name"]),
        modality=content["modality"],
        reference=str(content.get("reference", "")),
        features=features,
        transform=str(content.get("transform", TRANSFORMS.get(content["modality"], ("",))[0])),
        cofactor=None if cofactor is None else float(cofactor),
    )


def _faults(panel: Panel) -> Iterable[str]:
    if panel.modality not in TRANSFORMS:
        yield f"modality {panel.modality!r} is neither rna nor cytometry"
    allowed = ALLOWED_TRANSFORMS.get(panel.modality, ())
    if panel.transform.partition("(")[0] not in allowed:
        yield f"transform {panel.transform!r} does not fit {panel.modality}; expected {' or '.join(allowed)}"
    if panel.cofactor is not None and not 0 < panel.cofactor < float("inf"):
        yield f"cofactor {panel.cofactor} is not a positive number"
    if not 0 < len(panel.features) <= FEATURES_MAX:
        yield f"{len(panel.features)} features; expected 1 to {FEATURES_MAX}"
    seen: set[str] = set()
    for feature in panel.features:
        if not feature.id or feature.id != feature.id.strip():
            yield f"a feature's ID is empty or padded with spaces ({feature.id!r})"
        if _VERSIONED.match(feature.id):
            yield f"{feature.id} carries a version; write it without, so that all sites agree"
        if feature.id in seen:
            yield f"{feature.id} is given twice"
        seen.add(feature.id)
