"""Facts about studies that scale by site: equal to scikit-learn on z-scores of each site, blind to its batch effect."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from swarmcell.cells import schema
from swarmcell.errors import ModelError
from swarmcell.model import released, warm_start
from swarmcell.model.study import FeatureRule, FitRule
from swarmcell.workflows.evaluate import evaluate
from swarmcell.workflows.model_export import export
from swarmcell.workflows.predict import predict
from swarmcell.workflows.train import Options, train_alone

RULE = FitRule(l2=1e-2)


@pytest.fixture
def files(make, tmp_path):
    """Two sites; all of the second's cells are stretched and moved."""
    found = []
    for name in ("site-a", "site-b"):
        adata = make(name, n_donors=4, cells_per_donor=40)
        if name == "site-b":
            adata.X = sparse.csr_matrix(1.7 * adata.X.toarray() + 0.8)
        schema.write_prepared(adata, tmp_path / f"{name}.h5ad")
        found.append(tmp_path / f"{name}.h5ad")
    return found


def study_of(lab, **changes):
    return lab.study(stages=("features", "cell"), cell=RULE, features=FeatureRule(scaling="site"), **changes)


def z_scores(adata, rows):
    X = adata.X.toarray().astype(np.float64)
    return (X - X[rows].mean(axis=0)) / X[rows].std(axis=0)


def test_the_fit_is_that_of_scikit_learn_on_z_scores_of_each_site_pooled_or_in_a_swarm(lab, files, tmp_path):
    study = study_of(lab)
    adatas = [schema.read_prepared(path) for path in files]
    train = [(adata.obs["split"] == "train").to_numpy() for adata in adatas]
    scaled = [z_scores(adata, rows) for adata, rows in zip(adatas, train, strict=True)]
    y = [adata.obs["cell_type"].astype(str).to_numpy() for adata in adatas]
    fitted = [rows & ~_validation(lab, adata, rows) for adata, rows in zip(adatas, train, strict=True)]
    X = np.vstack([one[rows] for one, rows in zip(scaled, fitted, strict=True)])
    labels = np.concatenate([one[rows] for one, rows in zip(y, fitted, strict=True)])
    oracle = LogisticRegression(C=1 / (RULE.l2 * len(X)), class_weight="balanced", tol=1e-10, max_iter=10_000)
    oracle.fit(X, labels)
    swarm = released.assemble(lab.learnt(lab.learners(*adatas, study=study)), study, adatas[0].var_names, {})
    pooled = train_alone(files, runs=tmp_path, name="p", study=study, options=Options(), observer=lambda *_: None)
    for model in (swarm, released.load(pooled.models["local"])):
        for adata, one in zip(adatas, scaled, strict=True):
            found = model.predict_cells(adata)
            logits = oracle.decision_function(one)
            outputs = model.cell_logits(model.on_panel(adata))
            np.testing.assert_allclose(outputs - outputs.mean(axis=1, keepdims=True), logits, atol=2e-5)
            assert found.shape == (adata.n_obs, 3)


def _validation(lab, adata, train):
    cells = lab.cells(adata)
    mask = np.zeros(adata.n_obs, bool)
    mask[np.flatnonzero(train)] = cells.validation
    return mask


def test_what_moves_and_stretches_a_whole_site_changes_no_prediction_of_its_file(lab, files, make, tmp_path):
    study = study_of(lab)
    adatas = [schema.read_prepared(path) for path in files]
    model = released.assemble(lab.learnt(lab.learners(*adatas, study=study)), study, adatas[0].var_names, {})
    released.save(model, tmp_path / "m.safetensors")
    new = make("site-c", n_donors=2, cells_per_donor=40, held_out=2)  # a new site: all of its cells describe it
    moved = new.copy()
    moved.X = sparse.csr_matrix(2.0 * new.X.toarray() + 3.0)
    found = []
    for name, adata in (("as it is", new), ("moved", moved)):
        schema.write_prepared(adata, tmp_path / f"{name}.h5ad")
        predict(tmp_path / "m.safetensors", tmp_path / f"{name}.h5ad", tmp_path / f"{name} predicted.h5ad")
        found.append(_probabilities(tmp_path / f"{name} predicted.h5ad"))
    np.testing.assert_allclose(*found, atol=1e-4)
    np.testing.assert_allclose(found[0], model.predict_cells(new), atol=1e-4)  # blocks know the whole file
    truth = new.obs["cell_type"].astype(str).to_numpy()
    assert (np.array(model.cell_types)[found[0].argmax(axis=1)] == truth).mean() > 0.9


def test_a_model_that_scales_by_site_is_evaluated_and_explained_like_any_other(lab, files, tmp_path):
    study = lab.study(cell=RULE, patient=FitRule(l2=1e-2), features=FeatureRule(scaling="site"))
    made = train_alone(files, runs=tmp_path, name="p", study=study, options=Options(), observer=lambda *_: None)
    found = evaluate(made.models["local"], files, n_bootstrap=0)
    (figures,) = [one for one in found.cell.models if one.model == "local"]
    assert figures.figures["accuracy"].value > 0.9
    assert found.portrait.cell_drivers
    predict(made.models["local"], files[1], tmp_path / "p.h5ad", explain=True)


def _probabilities(path):
    import anndata as ad

    return np.asarray(ad.read_h5ad(path).obsm["predicted_cell_type_probabilities"], np.float64)


def test_neither_a_table_nor_a_start_hides_that_a_model_scales_by_site(lab, files, tmp_path):
    study = study_of(lab)
    adatas = [schema.read_prepared(path) for path in files]
    model = released.assemble(lab.learnt(lab.learners(*adatas, study=study)), study, adatas[0].var_names, {})
    released.save(model, tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match="scales by site"):
        export(tmp_path / "m.safetensors", tmp_path / "t.csv")
    other = replace(study, features=FeatureRule(), start_sha256=model.digest)
    with pytest.raises(ModelError, match="scaling = 'site'"):
        warm_start.arrays_of(model, other, adatas[0].var_names)
