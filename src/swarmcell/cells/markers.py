"""Marker names: from what a file calls a channel to the marker that a study means.

Rules: the site's own table (`[cytometry.markers]`) counts first, then `$PnS`, then `$PnN`; metal tags and fluorochromes
are stripped; a name is known by its letters and digits alone (`cd45-ra` is `CD45RA`) and by its synonyms. What
could mean two things is an error that lists the choices; nothing is guessed.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from swarmcell.cells.events import Label
from swarmcell.cells.panel import Panel
from swarmcell.cells.roles import role_of, without_tag
from swarmcell.cells.vocabulary import FLUOROCHROME, GREEK, SYNONYMS
from swarmcell.errors import PanelError

_FLUOR_FIRST = re.compile(rf"^(?:{FLUOROCHROME})[-_ .:]+", re.IGNORECASE)
_FLUOR_LAST = re.compile(rf"[-_ .:]+(?:{FLUOROCHROME})$", re.IGNORECASE)
_FLUOR_ONLY = re.compile(rf"^(?:{FLUOROCHROME})$", re.IGNORECASE)
_DETECTOR = re.compile(r"^FL\d+(?:[-_ .](?:log|lin|[AHW]))*$|^[A-Z]{1,3}[-_ .]?\d{1,3}[-_ .][AHW]$", re.IGNORECASE)
_PULSE = re.compile(r"[-_ .]([AHW])$")
_COMP = re.compile(r"^(?:FJ)?comp[-. ]", re.IGNORECASE)
_CD = re.compile(r"^CD(\d+)([A-Z]{0,2})$")
_CD_UPPER = {"RA", "RB", "RC", "RO", "R", "L", "P"}  # CD45RA and CD62L, but CD11c and CD3e


@dataclass(frozen=True)
class Assignment:
    """What became of one channel: its marker, or None and why."""

    column: int
    label: Label
    marker: str | None
    why: str


def key(name: str) -> str:
    """Reduce a name to what counts: letters and digits, upper case, Greek letters spelt `a`, `b`, `g`."""
    plain = unicodedata.normalize("NFKC", name).translate(GREEK)
    return "".join(letter for letter in plain.upper() if letter.isalnum() and letter.isascii())


_BY_SYNONYM = {key(name): names for names in SYNONYMS for name in names}


def stripped(text: str) -> str:
    """Strip what is no marker: a compensation prefix, metal tags, fluorochromes, and the pulse's -A, -H or -W."""
    text = _COMP.sub("", text.rsplit("::", 1)[-1].strip()).strip("<> ")
    if _DETECTOR.match(text) and key(_PULSE.sub("", text)) not in _BY_SYNONYM:
        return ""
    text = without_tag(_PULSE.sub("", text))
    while not _FLUOR_ONLY.match(text):
        shorter = _FLUOR_LAST.sub("", _FLUOR_FIRST.sub("", text))
        if shorter == text:
            return text
        text = shorter
    return ""


def display(name: str) -> str:
    """Return the name under which a marker is known without a panel: `cd45-ra` is `CD45RA`, `c-Kit` is `CD117`."""
    if (synonyms := _BY_SYNONYM.get(key(name))) is not None:
        return synonyms[0]
    if (cd := _CD.match(key(name))) is None:
        return name.strip()
    return f"CD{cd[1]}{cd[2] if cd[2] in _CD_UPPER or cd[1] == '62' else cd[2].lower()}"


def assign(labels: Sequence[Label], *, panel: Panel | None, table: Mapping[str, str], source: str) -> list[Assignment]:
    """Find the marker of each channel.

    Parameters
    ----------
    panel
        The study's markers; None: every stained channel is a marker.
    table
        The site's own names: channel (`$PnN` or `$PnS`) to marker, or to "" for a channel to leave out.
    source
        The file's name, for errors.

    Returns
    -------
    list of Assignment
        One per channel, in file order.

    Raises
    ------
    PanelError
        If two channels claim one marker, or a channel fits two markers of the panel.
    """
    lookup = None if panel is None else _lookup(panel)
    found = [_assignment(column, label, lookup, table, source) for column, label in enumerate(labels)]
    return _without_repeats(found, source)


def _lookup(panel: Panel) -> dict[str, set[str]]:
    """Map the key of every name of a feature to the features that bear it; a synonym never beats a panel's own name."""
    own: dict[str, set[str]] = {}
    for feature in panel.features:
        for name in (feature.id, feature.symbol, *feature.aliases):
            if name:
                own.setdefault(key(name), set()).add(feature.id)
    others: dict[str, set[str]] = {}
    for known, ids in own.items():
        for synonym in _BY_SYNONYM.get(known, ()):
            if key(synonym) not in own:
                others.setdefault(key(synonym), set()).update(ids)
    return own | others


def _assignment(
    column: int, label: Label, lookup: Mapping[str, set[str]] | None, table: Mapping[str, str], source: str
) -> Assignment:
    told = next((table[name] for name in (label.name, label.stain) if name in table), None)
    if told == "":
        return Assignment(column, label, None, "left out by [cytometry.markers]")
    if lookup is not None:
        return _from_panel(column, label, lookup, told, source)
    if told is not None:
        return Assignment(column, label, told, "named by [cytometry.markers]")
    if (role := role_of(label)) != "stain":
        return Assignment(column, label, None, role)
    name = next((text for text in map(stripped, (label.stain, label.name)) if text), "")
    return Assignment(column, label, display(name), "stain") if name else Assignment(column, label, None, "no stain")


def _from_panel(column: int, label: Label, lookup: Mapping[str, set[str]], told: str | None, source: str) -> Assignment:
    texts = (told,) if told is not None else (label.stain, stripped(label.stain), label.name, stripped(label.name))
    for text in texts:
        ids = lookup.get(key(text), set()) if text else set()
        if len(ids) > 1:
            msg = (
                f"{source}: channel {label} may be {' or '.join(sorted(ids))}: the panel gives both the name {text!r}. "
                f'Choose in the configuration: [cytometry.markers] "{label.name}" = "{min(ids)}".'
            )
            raise PanelError(msg)
        if ids:
            return Assignment(
                column, label, next(iter(ids)), "panel" if told is None else "named by [cytometry.markers]"
            )
    if told is not None:
        msg = f"{source}: [cytometry.markers] says that {label} is {told!r}, which the panel does not hold."
        raise PanelError(msg)
    role = role_of(label)
    return Assignment(column, label, None, "not in the panel" if role == "stain" else role)


def _without_repeats(found: list[Assignment], source: str) -> list[Assignment]:
    claims: dict[str, list[Assignment]] = {}
    for one in found:
        if one.marker is not None:
            claims.setdefault(key(one.marker), []).append(one)
    beaten: dict[int, str] = {}
    for rivals in claims.values():
        kept = _preferred(rivals)
        if len(kept) > 1:
            names = "; ".join(f'"{one.label.name}" ({one.label.stain or "no stain"})' for one in kept)
            msg = (
                f"{source}: {len(kept)} channels are {kept[0].marker}: {names}. Choose one in the configuration: under "
                f'[cytometry.markers] give the others "", as "{kept[1].label.name}" = "".'
            )
            raise PanelError(msg)
        beaten |= {one.column: f"{kept[0].label.name} is preferred" for one in rivals if one is not kept[0]}
    return [Assignment(o.column, o.label, None, beaten[o.column]) if o.column in beaten else o for o in found]


def _preferred(rivals: list[Assignment]) -> list[Assignment]:
    """Of one stain's signals keep the site's own choice, else the compensated ones, else areas before heights."""
    for is_better in (_is_told, _is_compensated, _is_area):
        better = [one for one in rivals if is_better(one)]
        rivals = better or rivals
    return rivals


def _is_told(one: Assignment) -> bool:
    return one.why.startswith("named")


def _is_compensated(one: Assignment) -> bool:
    return bool(_COMP.match(one.label.name))


def _is_area(one: Assignment) -> bool:
    pulse = _PULSE.search(one.label.name)
    return pulse is None or pulse[1] == "A"


def markers_of(found: Iterable[Assignment]) -> dict[str, int]:
    """Return marker -> column of what was assigned."""
    return {one.marker: one.column for one in found if one.marker is not None}
