"""Facts about the classifiers: what torch trains and what numpy predicts with are one function."""

from hashlib import sha256

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.special import log_softmax as scipy_log_softmax

from swarmcell.model.classifier import Scaling, initial, log_softmax, logits, shapes, softmax, to_floats
from swarmcell.model.local_fit import FirstLayer, forward
from swarmcell.model.study import FitRule

LINEAR, MLP = FitRule(), FitRule(model="mlp", hidden=5)


def inputs(rule, seed=0):
    rng = np.random.default_rng(seed)
    X = (rng.gamma(1, 1, (20, 6)) * (rng.uniform(size=(20, 6)) < 0.5)).astype(np.float32)
    parameters = {name: rng.normal(size=shape) for name, shape in shapes(rule, 6, 3).items()}
    return X, parameters, Scaling(rng.normal(size=6), rng.uniform(0.5, 2, 6))


@given(st.lists(st.lists(st.floats(-1e300, 1e300), min_size=3, max_size=3), min_size=1, max_size=5))
def test_softmax_neither_overflows_nor_leaves_a_row_that_does_not_sum_to_one(values):
    rows = softmax(np.array(values))
    assert np.isfinite(rows).all()
    np.testing.assert_allclose(rows.sum(axis=1), 1)


def test_log_softmax_is_that_of_scipy():
    values = np.random.default_rng(0).normal(size=(9, 4)) * 50
    np.testing.assert_allclose(log_softmax(values), scipy_log_softmax(values, axis=1), atol=1e-12)


def test_the_linear_model_is_an_affine_map_of_scaled_inputs():
    X, parameters, scaling = inputs(LINEAR)
    expected = (X - scaling.mean) / scaling.scale @ parameters["weight"].T + parameters["bias"]
    np.testing.assert_allclose(logits(parameters, X, scaling), expected, atol=1e-10)


@pytest.mark.parametrize("rule", [LINEAR, MLP], ids=lambda rule: rule.model)
def test_sparse_and_dense_cells_have_the_same_outputs(rule):
    X, parameters, scaling = inputs(rule)
    dense, csr = logits(parameters, X, scaling), logits(parameters, sparse.csr_matrix(X), scaling)
    np.testing.assert_allclose(dense, csr, atol=1e-10)


@pytest.mark.parametrize("rule", [LINEAR, MLP], ids=lambda rule: rule.model)
def test_numpy_predicts_what_torch_trains(rule):
    X, parameters, scaling = inputs(rule)
    tensors = {name: torch.tensor(a, dtype=torch.float32) for name, a in parameters.items()}
    trained = forward(tensors, torch.from_numpy(X), FirstLayer(scaling, torch.device("cpu"))).numpy()
    np.testing.assert_allclose(logits(parameters, X, scaling), trained, atol=1e-4)


def test_the_perceptron_is_that_of_torch_modules():
    X, parameters, scaling = inputs(MLP)
    hidden, norm, last = torch.nn.Linear(6, 5), torch.nn.LayerNorm(5), torch.nn.Linear(5, 3)
    with torch.no_grad():
        for layer, prefix in ((hidden, "hidden_"), (norm, "norm_"), (last, "")):
            layer.weight.copy_(torch.tensor(parameters[prefix + "weight"]))
            layer.bias.copy_(torch.tensor(parameters[prefix + "bias"]))
        scaled = torch.tensor((X - scaling.mean) / scaling.scale, dtype=torch.float32)
        expected = torch.nn.Sequential(hidden, norm, torch.nn.ReLU(), last)(scaled).numpy()
    np.testing.assert_allclose(logits(parameters, X, scaling), expected, atol=1e-4)


def test_a_linear_model_starts_at_zero():
    assert all(not array.any() for array in initial(LINEAR, 6, 3, seed=1).values())


def test_a_perceptron_starts_at_the_same_bits_everywhere():
    content = b"".join(array.tobytes() for _, array in sorted(initial(MLP, 6, 3, seed=1).items()))
    assert sha256(content).hexdigest() == "27f9f685ec7944b25039bbc4a8188620484ec8351bec4fe04947e014c1324d8b"


def test_a_perceptron_starts_he_uniform_by_its_seed():
    start = to_floats(initial(FitRule(model="mlp", hidden=50), 600, 3, seed=1))
    bound = (6 / 600) ** 0.5
    weight = start["hidden_weight"]
    assert np.abs(weight).max() <= bound
    assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert abs(weight.mean()) < 0.01 * bound
    assert np.all(start["norm_weight"] == 1)
    assert not np.array_equal(
        weight, to_floats(initial(FitRule(model="mlp", hidden=50), 600, 3, seed=2))["hidden_weight"]
    )
