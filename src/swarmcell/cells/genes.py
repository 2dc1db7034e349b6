"""One feature space for all sites: a file's features are mapped to the universe, and counts follow.

Rules: an ID counts before a symbol, a symbol before an alias; a name that fits two features fits none. Features that
map to the same one are summed as integers. What did not map is said, never guessed.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from swarmcell.cells.panel import COVERAGE_MIN, Feature, Panel
from swarmcell.cells.readers.source import Block, CountSource, Names
from swarmcell.errors import PanelError

_VERSION = re.compile(r"^(ENS[A-Z]*[GT]\d{11})\.\d+(?:_PAR_Y)?$")
_DATE = re.compile(r"^(\d{1,2}-(Mar|Sep|Dec|Oct|Apr|Feb)|(Mar|Sep|Dec|Oct|Apr|Feb)-\d{1,2}|20\d\d-\d\d-\d\d.*)$", re.I)
_SPECIES = {"human": re.compile(r"^ENSG\d"), "mouse": re.compile(r"^ENSMUSG\d"), "rat": re.compile(r"^ENSRNOG\d")}
_SHOWN = 10


@dataclass(frozen=True)
class Alignment:
    """How one source's features map to the universe.

    Attributes
    ----------
    place
        Place in the universe per feature of the source, shape `(n_features,)`; -1: not in it.
    n_universe
        Features of the universe.
    by
        How many features mapped by `id`, `symbol` and `alias`.
    unmapped
        The source's features that are not in the universe.
    n_merged
        Features that were added to another one.
    """

    place: npt.NDArray[np.int64]
    n_universe: int
    by: dict[str, int]
    unmapped: tuple[str, ...]
    n_merged: int

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which features of the universe the source measured, shape `(n_universe,)`."""
        mask = np.zeros(self.n_universe, dtype=np.bool_)
        mask[self.place[self.place >= 0]] = True
        return mask

    def apply(self, block: Block) -> Block:
        """Return `block` over the universe: CSR, shape `(n_rows, n_universe)`, its dtype kept, duplicates summed."""
        if self._is_same:
            return block
        columns, shape = self._place[block.indices], (block.shape[0], self.n_universe)
        values, ends = block.data, block.indptr
        if self.unmapped:
            found = np.flatnonzero(columns >= 0)
            values, columns, ends = values[found], columns[found], np.searchsorted(found, ends).astype(np.int32)
        aligned = sparse.csr_matrix((values, columns, ends), shape=shape)
        aligned.sum_duplicates()
        return aligned

    @cached_property
    def _place(self) -> npt.NDArray[np.int32]:
        return self.place.astype(np.int32)

    @cached_property
    def _is_same(self) -> bool:
        """The source's features are the universe's, in that order."""
        return np.array_equal(self.place, np.arange(self.n_universe))


def without_version(name: str) -> str:
    """Return an Ensembl ID without its version; other names as they are."""
    found = _VERSION.match(name)
    return found.group(1) if found else name


def own_universe(sources: Iterable[CountSource], name: str) -> Panel:
    """Make a universe of the files' own features, in order of appearance.

    Raises
    ------
    PanelError
        If spreadsheet software turned gene names into dates.
    """
    features: dict[str, Feature] = {}
    for source in sources:
        refuse_dates(source)
        for identifier, symbol in zip(source.ids, source.symbols, strict=True):
            bare = without_version(str(identifier).strip())
            features.setdefault(bare, Feature(bare, str(symbol)))
    features.pop("", None)
    return Panel(name, "rna", "", tuple(features.values()))


def align(source: CountSource, universe: Panel) -> Alignment:
    """Map a source's features to the universe.

    Raises
    ------
    PanelError
        If less than 80 % of the universe is there, the species is another, or gene names became dates.
    """
    refuse_dates(source)
    ids = {name: place for place, name in enumerate(universe.ids)}
    symbols = _unique((f.symbol, place) for place, f in enumerate(universe.features) if f.symbol)
    aliases = _unique((a, place) for place, f in enumerate(universe.features) for a in f.aliases)
    place = np.full(len(source.ids), -1, np.int64)
    by: Counter[str] = Counter()
    for n, (identifier, symbol) in enumerate(zip(source.ids, source.symbols, strict=True)):
        for how, found in _candidates(str(identifier).strip(), str(symbol).strip(), ids, symbols, aliases):
            place[n], by[how] = found, by[how] + 1
            break
    mapped = place[place >= 0]
    unmapped = tuple(str(name) for name in source.symbols[place < 0])
    alignment = Alignment(place, len(universe.ids), dict(by), unmapped, len(mapped) - len(np.unique(mapped)))
    _refuse_little(alignment, source, universe)
    return alignment


def unmapped_table(sources: Sequence[CountSource], alignments: Sequence[Alignment], universe: Panel) -> pd.DataFrame:
    """Return what did not map, a row per feature of a source: `file`, `id`, `symbol`, `why`."""
    names = Counter(name for f in universe.features for name in {f.symbol, *f.aliases} if name)
    frames = []
    for one, alignment in zip(sources, alignments, strict=True):
        missing = alignment.place < 0
        ids, symbols = one.ids[missing], one.symbols[missing]
        why = [
            f"{name} names {names[str(name)]} features of the universe"
            if names[str(name)] > 1
            else "not in the universe"
            for name in symbols
        ]
        frames.append(pd.DataFrame({"file": one.path.name, "id": ids, "symbol": symbols, "why": why}, dtype=object))
    return pd.concat(frames, ignore_index=True)


def refuse_dates(source: CountSource) -> None:
    """Refuse gene names that spreadsheet software turned into dates.

    Raises
    ------
    PanelError
        If there are any.
    """
    dates = [str(name) for name in source.symbols if _DATE.match(str(name))]
    if dates:
        msg = (
            f"{source.path}: {len(dates)} gene names are dates ({', '.join(dates[:_SHOWN])}); a spreadsheet changed "
            "them (1-Mar was MARCH1 or MARC1, 2-Sep was SEPT2). Export the table again without a spreadsheet."
        )
        raise PanelError(msg)


def _unique(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    places: dict[str, int] = {}
    twice = set()
    for name, place in pairs:
        if places.setdefault(name, place) != place:
            twice.add(name)
    return {name: place for name, place in places.items() if name not in twice}


def _candidates(
    identifier: str, symbol: str, ids: dict[str, int], symbols: dict[str, int], aliases: dict[str, int]
) -> Iterable[tuple[str, int]]:
    bare = without_version(identifier)
    if bare in ids:
        yield "id", ids[bare]
    for how, names in (("symbol", symbols), ("alias", aliases)):
        for name in dict.fromkeys((symbol, bare)):
            if name in names:
                yield how, names[name]


def _refuse_little(alignment: Alignment, source: CountSource, universe: Panel) -> None:
    n_present = int(alignment.present.sum())
    coverage = n_present / alignment.n_universe
    if coverage >= COVERAGE_MIN:
        return
    here, there = species(source.ids), species(np.array(universe.ids, dtype=object))
    why = f"The universe is of {there}, the file of {here}. " if here and there and here != there else ""
    cased = {s.upper() for s in universe.symbols} & {str(s).upper() for s in source.symbols}
    if not why and len(cased) >= COVERAGE_MIN * alignment.n_universe:
        why = "Its symbols fit but for upper and lower case, as between mouse and human. "
    shown = ", ".join(alignment.unmapped[:_SHOWN]) or "none"
    msg = (
        f"{source.path}: measures {n_present} of the universe's {alignment.n_universe} features ({coverage:.0%}); "
        f"expected at least {COVERAGE_MIN:.0%}. {why}Features that did not map: {shown}. "
        "Compare them: swarmcell panel create, then swarmcell panel diff."
    )
    raise PanelError(msg)


def species(ids: Names) -> str | None:
    """Return the species that most Ensembl IDs are of, if any are."""
    some = [str(name) for name in ids[:5000]]
    found = {name: sum(bool(p.match(i)) for i in some) for name, p in _SPECIES.items()}
    best = max(found, key=lambda name: found[name])
    return best if found[best] > len(some) / 2 else None
