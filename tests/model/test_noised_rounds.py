"""A study under differential privacy publishes noised sums and nothing else, ends when they are spent, and learns."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import chi2

from swarmcell.errors import ConfigError, ModelError
from swarmcell.model import noised_rounds
from swarmcell.model.classifier import Scaling, logits, to_floats
from swarmcell.model.encoding import Named, decode, encode
from swarmcell.model.learning import Learner
from swarmcell.model.noised_rounds import GRID_BITS
from swarmcell.model.stages import check_study
from swarmcell.model.state import from_bytes, to_bytes
from swarmcell.model.study import NOISED, DifferentialPrivacy, FeatureRule, FitRule, PrivacyRule, Study
from swarmcell.model.training_cells import TrainingCells
from swarmcell.privacy.noise import Noised
from swarmcell.privacy.secure_sum import SecureSum

RULE = DifferentialPrivacy(unit="cell", noise_multiplier=3.0, statistics_multiplier=4.0)
STUDY = Study(
    name="noised",
    modality="rna",
    stages=("features", "cell"),
    cell_types=("a", "b", "c"),
    conditions=("ill", "well"),
    universe_sha256="00",
    cell=FitRule(merge=NOISED, rounds_max=12),
    patient=FitRule(merge=NOISED, rounds_max=6),
    privacy=PrivacyRule(differential_privacy=RULE),
)
NEVER = threading.Event()
N_DONORS = 30


class Silent:
    """No noise: what is under it."""

    def added(self, arrays, deviation):
        return dict(arrays)

    def coins(self, n):
        return np.full(n, 0.5)


def cells(seed, n=900, p=24):
    """Cells of three types and donors of two conditions, which show in their own features."""
    rng = np.random.default_rng(seed)
    y, donor = rng.integers(0, 3, n), np.arange(n) % N_DONORS
    level = np.full((n, p), 0.3)
    for k in range(3):
        level[y == k, 6 * k : 6 * k + 6] += 2.0
    level[donor % 2 == 1, 18:] += 1.0
    X = np.log1p(rng.poisson(level)).astype(np.float32)
    return TrainingCells(
        X=sparse.csr_matrix(X),
        feature_ids=tuple(f"g{i}" for i in range(p)),
        universe_sha256="00",
        modality="rna",
        cell_type=y,
        sample=donor,
        validation=donor < 2,
        sample_condition=np.arange(N_DONORS) % 2,
        sample_validation=np.arange(N_DONORS) < 2,
        donors=tuple(f"site/d{i:02d}" for i in range(N_DONORS)),
        donor=donor,
    )


SITES = [cells(seed) for seed in range(3)]


def learners(study, *, secret=False):
    made = [Learner(study, one, threads=1) for one in SITES]
    if not secret:
        return [Noised(one, bytes([i]) * 32) for i, one in enumerate(made)]
    return [
        SecureSum(one, n_cells=20, n_donors=5, me=f"s{i}", secret=bytes([i]) * 32, f=0, noised=one)
        for i, one in enumerate(made)
    ]


def run(study, **options):
    """Return all states and contributions of a study of three sites."""
    sites, states, said = learners(study, **options), [], []
    raw = sites[0].start()
    while True:
        parts = [replace(one.contribute(raw, NEVER), author=f"s{i}") for i, one in enumerate(sites)]
        outcome = sites[0].merge(raw, parts)
        assert outcome.left_out == {}
        states.append(raw)
        said.append(parts)
        raw = outcome.state
        if outcome.finished:
            return [*states, raw], said


def accuracy(state, stage="cell"):
    scaling = Scaling.from_fixed(state.arrays["mean"], state.arrays["scale"])
    parameters = {n: a for n, a in to_floats(state.group(stage)).items() if n not in ("mean", "scale")}
    test = cells(99)
    return float((logits(parameters, test.X, scaling).argmax(axis=1) == test.cell_type).mean())


@pytest.fixture(scope="module")
def plain_run():
    return run(STUDY)


def test_every_published_sum_has_the_noise_that_is_accounted_for(plain_run):
    states, _ = plain_run
    for raw in (states[0], states[1], states[5]):
        noised = learners(STUDY)[0].contribute(raw, NEVER)
        bare = Learner(STUDY, SITES[0], threads=1).contribute(raw, NEVER, noise=Silent())
        found, under = decode(noised.parameters).arrays, decode(bare.parameters).arrays
        assert found.keys() == noised_rounds.slots(from_bytes(raw), STUDY, 24).keys()
        deviation = noised_rounds.deviation(from_bytes(raw), STUDY, 24)
        noise = np.concatenate([(found[name] - under[name]).ravel() for name in found])
        assert all(np.abs(found[name] - under[name]).max() > 0.01 * deviation for name in found)
        assert 1e-6 < chi2.cdf(float((noise.astype(float) ** 2).sum()) / deviation**2, len(noise)) < 1 - 1e-6


def test_the_deviation_is_the_multiplier_times_the_most_that_a_unit_moves(plain_run):
    states, _ = plain_run
    grid = 1 << GRID_BITS
    assert noised_rounds.deviation(from_bytes(states[0]), STUDY, 24) == pytest.approx(4.0 * 2.0 * grid, rel=1e-4)
    assert noised_rounds.deviation(from_bytes(states[1]), STUDY, 24) == pytest.approx(3.0 * grid, rel=1e-4)


def test_nothing_else_is_published_no_number_and_no_figure(plain_run):
    _, said = plain_run
    for parts in said:
        for one in parts:
            assert (one.n_cells, one.n_donors) == (STUDY.floors.cells, STUDY.floors.donors)
            assert decode(one.parameters).header["weight"] == 0
            assert not any(one.figures.values())
            assert len(one.parameters) == len(parts[0].parameters)


def test_it_ends_with_the_last_parameters_when_its_rounds_are_spent(plain_run):
    states, said = plain_run
    last, end = from_bytes(states[-2]), from_bytes(states[-1])
    assert len(said) == 1 + 12
    assert [noised_rounds.n_spent(from_bytes(raw), STUDY) for raw in states] == list(range(14))
    assert end.results["cell"].rounds == end.results["cell"].best_round == 12
    assert end.results["cell"].score is None
    assert not np.array_equal(end.arrays["cell.weight"], last.group("now")["weight"]), "the last step counts"


def test_it_learns_and_every_site_merges_to_the_same_bytes(plain_run):
    states, said = plain_run
    assert accuracy(from_bytes(states[-1])) > 0.9
    for raw, parts, after in zip(states, said, states[1:], strict=False):
        assert Learner(STUDY, None, n_features=24).merge(raw, parts[::-1]).state == after


def test_it_learns_in_secret_too_where_the_noise_is_split():
    study = replace(STUDY, privacy=PrivacyRule(differential_privacy=RULE, secure_aggregation=True))
    states, _ = run(study, secret=True)
    assert accuracy(from_bytes(states[-1])) > 0.9


@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_units_of_cells_or_donors_and_networks_learn(model):
    for unit, multiplier in (("cell", 1.0), ("donor", 0.3)):
        rule = replace(RULE, unit=unit, noise_multiplier=multiplier, statistics_multiplier=multiplier)
        fit = FitRule(merge=NOISED, model=model, hidden=8, noised_rate=4.0 if model == "linear" else 0.5, rounds_max=12)
        study = replace(STUDY, cell=fit, privacy=PrivacyRule(differential_privacy=rule))
        assert accuracy(from_bytes(run(study)[0][-1])) > 0.8, unit


def test_sampling_leaves_units_out_and_takes_longer_steps_for_it():
    rule = replace(RULE, sampling=0.5, noise_multiplier=1.0)
    study = replace(STUDY, privacy=PrivacyRule(differential_privacy=rule))
    assert accuracy(from_bytes(run(study)[0][-1])) > 0.8


@pytest.mark.parametrize("model", ["linear", "attention"])
def test_the_patient_task_learns_from_donors_without_statistics_of_samples(model):
    rule = replace(RULE, unit="donor", noise_multiplier=0.1, statistics_multiplier=0.1)
    patient = FitRule(merge=NOISED, model=model, hidden=8, rounds_max=30, noised_rate=4.0 if model == "linear" else 0.2)
    stages = ("features", "patient") if model == "attention" else ("features", "cell", "patient")
    study = replace(STUDY, stages=stages, patient=patient, privacy=PrivacyRule(differential_privacy=rule))
    states, said = run(study)
    end = from_bytes(states[-1])
    assert len(said) == 1 + 30 + (12 if model == "linear" else 0)
    assert not any(name.startswith(("baseline", "novelty", "patient_calibration")) for name in end.arrays)
    examples = Learner(study, cells(98), threads=1)._sample_examples(end)
    outputs = logits(
        {n: a for n, a in to_floats(end.group("patient")).items() if n not in ("mean", "scale")},
        examples.X,
        examples.scaling,
    )
    assert (outputs.argmax(axis=1) == examples.y).mean() > 0.8


# -- what is lost, and what is refused ---------------------------------------------------------------------------------


def test_a_round_of_which_nothing_came_is_spent_and_statistics_are_not_asked_twice(plain_run):
    states, _ = plain_run
    merging = Learner(STUDY, None, n_features=24)
    lost = merging.merge(states[3], [])
    assert from_bytes(lost.state).stage_round == from_bytes(states[3]).stage_round + 1
    assert from_bytes(lost.state).group("now").keys() == from_bytes(states[3]).group("now").keys()
    failed = merging.merge(states[0], [])
    assert failed.finished
    assert "spend their share of the budget twice" in failed.failure


def test_the_learner_itself_refuses_to_contribute_without_noise():
    learner = Learner(STUDY, SITES[0])
    with pytest.raises(ModelError, match="nothing without noise"):
        learner.contribute(learner.start(), NEVER)


def test_a_changed_cell_changes_the_noise_and_the_same_cells_give_the_same_bytes(plain_run):
    states, _ = plain_run
    first, again = (learners(STUDY)[0].contribute(states[2], NEVER) for _ in range(2))
    assert first == again
    y = SITES[0].cell_type.copy()
    y[0] = (y[0] + 1) % 3
    other = Noised(Learner(STUDY, replace(SITES[0], cell_type=y), threads=1), bytes(32)).contribute(states[2], NEVER)
    mine, theirs = (decode(c.parameters).arrays["weight"].astype(float) for c in (first, other))
    deviation = noised_rounds.deviation(from_bytes(states[2]), STUDY, 24)
    assert np.std(mine - theirs) > deviation, "a difference of two published sums shows no cell"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cell": FitRule()}, "publishes sums without noise"),
        ({"cell": FitRule(merge="fedavg")}, "publishes sums without noise"),
        ({"privacy": PrivacyRule()}, "needs differential_privacy"),
        ({"features": FeatureRule(scaling="site")}, 'scaling = "site"'),
        ({"stages": ("features", "cell", "patient")}, "learns from whole donors"),
        ({"features": FeatureRule(rule="seurat_v3")}, "choice of genes from all cells is not noised"),
        ({"universe_sha256": ""}, "Give a panel"),
        ({"start_sha256": "11"}, "does not start from a released model"),
        ({"privacy": PrivacyRule(differential_privacy=replace(RULE, epsilon=0.0))}, "epsilon = 0"),
        ({"privacy": PrivacyRule(differential_privacy=replace(RULE, sampling=2.0))}, "at most 1"),
    ],
)
def test_what_is_not_noised_is_refused_in_words(change, words):
    with pytest.raises(ConfigError, match=words):
        check_study(replace(STUDY, **change))


def test_absurd_sums_move_the_parameters_no_further_than_their_bounds(plain_run):
    states, _ = plain_run
    merging = Learner(STUDY, None, n_features=24)
    state = from_bytes(states[3])
    for sign in (1, -1):
        sums = {n: np.full(s.shape, sign * s.last) for n, s in noised_rounds.slots(state, STUDY, 24).items()}
        said = Noised(Learner(STUDY, SITES[0], threads=1), bytes(32)).contribute(states[3], NEVER)
        named = decode(said.parameters)
        lie = replace(said, parameters=encode(Named(named.header, sums)))
        assert np.isfinite(to_floats(from_bytes(merging.merge(states[3], [lie]).state).group("now"))["weight"]).all()
    assert to_bytes(state) == states[3]
