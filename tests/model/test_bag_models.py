"""Facts about classifiers of samples by their cells: numpy and torch agree, order is nothing, cells add up."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmcell.cells import bags as bag_cells
from swarmcell.cells.bags import Bags
from swarmcell.errors import ConfigError
from swarmcell.model import bag_models, local_fit, released
from swarmcell.model.classifier import Scaling, folded_embedding, initial, logits, shapes, to_floats
from swarmcell.model.learning import Learner
from swarmcell.model.local_fit import Examples
from swarmcell.model.study import FitRule

RULES = {name: FitRule(model=name, merge="fedavg", hidden=8) for name in bag_models.MODELS}


def made(model, seed=0, n_features=5):
    rng = np.random.default_rng(seed)
    parameters = {name: rng.normal(size=shape) for name, shape in shapes(RULES[model], n_features, 2).items()}
    scaling = Scaling(rng.normal(size=n_features), rng.uniform(0.5, 2, n_features))
    X = rng.normal(size=(40, n_features)).astype(np.float32)
    return parameters, scaling, Bags.of(X, rng.permutation(np.repeat([0, 1, 2], [5, 15, 20])), 3)


@pytest.mark.parametrize("model", bag_models.MODELS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99))
def test_torch_trains_what_numpy_predicts_and_cells_add_up_to_it(model, seed):
    parameters, scaling, bags = made(model, seed)
    expected = logits(parameters, bags, scaling)
    tensors = {name: torch.tensor(a, dtype=torch.float32) for name, a in parameters.items()}
    layer = local_fit.FirstLayer(scaling, torch.device("cpu"))
    np.testing.assert_allclose(local_fit.outputs(tensors, bags, layer).numpy(), expected, rtol=1e-3, atol=1e-3)
    direction, folded = np.array([-0.5, 0.5]), folded_embedding(parameters, scaling)
    for X, answer in zip(bags, expected, strict=True):
        shared = bag_models.contributions(parameters, X, folded, direction)
        assert shared.mean() == pytest.approx(answer @ direction)
        np.testing.assert_allclose(logits(parameters, Bags.of(X[::-1], np.zeros(len(X), int), 1), scaling)[0], answer)
        if model == "attention":
            assert bag_models.attention(parameters, X, folded).sum() == pytest.approx(1)


def test_half_precision_moves_outputs_by_little():
    parameters, scaling, bags = made("attention", n_features=200)
    tensors = {name: torch.tensor(a / 3, dtype=torch.float32) for name, a in parameters.items()}
    layer = local_fit.FirstLayer(scaling, torch.device("cpu"))
    full = local_fit.outputs(tensors, bags, layer)
    layer.in_half = True
    half = local_fit.outputs(tensors, bags, layer)
    assert not torch.equal(full, half)
    torch.testing.assert_close(full, half, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("model", bag_models.MODELS)
def test_a_few_ill_cells_are_found(model):
    rng = np.random.default_rng(0)
    n, y = 40, np.arange(40) % 2
    X = rng.normal(size=(40 * n, 20)).astype(np.float32)
    ill = np.arange(40 * n) % n < 4
    X[ill & np.repeat(y == 1, n)] += 5
    bags, rows = Bags.of(X, np.repeat(np.arange(40), n), 40), np.arange(40)
    rule = FitRule(
        model=model, merge="fedavg", hidden=8, epochs_per_round=25, batch_rows=6, learning_rate=0.03, l2=0.03
    )
    scaling, weights = Scaling(np.zeros(20), np.ones(20)), np.ones(2)
    examples = Examples(X=bags, y=y, train=rows[:26], validation=rows[26:], scaling=scaling, class_weights=weights)
    start = to_floats(initial(rule, 20, 2, seed=0))
    fit = local_fit.fit(start, examples, rule, rng=np.random.default_rng(1), device="cpu", stop=threading.Event())
    score = local_fit.judge(fit, examples)
    assert score.correct / score.n > 0.85
    folded, direction = folded_embedding(fit, scaling), np.array([-1.0, 1.0])
    strongest = [bag_models.contributions(fit, cells, folded, direction).argmax() for cells in bags[rows[y == 1]]]
    assert np.mean(np.array(strongest) < 4) > 0.8


@pytest.mark.parametrize("model", bag_models.MODELS)
def test_a_study_learns_and_releases_it_alone_and_in_a_swarm(lab, make, tmp_path, model, monkeypatch):
    monkeypatch.setattr(bag_cells, "CELLS_MAX", 20)
    study = lab.study(patient=FitRule(model=model, merge="fedavg", hidden=8, rounds_max=2, batch_rows=4))
    sites = [make("site-a"), make("site-b")]
    state = lab.learnt(lab.learners(*sites, study=study))
    released.save(released.assemble(state, study, sites[0].var_names, {}), tmp_path / "m.safetensors")
    loaded = released.load(tmp_path / "m.safetensors")
    names, probabilities = loaded.predict_samples(sites[0])
    assert len(names) == 6
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert loaded.sample_features(sites[0])[1].shape[0] == 6


@pytest.mark.parametrize("change", [{"cell": RULES["attention"]}, {"patient": FitRule(model="top_k")}])
def test_cells_have_no_bags_and_bags_no_exact_fit(lab, make, change):
    study = lab.study(**change)
    with pytest.raises(ConfigError, match=r"reads samples|has no exact fit"):
        Learner(study, lab.cells(make("site-a"), study=study))


class InHalf(local_fit.FirstLayer):
    """The first layer as on a GPU that has bfloat16."""

    def __init__(self, scaling, place):
        super().__init__(scaling, place)
        self.in_half = True


def taught(model, device, epochs=3):
    rng = np.random.default_rng(0)
    rule = FitRule(model=model, merge="fedprox", hidden=8, epochs_per_round=epochs, batch_rows=16, l2=1e-3)
    y = np.repeat([0, 1], 40)
    X = rng.normal(size=(80, 20)).astype(np.float32) + 2 * y[:, None]
    if model in bag_models.MODELS:
        X, y = Bags.of(X, np.arange(80) // 4, 20), y[::4]
    rows, scaling = np.arange(len(y)), Scaling(np.ones(20), np.full(20, 1.4))
    examples = Examples(X=X, y=y, train=rows, validation=rows, scaling=scaling, class_weights=np.ones(2))
    start = to_floats(initial(rule, 20, 2, seed=0))
    correction = {name: np.zeros(array.shape) for name, array in start.items()}
    rng, stop = np.random.default_rng(1), threading.Event()
    found = local_fit.fit(start, examples, rule, rng=rng, device=device, stop=stop, correction=correction)
    return examples, found


@pytest.mark.parametrize("model", ["mlp", *bag_models.MODELS])
def test_training_in_half_precision_learns_what_training_in_full_does(model, monkeypatch):
    examples, full = taught(model, "cpu")
    monkeypatch.setattr(local_fit, "FirstLayer", InHalf)
    _, half = taught(model, "cpu")
    assert any(not np.array_equal(full[name], half[name]) for name in full)
    assert local_fit.judge(half, examples).accuracy >= local_fit.judge(full, examples).accuracy - 0.05 > 0.8


@pytest.mark.parametrize(("major", "has"), [(7, False), (8, True)])  # Turing emulates bfloat16, Ampere has it
def test_half_precision_is_for_gpus_that_have_it_and_not_for_those_that_emulate_it(major, has, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(major=major))
    assert local_fit.has_half() is has


@pytest.mark.parametrize("model", ["mlp", "attention"])
def test_all_that_a_training_step_computes_with_lies_on_the_device(model, monkeypatch):
    monkeypatch.setattr(local_fit, "FirstLayer", InHalf)
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):  # not before all steps are done
        taught(model, "meta", epochs=1)
