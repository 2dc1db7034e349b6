"""Events of one cytometry file: labelled channels and a dense float32 table, whatever the file's format.

Rules: intensities are linear and as recorded (log amplification and gain undone), neither compensated nor transformed.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from swarmcell.cells import fcs

Technology = Literal["mass", "flow", "spectral"]
EventTable = npt.NDArray[np.float32]  # shape (n_events, n_channels)

_ELEMENTS = "Y|Rh|Pd|Ag|Cd|In|Sn|Te|I|Xe|Cs|Ba|La|Ce|Pr|Nd|Pm|Sm|Eu|Gd|Tb|Dy|Ho|Er|Tm|Yb|Lu|Os|Ir|Pt|Tl|Pb|Bi"
_MASS = r"(?:8\d|9\d|1\d\d|20\d)"  # isotopes that a mass cytometer counts, in dalton
METAL_TAG = rf"(?:(?:{_ELEMENTS}){_MASS}|{_MASS}(?:{_ELEMENTS}))(?:D[id])?"
_METAL = re.compile(rf"(?:^|[(_\-. ]){METAL_TAG}(?:$|[)_\-. ])|\(\d{{3}}:\d{{3}}\)D[id]$")
_MASS_CYTOMETER = re.compile(r"cytof|helios|dvs|fluidigm|standard biotools", re.IGNORECASE)
_SPECTRAL_CYTOMETER = re.compile(r"aurora|northern lights|id7000|sp6800|a8\b|discover s8|bigfoot|opteon", re.IGNORECASE)
_RAW_DETECTOR = re.compile(r"(?:UV|V|B|YG|R|IR)\d{1,2}-A", re.IGNORECASE)
_RAW_DETECTORS_MIN = 24  # chosen: conventional cytometers have fewer detectors named so
_METAL_CHANNELS_MIN = 3  # chosen: fewer tagged names may be a coincidence


@dataclass(frozen=True)
class Label:
    """What a file calls one channel. `ceiling` is its largest possible intensity, 0 where unknown."""

    name: str  # $PnN, or the column of a table
    stain: str = ""  # $PnS
    ceiling: float = 0.0

    def __str__(self) -> str:
        """Show the name, and the stain where it says more."""
        return f"{self.name} ({self.stain})" if self.stain and self.stain != self.name else self.name


@dataclass(frozen=True)
class Events:
    """Events of one file. `values` has one column per label; `keywords` are those of the file (none in tables).

    `cell_types` and `names` belong to the events where the file labels them, shape `(n_events,)`.
    """

    source: str
    labels: tuple[Label, ...]
    values: EventTable
    keywords: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    cell_types: npt.NDArray[np.object_] | None = None
    names: npt.NDArray[np.object_] | None = None


def from_fcs(data_set: fcs.DataSet) -> Events:
    """Read the events of an FCS data set.

    Raises
    ------
    InputError
        If its DATA segment cannot be read.
    """
    labels = tuple(_label(channel, data_set.keywords) for channel in data_set.channels)
    values = fcs.read_events(data_set)
    return Events(data_set.path.name, labels, values, data_set.keywords, data_set.notes)


def _label(channel: fcs.Channel, keywords: Mapping[str, str]) -> Label:
    name = channel.name or f"channel {channel.index}"
    return Label(name, channel.stain, _ceiling(channel, keywords))


def _ceiling(channel: fcs.Channel, keywords: Mapping[str, str]) -> float:
    if keywords.get("TRANSFORMATION", "").strip():  # flowCore wrote it: $PnR is no longer the range of the values
        return 0.0
    top = max(0.0, channel.maximum - 1)
    if channel.decades > 0:
        return float(channel.offset * 10 ** (channel.decades * top / channel.maximum))
    return top / channel.gain


def technology_of(labels: tuple[Label, ...], keywords: Mapping[str, str]) -> Technology:
    """Tell mass, flow and spectral cytometry apart by the instrument's name and the channels' metal tags."""
    instrument = keywords.get("$CYT", "")
    tagged = sum(bool(_METAL.search(label.name) or _METAL.search(label.stain)) for label in labels)
    if _MASS_CYTOMETER.search(instrument) or tagged >= _METAL_CHANNELS_MIN:
        return "mass"
    return "spectral" if _SPECTRAL_CYTOMETER.search(instrument) or has_raw_detectors(labels) else "flow"


def has_raw_detectors(labels: tuple[Label, ...]) -> bool:
    """Whether these are a spectral cytometer's detectors, not yet unmixed into stains."""
    return sum(bool(_RAW_DETECTOR.fullmatch(label.name)) for label in labels) >= _RAW_DETECTORS_MIN


def chunks(n_events: int, step: int = 65_536) -> Iterator[slice]:
    """Yield slices over rows, so that a step's temporaries stay small."""
    for start in range(0, n_events, step):
        yield slice(start, min(start + step, n_events))
