"""Facts about how a study moves from stage to stage, and which studies cannot be learnt."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcell.errors import ConfigError
from swarmcell.model.stages import (
    check_numbers,
    check_study,
    class_weights,
    end_stage,
    fail,
    n_inputs,
    open_later,
    open_stage,
)
from swarmcell.model.state import DONE, MergedState, StageResult
from swarmcell.model.study import FeatureRule, FitRule, Floors, Study

STUDY = Study(name="x", modality="rna", cell_types=("B", "NK", "T"), conditions=("ill", "well"))
RESULT = StageResult(rounds=1, best_round=1, sites=1, n_cells=1, n_donors=1)


def after_features(*, cells=(2, 0, 3), samples=(1, 1)):
    arrays = {"panel": np.arange(4, dtype=np.int32), "mean": np.zeros(4, np.int64), "scale": np.ones(4, np.int64)}
    arrays |= {"cells_by_type": np.array(cells), "samples_by_condition": np.array(samples)}
    return end_stage(MergedState(rules="", stage="features"), STUDY, RESULT, arrays)


@pytest.mark.parametrize(
    "stages",
    [
        (),
        ("cell",),
        ("features",),
        ("features", "features", "cell"),
        ("features", "patient", "cell"),
        ("features", "x"),
    ],
)
def test_impossible_stages_are_refused(stages):
    with pytest.raises(ConfigError, match="stages"):
        check_study(replace(STUDY, stages=stages))


@pytest.mark.parametrize(("key", "stage"), [("cell_types", "cell"), ("conditions", "patient")])
@pytest.mark.parametrize("known", [(), ("one",)])
def test_a_stage_needs_two_labels(key, stage, known):
    with pytest.raises(ConfigError, match=f"{key} = .*stage '{stage}' needs at least two"):
        check_study(replace(STUDY, **{key: known}))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"cell": FitRule(batch_rows=0)}, r"\[study.cell\] batch_rows"),
        ({"patient": FitRule(epochs_per_round=0)}, r"\[study.patient\] epochs_per_round"),
        ({"cell": FitRule(rounds_max=-1)}, "rounds_max"),
        ({"cell": FitRule(patience_rounds=0)}, "patience_rounds"),
        ({"cell": FitRule(model="mlp", merge="fedavg", hidden=0)}, "hidden"),
        ({"cell": FitRule(learning_rate=-0.1)}, "learning_rate"),
        ({"cell": FitRule(learning_rate=float("nan"))}, "learning_rate"),
        ({"cell": FitRule(learning_rate=float("inf"))}, "learning_rate"),
        ({"cell": FitRule(momentum=1.0)}, "momentum"),
        ({"cell": FitRule(momentum=-0.1)}, "momentum"),
        ({"cell": FitRule(merge="fedavg", l2=-1e-9)}, "l2"),
        ({"cell": FitRule(l2=0.0)}, "l2"),
        ({"cell": FitRule(tolerance=0.0)}, "tolerance"),
        ({"cell": FitRule(model="mlp")}, 'no exact fit.*merge = "fedavg"'),
        ({"features": FeatureRule(rule="top_variance", n_top=0)}, "n_top"),
        ({"floors": Floors(donors=0)}, "donors"),
        ({"cell_types": ("B", "T", "B")}, "cell_types .* twice"),
        ({"cell_type_ids": ("CL:0000236",)}, "1 entries for 3 cell_types"),
        ({"cell_type_ids": ("CL:0000236", "CL:236", "")}, "Cell Ontology"),
        ({"cell_type_ids": ("CL:0000236", "CL:0000236", "")}, "each once"),
        ({"conditions": ("ill", "ill")}, "conditions .* twice"),
    ],
    ids=repr,
)
def test_an_impossible_number_or_a_label_twice_is_refused(change, key):
    with pytest.raises(ConfigError, match=key):
        check_study(replace(STUDY, **change))


def test_numbers_can_be_checked_before_the_labels_are_known():
    check_numbers(replace(STUDY, cell_types=(), conditions=()))


@pytest.mark.parametrize(
    ("cells", "text"), [((0, 0, 0), r"0 cell type\(s\) \(none\)"), ((0, 7, 0), r"1 cell type\(s\) \(NK\)")]
)
def test_one_class_in_the_whole_swarm_ends_the_study_with_a_text(cells, text):
    state = after_features(cells=cells)
    assert state.finished
    assert state.failure
    np.testing.assert_array_equal(state.arrays["panel"], np.arange(4))
    import re

    assert re.search(text, state.failure), state.failure
    assert "expected at least 2 of B, NK, T" in state.failure


def test_the_stages_follow_each_other_and_the_last_ends_the_study():
    cell = after_features()
    assert (cell.stage, cell.phase) == ("cell", "fit")
    assert cell.group("now")["weight"].shape == (3, 4)
    closing = end_stage(cell, STUDY, RESULT, cell.group("now"))
    assert (closing.stage, closing.phase) == ("cell", "sketch-1")
    assert closing.group("now") == {}
    patient = open_later(closing, STUDY)
    assert (patient.stage, patient.phase) == ("patient", "statistics")
    assert sorted(patient.group("cell")) == ["bias", "weight"]
    assert n_inputs(patient, STUDY, "patient") == 3 + 4 + 3 * 4  # proportions, pseudobulk, pseudobulk by type
    done = end_stage(patient, STUDY, RESULT, {"bias": np.zeros(2, np.int32)})
    assert done.finished
    assert not done.failure
    assert sorted(done.results) == ["cell", "features", "patient"]


def test_without_conditions_of_two_kinds_the_cell_model_is_not_lost():
    patient = open_stage(after_features(samples=(4, 0)), STUDY, "patient")
    assert "1 condition(s) (ill)" in patient.failure


def test_a_failure_leaves_no_running_parameters():
    state = fail(after_features(), "why")
    assert (state.stage, state.phase, state.failure) == (DONE, DONE, "why")
    assert state.group("now") == {}


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6).filter(any))
def test_class_weights_balance_the_classes_that_are_there(counts):
    weights = class_weights(np.array(counts))
    shares = weights * np.array(counts)
    present = np.array(counts) > 0
    np.testing.assert_allclose(shares[present], sum(counts) / present.sum())
    assert np.all(weights[~present] == 0)
