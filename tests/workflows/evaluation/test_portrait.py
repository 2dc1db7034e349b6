"""What a portrait says of held-out cells is what counting them says, and covariates are told from labels."""

import json
from contextlib import ExitStack

import anndata as ad
import numpy as np
import pytest

from swarmcell.cells import schema
from swarmcell.cells.known_markers import markers_of, places
from swarmcell.model import released
from swarmcell.model.stages import parameters_of
from swarmcell.workflows.evaluate import evaluate
from swarmcell.workflows.evaluation import drivers, portrait
from swarmcell.workflows.evaluation.cohort import gather
from swarmcell.workflows.stream import PreparedFile

FAST = {"n_bootstrap": 50}


@pytest.fixture(scope="module")
def found(study_files):
    return evaluate(study_files.merged, study_files.files, **FAST)


def held_out(path):
    adata = ad.read_h5ad(path)
    return adata[(adata.obs["split"] == "held_out").to_numpy()].copy()


def test_composition_counts_predicted_and_true_types_of_each_sample(study_files, found):
    composition, model = found.portrait.composition, released.load(study_files.merged)
    for path in study_files.files:
        cells = held_out(path)
        predicted = model.predict_cells(cells).argmax(axis=1)
        for sample in cells.obs["sample"].unique():
            mine = (cells.obs["sample"] == sample).to_numpy()
            key = (str(cells.obs["site"].iloc[0]), str(cells.obs["donor"][mine].iloc[0]), str(sample))
            row = composition.samples.index(key)
            assert composition.predicted[row] == tuple(np.bincount(predicted[mine], minlength=3))
            true = cells.obs["cell_type"][mine].value_counts()
            assert composition.true[row] == tuple(int(true[name]) for name in composition.true_types)


def test_markers_are_means_and_shares_of_the_cells_called_each_type(study_files, found):
    model = released.load(study_files.merged)
    cells = ad.concat([held_out(path) for path in study_files.files])
    predicted, X = model.predict_cells(cells).argmax(axis=1), cells.X.toarray()
    markers = found.portrait.markers
    symbols = [f"G{i}" for i in range(X.shape[1])]
    assert markers.n_cells == tuple(np.bincount(predicted, minlength=3))
    for k in range(3):
        columns = [symbols.index(name) for name in markers.features]
        np.testing.assert_allclose(markers.mean[k], X[predicted == k][:, columns].mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(markers.share[k], (X[predicted == k][:, columns] > 0).mean(axis=0), rtol=1e-6)


def test_the_drivers_are_the_genes_that_make_the_types(found):
    """The cohort raises genes 4k to 4k + 3 in type k."""
    for k, group in enumerate(found.portrait.cell_drivers):
        top = {d.feature for d in sorted(group.drivers, key=lambda d: -d.weight)[:4]}
        assert top <= {f"G{4 * k + i}" for i in range(4)}


def test_a_samples_contributions_average_to_its_log_odds(study_files):
    model, cells = released.load(study_files.merged), held_out(study_files.files[0])
    cells = cells[(cells.obs["sample"] == "p0-1").to_numpy()].copy()
    shared = drivers.contributions(model, cells.X)
    _, probabilities = model.predict_samples(cells)
    log_odds = np.log(probabilities[0, 0] / probabilities[0, 1])
    parameters = {k: v / 2**22 for k, v in parameters_of(model.state, "patient").items()}
    at_average = parameters["bias"][0] - parameters["bias"][1]
    assert shared.mean() == pytest.approx(log_odds - at_average, abs=1e-3)


def test_the_map_takes_about_as_many_cells_as_asked_for_with_both_labels(study_files):
    """The embedding itself takes ten seconds to compile: `make figures` makes one."""
    model = released.load(study_files.merged)
    with ExitStack() as opened:
        files = [opened.enter_context(PreparedFile(path)) for path in study_files.files]
        cohort = gather(files, cell_types=model.cell_types, conditions=model.conditions, trained_on=())
        mapped = portrait._pass(model, cohort, 100, 0, lambda _: None).mapped
    X, true, predicted = (np.concatenate(parts) for parts in zip(*mapped, strict=True))
    assert 60 <= len(X) <= 140
    assert len(X) == len(true) == len(predicted)
    assert np.mean(true == predicted) > 0.8


def test_the_picture_of_a_map_shows_both_labels_and_what_it_rests_on():
    from swarmcell.report import style
    from swarmcell.report.portrait_pictures import cell_map
    from swarmcell.workflows.evaluation.portrait_values import CellMap

    drawn = CellMap(x=(0.0, 1.0, 2.0, 3.0), y=(0.0, 1.0, 0.0, 1.0), true=(0, 0, 1, -1), predicted=(0, 1, 1, 0))
    with style.theme():
        picture = cell_map(drawn, ("B", "T"), "2 held-out donors, 2 samples, 9 cells")
        assert "50% of them have the same colour" in picture.alt
        assert "UMAP of 4 cells drawn at random from 2 held-out donors, 2 samples, 9 cells" in picture.caption
        text = style.inline_svg(picture)
    assert "true type" in text
    assert "predicted type" in text


def test_covariates_are_compared_by_condition_and_called_uneven_where_they_are(study_files, make_cells, tmp_path):
    adata = make_cells("site-a")
    ill = (adata.obs["condition"] == "ill").to_numpy()
    number = adata.obs["donor"].astype(str).str[1:].astype(int)
    adata.obs["age"] = np.where(ill, 60, 30) + number
    adata.obs["sex"] = np.where(number % 4 < 2, "female", "male")
    adata.obs["age"] = adata.obs["age"].astype(str)
    schema.write_prepared(schema.plain(adata), tmp_path / "a.h5ad")
    result = evaluate(study_files.merged, [tmp_path / "a.h5ad"], **FAST)
    by_name = {c.name: c for c in result.covariates}
    assert set(by_name) == {"age", "sex"}
    assert by_name["age"].is_uneven
    assert by_name["age"].by_condition["ill"] == "median 61 (60 to 62), n = 2"
    assert by_name["sex"].difference == 0
    assert by_name["sex"].by_condition["ill"] == "female 1, male 1"
    assert any("age" in caveat and "uneven" in caveat for caveat in result.caveats)


def test_the_learning_curve_is_read_from_the_run_and_broken_lines_are_left_out(study_files, tmp_path):
    import shutil

    shutil.copy(study_files.merged, tmp_path / "merged.safetensors")
    row = {"model": "merged", "stage": "cell", "round": 2, "validation_loss": 0.5, "validation_accuracy": 0.9}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + '\n{"model": "mer\n[]\n')
    result = evaluate(tmp_path / "merged.safetensors", study_files.files, **FAST)
    assert [(r.stage, r.round, r.validation_loss) for r in result.history] == [("cell", 2, 0.5)]


@pytest.mark.parametrize(
    ("name", "marker"),
    [("CD14+ Monocytes", "CD14"), ("B cells", "MS4A1"), ("CD8 T cell", "CD8A"), ("NK", "NKG7"), ("T", "CD3D")],
)
def test_common_types_have_textbook_markers(name, marker):
    assert marker in markers_of(name)


def test_unknown_types_have_no_markers_and_names_compare_without_case():
    assert markers_of("HCC827") == ()
    assert places(("HLA-DR", "CD3"), ("cd3", "HLADR")) == {"HLA-DR": 1, "CD3": 0}
