"""Facts about the rounds that close a stage: calibrated probabilities, and cells that are like none of the known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import minimize_scalar
from sklearn.covariance import EmpiricalCovariance
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from swarmcell.model import novelty, released, temperature
from swarmcell.model.calibration_rounds import novelty_of
from swarmcell.model.classifier import Scaling, log_softmax, logits, to_floats
from swarmcell.model.contribution import Contribution
from swarmcell.model.novelty import Novelty
from swarmcell.model.stages import CLOSING, parameters_of
from swarmcell.model.state import from_bytes
from swarmcell.model.temperature import Calibration

ONES = np.ones(3)


@pytest.fixture
def sites(make):
    return [make(name, n_donors=8, cells_per_donor=60) for name in ("site-a", "site-b")]


def scaled(cells, state):
    X = cells.X.toarray()
    return (X - state.arrays["mean"] / 2**24) / (state.arrays["scale"] / 2**24)


def test_the_stage_of_cells_ends_with_its_closing_rounds_and_keeps_what_they_say(lab, sites):
    history = lab.rounds(lab.learners(*sites))
    phases = [from_bytes(raw).phase for raw, _ in history]
    first = phases.index(CLOSING[0])
    assert tuple(phases[first : first + len(CLOSING)]) == CLOSING
    assert phases[-2:] == ["calibration", "done"]
    state = from_bytes(history[-1][0])
    n_validation = sum(int(lab.cells(site).validation.sum()) for site in sites)
    assert state.arrays["novelty.n_by_score"].sum() == state.arrays["cell_calibration.rows"][0] == n_validation


def test_the_distance_of_a_swarm_is_that_of_the_pooled_training_cells(lab, sites):
    state = lab.learnt(lab.learners(*sites))
    both = [lab.cells(site) for site in sites]
    rows = np.vstack([scaled(cells, state)[~cells.validation] for cells in both])
    y = np.concatenate([cells.cell_type[~cells.validation] for cells in both])
    means = np.array([rows[y == k].mean(axis=0) for k in range(3)])
    within = EmpiricalCovariance(assume_centered=True).fit(rows - means[y]).covariance_
    precision = np.linalg.inv(within + novelty.RIDGE * np.trace(within) / len(within) * np.eye(len(within)))
    offsets = rows[:, None] - means
    expected = np.log(np.einsum("nki,ij,nkj->nk", offsets, precision, offsets).min(axis=1))
    X = np.vstack([cells.X.toarray()[~cells.validation] for cells in both])
    np.testing.assert_allclose(novelty_of(state).density.log_distance(X), expected, atol=1e-4)


def test_the_ridge_of_one_round_is_scikit_learns_of_the_pooled_training_cells(lab, sites):
    state = lab.learnt(lab.learners(*sites))
    both = [lab.cells(site) for site in sites]
    X = sparse.vstack([cells.X[~cells.validation] for cells in both])
    y = np.concatenate([cells.cell_type[~cells.validation] for cells in both])
    density = novelty_of(state).density
    projected = density.projection(X)
    alpha = novelty.RIDGE * np.trace(np.cov(projected.T, bias=True)) / projected.shape[1] * len(y)
    expected = Ridge(alpha=alpha).fit(projected, np.eye(3)[y]).predict(projected)
    np.testing.assert_allclose(density.ridge(X), expected, atol=1e-4)


def test_a_type_that_nobody_taught_is_found_and_few_known_cells_are_called_unknown(lab, sites, make):
    study = lab.study(cell_types=("B", "NK"), stages=("features", "cell"))
    known = [site[(site.obs["cell_type"] != "T").to_numpy()].copy() for site in sites]
    model = released.assemble(lab.learnt(lab.learners(*known, study=study)), study, sites[0].var_names, {})
    new = make("site-c", n_donors=4, cells_per_donor=60)
    probabilities, score = model.judge_cells(new)
    is_new = (new.obs["cell_type"] == "T").to_numpy()
    assert roc_auc_score(is_new, score) > 0.9 > roc_auc_score(is_new, -probabilities.max(axis=1))
    edge = model.unknown_from(0.05)
    assert (score[~is_new] >= edge).mean() < 0.12
    assert (score[is_new] >= edge).mean() > 0.5
    assert model.unknown_from(0) == np.inf
    assert abs(score[~is_new].mean()) < 0.5


def test_without_inner_validation_nothing_is_calibrated_and_no_cell_is_unknown(lab, make):
    few = [make(name, n_donors=3, held_out=1) for name in ("site-a", "site-b")]
    study = lab.study()
    model = released.assemble(lab.learnt(lab.learners(*few, study=study)), study, few[0].var_names, {})
    assert model.calibration("cell") == model.calibration("patient") == Calibration()
    _, score = model.judge_cells(few[0])
    assert np.isnan(score).all()
    assert model.unknown_from(0.5) == np.inf
    truth = few[0].obs["cell_type"].astype(str).to_numpy()
    for told in (model.nearest_types(few[0]), model.ridge_types(few[0])):  # but its types are described
        assert (np.array(model.cell_types)[told.argmax(axis=1)] == truth).mean() > 0.9


def test_a_released_model_keeps_its_calibration(lab, sites, tmp_path):
    study = lab.study()
    model = released.assemble(lab.learnt(lab.learners(*sites, study=study)), study, sites[0].var_names, {})
    released.save(model, tmp_path / "m.safetensors")
    loaded = released.load(tmp_path / "m.safetensors")
    for before, after in zip(model.judge_cells(sites[0]), loaded.judge_cells(sites[0]), strict=True):
        np.testing.assert_array_equal(before, after)
    assert loaded.card["calibration"]["cell"]["n"] == loaded.calibration("cell").n > 0


def test_a_closing_round_leaves_out_what_is_too_large_or_of_another_shape(lab, sites):
    learners = lab.learners(*sites)
    raw, sent = next((raw, sent) for raw, sent in lab.rounds(learners) if from_bytes(raw).phase == "density")
    broken = Contribution(**{**vars(sent[1]), "parameters": sent[1].parameters[:-8]})
    kinds = replace(sent[1], kind="update", figures={"n": 0, "correct": 0, "nll": 0})
    for other in (broken, kinds):
        outcome = learners[0].merge(raw, [sent[0], other])
        assert list(outcome.left_out) == [1]
    either = {learners[0].merge(raw, order).state for order in (sent, sent[::-1])}
    assert len(either) == 1


def test_a_site_that_leaves_between_two_closing_rounds_makes_no_mixture(lab, sites):
    study = lab.study(stages=("features", "cell"))
    learners = lab.learners(*sites, study=study)
    raw = next(raw for raw, _ in lab.rounds(learners) if from_bytes(raw).phase == "spread")
    while not from_bytes(raw).finished:  # the second site is gone: the spread is over the first one's cells
        raw = learners[0].merge(raw, [learners[0].contribute(raw, lab.stop)]).state
    state, cells = from_bytes(raw), lab.cells(sites[0])
    found = novelty_of(state)
    distance = found.density.log_distance(cells.X[cells.validation])
    assert found.centre[0] == pytest.approx(distance.mean(), abs=1e-4)
    assert found.spread[0] == pytest.approx(distance.std(), abs=1e-4)
    score = found.score(cells.X, logits(to_floats(parameters_of(state, "cell")), cells.X, scaling_of(state)))
    assert abs(score[cells.validation].mean()) < 1e-3


def test_a_swarm_whose_inner_validation_donors_leave_before_the_spread_calls_no_cell_unknown(lab, sites, make):
    few = make("site-b", n_donors=3, held_out=1)
    study = lab.study(stages=("features", "cell"))
    learners = lab.learners(sites[0], few, study=study)
    raw = next(raw for raw, _ in lab.rounds(learners) if from_bytes(raw).phase == "spread")
    while not from_bytes(raw).finished:
        raw = learners[0].merge(raw, [learners[1].contribute(raw, lab.stop)]).state
    model = released.assemble(from_bytes(raw), study, few.var_names, {})
    assert model.calibration("cell") == Calibration()
    assert np.isnan(model.judge_cells(few)[1]).all()
    assert model.unknown_from(0.5) == np.inf


def scaling_of(state):
    return Scaling.from_fixed(state.arrays["mean"], state.arrays["scale"])


@settings(max_examples=20, deadline=None)
@given(factor=st.sampled_from([0.5, 1.0, 3.0, 8.0]), seed=st.integers(0, 5))
def test_the_temperature_is_the_grid_point_nearest_to_the_best(factor, seed):
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(600, 3)) * 2
    y = np.array([rng.choice(3, p=np.exp(row)) for row in log_softmax(outputs)])
    outputs = outputs * factor
    found = temperature.grid(3)[temperature.best(temperature.losses(outputs, y, ONES), 3)]

    def loss(log):
        return (
            -log_softmax(outputs / np.exp(log))[np.arange(600), y].sum()
            + (log / temperature.LOG_TEMPERATURE_SD) ** 2 / 2
        )

    best = minimize_scalar(loss, bounds=(-2, 3), method="bounded").x
    assert abs(np.log(found.temperature) - best) < temperature.LOG_STEP


def test_sums_over_sites_choose_what_the_pooled_rows_choose():
    rng = np.random.default_rng(0)
    outputs, y = rng.normal(size=(90, 2)) * 4, rng.integers(0, 2, 90)
    parts = [temperature.losses(outputs[rows], y[rows], np.ones(2)) for rows in (slice(0, 20), slice(20, 90))]
    assert temperature.best(sum(parts), 2) == temperature.best(temperature.losses(outputs, y, np.ones(2)), 2)


def test_a_shift_moves_the_operating_point_where_one_condition_is_never_called():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 40)
    outputs = np.column_stack([np.zeros(80), rng.normal(size=80) + 2 * y - 6])  # ranks well, and never says "1"
    found = temperature.grid(2)[temperature.best(temperature.losses(outputs, y, np.ones(2)), 2)]
    called = found.apply(outputs).argmax(axis=1)
    assert outputs.argmax(axis=1).sum() == 0
    assert called[y == 1].mean() > 0.5
    assert called[y == 0].mean() < 0.3


def test_a_few_rows_move_neither_temperature_nor_shift_far():
    outputs, y = np.array([[0.0, 5.0], [5.0, 0.0]]), np.array([1, 0])
    found = temperature.grid(2)[temperature.best(temperature.losses(outputs, y, np.ones(2)), 2)]
    assert 0.5 < found.temperature < 2
    assert found.shift == 0


@given(seed=st.integers(0, 99), rate=st.floats(0.001, 1))
def test_no_more_than_the_rate_reaches_the_threshold(seed, rate):
    counted = np.random.default_rng(seed).poisson(0.3, 256)
    edge = Novelty(density=None, centre=(0, 0), spread=(1, 1), n_by_score=counted).threshold(rate)
    reached = counted[edge <= novelty.EDGES].sum()
    assert reached <= rate * counted.sum()
