"""Highly-variable genes over sites beside scanpy on the pooled counts: genes that differ, time, and bytes that travel.

Run: `python -m benchmarks hvg`. Counts are drawn by a seed. A partition gives every cell to one of 2 to 9 sites of
unequal size; the sites and the merge are those of a swarm, without its log. Where genes of exactly one score straddle
the cut, scanpy's choice depends on the processor's sort: such a gene does not count as different.
"""

import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from benchmarks.figures import Figure
from swarmcell.model import variable_genes
from swarmcell.model.learning import Learner
from swarmcell.model.state import digest, from_bytes
from swarmcell.model.study import FeatureRule, Study
from swarmcell.model.training_cells import TrainingCells

REPEATS = 3
PARTITIONS = 100
SMALL, N_TOP_SMALL = (1_200, 3_000), 500
WIDE, N_TOP = (6_000, 20_000), 2_000
REAL = Path(__file__).parents[2] / "shared" / "data" / "rna" / "mixology_celseq2_singlets.h5ad"


def counts(shape: tuple[int, int]) -> Any:
    """Return counts as of an experiment: rare and frequent genes, cells of several depths, more than Poisson noise."""
    rng = np.random.default_rng(0)
    means, wobble = rng.lognormal(-2.5, 2, shape[1]), rng.gamma(2, 0.5, shape[1])
    blocks = []
    for start in range(0, shape[0], 500):
        n = min(500, shape[0] - start)
        level = means * rng.gamma(1 / wobble, wobble, (n, shape[1])) * rng.lognormal(0, 0.4, (n, 1))
        blocks.append(sparse.csr_matrix(rng.poisson(level).astype(np.float32)))
    return sparse.vstack(blocks, format="csr")


def site(name: str, cells: Any) -> TrainingCells:
    """Return these cells as one site's: one donor, two types in turn."""
    n = cells.shape[0]
    return TrainingCells(
        X=cells.log1p(),
        feature_ids=tuple(f"g{i}" for i in range(cells.shape[1])),
        universe_sha256="",
        modality="rna",
        cell_type=np.arange(n) % 2,
        sample=np.zeros(n, np.int64),
        validation=np.zeros(n, bool),
        sample_condition=np.full(1, -1, np.int64),
        sample_validation=np.zeros(1, bool),
        donors=(f"{name}/d",),
        counts=cells,
        site=np.zeros(n, np.int64),
    )


def study(n_top: int) -> Study:
    rule = FeatureRule(rule="seurat_v3", n_top=n_top)
    return Study(name="hvg", modality="rna", stages=("features", "cell"), cell_types=("a", "b"), features=rule)


class Rounds:
    """The two rounds of some sites: the panel that they agree on, and what each step took and sent."""

    def __init__(self, sites: Sequence[Any], n_top: int) -> None:
        learners = [Learner(study(n_top), site(f"s{i}", cells), threads=1) for i, cells in enumerate(sites)]
        self.contribute_s: list[float] = []
        self.merge_s: list[float] = []
        self.sent_bytes: list[int] = []
        raw, stop = learners[0].start(), threading.Event()
        while from_bytes(raw).stage == "features":
            parts = []
            for learner in learners:
                began_s = time.perf_counter()
                parts.append(learner.contribute(raw, stop))
                self.contribute_s.append(time.perf_counter() - began_s)
            self.sent_bytes.append(len(parts[0].parameters))
            began_s = time.perf_counter()
            raw = learners[0].merge(raw, parts).state
            self.merge_s.append(time.perf_counter() - began_s)
        state = from_bytes(raw)
        self.panel = state.arrays["panel"].tolist()
        self.digest = digest(b"".join(state.arrays[name].tobytes() for name in ("panel", "mean", "scale")))


def partition(cells: Any, rng: np.random.Generator) -> list[Any]:
    """Give every cell to one of 2 to 9 sites of unequal size."""
    n_sites = int(rng.integers(2, 10))
    place = rng.choice(n_sites, cells.shape[0], p=rng.dirichlet(np.full(n_sites, 1.0)))
    return [cells[place == i] for i in range(n_sites) if (place == i).any()]


def scanpys(cells: Any, n_top: int) -> tuple[set[int], float]:
    """Return scanpy's genes, and how long they took."""
    import anndata as ad  # noqa: PLC0415 (slow, and the other benchmarks need it not)
    import scanpy as sc  # noqa: PLC0415

    pooled = ad.AnnData(cells.astype(np.float64))
    began_s = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = sc.pp.highly_variable_genes(pooled, flavor="seurat_v3", n_top_genes=n_top, inplace=False)
    return set(np.flatnonzero(frame["highly_variable"]).tolist()), time.perf_counter() - began_s


def differing(panel: Sequence[int], theirs: set[int], scores: Sequence[float]) -> int:
    """Return how many genes are in one set only, without those that tie at the cut."""
    last = min(scores[gene] for gene in panel)
    return sum(scores[gene] != last for gene in theirs ^ set(panel))


def partitions(name: str, cells: Any, n_top: int) -> Iterator[Figure]:
    theirs, _ = scanpys(cells, n_top)
    scores = variable_genes.scores_of_cells(cells)
    rng = np.random.default_rng(1)
    found = [Rounds(partition(cells, rng), n_top) for _ in range(PARTITIONS)]
    wrong = tuple(float(differing(one.panel, theirs, scores)) for one in found)
    what = f"{name}, {PARTITIONS} random partitions into sites"
    yield Figure(f"{what}: genes of {n_top} that differ from scanpy's, in all", "genes", (sum(wrong),), 0)
    yield Figure(f"{what}: different digests of panel and scaling", "", (float(len({f.digest for f in found})),), 1)


def wide(repeats: int) -> Iterator[Figure]:
    cells = counts(WIDE)
    sites = [cells[i::3] for i in range(3)]
    runs = []
    peers_s = []
    for _ in range(repeats):
        peers_s.append(scanpys(cells, N_TOP)[1])
        runs.append(Rounds(sites, N_TOP))
    what = f"{WIDE[0]:,} cells x {WIDE[1]:,} genes, three sites"
    yield Figure(f"{what}: scanpy on the pooled counts", "s", tuple(peers_s))
    for i, words in enumerate(("sums", "clipped sums")):
        yield Figure(f"{what}: a site's {words}", "s", tuple(float(np.mean(r.contribute_s[3 * i :][:3])) for r in runs))
        yield Figure(f"{what}: merging the {words}, at every peer", "s", tuple(r.merge_s[i] for r in runs))
        yield Figure(f"{what}: bytes of a site's {words}", "MB", (runs[0].sent_bytes[i] / 1e6,))


def figures(repeats: int) -> Iterator[Figure]:
    """Yield the genes that differ over many partitions, and time and bytes at full width."""
    yield from partitions(f"{SMALL[0]:,} cells x {SMALL[1]:,} genes", counts(SMALL), N_TOP_SMALL)
    if REAL.is_file():
        import anndata as ad  # noqa: PLC0415

        real = sparse.csr_matrix(ad.read_h5ad(REAL).X, dtype=np.float32)
        yield from partitions("811 lung cancer cells x 11,533 genes", real, 1_000)
    yield from wide(repeats)
