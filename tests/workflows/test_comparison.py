"""Models made for comparison are those that `train` makes, and what an evaluation says of "unknown" and temperature."""

import json
from dataclasses import replace

import anndata as ad
import numpy as np
import pytest

from swarmcell.errors import UsageError
from swarmcell.metrics.calibration import reliability_sums
from swarmcell.model import released
from swarmcell.model.classifier import softmax
from swarmcell.model.study import FitRule, rules_digest
from swarmcell.report.methods import methods
from swarmcell.workflows import comparison
from swarmcell.workflows.evaluate import evaluate
from swarmcell.workflows.evaluation.scores import UNKNOWN_RATE, UNKNOWN_RATES
from swarmcell.workflows.train import Options, train_alone


def short(model):
    """Return the model as of a study of two rounds, with floors that four donors reach."""
    rule = FitRule(merge="fedavg", rounds_max=2, batch_rows=32)
    study = replace(model.study, cell=rule, patient=rule)
    state = replace(model.state, rules=rules_digest(study))
    return released.assemble(state, study, model.panel_ids, dict(model.card))


@pytest.fixture(scope="module")
def compared(study_files, tmp_path_factory):
    """A model without a local one beside it, the models made to compare it with, and their evaluation."""
    folder = tmp_path_factory.mktemp("compared")
    path = folder / "merged.safetensors"
    released.save(short(released.load(study_files.merged)), path)
    told = []
    made = comparison.peers(path, study_files.files, folder / "made", tell=told.append)
    found = evaluate(path, study_files.files, against=made, n_bootstrap=100)
    return path, made, comparison.said_so(found, made), told


def test_each_site_alone_and_all_pooled_stand_beside_the_model_with_paired_differences(compared):
    _, made, found, told = compared
    names = ["swarm", "site-a alone", "site-b alone", "pooled"]
    assert [facts.name for facts in found.models] == names
    assert [m.model for m in found.cell.models] == [m.model for m in found.patient.models] == names
    differences = {(d.first, d.second) for d in found.cell.differences if d.estimate.has_interval}
    assert {("swarm", name) for name in made} <= differences
    assert all(facts.file == comparison.MADE_HERE for facts in found.models[1:])
    assert any("pooled model needed all sites' cells" in caveat for caveat in found.caveats)
    assert len(told) == 3


def test_they_are_the_models_that_train_makes(compared, study_files, tmp_path):
    path, made, *_ = compared
    study = released.load(path).study
    for name, files in (("pooled", study_files.files), ("site-b alone", study_files.files[1:])):
        by_hand = train_alone(
            files, runs=tmp_path, name=name, study=study, options=Options(seed=study.seed), observer=lambda *_: None
        )
        assert released.load(made[name]).digest == released.load(by_hand.models["local"]).digest


def test_a_local_model_that_lies_beside_is_not_trained_again(study_files, tmp_path):
    model = short(released.load(study_files.merged))
    released.save(model, tmp_path / "merged.safetensors")
    own = replace(model, card=dict(model.card) | {"sites": ["site-a"]})
    released.save(own, tmp_path / "local.safetensors")
    made = comparison.peers(tmp_path / "merged.safetensors", study_files.files, tmp_path / "made")
    assert set(made) == {"site-b alone", "pooled"}


def test_a_trained_models_card_and_methods_say_its_transform_features_and_merge(compared):
    _, made, found, _ = compared
    model = released.load(made["pooled"])
    assert model.card["universe"]["transform"] == "log1p_cp10k"
    pooled = replace(found, models=(replace(found.models[-1], name="pooled"),))
    said = methods(pooled)
    for words in (
        "all 24 features of the study's universe after log1p of counts per 10,000",
        "cell types by multinomial logistic regression with balanced classes, merged over sites by fedavg",
        "temperatures fitted on inner-validation donors",
        "swarmcell 0.1.0",
        model.digest[:16],
    ):
        assert words in said


def test_one_site_has_nothing_to_be_compared_with(compared, study_files, tmp_path):
    with pytest.raises(UsageError, match=r"training donors of 1 site\(s\), at least 2"):
        comparison.peers(compared[0], study_files.files[:1], tmp_path)


def test_calibration_before_temperature_and_unknown_are_those_of_the_model_by_donor_and_site(compared, study_files):
    _, made, found, _ = compared
    pooled, model = found.cell.models[-1], released.load(made["pooled"])
    cells = ad.concat([ad.read_h5ad(path) for path in study_files.files])
    cells = cells[(cells.obs["split"] == "held_out").to_numpy()].copy()
    true = np.array([model.cell_types.index(name) for name in cells.obs["cell_type"]])
    outputs, novelty = model.cell_outputs(cells)
    hit = model.predict_cells(cells).argmax(axis=1) == true
    for rate, share, accuracy in pooled.unknown:
        kept = novelty < model.unknown_from(rate)
        assert share == pytest.approx(kept.mean())
        assert accuracy == pytest.approx(hit[kept].mean())
    before = softmax(outputs)
    assert pooled.uncalibrated.n == tuple(np.histogram(before.max(axis=1), np.linspace(0, 1, 11))[0])
    assert model.calibration("cell").temperature != 1
    assert pooled.uncalibrated != pooled.reliability
    kept = novelty < model.unknown_from(UNKNOWN_RATE)
    assert UNKNOWN_RATES[0] == 0
    for group in (*pooled.per_donor, *pooled.per_site):
        mine = (cells.obs["site"] == group.site).to_numpy()
        mine = mine & (cells.obs["donor"] == group.donor).to_numpy() if group.donor else mine
        assert group.figures["share_not_called_unknown"].value == pytest.approx(kept[mine].mean())
        assert group.figures["accuracy_of_those_not_called_unknown"].value == pytest.approx(hit[mine & kept].mean())
        assert group.figures["share_not_called_unknown"].has_interval == (not group.donor)
        assert "expected_calibration_error" in group.figures


def test_patients_are_judged_for_calibration_before_temperature_and_after(compared, study_files):
    _, made, found, _ = compared
    pooled, model = found.patient.models[-1], released.load(made["pooled"])
    fitted, ill = model.calibration("patient"), model.conditions.index("ill")
    assert fitted.n
    true, outputs = [], []
    for path in study_files.files:
        cells = ad.read_h5ad(path)
        cells = cells[(cells.obs["split"] == "held_out").to_numpy()].copy()
        names, found_outputs = model.sample_outputs(cells)
        condition = dict(zip(cells.obs["sample"].astype(str), cells.obs["condition"].astype(str), strict=True))
        true += [condition[name] == "ill" for name in names]
        outputs.append(found_outputs)
    before, after = (softmax(rows)[:, ill] for rows in (np.vstack(outputs), fitted.apply(np.vstack(outputs))))
    for name, probabilities, curve in (
        ("expected_calibration_error", after, pooled.reliability),
        ("expected_calibration_error_before_temperature", before, pooled.uncalibrated),
    ):
        sums = reliability_sums(probabilities, np.array(true))
        assert pooled.figures[name].value == pytest.approx(np.abs(sums[:, 1] - sums[:, 2]).sum() / len(true))
        assert pooled.figures[name].has_interval
        assert curve.n == tuple(sums[:, 0])
    compared_by = {d.figure for d in found.patient.differences}
    assert "expected_calibration_error" in compared_by
    assert "expected_calibration_error_before_temperature" not in compared_by


def test_a_model_without_novelty_has_no_unknown_and_the_document_is_json(study_files):
    found = evaluate(study_files.merged, study_files.files, n_bootstrap=20)
    assert found.cell.models[0].unknown == ()
    assert "share_not_called_unknown" not in found.cell.models[0].figures
    json.dumps(found.to_json(), allow_nan=False)
