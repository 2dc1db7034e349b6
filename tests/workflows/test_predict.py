"""`predict` as a function: a copy with predictions, whole or not at all."""

import json
import shutil

import anndata as ad
import h5py
import numpy as np
import pytest

from swarmcell.cells import schema
from swarmcell.errors import ModelError, OutputError, UsageError
from swarmcell.model import released
from swarmcell.workflows import predict as workflow
from swarmcell.workflows.predict import predict


def test_the_prepared_file_itself_is_never_the_target(study_files):
    with pytest.raises(UsageError, match="never changed"):
        predict(study_files.merged, study_files.files[0], study_files.files[0], force=True)


def test_an_existing_target_is_refused(study_files, tmp_path):
    out = tmp_path / "p.h5ad"
    out.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        predict(study_files.merged, study_files.files[0], out)
    assert out.read_text() == "mine"


def test_a_model_of_another_modality_is_refused_and_nothing_is_left(study_files, make_cells, tmp_path):
    adata = make_cells("site-a")
    adata.uns["swarmcell"]["modality"] = "cytometry"
    schema.write_prepared(adata, tmp_path / "c.h5ad")
    with pytest.raises(ModelError):
        predict(study_files.merged, tmp_path / "c.h5ad", tmp_path / "p.h5ad")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.h5ad"]


def test_a_failure_midway_leaves_nothing(study_files, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(workflow, "_samples", full)
    with pytest.raises(OutputError, match="No space left"):
        predict(study_files.merged, study_files.files[0], tmp_path / "p.h5ad")
    assert not list(tmp_path.iterdir())


def test_predictions_are_the_models_and_the_rest_is_kept(study_files, tmp_path, monkeypatch):
    from swarmcell.workflows import stream

    monkeypatch.setattr(stream, "BLOCK_ROWS", 50)
    monkeypatch.setattr(stream, "GROUP_ROWS", 90)
    out = tmp_path / "p.h5ad"
    found = predict(study_files.merged, study_files.files[0], out)
    before, after = ad.read_h5ad(study_files.files[0]), ad.read_h5ad(out)
    model = released.load(study_files.merged)
    probabilities = model.predict_cells(before)
    np.testing.assert_allclose(after.obsm["predicted_cell_type_probabilities"], probabilities, atol=1e-6)
    expected = np.array(model.cell_types)[probabilities.argmax(axis=1)]
    np.testing.assert_array_equal(after.obs["predicted_cell_type"].astype(str), expected)
    np.testing.assert_allclose(after.obs["predicted_cell_type_probability"], probabilities.max(axis=1), atol=1e-6)
    names, of_samples = model.predict_samples(before)
    stored = json.loads(after.uns["swarmcell_prediction"]["samples"])
    np.testing.assert_allclose([list(stored[name].values()) for name in names], of_samples)
    assert found.samples == stored
    assert (after.X != before.X).nnz == 0
    assert list(after.obs_names) == list(before.obs_names)
    for column in before.obs:
        assert (after.obs[column] == before.obs[column]).all()
    assert after.uns["swarmcell_prediction"]["model_digest"] == model.digest
    schema.check(after, "predicted")


def test_cells_of_a_sample_share_its_condition(study_files, tmp_path):
    predict(study_files.merged, study_files.files[0], tmp_path / "p.h5ad")
    obs = ad.read_h5ad(tmp_path / "p.h5ad").obs
    assert (obs.groupby("sample", observed=True)["predicted_condition"].nunique() == 1).all()


def test_doubtful_cells_are_unknown_below_the_threshold(study_files, tmp_path):
    found = predict(study_files.merged, study_files.files[0], tmp_path / "p.h5ad", unknown_below=0.9)
    obs = ad.read_h5ad(tmp_path / "p.h5ad").obs
    unknown = obs["predicted_cell_type"] == "unknown"
    assert unknown.any()
    assert (obs["predicted_cell_type_probability"][unknown] < 0.9).all()
    assert (obs["predicted_cell_type_probability"][~unknown] >= 0.9).all()
    assert found.cells_by_type["unknown"] == unknown.sum()


def test_a_predicted_file_can_be_predicted_again(study_files, tmp_path):
    predict(study_files.merged, study_files.files[0], tmp_path / "1.h5ad", unknown_below=0.9)
    predict(study_files.merged, tmp_path / "1.h5ad", tmp_path / "2.h5ad")
    assert "unknown" not in ad.read_h5ad(tmp_path / "2.h5ad").obs["predicted_cell_type"].cat.categories


def test_layers_travel_with_the_copy(study_files, tmp_path):
    source = tmp_path / "in.h5ad"
    shutil.copy(study_files.files[0], source)
    with h5py.File(source, "r+") as file:
        ad.io.write_elem(file["layers"], "extra", np.ones((480, 24), dtype=np.float32))
    predict(study_files.merged, source, tmp_path / "p.h5ad")
    assert (ad.read_h5ad(tmp_path / "p.h5ad").layers["extra"] == 1).all()


def test_explanations_stand_beside_the_predictions(study_files, tmp_path, monkeypatch):
    from swarmcell.workflows import stream
    from swarmcell.workflows.evaluation import drivers

    monkeypatch.setattr(stream, "GROUP_ROWS", 90)
    predict(study_files.merged, study_files.files[0], tmp_path / "p.h5ad", explain=True)
    adata, model = ad.read_h5ad(tmp_path / "p.h5ad"), released.load(study_files.merged)
    table = adata.varm["predicted_cell_type_drivers"]
    assert list(table.columns) == list(model.cell_types)
    assert list(table.index) == list(adata.var_names)
    for k, name in enumerate(model.cell_types):
        assert set(table[name].nlargest(4).index) == set(adata.var_names[4 * k : 4 * k + 4])
    mine = (adata.obs["sample"] == "p3-1").to_numpy()
    expected = drivers.contributions(model, adata[mine].X)
    np.testing.assert_allclose(adata.obs["predicted_condition_contribution"][mine], expected, rtol=1e-4, atol=1e-5)


def test_a_patient_task_by_attention_writes_where_it_looked_and_what_each_cell_added(
    study_files, tmp_path, monkeypatch
):
    from swarmcell.model.study import FitRule, Study
    from swarmcell.workflows import stream
    from swarmcell.workflows.evaluation import drivers
    from swarmcell.workflows.train import Options, train_alone

    rule = FitRule(model="attention", merge="fedavg", hidden=4, rounds_max=1)
    study = Study(
        name="bags", modality="rna", stages=("features", "patient"), conditions=("healthy", "ill"), patient=rule
    )
    trained = train_alone(
        study_files.files[:1], runs=tmp_path, name="bags", study=study, options=Options(), observer=lambda *_: None
    )
    monkeypatch.setattr(stream, "GROUP_ROWS", 90)
    predict(trained.models["local"], study_files.files[0], tmp_path / "p.h5ad", explain=True)
    after, model = ad.read_h5ad(tmp_path / "p.h5ad"), released.load(trained.models["local"])
    attention = after.obs.groupby("sample", observed=True)["predicted_condition_attention"]
    np.testing.assert_allclose(attention.mean(), 1, rtol=1e-5)
    assert attention.std().min() > 0
    np.testing.assert_allclose(after.obs["predicted_condition_attention"], model.cell_attention(after), rtol=1e-5)
    mine = (after.obs["sample"] == "p3-1").to_numpy()
    expected = drivers.contributions(model, after[mine].X)
    np.testing.assert_allclose(after.obs["predicted_condition_contribution"][mine], expected, rtol=1e-4, atol=1e-5)


def test_a_model_without_attention_writes_none(study_files, tmp_path):
    predict(study_files.merged, study_files.files[0], tmp_path / "p.h5ad")
    assert "predicted_condition_attention" not in ad.read_h5ad(tmp_path / "p.h5ad").obs
    with pytest.raises(ModelError, match="no attention"):
        released.load(study_files.merged).cell_attention(ad.read_h5ad(study_files.files[0]))
