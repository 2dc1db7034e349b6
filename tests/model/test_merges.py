"""Facts about merges: equal to plain references, the same bits in any order, and what a single site can do to them."""

import copy
import threading
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import permutations

import numpy as np
import pytest
import torch
from exact_cells import N_CELLS, N_TYPES, STUDY, learn, pool, split
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import trim_mean

from swarmcell.model import local_fit
from swarmcell.model.contribution import Update
from swarmcell.model.encoding import decode
from swarmcell.model.fixed import EXACT_BITS, to_float
from swarmcell.model.local_rounds import effective_steps
from swarmcell.model.merges import averages, robust, rules
from swarmcell.model.merges.averages import Merged
from swarmcell.model.state import Score, from_bytes
from swarmcell.model.study import FitRule

NONE = Score(n=0, correct=0, nll=0)
START = {"bias": np.arange(3, dtype=np.int32) << 20, "weight": np.ones((3, 2), np.int32) << 21}
X, Y = pool()


def update(weight, seed, *, spread=1 << 20, steps=4):
    rng = np.random.default_rng(seed)
    arrays = {n: (a + rng.integers(-spread, spread, a.shape)).astype(np.int32) for n, a in START.items()}
    arrays |= {f"control.{n}": rng.integers(-spread, spread, a.shape).astype(np.int32) for n, a in START.items()}
    arrays["steps"] = np.array([steps])
    return Update(weight=weight, n_cells=weight, n_donors=1, score=NONE, arrays=arrays)


SITES = [update(10, 1, steps=3), update(40, 2, steps=9), update(25, 3, steps=6), update(5, 4, steps=1)]


def stacked(name, updates=SITES):
    return np.stack([u.arrays[name].astype(np.float64) for u in updates])


def merged(rule, updates=SITES, before=None):
    return rules.combine(rule, before or Merged(START), updates)


sites = st.lists(
    st.tuples(st.lists(st.integers(-(2**31) + 1, 2**31 - 1), min_size=3, max_size=3), st.integers(1, 2**40)),
    min_size=1,
    max_size=6,
)


def average(parts):
    updates = [
        Update(weight=w, n_cells=w, n_donors=1, score=NONE, arrays={"bias": np.array(v, np.int32)}) for v, w in parts
    ]
    start = {"bias": np.zeros(len(parts[0][0]), np.int32)}
    return rules.combine(FitRule(merge="fedavg"), Merged(start), updates).now["bias"].tolist()


@given(sites, st.randoms())
def test_a_weighted_mean_is_exact_and_independent_of_the_order(parts, rng):
    total = sum(weight for _, weight in parts)
    exact = [round(sum(Fraction(w * v[i]) for v, w in parts) / total) for i in range(3)]
    for _ in range(2):
        assert average(parts) == exact
        rng.shuffle(parts)


@given(st.integers(-(2**31) + 1, 2**31 - 1), st.lists(st.integers(1, 2**40), min_size=1, max_size=5))
def test_the_mean_of_equal_arrays_is_that_array(value, weights):
    assert average([([value], weight) for weight in weights]) == [value]


def test_the_mean_of_empty_arrays_is_empty():
    assert average([([], 1), ([], 2)]) == []


def test_fednova_is_its_formula():
    found = merged(FitRule(merge="fednova")).now
    p, tau = np.array([10, 40, 25, 5]) / 80, np.array([3, 9, 6, 1])
    for name, start in START.items():
        steps = np.tensordot(p / tau, start - stacked(name), 1)
        np.testing.assert_allclose(found[name], start - (p @ tau) * steps, atol=1)


def test_fednova_with_equal_steps_is_the_weighted_mean():
    same = [replace(u, arrays=u.arrays | {"steps": np.array([7])}) for u in SITES]
    nova, average = merged(FitRule(merge="fednova"), same).now, merged(FitRule(merge="fedavg"), same).now
    assert all(np.abs(nova[n].astype(int) - average[n]).max() <= 1 for n in START)


def test_fedadam_is_adam_of_the_mean_change():
    rule, now = FitRule(merge="fedadam", server_rate=0.1), Merged(START)
    weights = np.array([10, 40, 25, 5]) / 80
    x, m, v = START["weight"] * 2.0**-22, 0.0, 0.0
    for _ in range(5):
        now = merged(rule, SITES, now)
        change = np.tensordot(weights, stacked("weight"), 1) * 2.0**-22 - x
        m, v = 0.9 * m + 0.1 * change, 0.99 * v + 0.01 * change**2
        x = x + 0.1 * m / (np.sqrt(v) + 1e-3)
    np.testing.assert_allclose(now.now["weight"] * 2.0**-22, x, atol=1e-5)
    np.testing.assert_allclose(to_float(now.memory["first.weight"], EXACT_BITS), m, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_scaffold_is_algorithm_1_with_full_batches(momentum):
    whole = {"epochs_per_round": 3, "batch_rows": 10_000, "rounds_max": 6}
    rule = FitRule(merge="scaffold", learning_rate=0.1, momentum=momentum, l2=1e-2, **whole)
    study = replace(STUDY, cell=rule)
    learners = split(X, Y, [int(y >= 2) for y in Y], study)
    state = learn(study, learners)
    np.testing.assert_allclose(
        state.arrays["cell.weight"] * 2.0**-22, reference_scaffold(rule, [Y < 2, Y >= 2]), atol=2e-4
    )


def reference_gradient(at, mask, l2):
    """The gradient of a site's mean class-weighted loss, in plain float64."""
    dense = X.toarray().astype(float)
    rows = np.c_[np.ones(N_CELLS), (dense - dense.mean(0)) / dense.std(0)]
    weight = N_CELLS / (N_TYPES * np.bincount(Y))
    logits = rows[mask] @ at.T
    slope = np.exp(logits - logits.max(1, keepdims=True))
    slope /= slope.sum(1, keepdims=True)
    slope[np.arange(mask.sum()), Y[mask]] -= 1
    penalty = l2 * np.c_[np.zeros(len(at)), at[:, 1:]]
    return (slope * weight[Y[mask], None]).T @ rows[mask] / mask.sum() + penalty


def reference_descent(x, slope, rule):
    """Sutskever's form of Nesterov's momentum, as torch has it, from rest; `slope` is a function of the point."""
    y, speed = x.copy(), 0.0
    for _ in range(rule.epochs_per_round):
        found = slope(y)
        speed = rule.momentum * speed + found
        y = y - rule.learning_rate * (found + rule.momentum * speed)
    return y


def reference_corrected(mask, l2, change, at):
    return reference_gradient(at, mask, l2) + change


def reference_scaffold(rule, masks):
    x, controls, control = np.zeros((N_TYPES, X.shape[1] + 1)), [0.0, 0.0], 0.0
    for _ in range(rule.rounds_max):
        ends, fresh = [], []
        for mask, own in zip(masks, controls, strict=True):
            change = control - own
            ends.append(reference_descent(x, partial(reference_corrected, mask, rule.l2, change), rule))
            fresh.append(reference_gradient(x, mask, rule.l2))
        share = np.array([mask.mean() for mask in masks])
        x, controls, control = np.tensordot(share, ends, 1), fresh, np.tensordot(share, fresh, 1)
    return x[:, 1:]


@pytest.mark.parametrize(("name", "proximal"), [("fedavg", 0.0), ("fedprox", 0.5)])
def test_a_round_is_torchs_descent_on_every_site_and_their_mean(name, proximal):
    """Torch as oracle, written down apart: float64, its own optimiser, full batches."""
    whole = {"epochs_per_round": 4, "batch_rows": 10_000, "rounds_max": 3}
    rule = FitRule(merge=name, proximal=proximal, learning_rate=0.1, l2=1e-2, **whole)
    state = learn(replace(STUDY, cell=rule), split(X, Y, [int(y >= 2) for y in Y], replace(STUDY, cell=rule)))
    dense = torch.tensor(X.toarray(), dtype=torch.float64)
    rows = (dense - dense.mean(0)) / dense.std(0, correction=0)
    loss = torch.nn.CrossEntropyLoss(torch.tensor(N_CELLS / (N_TYPES * np.bincount(Y))), reduction="none")
    start = torch.nn.Linear(rows.shape[1], N_TYPES, dtype=torch.float64)
    torch.nn.init.zeros_(start.weight), torch.nn.init.zeros_(start.bias)
    for _ in range(rule.rounds_max):
        ends = [reference_torch(start, rows[m], torch.tensor(Y[m]), loss, rule) for m in (Y < 2, Y >= 2)]
        shares = [float((Y < 2).mean()), float((Y >= 2).mean())]
        mean = {
            n: sum(p * end.state_dict()[n] for p, end in zip(shares, ends, strict=True)) for n in start.state_dict()
        }
        start.load_state_dict(mean)
    np.testing.assert_allclose(state.arrays["cell.weight"] * 2.0**-22, start.weight.detach().numpy(), atol=2e-5)


def reference_torch(start, rows, y, loss, rule):
    site = copy.deepcopy(start)
    optimiser = torch.optim.SGD(site.parameters(), lr=rule.learning_rate, momentum=rule.momentum, nesterov=True)
    for _ in range(rule.epochs_per_round):
        far = sum((p - q.detach()).square().sum() for p, q in zip(site.parameters(), start.parameters(), strict=True))
        whole = loss(site(rows), y).mean() + rule.l2 / 2 * site.weight.square().sum() + rule.proximal / 2 * far
        optimiser.zero_grad()
        whole.backward()
        optimiser.step()
    return site


def test_fedadams_step_is_torchs_adam_but_for_its_bias_correction():
    """With torch's correction put into step length and floor, its Adam takes the same path."""
    rule, now = FitRule(merge="fedadam", server_rate=0.1), Merged(START)
    point = torch.tensor(START["bias"] * 2.0**-22, requires_grad=True)
    weights = np.array([10, 40, 25, 5]) / 80
    state = {}
    for t in range(1, 6):
        now = merged(rule, SITES, now)
        corrections = 1 - 0.9**t, np.sqrt(1 - 0.99**t)
        lr, eps = 0.1 * corrections[0] / corrections[1], 1e-3 / corrections[1]
        optimiser = torch.optim.Adam([point], lr=lr, betas=(0.9, 0.99), eps=eps)
        optimiser.state.update({point: state} if state else {})
        mean = np.tensordot(weights, stacked("bias"), 1) * 2.0**-22
        point.grad = point.detach() - torch.tensor(mean)
        optimiser.step()
        state = optimiser.state[point]
    np.testing.assert_allclose(now.now["bias"] * 2.0**-22, point.detach().numpy(), atol=1e-5)


def test_multi_krum_is_its_definition_in_plain_floats():
    sites = [update(1, seed, spread=1 << (16 + seed)) for seed in range(7)]
    rows = np.stack([np.r_[u.arrays["bias"], u.arrays["weight"].ravel()] for u in sites]).astype(float)
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2) ** 2
    scores = np.sort(apart, axis=1)[:, 1 : 1 + 7 - 2 - 2].sum(1)
    kept = np.argsort(scores)[: 7 - 2]
    found = merged(FitRule(merge="multi-krum", hostile=2), sites).now
    np.testing.assert_allclose(np.r_[found["bias"], found["weight"].ravel()], rows[kept].mean(0), atol=0.5)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_a_sites_effective_steps_are_what_torch_does_with_a_gradient_of_one(momentum):
    point = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([point], lr=1.0, momentum=momentum, nesterov=momentum > 0)
    for n in range(1, 30):
        point.grad = torch.ones_like(point)
        optimiser.step()
        assert effective_steps(n, momentum) == pytest.approx(-16 * point.item(), abs=0.51)


def test_the_median_is_numpys():
    for sites in (SITES, SITES[:3]):
        found = merged(FitRule(merge="median"), sites).now
        for name in START:
            assert np.abs(found[name] - np.median(stacked(name, sites), axis=0)).max() <= 0.5


def test_the_trimmed_mean_is_scipys():
    sites = [update(1, seed) for seed in range(7)]
    found = merged(FitRule(merge="trimmed-mean", hostile=2), sites).now
    for name in START:
        assert np.abs(found[name] - trim_mean(stacked(name, sites), 2 / 7, axis=0)).max() <= 0.5


def test_the_geometric_median_has_the_least_sum_of_distances():
    vectors = np.stack([np.r_[u.arrays["bias"], u.arrays["weight"].ravel()] for u in SITES]) * 2.0**-22

    def distances(at):
        return np.sqrt(((vectors - at) ** 2).sum(1)).sum()

    found = merged(FitRule(merge="geometric-median")).now
    at = np.r_[found["bias"], found["weight"].ravel()] * 2.0**-22
    assert distances(at) <= minimize(distances, vectors.mean(0), tol=1e-12).fun * (1 + 1e-6)


def test_multi_krum_keeps_those_who_lie_together():
    near = [update(1, seed, spread=1 << 10) for seed in range(4)]
    far = update(1000, 9, spread=1 << 28)
    assert_equal(merged(FitRule(merge="multi-krum"), [far, *near]).now, merged(FitRule(merge="fedavg"), near).now)


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "multi-krum", "geometric-median"])
def test_one_hostile_site_of_five_cannot_move_a_robust_merge_beyond_the_honest(name):
    honest = [update(10, seed) for seed in range(4)]
    for liar in (update(1 << 30, 9, spread=(1 << 31) - (1 << 23)), update(1, 9, spread=1 << 27)):
        found = merged(FitRule(merge=name), [*honest, liar]).now["weight"]
        others = stacked("weight", honest)
        room = 1 << 19 if name == "geometric-median" else 0
        assert np.all(found >= others.min(0) - room)
        assert np.all(found <= others.max(0) + room)


def test_an_average_is_moved_at_will_by_one_site():
    liar = update(1 << 30, 9, spread=1 << 28)
    found = merged(FitRule(merge="fedavg"), [*SITES, liar]).now
    assert np.abs(found["weight"] - liar.arrays["weight"]).max() < 100


@pytest.mark.parametrize("name", sorted([*rules.AVERAGES, *rules.SINGLE]))
def test_where_nobody_trained_nothing_changes(name):
    idle = [replace(u, weight=0) for u in SITES]
    before = Merged(START, {"first.bias": np.ones(3, np.int64)})
    assert rules.combine(FitRule(merge=name), before, idle) == before


@pytest.mark.parametrize("name", sorted([*rules.AVERAGES, *rules.SINGLE]))
def test_any_integers_can_be_merged(name):
    last = (1 << 31) - 1
    extreme = [
        Update(
            weight=1 << 40,
            n_cells=1 << 40,
            n_donors=1,
            score=NONE,
            arrays={n: np.full_like(a, sign * last) for n, a in u.arrays.items() if n != "steps"}
            | {"steps": np.array([steps])},
        )
        for u, sign, steps in zip(SITES, (1, -1, 1, 1), (0, averages.STEPS_LAST, 1, 1), strict=True)
    ]
    for _ in range(3):
        found = merged(FitRule(merge=name, server_rate=1e3), extreme)
        assert all(np.abs(a.astype(np.int64)).max() <= last for a in found.now.values())


@pytest.mark.parametrize("name", sorted([*rules.AVERAGES, *rules.SINGLE]))
def test_bits_are_the_same_in_any_order_of_the_sites(name):
    rule = FitRule(merge=name, rounds_max=3, batch_rows=64)
    study = replace(STUDY, cell=rule)
    learners = split(X, Y, [i % 3 for i in range(N_CELLS)], study)
    first = next(iter(learners.values()))
    raw, stop = first.start(), threading.Event()
    while not from_bytes(raw).finished:
        parts = [replace(learner.contribute(raw, stop), author=author) for author, learner in learners.items()]
        states = {first.merge(raw, order).state for order in permutations(parts)}
        assert len(states) == 1
        raw = states.pop()
    assert not from_bytes(raw).group("memory")


def test_what_a_rule_remembers_is_part_of_the_digest():
    for name, kept in (("fedadam", "memory.second.weight"), ("scaffold", "memory.control.weight")):
        study = replace(STUDY, cell=FitRule(merge=name, rounds_max=3))
        (learner,) = split(X, Y, [0] * N_CELLS, study).values()
        raw, stop = learner.start(), threading.Event()
        for _ in range(2):
            raw = learner.merge(raw, [learner.contribute(raw, stop)]).state
        assert kept in from_bytes(raw).arrays


def test_fedprox_holds_the_sites_back():
    moved = {}
    for pull in (0.0, 10.0):
        study = replace(STUDY, cell=FitRule(merge="fedprox", proximal=pull, rounds_max=1, epochs_per_round=5))
        state = learn(study, split(X, Y, [i % 2 for i in range(N_CELLS)], study))
        moved[pull] = np.abs(state.arrays["cell.weight"]).sum()
    assert moved[10.0] < moved[0.0] / 2


def test_a_site_takes_the_steps_of_the_rule_however_many_cells_it_has():
    sites = [int(i >= 30) for i in range(N_CELLS)]  # 30 cells, and all others
    shared = {"merge": "fednova", "rounds_max": 1, "batch_rows": 10}
    study = replace(STUDY, cell=FitRule(steps_per_round=7, **shared))
    small, large = split(X, Y, sites, study).values()
    raw = small.merge(small.start(), [small.contribute(small.start(), threading.Event())]).state
    for learner in (small, large):
        assert decode(learner.contribute(raw, threading.Event()).parameters).arrays["steps"].tolist() == [
            effective_steps(7, 0.9)
        ]
    assert local_fit.n_steps(FitRule(epochs_per_round=2, batch_rows=10), 31) == 8
    assert local_fit.n_steps(FitRule(steps_per_round=7), 0) == 0


def test_steps_of_all_cells_at_once_are_epochs():
    found = []
    for how in ({"steps_per_round": 3}, {"epochs_per_round": 3}):
        study = replace(STUDY, cell=FitRule(merge="fedavg", rounds_max=2, batch_rows=10_000, **how))
        found.append(learn(study, split(X, Y, [i % 2 for i in range(N_CELLS)], study)).group("cell"))
    assert_equal(*found)


@given(st.integers(1, 9), st.integers(0, 5), st.integers(0, 2**32))
def test_trimming_never_leaves_nothing(n_sites, hostile, seed):
    sites = [update(1, seed + i) for i in range(n_sites)]
    for rule in (robust.trimmed_mean, robust.multi_krum):
        found = rule(FitRule(hostile=hostile), Merged(START), sites).now["bias"]
        others = stacked("bias", sites)
        assert np.all((found >= others.min(0)) & (found <= others.max(0)))


def assert_equal(left, right):
    assert sorted(left) == sorted(right)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name])
