"""`evaluate` as a function: who may be evaluated, and that its figures are those of scikit-learn on the same cells."""

import json
import shutil
import warnings
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as oracle

from swarmcell.cells import schema
from swarmcell.errors import CellsError, InputError, ModelError, PanelError, UsageError
from swarmcell.model import released
from swarmcell.model.study import Floors, rules_digest
from swarmcell.workflows.evaluate import evaluate

FAST = {"n_bootstrap": 200}


def written(adata, path):
    schema.write_prepared(adata, path)
    return path


def with_split(adata, split):
    adata = adata.copy()
    adata.obs["split"] = split
    return schema.plain(adata)


def saved(model, path):
    released.save(model, path)
    return path


def held_out(paths):
    return ad.concat([a[(a.obs["split"] == "held_out").to_numpy()] for a in map(ad.read_h5ad, paths)])


@pytest.fixture(scope="module")
def found(study_files):
    return evaluate(study_files.merged, study_files.files, n_bootstrap=500)


def test_no_held_out_donor_is_refused_with_the_remedy(study_files, make_cells, tmp_path):
    path = written(with_split(make_cells("site-a"), "train"), tmp_path / "all-train.h5ad")
    with pytest.raises(CellsError, match=r"no held-out donor.*--split within-site"):
        evaluate(study_files.merged, [path], **FAST)


def test_a_donor_whom_the_model_was_trained_on_is_refused(study_files, tmp_path):
    shutil.copy(study_files.merged, tmp_path / "merged.safetensors")
    (tmp_path / "run.json").write_text(json.dumps({"train_donors": ["site-b/p1", "site-b/p6"]}))
    with pytest.raises(ModelError, match=r"trained on 1 of the donors.*site-b/p1"):
        evaluate(tmp_path / "merged.safetensors", study_files.files, **FAST)


def test_a_donor_on_both_sides_of_two_files_is_refused(study_files, make_cells, tmp_path):
    path = written(with_split(make_cells("site-a"), "train"), tmp_path / "other-split.h5ad")
    with pytest.raises(CellsError, match=r"donor site-a/p0 is held out in .* and trained on in"):
        evaluate(study_files.merged, [study_files.files[0], path], **FAST)


def test_one_sample_in_two_files_is_refused(study_files, tmp_path):
    copy = tmp_path / "copy.h5ad"
    shutil.copy(study_files.files[0], copy)
    with pytest.raises(CellsError, match="Name each file once"):
        evaluate(study_files.merged, [study_files.files[0], copy], **FAST)


def test_a_file_named_twice_is_refused(study_files):
    with pytest.raises(UsageError, match="given twice"):
        evaluate(study_files.merged, [study_files.files[0], study_files.files[0]], **FAST)


def test_a_name_taken_is_refused(study_files):
    with pytest.raises(UsageError, match="a model of that name"):
        evaluate(study_files.merged, study_files.files, against={"swarm": study_files.local}, **FAST)


def test_an_unknown_label_is_refused(study_files, make_cells, tmp_path):
    adata = make_cells("site-a")
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.rename_categories({"B": "plasma"})
    with pytest.raises(ModelError, match=r"cell_type 'plasma' .* not in the model's vocabulary \(B, NK, T\)"):
        evaluate(study_files.merged, [written(adata, tmp_path / "p.h5ad")], **FAST)


def test_another_universe_is_refused(study_files, make_cells, tmp_path):
    from swarmcell.cells import panel as panels

    adata = make_cells("site-a")
    universe = panels.from_ids([f"ENSG{i:011d}" for i in range(5, 29)], [f"H{i}" for i in range(24)], name="other")
    adata.var_names = list(universe.ids)
    adata.uns["swarmcell"] = schema.contents(
        modality="rna", source_kind="lognorm", universe=universe, qc={}, provenance={}
    )
    missing = r"prepared with universe.*the features: 5 of the 24 that the model reads.*ENSG00000000000, .*panel diff"
    with pytest.raises(PanelError, match=missing):
        evaluate(study_files.merged, [written(schema.plain(adata), tmp_path / "u.h5ad")], **FAST)


def test_another_species_and_another_transform_are_told_in_words(study_files, tmp_path):
    from swarmcell.cells import panel as panels
    from swarmcell.workflows.evaluation.fit import differences
    from swarmcell.workflows.stream import PreparedFile

    model = released.load(study_files.merged)
    said = {"name": "cohort", "reference": "GRCh38", "transform": "arcsinh", "cofactor": 5.0}
    knowing = replace(model, card=dict(model.card) | {"universe": said})
    mouse = replace(model, panel_ids=tuple(name.replace("ENSG", "ENSMUSG") for name in model.panel_ids))
    with PreparedFile(study_files.files[0]) as file:
        assert file.contents["universe"] == panels.to_json(panels.from_json(file.contents["universe"], source="it"))
        assert differences(knowing.panel_ids, said, file)[0] == (
            "the transform: log1p_cp10k in the file, arcsinh (cofactor 5) for the model"
        )
        words = differences(mouse.panel_ids, {}, file)
    assert words[0] == "the species: the file holds human genes, the model reads mouse ones"
    assert words[1] == "perhaps the transform (the model does not tell its own; the file's is log1p_cp10k)"
    assert words[2].startswith("the features: 24 of the 24")


def test_another_modality_is_refused(study_files, make_cells, tmp_path):
    adata = make_cells("site-a")
    adata.uns["swarmcell"]["modality"] = "cytometry"
    with pytest.raises(ModelError, match="cytometry cells"):
        evaluate(study_files.merged, [written(adata, tmp_path / "c.h5ad")], **FAST)


def _flipped(raw):
    return raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:]


DAMAGES = {
    "altered": _flipped,
    "cut": lambda raw: raw[: len(raw) // 2],
    "empty": lambda _: b"",
    "text": lambda _: b"no",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_refused_with_the_remedy(study_files, tmp_path, damage):
    path = tmp_path / "merged.safetensors"
    path.write_bytes(DAMAGES[damage](study_files.merged.read_bytes()))
    with pytest.raises(ModelError, match=r"merged\.safetensors: .*copy it again from where it is whole"):
        evaluate(path, study_files.files, **FAST)


def test_a_truncated_file_is_refused(study_files, tmp_path):
    raw = study_files.files[0].read_bytes()
    (tmp_path / "short.h5ad").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(InputError, match="truncated"):
        evaluate(study_files.merged, [tmp_path / "short.h5ad"], **FAST)


def test_a_file_without_any_label_is_refused(study_files, make_cells, tmp_path):
    adata = make_cells("site-a")
    del adata.obs["cell_type"], adata.obs["condition"]
    with pytest.raises(CellsError, match="neither cell types nor conditions"):
        evaluate(study_files.merged, [written(adata, tmp_path / "bare.h5ad")], **FAST)


@pytest.mark.parametrize(
    ("column", "said"), [("cell_type", "Cell types are not judged"), ("condition", "Patients are not judged")]
)
@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_task_whose_labels_are_not_there_is_said_to_be_left_out(study_files, make_cells, tmp_path, column, said, how):
    adata = make_cells("site-a")
    adata.obs[column] = pd.Categorical([None] * adata.n_obs, categories=["B"])
    if how == "missing":
        del adata.obs[column]
    found = evaluate(study_files.merged, [written(adata, tmp_path / "p.h5ad")], **FAST)
    assert (found.cell if column == "cell_type" else found.patient) is None
    assert any(caveat.startswith(said) for caveat in found.caveats)


def test_cell_figures_are_sklearns_on_the_held_out_cells(study_files, found):
    cells = held_out(study_files.files)
    model = released.load(study_files.merged)
    predicted = np.array(model.cell_types)[model.predict_cells(cells).argmax(axis=1)]
    true = cells.obs["cell_type"].astype(str).to_numpy()
    figures = found.cell.models[0].figures
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert figures["accuracy"].value == pytest.approx(oracle.accuracy_score(true, predicted))
        assert figures["balanced_accuracy"].value == pytest.approx(oracle.balanced_accuracy_score(true, predicted))
        assert figures["macro_f1"].value == pytest.approx(oracle.f1_score(true, predicted, average="macro"))
    expected = oracle.confusion_matrix(true, predicted, labels=list(model.cell_types))
    np.testing.assert_array_equal(found.cell.models[0].confusion, expected)


def test_patient_figures_are_sklearns_on_the_held_out_samples(study_files, found):
    model = released.load(study_files.merged)
    true, score = [], []
    for path in study_files.files:
        cells = held_out([path])
        names, probabilities = model.predict_samples(cells)
        condition = dict(zip(cells.obs["sample"].astype(str), cells.obs["condition"].astype(str), strict=True))
        true += [condition[name] == "ill" for name in names]
        score += probabilities[:, model.conditions.index("ill")].tolist()
    figures = found.patient.models[0].figures
    assert found.patient.positive == "ill"
    assert figures["auroc"].value == pytest.approx(oracle.roc_auc_score(true, score))
    assert figures["auprc"].value == pytest.approx(oracle.average_precision_score(true, score))
    assert figures["brier"].value == pytest.approx(oracle.brier_score_loss(true, score))


def test_no_figure_of_patients_comes_without_interval_or_reason(found):
    for task in (found.cell, found.patient):
        for model in task.models:
            for figure in model.figures.values():
                assert figure.has_interval or figure.note


def test_training_donors_are_not_counted(found):
    assert found.cohort.n_donors == 8
    assert found.cohort.n_training_donors == 8
    assert {d.donor for d in found.cell.models[0].per_donor} == {"p0", "p1", "p2", "p3"}


def test_the_local_model_beside_is_compared_on_the_same_donors(found):
    assert [facts.name for facts in found.models] == ["swarm", "local"]
    pairs = {(d.first, d.second) for d in found.patient.differences}
    assert pairs == {("swarm", "local")}
    auroc = next(d for d in found.patient.differences if d.figure == "auroc")
    swarm, local = (m.figures["auroc"].value for m in found.patient.models)
    assert auroc.estimate.value == pytest.approx(swarm - local)


def test_a_model_against_itself_shows_no_difference(study_files):
    result = evaluate(study_files.local, study_files.files, against={"twin": study_files.local}, **FAST)
    for difference in result.cell.differences + result.patient.differences:
        assert difference.estimate.value == 0
        assert difference.estimate.low == difference.estimate.high == 0
        assert "equal on every resample" in difference.verdict


def test_same_seed_same_result(study_files, found):
    again = evaluate(study_files.merged, study_files.files, n_bootstrap=500)
    assert again.to_json() == found.to_json()


def test_cells_in_several_blocks_give_the_same_figures(study_files, found, monkeypatch):
    from swarmcell.workflows import stream

    monkeypatch.setattr(stream, "BLOCK_ROWS", 37)
    monkeypatch.setattr(stream, "GROUP_ROWS", 100)
    again = evaluate(study_files.merged, study_files.files, n_bootstrap=500)
    assert again.cell.models[0].confusion == found.cell.models[0].confusion
    for one, same in zip(again.cell.models[0].per_donor, found.cell.models[0].per_donor, strict=True):
        values = {name: figure.value for name, figure in same.figures.items()}
        assert {name: figure.value for name, figure in one.figures.items()} == pytest.approx(values, abs=1e-12)
    for mine, other in zip(again.patient.models[0].samples, found.patient.models[0].samples, strict=True):
        assert mine.sample == other.sample
        assert mine.probabilities == pytest.approx(other.probabilities)


def test_shuffled_cell_types_are_reported_as_chance_in_words(make_cells, fit_model, tmp_path):
    """Trained on shuffled labels, three times; 40 held-out donors, so that skill would be seen."""
    train, test = make_cells("site-a", held_out=0), make_cells("site-b", n_donors=40, held_out=40, n_cells=20)
    path = written(test, tmp_path / "test.h5ad")
    for seed in range(3):
        model = fit_model(train, shuffled=True, seed=seed)
        result = evaluate(saved(model, tmp_path / f"shuffled-{seed}.safetensors"), [path], **FAST)
        verdict = result.cell.models[0].verdict
        assert "not distinguishable from chance" in verdict or "close to chance" in verdict
        assert verdict in result.summary[0]


def test_shuffled_conditions_are_reported_as_chance_in_words(make_cells, fit_model, tmp_path):
    """Conditions exchanged between 40 held-out donors, ten times: at most one (5 % of each is expected) misleads."""
    model = saved(fit_model(make_cells("site-a", n_donors=16, held_out=0)), tmp_path / "m.safetensors")
    misled = 0
    for seed in range(10):
        test = make_cells("site-b", n_donors=40, held_out=40, n_cells=10)
        donors = np.array([f"p{i}" for i in range(40)])
        shuffled = dict(zip(donors, np.random.default_rng(seed).permutation(["ill", "healthy"] * 20), strict=True))
        test.obs["condition"] = [shuffled[donor] for donor in test.obs["donor"]]
        path = written(schema.plain(test), tmp_path / f"{seed}.h5ad")
        verdict = evaluate(model, [path], **FAST).patient.models[0].verdict
        assert "chance" in verdict
        misled += "better than chance" in verdict
    assert misled <= 1


def test_true_labels_are_reported_as_better_than_chance(make_cells, fit_model, tmp_path):
    train, test = make_cells("site-a", n_donors=16, held_out=0), make_cells("site-b", n_donors=24, held_out=24)
    path = written(test, tmp_path / "test.h5ad")
    result = evaluate(saved(fit_model(train), tmp_path / "m.safetensors"), [path], **FAST)
    assert "better than chance" in result.cell.models[0].verdict


def test_one_condition_makes_auroc_undefined_with_a_reason(study_files, make_cells, tmp_path):
    adata = make_cells("site-a")
    adata = schema.plain(adata[(adata.obs["condition"] == "ill").to_numpy()].copy())
    result = evaluate(study_files.merged, [written(adata, tmp_path / "ill.h5ad")], **FAST)
    auroc = result.patient.models[0].figures["auroc"]
    assert auroc.value is None
    assert auroc.note == "all held-out samples are ill, and it needs two conditions"
    assert "undefined" in result.patient.models[0].verdict
    assert result.patient.models[0].figures["brier"].value is not None
    text = json.dumps(result.to_json())
    assert "NaN" not in text


def test_one_held_out_donor_has_figures_without_interval_and_says_so(study_files, make_cells, tmp_path):
    adata = make_cells("site-a", held_out=1)
    result = evaluate(study_files.merged, [written(adata, tmp_path / "one.h5ad")], **FAST)
    accuracy = result.cell.models[0].figures["accuracy"]
    assert accuracy.value is not None
    assert not accuracy.has_interval
    assert "one donor" in accuracy.note
    assert any("One held-out donor for the cell task" in caveat for caveat in result.caveats)


def test_perfect_separation_is_no_certainty(study_files, make_cells, fit_model, tmp_path):
    train, test = make_cells("site-a", n_donors=16, held_out=0, effect=9.0), make_cells("site-b", effect=9.0)
    model = saved(fit_model(train), tmp_path / "m.safetensors")
    result = evaluate(model, [written(test, tmp_path / "t.h5ad")], **FAST)
    auroc = result.patient.models[0].figures["auroc"]
    assert auroc.value == 1
    assert auroc.method == "score"
    assert auroc.low < 0.7


def test_a_model_that_lacks_a_type_never_predicts_it_and_says_so(study_files, make_cells, fit_model, tmp_path):
    poor = saved(fit_model(make_cells("site-a"), cell_types=("B", "T")), tmp_path / "poor.safetensors")
    result = evaluate(study_files.merged, study_files.files, against={"poor": poor}, **FAST)
    figures = next(m for m in result.cell.models if m.model == "poor")
    of_nk = figures.per_class[result.cell.classes.index("NK")]
    assert of_nk.recall.value == 0
    assert of_nk.precision.value is None
    assert of_nk.precision.note == "no cell was called NK"
    assert "The poor model does not know NK; it never predicts them." in result.caveats


def test_a_model_without_patient_task_is_evaluated_on_cells_only(make_cells, fit_model, study_files, tmp_path):
    model = saved(fit_model(make_cells("site-a"), stages=("features", "cell")), tmp_path / "cells.safetensors")
    result = evaluate(model, study_files.files, **FAST)
    assert result.patient is None
    assert result.cell is not None


def test_dense_and_sparse_files_give_the_same_figures(study_files, make_cells, tmp_path):
    paths = [written(make_cells("site-a", dense=dense), tmp_path / f"{dense}.h5ad") for dense in (False, True)]
    sparse, dense = (evaluate(study_files.merged, [path], **FAST) for path in paths)
    assert sparse.cell.models[0].confusion == dense.cell.models[0].confusion
    for one, other in zip(sparse.patient.models[0].samples, dense.patient.models[0].samples, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_values_that_are_not_finite_are_refused(study_files, make_cells, tmp_path):
    import h5py

    path = written(make_cells("site-a"), tmp_path / "nan.h5ad")
    with h5py.File(path, "r+") as file:
        file["X/data"][0] = np.nan
    with pytest.raises(CellsError, match="NaN"):
        evaluate(study_files.merged, [path], **FAST)


@pytest.mark.parametrize(("floors", "n_said"), [(Floors(donors=1), 1), (Floors(), 0)])
def test_lowered_floors_of_a_swarm_are_said(make_cells, fit_model, tmp_path, floors, n_said):
    cohort = [make_cells("site-a"), make_cells("site-b")]
    files = [written(one, tmp_path / f"{i}.h5ad") for i, one in enumerate(cohort)]
    model = fit_model(*cohort)
    study = replace(model.study, floors=floors)
    state = replace(model.state, rules=rules_digest(study))
    made = released.assemble(state, study, tuple(cohort[0].var_names), {"trained": "swarm"})
    found = evaluate(saved(made, tmp_path / "merged.safetensors"), files, n_bootstrap=20)
    said = [caveat for caveat in found.caveats if "1 donor(s) and 20 cells (by default 5 and 20)" in caveat]
    assert len(said) == n_said


def test_baselines_are_always_there_on_the_same_held_out_donors(found):
    named = {(one.task, one.name): one.figures for one in found.baselines}
    assert named["patient", "site only"]["auroc"].value is not None
    assert named["patient", "site only"]["balanced_accuracy"].value == pytest.approx(0.5)
    assert all(set(figures) for figures in named.values())


def test_a_site_that_predicts_the_condition_is_said_loudly_first(make_cells, fit_model, tmp_path):
    ill, healthy = make_cells("site-a"), make_cells("site-b")
    for adata, condition in ((ill, "ill"), (healthy, "healthy")):
        adata.obs["condition"] = condition
        schema.write_prepared(schema.plain(adata), tmp_path / f"{condition}.h5ad")
    path = saved(fit_model(ill, healthy), tmp_path / "m.safetensors")
    found = evaluate(path, [tmp_path / "ill.h5ad", tmp_path / "healthy.h5ad"], n_bootstrap=50)
    assert found.site_only.is_alarm
    assert found.caveats[0].startswith("ALARM, confounded")
    assert {one.name: one.figures["auroc"].value for one in found.baselines if one.task == "patient"}["site only"] == 1


@pytest.mark.parametrize("dense", [False, True])
def test_the_same_cells_under_another_name_on_the_other_side_are_refused(study_files, make_cells, tmp_path, dense):
    adata = make_cells("site-a", dense=dense)
    twin = adata[(adata.obs["donor"] == "p0").to_numpy()].copy()
    twin.obs["donor"] = twin.obs["sample"] = "somebody-else"
    twin.obs["site"], twin.obs["split"] = "site-z", "train"
    twin.obs_names = [f"z-{name}" for name in twin.obs_names]
    paths = [written(adata, tmp_path / "a.h5ad"), written(schema.plain(twin), tmp_path / "z.h5ad")]
    with pytest.raises(CellsError, match=r"60 of 60 cells of the held-out donor site-a/p0 are training cells as well"):
        evaluate(study_files.merged, paths, **FAST)


@pytest.mark.parametrize("site", ["site-a", "site-z"])
def test_one_person_held_out_under_two_names_is_refused(study_files, make_cells, tmp_path, site):
    """Without training cells in the files, at one site and at two; a few equal cells are chance."""
    adata = make_cells("site-a", n_donors=4)
    twin = adata[(adata.obs["donor"] == "p0").to_numpy()].copy()
    twin.obs["donor"] = twin.obs["sample"] = "somebody-else"
    twin.obs["site"] = site
    twin.obs_names = [f"z-{name}" for name in twin.obs_names]
    few = schema.plain(twin[:3].copy())
    paths = [written(adata, tmp_path / "a.h5ad"), written(schema.plain(twin), tmp_path / "z.h5ad")]
    match = rf"60 of 60 cells of the held-out donor site-a/p0 are cells of the held-out donor {site}/somebody-else"
    with pytest.raises(CellsError, match=match):
        evaluate(study_files.merged, paths, **FAST)
    evaluate(study_files.merged, [paths[0], written(few, tmp_path / "few.h5ad")], **FAST)


def test_a_name_that_is_held_out_at_two_sites_is_said(found):
    assert any(note.startswith("4 donor name(s) are held out at several sites (such as p0)") for note in found.caveats)


def test_a_few_equal_cells_are_chance_and_are_said(study_files, make_cells, tmp_path):
    adata = make_cells("site-a")
    twin = adata[(adata.obs["donor"] == "p0").to_numpy()][:3].copy()
    twin.obs["donor"] = twin.obs["sample"] = "p7-b"
    twin.obs["split"] = "train"
    twin.obs_names = [f"z-{name}" for name in twin.obs_names]
    paths = [written(adata, tmp_path / "a.h5ad"), written(schema.plain(twin), tmp_path / "z.h5ad")]
    result = evaluate(study_files.merged, paths, **FAST)
    assert "3 held-out cell(s) equal a training cell in every value; so few are chance." in result.caveats
