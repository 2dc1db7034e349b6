"""Facts about the exact fit: any partition of the cells into sites gives the fit of all cells in one place."""

import threading
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from exact_cells import N_CELLS, N_TYPES, RULE, STUDY, learn, oracle, pool, probabilities, site, split
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmcell.errors import ModelError
from swarmcell.model import exact_fit
from swarmcell.model.classifier import Scaling, log_softmax, logits
from swarmcell.model.exact_rounds import SUM_LAST
from swarmcell.model.learning import Learner
from swarmcell.model.local_fit import Examples
from swarmcell.model.state import from_bytes, to_bytes

POOL = pool()
X, Y = POOL
ONE = [0] * N_CELLS


@pytest.fixture(scope="module")
def pooled():
    return oracle(X, Y, RULE.l2)


def parts_of(cells):
    """Each type at no more than two of five sites."""
    return [(int(y) * 2 + i % 2) % 5 for i, y in enumerate(cells)]


@settings(max_examples=4, suppress_health_check=[*HealthCheck])
@given(st.integers(1, 20), st.randoms(use_true_random=False))
def test_any_partition_into_sites_gives_the_probabilities_of_scikit_learn_on_all_cells(pooled, n_sites, rng):
    state = learn(STUDY, split(X, Y, [rng.randrange(n_sites) for _ in range(N_CELLS)]))
    found = probabilities(state, X)
    assert np.abs(found - pooled).max() <= 1e-6
    assert np.array_equal(found.argmax(1), pooled.argmax(1))


def test_a_site_need_not_have_every_class(pooled):
    state = learn(STUDY, split(X, Y, parts_of(Y)))
    assert np.abs(probabilities(state, X) - pooled).max() <= 1e-6
    assert state.results["cell"].exact == tuple(f"site-{i}" for i in range(5))


def test_one_row_per_sum_is_what_a_site_adds_not_what_it_computes_on(pooled):
    state = learn(STUDY, split(X, Y, ONE))
    assert np.abs(probabilities(state, X) - pooled).max() <= 1e-6
    assert 20 < state.results["cell"].rounds < 100


def test_when_a_site_leaves_the_fit_is_that_of_those_who_stay_and_names_them():
    half = [i % 2 for i in range(N_CELLS)]
    state = learn(STUDY, split(X, Y, half), away={r: {"site-1"} for r in range(12, 999)})
    stay = np.array(half) == 0
    # scaling is still that of both sites: the panel's block came first
    alone = learn(STUDY, split(X, Y, half), away={r: {"site-1"} for r in range(1, 999)})
    assert state.results["cell"].exact == ("site-0",)
    assert np.abs(probabilities(state, X[stay]) - probabilities(alone, X[stay])).max() <= 1e-6


def test_a_site_that_misses_a_round_is_pinned_again(pooled):
    third = [i % 3 for i in range(N_CELLS)]
    state = learn(STUDY, split(X, Y, third), away={9: {"site-1"}, 20: {"site-0", "site-2"}})
    assert state.results["cell"].exact == ("site-0", "site-1", "site-2")
    assert np.abs(probabilities(state, X) - pooled).max() <= 1e-6


def test_a_class_that_no_pinned_site_has_gets_no_probability():
    study = replace(STUDY, cell_types=(*STUDY.cell_types, "nowhere"))
    state = learn(study, split(X, Y, ONE, study))
    found = probabilities(state, X)
    assert found[:, N_TYPES].max() < 1e-20
    assert np.abs(found[:, :N_TYPES] - oracle(X, Y, RULE.l2)).max() <= 1e-6


def test_a_class_whose_only_site_leaves_and_returns_is_learnt(pooled):
    rare = [int(y == 3) for y in Y]
    state = learn(STUDY, split(X, Y, rare), away={r: {"site-1"} for r in range(6, 12)})
    assert state.results["cell"].exact == ("site-0", "site-1")
    assert np.abs(probabilities(state, X) - pooled).max() <= 1e-6


def test_without_convergence_nothing_is_called_exact():
    rule = replace(RULE, rounds_max=8)
    state = learn(replace(STUDY, cell=rule), split(X, Y, ONE, replace(STUDY, cell=rule)))
    assert state.results["cell"].rounds == 8
    assert state.results["cell"].exact == ()


def test_sites_without_two_classes_between_them_are_not_pinned():
    rare = [int(y == 3) for y in Y]
    state = learn(STUDY, split(X, Y, rare), away={r: {"site-0"} for r in range(1, 5)})
    assert state.results["cell"].exact == ("site-0", "site-1")


def test_the_bits_are_the_same_in_any_order_of_the_sites():
    learners = split(X, Y, [i % 3 for i in range(N_CELLS)])
    first = next(iter(learners.values()))
    raw, stop = first.start(), threading.Event()
    for _ in range(5):
        parts = [replace(learner.contribute(raw, stop), author=name) for name, learner in learners.items()]
        merged = {first.merge(raw, order).state for order in permutations(parts)}
        assert len(merged) == 1
        raw = merged.pop()
    assert from_bytes(raw).phase == "fit"
    assert to_bytes(from_bytes(raw)) == raw


def test_the_sums_are_the_gradient_of_the_loss():
    rng = np.random.default_rng(1)
    mean, scale = rng.normal(size=X.shape[1]), rng.uniform(0.5, 2, X.shape[1])
    rows = np.arange(N_CELLS)
    examples = Examples(
        X=X, y=Y, train=rows, validation=rows[:0], scaling=Scaling(mean, scale), class_weights=np.ones(N_TYPES)
    )
    counts, at = exact_fit.by_class(examples), rng.normal(size=(N_TYPES, X.shape[1] + 1))

    def loss(point):
        logs = log_softmax(logits({"bias": point[:, 0], "weight": point[:, 1:]}, X, examples.scaling))
        return float(-(logs[rows, Y] / counts[Y]).sum() / N_TYPES)

    found = exact_fit.sums({"bias": at[:, 0], "weight": at[:, 1:]}, examples, counts)
    assert found.loss == pytest.approx(loss(at), rel=1e-12)
    for k, j in ((0, 0), (2, 3), (3, X.shape[1])):
        step = np.zeros_like(at)
        step[k, j] = 1e-5
        slope = found.bias[k] if j == 0 else found.weight[k, j - 1]
        assert (loss(at + step) - loss(at - step)) / 2e-5 == pytest.approx(slope, abs=1e-8)


def test_a_sum_over_the_bound_is_refused_at_the_site():
    rows = np.arange(N_CELLS)
    scaling = Scaling(np.zeros(X.shape[1]), np.full(X.shape[1], 1e-6))
    examples = Examples(X=X, y=Y, train=rows, validation=rows[:0], scaling=scaling, class_weights=np.ones(N_TYPES))
    zero = {"bias": np.zeros(N_TYPES), "weight": np.zeros((N_TYPES, X.shape[1]))}
    with pytest.raises(ModelError, match=r"sum 'weight' is beyond \+-1024"):
        exact_fit.published(zero, examples, exact_fit.by_class(examples))


def test_a_trial_that_went_too_far_is_published_as_the_largest_loss():
    rows = np.arange(N_CELLS)
    scaling = Scaling(np.zeros(X.shape[1]), np.ones(X.shape[1]))
    examples = Examples(X=X, y=Y, train=rows, validation=rows[:0], scaling=scaling, class_weights=np.ones(N_TYPES))
    far = {"bias": np.zeros(N_TYPES), "weight": np.outer(np.arange(N_TYPES), np.full(X.shape[1], 2000.0))}
    assert exact_fit.published(far, examples, exact_fit.by_class(examples))["loss"].tolist() == [SUM_LAST]


def test_a_hostile_sum_is_left_out_by_the_rule_and_its_site_unpinned():
    learners = split(X, Y, [i % 2 for i in range(N_CELLS)])
    first = learners["site-0"]
    raw, stop = first.start(), threading.Event()
    for _ in range(4):
        parts = [replace(learner.contribute(raw, stop), author=name) for name, learner in learners.items()]
        raw = first.merge(raw, parts).state
    from swarmcell.model.encoding import Named, decode, encode

    named = decode(learners["site-1"].contribute(raw, stop).parameters)
    huge = encode(Named(named.header, {**named.arrays, "loss": np.array([SUM_LAST + 1])}))
    parts = [replace(learners[name].contribute(raw, stop), author=name) for name in learners]
    outcome = first.merge(raw, [parts[0], replace(parts[1], parameters=huge)])
    assert "'loss' is over the bound" in outcome.left_out[1]
    assert from_bytes(outcome.state).pinned == ("site-0",)


def test_a_site_without_labels_is_not_pinned():
    learners = split(X, Y, ONE) | {"unlabelled": Learner(STUDY, site(X[:30], np.full(30, -1)))}
    state = learn(STUDY, learners)
    assert state.results["cell"].exact == ("site-0",)
