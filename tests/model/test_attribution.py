"""Attributions: gradients are those of finite differences, and what is shared out adds up to what there was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmcell.model import attribution, sample_features
from swarmcell.model.classifier import Scaling, logits
from swarmcell.model.sample_features import Block

SEEDS = st.integers(0, 2**31)


def classifier(rng, *, hidden=0, n_features=6, n_classes=3):
    scaling = Scaling(rng.normal(size=n_features), rng.uniform(0.5, 2, n_features))
    if not hidden:
        return {"weight": rng.normal(size=(n_classes, n_features)), "bias": rng.normal(size=n_classes)}, scaling
    shapes = {"bias": n_classes, "hidden_bias": hidden, "norm_bias": hidden, "norm_weight": hidden}
    parameters = {name: rng.normal(size=size) for name, size in shapes.items()}
    parameters |= {
        "hidden_weight": rng.normal(size=(hidden, n_features)),
        "weight": rng.normal(size=(n_classes, hidden)),
    }
    return parameters, scaling


@pytest.mark.parametrize("hidden", [0, 16])
@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_attributions_add_up_to_the_change_of_the_output(hidden, seed):
    rng = np.random.default_rng(seed)
    parameters, scaling = classifier(rng, hidden=hidden)
    rows, direction = rng.normal(size=(4, 6)), attribution.against_rest(1, 3)
    gradient = attribution.path_gradients(parameters, rows, direction, scaling)
    change = (logits(parameters, rows, scaling) - logits(parameters, scaling.mean[None, :], scaling)) @ direction
    found = (gradient * (rows - scaling.mean)).sum(axis=1)
    size = np.abs(gradient * (rows - scaling.mean)).sum(axis=1)
    np.testing.assert_array_less(np.abs(found - change), 0.1 * size + 1e-9)  # a kinked path: 64 steps are not exact


@pytest.mark.parametrize("hidden", [0, 16])
def test_integrated_gradients_are_those_of_captum(hidden):
    captum, torch = pytest.importorskip("captum.attr"), pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    parameters, scaling = classifier(rng, hidden=hidden)
    rows, direction = rng.normal(size=(5, 6)), attribution.against_rest(0, 3)
    tensors = {name: torch.tensor(value) for name, value in parameters.items()}
    mean, scale = torch.tensor(scaling.mean), torch.tensor(scaling.scale)

    def outputs(x):
        inner = (x - mean) / scale
        if hidden:
            inner = torch.nn.functional.linear(inner, tensors["hidden_weight"], tensors["hidden_bias"])
            normed = torch.nn.functional.layer_norm(inner, (hidden,), tensors["norm_weight"], tensors["norm_bias"])
            inner = torch.relu(normed)
        return torch.nn.functional.linear(inner, tensors["weight"], tensors["bias"]) @ torch.tensor(direction)

    np.testing.assert_allclose(
        outputs(torch.tensor(rows)).numpy(), logits(parameters, rows, scaling) @ direction, rtol=1e-9
    )
    expected = captum.IntegratedGradients(outputs).attribute(
        torch.tensor(rows), baselines=mean[None, :], n_steps=attribution.N_STEPS, method="riemann_middle"
    )
    found = attribution.path_gradients(parameters, rows, direction, scaling) * (rows - scaling.mean)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-8, atol=1e-10)


def test_the_gradient_is_that_of_finite_differences():
    rng = np.random.default_rng(0)
    parameters, scaling = classifier(rng, hidden=16)
    direction, row, step = attribution.against_rest(2, 3), rng.normal(size=(1, 6)), 1e-6
    scaled = (row - scaling.mean) / scaling.scale
    found = attribution._perceptron_gradient(parameters, scaled, direction)[0] / scaling.scale
    for j in range(6):
        moved = row.copy()
        moved[0, j] += step
        expected = (logits(parameters, moved, scaling) - logits(parameters, row, scaling))[0] @ direction / step
        assert found[j] == pytest.approx(expected, abs=1e-4)


def test_a_linear_classifiers_gradient_is_its_coefficient():
    parameters, scaling = classifier(np.random.default_rng(1))
    found = attribution.path_gradients(parameters, np.zeros((1, 6)), np.array([1.0, 0, 0]), scaling)
    np.testing.assert_allclose(found[0], parameters["weight"][0] / scaling.scale)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_contributions_of_cells_have_the_samples_own_sum_as_their_mean(seed):
    rng = np.random.default_rng(seed)
    n_types, names = 3, tuple("ABCD")
    kinds = ("clr", "mean", "type", "sd", *(f"q{q:g}" for q in sample_features.QUANTILES))
    width = {"clr": tuple("xyz"), "type": names * n_types}
    parts = [Block(k, width.get(k, names)) for k in kinds]
    X, types = rng.gamma(1.0, 1.0, (50, 4)).astype(np.float32), rng.integers(0, n_types, 50)
    features = sample_features.compute(
        X,
        np.zeros(50, np.int64),
        1,
        kinds=kinds,
        cell_type=types,
        n_types=n_types,
        type_means=rng.gamma(1.0, 1.0, (n_types, 4)),
    )[0]
    gradient, reference = rng.normal(size=len(features)), rng.normal(size=len(features))
    shared = attribution.cell_contributions(
        X, types, parts=parts, features=features, gradient=gradient, reference=reference
    )
    assert shared.mean() == pytest.approx(float(gradient @ (features - reference)), rel=1e-4, abs=1e-4)


def test_a_cells_contribution_is_what_the_answer_loses_without_it():
    """Influence is the derivative by a cell's weight: leaving one of many cells out moves the features by it / n."""
    rng = np.random.default_rng(3)
    kinds = ("clr", "mean", "type", "sd")
    parts = [Block("clr", ("x", "y")), Block("mean", ("A", "B")), Block("type", tuple("ABCD")), Block("sd", ("A", "B"))]
    X, types = rng.normal(2.0, 1.0, (2000, 2)).astype(np.float32), rng.integers(0, 2, 2000)

    def features(rows):
        zero = np.zeros(len(rows), np.int64)
        means = X.mean(axis=0) * np.ones((2, 1))
        return sample_features.compute(
            X[rows], zero, 1, kinds=kinds, cell_type=types[rows], n_types=2, type_means=means
        )[0]

    everything = np.arange(2000)
    whole, gradient = features(everything), rng.normal(size=10)
    shared = attribution.cell_contributions(X, types, parts=parts, features=whole, gradient=gradient, reference=whole)
    for cell in (0, 7, 1500):
        lost = float(gradient @ (whole - features(np.delete(everything, cell))))
        assert shared[cell] / 2000 == pytest.approx(lost, rel=0.05, abs=2e-6)
