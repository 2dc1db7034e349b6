"""Facts about fine-tuning: what is taken over, what starts at zero, and who is refused."""

from dataclasses import replace

import numpy as np
import pytest

from swarmcell.errors import ConfigError, ModelError
from swarmcell.model import released
from swarmcell.model.learning import Learner
from swarmcell.model.stages import parameters_of
from swarmcell.model.state import from_bytes


@pytest.fixture
def first(lab, make):
    """A model of two types, on half of the universe."""
    study = lab.study(cell_types=("B", "NK"))
    study = replace(study, features=replace(study.features, rule="top_variance", n_top=6))
    site = make("site-a")
    known = site[(site.obs["cell_type"] != "T").to_numpy()].copy()
    return released.assemble(lab.learnt(lab.learners(known, study=study)), study, site.var_names, {})


def started(lab, study, start, *sites):
    return [Learner(study, lab.cells(site, study=study), threads=1, start=start) for site in sites]


def test_panel_scaling_and_known_classes_are_taken_over_and_new_ones_start_at_zero(lab, make, first):
    sites = [make("site-b"), make("site-c")]
    study = lab.study(cell_types=("NK", "T", "B"), start_sha256=first.digest)
    learners = started(lab, study, first, *sites)
    assert learners[0].start() == learners[1].start()
    history = lab.rounds(learners)
    at_start = next(from_bytes(raw) for raw, _ in history if from_bytes(raw).stage == "cell")
    old = parameters_of(first.state, "cell")
    for name in ("weight", "bias"):
        np.testing.assert_array_equal(at_start.arrays[f"now.{name}"][[2, 0]], old[name])
        assert not at_start.arrays[f"now.{name}"][1].any()
    done = from_bytes(history[-1][0])
    for name in ("panel", "mean", "scale"):
        np.testing.assert_array_equal(done.arrays[name], first.state.arrays[name])
    assert done.group("start") == {}
    assert released.assemble(done, study, sites[0].var_names, {}).panel_ids == first.panel_ids


def test_an_exact_fit_ends_at_the_same_model_from_a_start_as_from_nothing(lab, make, first):
    exact = replace(lab.quick, merge="exact-sum", rounds_max=0, l2=1e-2, patience_rounds=50)
    study = lab.study(cell_types=("B", "NK"), stages=("features", "cell"), cell=exact, start_sha256=first.digest)
    site = make("site-b")
    site = site[(site.obs["cell_type"] != "T").to_numpy()].copy()
    warm = lab.learnt(started(lab, study, first, site))
    again = released.assemble(warm, study, site.var_names, {})
    twice = lab.learnt(started(lab, replace(study, start_sha256=again.digest), again, site))
    assert twice.results["cell"].rounds < warm.results["cell"].rounds
    np.testing.assert_allclose(twice.arrays["cell.weight"] / 2**40, warm.arrays["cell.weight"] / 2**40, atol=1e-5)


def test_the_patient_task_goes_on_only_with_the_same_cell_types(lab, make, first):
    same = lab.study(cell_types=("B", "NK"), start_sha256=first.digest)
    other = lab.study(cell_types=("B", "NK", "T"), start_sha256=first.digest)
    sites = {2: make("site-b")[(make("site-b").obs["cell_type"] != "T").to_numpy()].copy(), 3: make("site-b")}
    for study in (same, other):
        state = from_bytes(started(lab, study, first, sites[len(study.cell_types)])[0].start())
        assert ("start.patient.weight" in state.arrays) == (study is same)


@pytest.mark.parametrize("said", ["", "00" * 32])
def test_another_start_than_the_rules_name_is_refused(lab, make, first, said):
    study = lab.study(start_sha256=said)
    with pytest.raises(ConfigError, match="starts from"):
        Learner(study, lab.cells(make("site-b"), study=study), start=first)
    with pytest.raises(ConfigError, match="Give that file with --from"):
        Learner(lab.study(start_sha256=first.digest), lab.cells(make("site-b")))


def test_another_kind_of_classifier_is_refused(lab, make, first):
    study = lab.study(start_sha256=first.digest, cell=replace(lab.quick, model="mlp"))
    with pytest.raises(ModelError, match=r"stage 'cell'.*model = 'mlp'"):
        Learner(study, lab.cells(make("site-b"), study=study), start=first)
