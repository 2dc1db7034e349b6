"""The passes over a site's RNA: measure every cell, look for doublets, write those that are kept.

Rules: each pass reads the sources in blocks of rows and holds one block; the pass for doublets also holds the samples
that have begun and not ended, up to a stated number of values, and takes another turn for the rest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from swarmcell.cells import doublets, memory, normalise, qc
from swarmcell.cells.genes import Alignment
from swarmcell.cells.panel import Panel
from swarmcell.cells.readers import CountSource
from swarmcell.cells.readers.source import Block
from swarmcell.cells.writer import PreparedWriter, Storage
from swarmcell.workflows.preprocessing.prepared_labels import Observer

PART_CELLS = 10_000  # of a sample that are scored together; a larger sample is scored in random parts; chosen
TIDY_BLOCKS = 32  # after which freed memory is given back; 67 million values; chosen
HELD_VALUES = 2**25  # stored values of samples in memory at once: 270 MB; chosen


@dataclass(frozen=True)
class Aligned:
    """A site's matrices, each with its place in the universe."""

    sources: Sequence[CountSource]
    alignments: Sequence[Alignment]
    universe: Panel

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which features every matrix of the site measured: elsewhere a zero may be a gap."""
        masks = [alignment.present for alignment in self.alignments]
        return np.asarray(np.logical_and.reduce(masks), dtype=np.bool_)

    def blocks(self, observer: Observer) -> Iterator[tuple[int, Block, CountSource, Alignment]]:
        """Yield the first row of each block among all cells of the site, the block, and what it is of."""
        start = 0
        for one, alignment in zip(self.sources, self.alignments, strict=True):
            for number, block in enumerate(one.blocks()):
                if number % TIDY_BLOCKS == 0:
                    memory.give_back()
                yield start, block, one, alignment
                start += block.shape[0]
                observer("cells", {"n": block.shape[0]})


def measured(cells: Aligned, n_cells: int, observer: Observer) -> pd.DataFrame:
    """Read everything once: values are checked on the way, counts are measured (without counts: an empty table)."""
    observer("pass", {"name": "measure", "n": n_cells})
    sets = [qc.gene_sets(_symbols(one, cells, number)) for number, one in enumerate(cells.sources)]
    numbers = {id(one): number for number, one in enumerate(cells.sources)}
    columns: dict[str, npt.NDArray[Any]] = {}
    for start, block, one, _ in cells.blocks(observer):
        if one.kind == "counts":
            _fill(columns, qc.metrics(block, sets[numbers[id(one)]]), start, n_cells)
    return pd.DataFrame(columns, copy=False)


def _fill(columns: dict[str, npt.NDArray[Any]], part: pd.DataFrame, start: int, n_cells: int) -> None:
    """Put a block's rows in their place: small pieces that live on between large ones would keep memory in pieces."""
    for name in map(str, part):
        values = part[name].to_numpy()
        if name not in columns:
            columns[name] = np.empty(n_cells, values.dtype)
        columns[name][start : start + len(values)] = values


def _symbols(source: CountSource, cells: Aligned, number: int) -> npt.NDArray[np.object_]:
    """Return symbols by the universe where a feature is in it: files with IDs only have none of their own."""
    known = np.array([*cells.universe.symbols, ""], dtype=object)
    place = cells.alignments[number].place
    return np.where(place >= 0, known[place], source.symbols)


@dataclass(frozen=True)
class Scored:
    """Doublet scores of all cells of the site: NaN and `False` where there was nothing to go by.

    Attributes
    ----------
    thresholds
        Sample to its threshold; `None` where the simulated doublets have one mode only, so that none is called.
    """

    score: npt.NDArray[np.float32]
    called: npt.NDArray[np.bool_]
    thresholds: dict[str, float | None]


@dataclass
class _Part:
    """Cells of one sample that are scored together, at `rows` of the site; `n_values` they hold."""

    sample: str
    rows: npt.NDArray[np.int64]
    n_values: int
    blocks: list[Block] = field(default_factory=list)


def scored(
    cells: Aligned, samples: npt.NDArray[np.object_], kept: npt.NDArray[np.bool_], metrics: pd.DataFrame, *,
    seed: int, observer: Observer,
) -> Scored:  # fmt: skip
    """Score the cells that passed QC, sample by sample.

    Parameters
    ----------
    samples
        Sample of each cell, shape `(n_obs,)`.
    kept
        Cells that passed QC, shape `(n_obs,)`.
    metrics
        What `measured` returned: it says how much a sample holds before it is read.
    """
    made = Scored(np.full(len(kept), np.nan, np.float32), np.zeros(len(kept), np.bool_), {})
    for turn in _turns(_parts(samples, kept, metrics["n_genes"].to_numpy(), seed)):
        observer("pass", {"name": "doublets", "n": len(kept)})
        for part in _complete(cells, turn, observer):
            found = doublets.find(sparse.vstack(part.blocks, format="csr"), seed=seed)
            part.blocks.clear()
            if found is not None:
                made.score[part.rows], made.called[part.rows] = found.score, found.called
                made.thresholds[part.sample] = found.threshold
    return made


def _parts(
    samples: npt.NDArray[np.object_], kept: npt.NDArray[np.bool_], n_values: npt.NDArray[np.int64], seed: int
) -> list[_Part]:
    rng = np.random.default_rng(seed)
    parts = []
    rows_kept = np.flatnonzero(kept)
    for sample, places in pd.Series(rows_kept).groupby(samples[rows_kept]).indices.items():
        rows = rows_kept[places]
        if len(rows) < doublets.CELLS_MIN:
            continue
        n_parts = -(-len(rows) // PART_CELLS)
        part_of = rng.permutation(len(rows)) % n_parts
        for number in range(n_parts):
            mine = rows[part_of == number]
            parts.append(_Part(str(sample), mine, int(n_values[mine].sum())))
    return sorted(parts, key=lambda part: int(part.rows[0]))


def _turns(parts: list[_Part]) -> list[list[_Part]]:
    """Deal parts into turns, so that those that are held at once have at most `HELD_VALUES` (or one part has more)."""
    turns: list[list[_Part]] = []
    for part in parts:
        fitting = (turn for turn in turns if part.n_values + _held(turn, part) <= HELD_VALUES)
        turn = next(fitting, None)
        if turn is None:
            turns.append([part])
        else:
            turn.append(part)
    return turns


def _held(turn: list[_Part], beside: _Part) -> int:
    return sum(part.n_values for part in turn if part.rows[-1] >= beside.rows[0])


def _complete(cells: Aligned, turn: list[_Part], observer: Observer) -> Iterator[_Part]:
    """Read, and yield each part when its last cell has come."""
    waiting = list(turn)
    for start, block, _, _ in cells.blocks(observer):
        stop, still = start + block.shape[0], []
        for part in waiting:
            low, high = np.searchsorted(part.rows, (start, stop))
            if high > low:
                part.blocks.append(block[part.rows[low:high] - start])
            if part.rows[-1] < stop:
                yield part
            else:
                still.append(part)
        waiting = still


def write(
    path: Path,
    cells: Aligned,
    kept: npt.NDArray[np.bool_],
    frames: tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]],
    observer: Observer,
    *,
    storage: Storage = "gzip",
    zarr: bool = False,
) -> None:
    """Write the cells that are kept; `frames` are obs, var and what stands in uns."""
    observer("pass", {"name": "write", "n": len(kept)})
    with_counts = cells.sources[0].kind == "counts"
    n_vars = len(cells.universe.ids)
    writer = PreparedWriter(path, n_vars, with_counts=with_counts, storage=storage, zarr=zarr)
    try:
        for start, block, one, alignment in cells.blocks(observer):
            mine = kept[start : start + block.shape[0]]
            aligned = _aligned(block if mine.all() else block[mine], alignment, one.kind)
            writer.add(*((normalise.log1p_cp10k(aligned), aligned) if with_counts else (aligned, None)))
        writer.finish(*frames)
    finally:
        writer.close()


def _aligned(block: Block, alignment: Alignment, kind: str) -> Block:
    """Bring rows to the universe; merged features are summed as counts, so log values are summed before the log."""
    if kind == "counts" or not alignment.n_merged:
        return alignment.apply(block)
    return alignment.apply(block.expm1()).log1p()
