"""Markers that textbooks give for common cells of blood and marrow: a check that labels mean what they say.

Rules: a cell type is recognised by words of its name, the first rule that fits wins; nothing here is used to train or
to predict. Gene symbols are human (mouse symbols compare without case), proteins as they stand in panels.

References
----------
Genes: the canonical markers of the PBMC tutorials of Seurat and scanpy; Hao et al. 2021, Cell 184:3573. Proteins:
Maecker, McCoy, Nussenblatt 2012, Nat Rev Immunol 12:191.
"""

import re
from collections.abc import Sequence

_RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"plasma ?blast|plasma ?cell|\bplasma\b", ("MZB1", "JCHAIN", "SDC1", "CD138", "CD38")),
    (r"plasmacytoid|\bpdc\b", ("LILRA4", "GZMB", "IL3RA", "CD123")),
    (r"dendritic|\bc?dcs?\b", ("FCER1A", "CST3", "CLEC10A", "CD1C", "LYZ", "CD11c", "HLA-DR")),
    (r"mega|platelet", ("PPBP", "PF4", "CD41", "CD61")),
    (r"fcgr3a|cd16.*mono|mono.*cd16|non-?classical", ("FCGR3A", "MS4A7", "CD16")),
    (r"mono|cd14", ("CD14", "LYZ", "S100A8", "S100A9", "CD14")),
    (r"neutrophil|granulocyte", ("S100A8", "S100A9", "CSF3R", "CD66b", "CD15", "Ly6G")),
    (r"\bnk\b|natural killer", ("NKG7", "GNLY", "KLRD1", "CD56", "NKp46", "NK1.1")),
    (r"cd8", ("CD8A", "CD8B", "CD3D", "CD8", "CD3")),
    (r"treg|regulatory", ("FOXP3", "IL2RA", "CTLA4", "CD25")),
    (r"cd4", ("CD3D", "IL7R", "CD4", "CD3")),
    (r"\bt[ -]?cells?\b|\bt\b|lymphocyte t", ("CD3D", "CD3E", "CD3G", "CD3")),
    (r"\bb[ -]?cells?\b|\bb\b|lymphocyte b", ("MS4A1", "CD79A", "CD79B", "CD19", "CD20", "B220")),
    (r"eryth|red blood", ("HBB", "HBA1", "HBA2", "GYPA", "CD235a", "Ter119")),
    (r"\bhspc?\b|stem|progenitor", ("CD34", "KIT", "CD117")),
)


def markers_of(cell_type: str) -> tuple[str, ...]:
    """Return textbook markers of a cell type, best first; empty for a type that no rule recognises."""
    name = cell_type.replace("_", " ").casefold()
    return next((tuple(dict.fromkeys(markers)) for pattern, markers in _RULES if re.search(pattern, name)), ())


def places(markers: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """Return where markers stand among feature names (case and hyphens do not matter); absent ones are left out."""
    place = {_plain(name): i for i, name in reversed(list(enumerate(names)))}
    return {marker: place[_plain(marker)] for marker in markers if _plain(marker) in place}


def _plain(name: str) -> str:
    return name.casefold().replace("-", "").replace(" ", "")
