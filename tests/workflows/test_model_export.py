"""Facts about a model as a table: whoever reads it gets the model's own outputs."""

import numpy as np
import pandas as pd
import pytest

from swarmcell.cells.schema import read_prepared
from swarmcell.errors import ModelError, OutputError
from swarmcell.model import released
from swarmcell.workflows.model_export import export


def test_the_table_gives_the_models_own_outputs(study_files, tmp_path):
    out = tmp_path / "c.csv"
    n_types = export(study_files.merged, out, symbols_of=study_files.files[0])
    table = pd.read_csv(out, index_col="cell_type")
    model, adata = released.load(study_files.merged), read_prepared(study_files.files[0])
    assert list(table.index[2:]) == list(model.cell_types)
    assert n_types == len(model.cell_types)
    assert list(table.columns[1:]) == list(adata.var.loc[list(model.panel_ids), "symbol"])
    features = table.drop(columns="intercept")
    scaled = (adata.X.toarray() - features.loc["scaler_mean"].to_numpy()) / features.loc["scaler_scale"].to_numpy()
    outputs = scaled @ features.iloc[2:].to_numpy().T + table["intercept"].iloc[2:].to_numpy()
    np.testing.assert_allclose(outputs, model.cell_logits(adata.X), atol=1e-6)


def test_what_cannot_be_a_table_is_refused_and_nothing_is_replaced(study_files, make_cells, fit_model, tmp_path):
    out = tmp_path / "c.csv"
    out.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        export(study_files.merged, out)
    patients = fit_model(make_cells("site-a"), stages=("features", "patient"))
    released.save(patients, tmp_path / "p.safetensors")
    with pytest.raises(ModelError, match="no cell task"):
        export(tmp_path / "p.safetensors", tmp_path / "other.csv")
