"""What a channel is for, told from its names: scatter, time, DNA, viability, beads, or a stain that may be a marker."""

import re
from typing import Literal

from swarmcell.cells.events import METAL_TAG, Label

Role = Literal["scatter", "time", "length", "gaussian", "dna", "viability", "bead", "barcode", "derived", "stain"]

_SCATTER = re.compile(r"^(?:(?:FJ)?comp[-. ])?(?:fsc|ssc|bsc|fs|ss)(?:[-_ .]|pmt|lin|log|[ahw]?$)", re.IGNORECASE)
_TIME = re.compile(r"^(?:time|hdr-[a-z])\b", re.IGNORECASE)
_LENGTH = re.compile(r"^(?:event|cell)[-_ .]?length$", re.IGNORECASE)
_GAUSSIAN = re.compile(r"^(?:center|offset|width|residual)$", re.IGNORECASE)
_DNA = re.compile(
    r"^(?:\d{3}Ir[-_ .])?DNA[-_ .]?\d?(?:\b|_)|^(?:Ir)?-?intercalator|\bIr19[13]|\b19[13]Ir", re.IGNORECASE
)
_VIABILITY = re.compile(
    r"^(?:live|dead|viab|l[/_-]d\b|cisplatin|zombie|7-?aad|dapi|propidium|PI$|aqua$|vivid|fvd|fvs\d|ghost|"
    r"fixable.?viab|sytox|draq7)|\b(?:live[/_. -]?dead|viability|cisplatin)",
    re.IGNORECASE,
)
_BEAD = re.compile(r"^(?:norm(?:ali[sz]ation)?[-_ ]?)?beads?\d*$", re.IGNORECASE)
_BARCODE = re.compile(r"^(?:bc|bar ?code)[-_ .]?\d+", re.IGNORECASE)
_DERIVED = re.compile(
    r"^(?:beaddist|bead_dist|csplr|tsne|umap|cluster|flowsom|population|file[-_ ]?(?:number|id)|sample[-_ ]?id|"
    r"event[-_ ]?(?:number|count|#)|mahalanobis|bc_separation|label$|af(?:-a)?$|autofluorescence)",
    re.IGNORECASE,
)
_RULES: tuple[tuple[Role, re.Pattern[str]], ...] = (
    ("scatter", _SCATTER),
    ("time", _TIME),
    ("length", _LENGTH),
    ("gaussian", _GAUSSIAN),
    ("dna", _DNA),
    ("viability", _VIABILITY),
    ("bead", _BEAD),
    ("barcode", _BARCODE),
    ("derived", _DERIVED),
)
_TAG_AROUND = re.compile(rf"^{METAL_TAG}[-_ .]+|[-_ .]+{METAL_TAG}$|\((?:{METAL_TAG}|\d{{3}}:\d{{3}})\)(?:D[id])?")


def without_tag(text: str) -> str:
    """Strip metal tags: `153Eu_CD45RA`, `CD45RA(Eu153)Di` and `Eu153Di` become `CD45RA`, `CD45RA` and nothing."""
    stripped = _TAG_AROUND.sub("", text).strip(" _-.")
    return "" if re.fullmatch(METAL_TAG, stripped) else stripped


def role_of(label: Label) -> Role:
    """Tell a channel's role by its stain or, without one, by its name.

    Scatter, time, length and Gaussian parameters are told by the name alone: nothing stains them.
    """
    for role, pattern in _RULES[:4]:
        if pattern.search(label.name):
            return role
    texts = (
        (label.stain, without_tag(label.stain)) if without_tag(label.stain) else (label.name, without_tag(label.name))
    )
    return next((role for role, pattern in _RULES[4:] if any(pattern.search(text) for text in texts)), "stain")
