"""Small simulated cells, prepared as `preprocess` would, for the tests of learning."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from swarmcell.cells import schema
from swarmcell.cells.panel import Feature, Panel
from swarmcell.model.contribution import Contribution
from swarmcell.model.learning import Learner
from swarmcell.model.state import MergedState, from_bytes
from swarmcell.model.study import FitRule, Study
from swarmcell.model.training_cells import TrainingCells, gather

TYPES = ("B", "NK", "T")
CONDITIONS = ("control", "disease")


def prepared(
    site: str = "site-a",
    *,
    n_donors: int = 6,
    cells_per_donor: int = 30,
    n_genes: int = 12,
    types: tuple[str, ...] = TYPES,
    conditions: tuple[str, ...] = CONDITIONS,
    modality: str = "rna",
    seed: int = 0,
    held_out: int = 1,
) -> ad.AnnData:
    """Cells whose type shows in its own genes, and whose donor's disease shows in the last genes."""
    rng = np.random.default_rng([seed, *site.encode()])
    rows, obs = [], []
    for d in range(n_donors):
        condition = conditions[d % len(conditions)]
        for i in range(cells_per_donor):
            kind = types[i % len(types)]
            level = np.full(n_genes, 0.4)
            level[TYPES.index(kind) * 3 : TYPES.index(kind) * 3 + 3] += 2.0
            level[-2:] += 1.5 * (condition == "disease")
            rows.append(rng.poisson(level))
            obs.append((f"{site}-d{d}", f"{site}-d{d}", site, condition, kind, "held_out" if d < held_out else "train"))
    counts = np.array(rows, np.float32)
    X = np.log1p(counts / np.maximum(counts.sum(1, keepdims=True), 1) * 100).astype(np.float32)
    frame = pd.DataFrame(obs, columns=["donor", "sample", "site", "condition", "cell_type", "split"])
    frame.index = pd.Index([f"c{i}" for i in range(len(frame))], dtype=object)
    universe = Panel(
        name="test",
        modality=modality,
        reference="test",
        features=tuple(Feature(f"G{i}", f"g{i}") for i in range(n_genes)),
        **({} if modality == "rna" else {"transform": "arcsinh", "cofactor": 5.0}),
    )
    var = pd.DataFrame({"symbol": list(universe.symbols), "present": True}, index=pd.Index(universe.ids, dtype=object))
    adata = ad.AnnData(X=sparse.csr_matrix(X) if modality == "rna" else X, obs=frame, var=var)
    if modality == "rna":
        adata.layers["counts"] = sparse.csr_matrix(counts)
    source_kind = "counts" if modality == "rna" else "events"
    adata.uns["swarmcell"] = schema.contents(
        modality=modality, source_kind=source_kind, universe=universe, qc={}, provenance={}
    )
    return schema.plain(adata)


@pytest.fixture
def make() -> Callable[..., ad.AnnData]:
    return prepared


QUICK = FitRule(merge="fedavg", batch_rows=32, learning_rate=0.05, rounds_max=3, patience_rounds=2)


@dataclass
class Lab:
    """A small study, and the loop that a swarm's peers run: contribute, merge, again until it is finished."""

    quick: FitRule = QUICK
    types: tuple[str, ...] = TYPES
    conditions: tuple[str, ...] = CONDITIONS
    stop: threading.Event = field(default_factory=threading.Event)

    def study(self, **changes: object) -> Study:
        rules = {"cell_types": TYPES, "conditions": CONDITIONS, "cell": QUICK, "patient": QUICK}
        return Study(**({"name": "test", "modality": "rna"} | rules | changes))

    def cells(self, *prepared: ad.AnnData, study: Study | None = None) -> TrainingCells:
        study = study or self.study()
        named = [(f"file {i}", adata) for i, adata in enumerate(prepared)]
        return gather(named, cell_types=study.cell_types, conditions=study.conditions, seed=study.seed)

    def learners(self, *sites: ad.AnnData, study: Study | None = None, seed: int = 0) -> list[Learner]:
        study = study or self.study()
        return [Learner(study, self.cells(site, study=study), seed=seed, threads=1) for site in sites]

    def rounds(self, learners: Sequence[Learner]) -> list[tuple[bytes, list[Contribution]]]:
        """Return the merged state before each round with what the sites contributed, and the last state with none."""
        raw, history = learners[0].start(), []
        while not from_bytes(raw).finished:
            contributions = [learner.contribute(raw, self.stop) for learner in learners]
            history.append((raw, contributions))
            outcome = learners[0].merge(raw, contributions)
            assert outcome.left_out == {}
            raw = outcome.state
        return [*history, (raw, [])]

    def learnt(self, learners: Sequence[Learner]) -> MergedState:
        return from_bytes(self.rounds(learners)[-1][0])


@pytest.fixture
def lab() -> Lab:
    return Lab()
