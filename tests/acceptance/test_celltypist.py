"""The page's way to CellTypist, run by CellTypist itself: its labels are the model's.

Runs where CELLTYPIST_PYTHON names the python of an environment that has it (with scikit-learn 1.7).
"""

import os
import re
import subprocess
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy import sparse
from waiting import LIMIT_S

from swarmcell.cells.schema import read_prepared
from swarmcell.model import released
from swarmcell.workflows.model_export import export

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
ANNOTATE = """
import sys, anndata, celltypist
found = celltypist.annotate(anndata.read_h5ad(sys.argv[1]), model=model)
found.predicted_labels["predicted_labels"].to_csv(sys.argv[2], header=False)
found.probability_matrix.to_csv(sys.argv[3])
"""


@pytest.mark.skipif("CELLTYPIST_PYTHON" not in os.environ, reason="CELLTYPIST_PYTHON names no python with CellTypist")
def test_celltypist_gives_the_labels_of_the_model_from_its_table(study_files, tmp_path):
    snippet = re.search(r"## To CellTypist.*?```python\n(.*?)```", PAGE.read_text(), re.S)[1]
    export(study_files.merged, tmp_path / "coefficients.csv", symbols_of=study_files.files[0])
    adata, model = read_prepared(study_files.files[0]), released.load(study_files.merged)
    counts = np.expm1(adata.X.toarray().astype(np.float64))  # CellTypist refuses what is not of 10,000 counts per cell
    adata.X = sparse.csr_matrix(np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4).astype(np.float32))
    named = ad.AnnData(adata.X, obs=adata.obs[[]], var=adata.var.set_index("symbol", drop=True)[[]])
    named.write_h5ad(tmp_path / "cells.h5ad")
    (tmp_path / "page.py").write_text(snippet + ANNOTATE)
    command = [os.environ["CELLTYPIST_PYTHON"], "page.py", "cells.h5ad", "labels.csv", "probabilities.csv"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=LIMIT_S)
    labels = [line.split(",")[1] for line in (tmp_path / "labels.csv").read_text().splitlines()]
    expected = model.cell_logits(adata.X).argmax(axis=1)
    assert labels == list(np.array(model.cell_types)[expected])
