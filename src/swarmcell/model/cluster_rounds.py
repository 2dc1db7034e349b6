"""Rounds of the stage `clusters`: k-means of all sites' cells from exact sums, as if they lay in one place.

Rules: sites publish sums of products (the space), then in each round sums of cells by nearest centre, and last sums of
the panel by cluster. Several runs go side by side. A run begins with one centre, the mean, and grows: clusters are
drawn by how much they spread and split along a draw of that spread, so that no cell is ever a start and no site shows
one. `WARM_ROUNDS` after all runs are full, the tightest goes on alone until a round gains next to nothing. A site's
cells are those that `clusters.drawn` takes of its samples.

Arrays of the merged state: `clusters.chosen`, `clusters.vectors`; while it runs `now.centres`, `now.size`, `now.left`;
in the end `clusters.centres`, `clusters.count`, `clusters.means` (of the panel, 2**-24).

References
----------
Arthur, Vassilvitskii 2007, SODA (starts drawn by the squared distance; here by that of whole clusters).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from swarmcell.cells.batches import Matrix
from swarmcell.errors import MergeError
from swarmcell.model import clusters, components
from swarmcell.model.classifier import Scaling
from swarmcell.model.clusters import Clusters, Space, Sums
from swarmcell.model.contribution import COUNT_MAX, SUM_MAX, Slot, Update, add, n_sites
from swarmcell.model.draws import below, normals
from swarmcell.model.encoding import Array
from swarmcell.model.fixed import Integers
from swarmcell.model.moments import sums as column_sums
from swarmcell.model.stages import end_stage, fail
from swarmcell.model.state import MergedState, StageResult
from swarmcell.model.study import Study

GROUP = "clusters"
PRODUCT_BITS = 14  # of the rows whose products make the space: exact in float64 for a chunk of cells
STANDS = 10_000  # a run has ended when a round tightens it by less than one in so many; chosen, as in scikit-learn
WARM_ROUNDS = 5  # of Lloyd's with all runs; chosen
_MOST = 1 << 62


class Drawn:
    """A site's drawn cells; once the space is known, their coordinates are kept (4 bytes a cell and component)."""

    def __init__(self, X: Matrix, sample: Integers, n_max: int) -> None:
        self._X, self._rows = X, clusters.drawn(sample, n_max)
        self._kept: tuple[bytes, list[Array]] = (b"", [])

    def statistics(self, state: MergedState) -> dict[str, Array]:
        """Return the site's sums for the round after `state`."""
        if state.phase == "products":
            return self._products(state)
        if state.phase == "means":
            return self._means(state)
        centres, size = state.arrays["now.centres"], state.arrays["now.size"]
        found = Sums.zero(*centres.shape)
        for part in self._coordinates(state):
            whole = part.astype(np.int64)
            found.add(whole, clusters.nearest(whole, centres, size))
        return {"total": found.total, "squares": found.squares, "count": found.count}

    def _products(self, state: MergedState) -> dict[str, Array]:
        chosen = state.arrays["clusters.chosen"].astype(np.int64)
        scaling = Scaling.from_fixed(state.arrays["mean"][chosen], state.arrays["scale"][chosen])
        found = np.zeros(components.n_products(len(chosen)), np.int64)
        for X in clusters.chunks(self._X, self._rows):
            found += components.products(clusters.scaled(X, chosen, scaling, bits=PRODUCT_BITS))
        return {"n": np.array([len(self._rows)], np.int64), "products": found}

    def _coordinates(self, state: MergedState) -> list[Array]:
        key = state.arrays["clusters.vectors"].tobytes()
        if self._kept[0] != key:
            space = Space.of(state.arrays, state.group(GROUP))
            parts = [space.coordinates(X).astype(np.int32) for X in clusters.chunks(self._X, self._rows)]
            self._kept = (key, parts)
        return self._kept[1]

    def _means(self, state: MergedState) -> dict[str, Array]:
        found = Clusters.of(state.arrays)
        k = len(found.centres)
        total = np.zeros((k, len(state.arrays["panel"])), np.int64)
        count = np.zeros(k, np.int64)
        for X in clusters.chunks(self._X, self._rows):
            codes = found.codes(X)
            for i in np.unique(codes).tolist():
                total[i] += column_sums(X[codes == i])[0]
            count += np.bincount(codes, minlength=k)
        return {"total": total, "count": count}


def slots(state: MergedState, study: Study) -> dict[str, Slot]:
    """Return what a site's sums must look like."""

    def of(*shape: int, last: int = _MOST, signed: bool = True) -> Slot:
        return Slot(bits=64, shape=shape, last=last, signed=signed)

    if state.phase == "products":
        width = len(state.arrays["clusters.chosen"])
        return {"n": of(1, last=COUNT_MAX, signed=False), "products": of(components.n_products(width))}
    if state.phase == "means":
        k = study.clusters.n
        total = of(k, len(state.arrays["panel"]), last=SUM_MAX)
        return {"total": total, "count": of(k, last=COUNT_MAX, signed=False)}
    n_runs, k, n_dims = state.arrays["now.centres"].shape
    count, wide = of(n_runs, k, last=COUNT_MAX, signed=False), (n_runs, k, n_dims)
    return {"total": of(*wide), "squares": of(*wide, signed=False), "count": count}


def merge(state: MergedState, study: Study, updates: Sequence[Update]) -> MergedState:
    """Return the state after a round of the stage `clusters`."""
    if state.phase == "products":
        return _space(state, study, updates)
    if state.phase == "means":
        return _end(state, study, updates)
    return _step(state, study, updates)


def _space(state: MergedState, study: Study, updates: Sequence[Update]) -> MergedState:
    n, width = int(add(updates, "n")[0]), len(state.arrays["clusters.chosen"])
    if n < 2 * study.clusters.n:
        words = f"stage 'clusters': {n} cells in all, too few for {study.clusters.n} clusters. Ask for fewer."
        return fail(state, words)
    try:
        found = components.decompose(
            add(updates, "products"), n, width, n_max=study.clusters.components, share=1.0, bits=PRODUCT_BITS
        )
    except MergeError:
        return fail(state, "stage 'clusters': the cells do not differ in any feature.")
    known = {"chosen": state.arrays["clusters.chosen"], "vectors": found.vectors}
    runs = study.clusters.starts
    centres = np.zeros((runs, study.clusters.n, found.vectors.shape[1]), np.int64)
    fresh = {"centres": centres, "size": np.ones(runs, np.int64), "left": np.array([_MOST], np.int64)}
    return replace(state, phase="lloyd").with_group(GROUP, known).with_group("now", fresh)


def _step(state: MergedState, study: Study, updates: Sequence[Update]) -> MergedState:
    """Move all centres; split clusters of runs that are not full; keep the tightest run in the end."""
    count = add(updates, "count").astype(np.int64)
    total, squares = add(updates, "total"), add(updates, "squares")
    spread = clusters.within(total, squares, count)
    before, size = state.arrays["now.centres"], state.arrays["now.size"].copy()
    centres = clusters.moved(before, total, count)
    round_ = state.stage_round + 1
    now = replace(state, stage_round=round_)
    if int(size.min()) < study.clusters.n:
        for run in range(len(size)):
            size[run] = _grown(centres[run], int(size[run]), spread[run], count[run], f"{study.seed}/{round_}/{run}")
    elif len(size) > 1 and round_ >= _full_at(study.clusters.n) + WARM_ROUNDS:
        spreads = [sum(map(sum, run)) for run in spread]
        best = spreads.index(min(spreads))
        centres, size = centres[best : best + 1], size[:1]
    elif len(size) == 1 and (round_ >= study.clusters.rounds_max or _stands(state, sum(map(sum, spread[0])))):
        found = {**state.group(GROUP), "centres": centres[0]}
        return replace(now, phase="means").with_group("now", {}).with_group(GROUP, found)
    left = [min(sum(map(sum, run)), _MOST) for run in spread] if len(size) == 1 else [_MOST]
    return now.with_group("now", {"centres": centres, "size": size, "left": np.array(left[:1], np.int64)})


def _stands(state: MergedState, left: int) -> bool:
    """Whether the squares within clusters fell by less than `STANDS` of themselves in the last round."""
    before = int(state.arrays["now.left"][0])
    return (before - left) * STANDS <= before


def _full_at(n: int) -> int:
    """Return the round in which runs that began with one centre have `n`."""
    size, rounds = 1, 0
    while size < n:
        size, rounds = size + min(n - size, (size + 1) // 2), rounds + 1
    return rounds


def _grown(centres: Integers, size: int, spread: list[list[int]], count: Integers, key: str) -> int:
    """Split half of a run's clusters (in place), drawn by how much they spread; return how many it has then."""
    wide = [sum(row) for row in spread[:size]]
    after = size + min(len(centres) - size, (size + 1) // 2)
    for new in range(size, after):
        every = sum(wide)
        at, one = below(f"split/{key}/{new}", max(every, 1)), 0
        while one < size - 1 and at >= wide[one]:
            at, one = at - wide[one], one + 1
        wide[one] = 0  # each is split once a round
        n = max(int(count[one]), 1)
        deviation = np.array([math.isqrt((v << clusters.BITS) // n) for v in spread[one]], np.float64)
        step = np.rint(deviation * normals(f"step/{key}/{new}", len(deviation))).astype(np.int64)
        centres[new], centres[one] = clusters.cut(centres[one] + step), clusters.cut(centres[one] - step)
    return after


def _end(state: MergedState, study: Study, updates: Sequence[Update]) -> MergedState:
    """Keep the clusters, the largest first, with their means of the panel."""
    count, total = add(updates, "count").astype(np.int64), add(updates, "total")
    order = clusters.ordered(count)
    n = np.maximum(count, 1)[:, None]
    mean = np.clip((2 * total + n) // (2 * n), -SUM_MAX, SUM_MAX).astype(np.int64)
    means = np.where(count[:, None] > 0, mean, state.arrays["mean"])
    arrays = {"centres": state.arrays["clusters.centres"][order], "count": count[order], "means": means[order]}
    n_cells, n_donors = sum(u.n_cells for u in updates), sum(u.n_donors for u in updates)
    rounds = state.stage_round
    result = StageResult(rounds=rounds, best_round=rounds, sites=n_sites(updates), n_cells=n_cells, n_donors=n_donors)
    return end_stage(state, study, result, {**state.group(GROUP), **arrays})
