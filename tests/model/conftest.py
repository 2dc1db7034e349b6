"""Small simulated cells, prepared as `preprocess` would, for the tests of learning."""

from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from swarmcell.cells import schema
from swarmcell.cells.panel import Feature, Panel

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
