"""A small prepared file, in memory."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from swarmcell.cells import panel as panels
from swarmcell.cells import schema


def make_prepared(*, n_obs: int = 24, n_donors: int = 6, seed: int = 0) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    universe = panels.from_ids(
        ["ENSG00000000003", "ENSG00000000005", "ENSG00000000419"], ["TSPAN6", "TNMD", "DPM1"], name="three"
    )
    counts = sparse.csr_matrix(rng.poisson(2, (n_obs, 3)).astype(np.int32))
    donors = [f"d{i % n_donors}" for i in range(n_obs)]
    obs = pd.DataFrame(
        {
            "donor": donors,
            "sample": donors,
            "site": "site-a",
            "condition": ["ill" if int(d[1:]) % 2 else "well" for d in donors],
            "cell_type": ["B", "T"] * (n_obs // 2),
            "split": ["held_out" if int(d[1:]) < 2 else "train" for d in donors],
        },
        index=[f"cell{i}" for i in range(n_obs)],
    )
    var = pd.DataFrame({"symbol": list(universe.symbols), "present": True}, index=list(universe.ids))
    adata = ad.AnnData(counts.astype(np.float32).log1p(), obs, var, layers={"counts": counts})
    adata.uns["swarmcell"] = schema.contents(
        modality="rna", source_kind="counts", universe=universe, qc={"cells_in": n_obs}, provenance={}
    )
    return schema.plain(adata)


@pytest.fixture
def prepared() -> ad.AnnData:
    return make_prepared()
