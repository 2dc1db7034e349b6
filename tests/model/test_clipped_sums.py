"""No unit moves a sum by more than its bound, whatever its values; and the sums are those of plain definitions."""

from dataclasses import replace

import numpy as np
import pytest
from exact_cells import site
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from swarmcell.model import clipped_sums, noised_rounds
from swarmcell.model.classifier import Scaling
from swarmcell.model.clipped_sums import Units
from swarmcell.model.local_fit import Examples
from swarmcell.model.noised_rounds import GRID_BITS
from swarmcell.model.study import NOISED, DifferentialPrivacy, FitRule, PrivacyRule, Study

N, P, K = 40, 6, 3
STUDY = Study(
    name="noised",
    modality="rna",
    stages=("features", "cell"),
    cell_types=("a", "b", "c"),
    universe_sha256="00",
    cell=FitRule(merge=NOISED),
    privacy=PrivacyRule(differential_privacy=DifferentialPrivacy(unit="cell")),
)
RNG = np.random.default_rng(3)
X = RNG.gamma(0.5, 2.0, (N, P))
X[3] *= 1e5  # absurd cells are clipped, too
Y = RNG.integers(0, K, N)
DONOR = np.arange(N) % 5
LINEAR = {"bias": RNG.normal(size=K), "weight": 2 * RNG.normal(size=(K, P))}
NETWORK = {
    "bias": RNG.normal(size=K),
    "hidden_bias": RNG.normal(size=4),
    "hidden_weight": RNG.normal(size=(4, P)),
    "norm_bias": RNG.normal(size=4),
    "norm_weight": RNG.normal(size=4),
    "weight": RNG.normal(size=(K, 4)),
}


def examples(kind=sparse.csr_matrix):
    scaling = Scaling(np.linspace(0, 1, P), np.linspace(1, 3, P))
    rows = np.arange(N)
    return Examples(
        X=kind(X.astype(np.float32)),
        y=Y,
        train=rows,
        validation=rows[:0],
        scaling=scaling,
        class_weights=np.array([0.5, 1, 3]),
    )


def flat(found):
    return np.concatenate([found[name].ravel() for name in sorted(found)])


def summed(parameters, rows, *, by_cell, clip=1.0, kind=sparse.csr_matrix):
    units = Units.of(rows, rows if by_cell else DONOR[rows])
    return clipped_sums.gradients(parameters, examples(kind), units, by_cell=by_cell, clip=clip, device="cpu")


def plain_linear(rows):
    """Return each row's gradient by its definition, shape `(n_rows, K * (P + 1))`."""
    found, scaling = [], examples().scaling
    for i in rows:
        z = (X[i].astype(np.float32).astype(float) - scaling.mean) / scaling.scale
        logits = LINEAR["weight"] @ z + LINEAR["bias"]
        slope = np.exp(logits - logits.max())
        slope = slope / slope.sum() - (np.arange(K) == Y[i])
        slope = slope * examples().class_weights[Y[i]]
        found.append(np.concatenate([slope, np.outer(slope, z).ravel()]))
    return np.array(found)


def clipped(vectors, clip):
    return vectors * np.minimum(1, clip / np.linalg.norm(vectors, axis=-1, keepdims=True))


@pytest.mark.parametrize("clip", [0.1, 1.0, 1e9])
@pytest.mark.parametrize("kind", [sparse.csr_matrix, np.asarray])
def test_a_sum_over_cells_is_that_of_their_clipped_gradients(clip, kind):
    rows = np.arange(N)
    np.testing.assert_allclose(
        flat(summed(LINEAR, rows, by_cell=True, clip=clip, kind=kind)),
        clipped(plain_linear(rows), clip).sum(0),
        rtol=1e-6,
    )


def test_a_sum_over_donors_is_that_of_their_clipped_means():
    means = np.array([plain_linear(np.flatnonzero(d == DONOR)).mean(0) for d in range(5)])
    found = flat(summed(LINEAR, np.arange(N), by_cell=False, clip=0.7))
    np.testing.assert_allclose(found, clipped(means, 0.7).sum(0), rtol=1e-6)


@pytest.mark.parametrize("by_cell", [True, False])
@pytest.mark.parametrize("parameters", [LINEAR, NETWORK], ids=["linear", "network"])
def test_one_unit_moves_the_sum_by_the_clip_at_most(parameters, by_cell):
    whole = flat(summed(parameters, np.arange(N), by_cell=by_cell, clip=0.3))
    steps = []
    for unit in range(N if by_cell else 5):
        rest = np.flatnonzero((np.arange(N) if by_cell else DONOR) != unit)
        steps.append(np.linalg.norm(whole - flat(summed(parameters, rest, by_cell=by_cell, clip=0.3))))
    assert max(steps) <= 0.3 * (1 + 1e-5)
    assert max(steps) > 0.29, "the bound is reached, so it is the clip that holds it"


def test_a_network_s_sum_over_cells_is_that_of_cells_one_by_one():
    alone = np.array([flat(summed(NETWORK, np.array([i]), by_cell=True, clip=1e9)) for i in range(N)])
    by_donor = flat(summed(NETWORK, np.flatnonzero(DONOR == 2), by_cell=False, clip=1e9))
    np.testing.assert_allclose(by_donor, alone[DONOR == 2].mean(0), rtol=1e-3, atol=1e-4)
    whole = flat(summed(NETWORK, np.arange(N), by_cell=True, clip=0.5))
    np.testing.assert_allclose(whole, clipped(alone, 0.5).sum(0), rtol=1e-4, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e8, 1e8, width=32), min_size=P, max_size=P), st.integers(-1, K - 1), st.booleans())
def test_no_cell_moves_the_statistics_beyond_their_bound(values, label, by_cell):
    wide = np.vstack([X, values]).astype(np.float32)
    cells = replace(site(sparse.csr_matrix(wide), np.append(Y, label)), donor=np.append(DONOR, 5))

    def statistics(n):
        rows = np.arange(n)
        units = Units.of(rows, rows if by_cell else cells.donor[:n])
        return flat(clipped_sums.statistics(cells, STUDY, units))

    n_blocks = len(noised_rounds.statistics_slots(STUDY, P))
    assert np.linalg.norm(statistics(N + 1) - statistics(N)) <= n_blocks**0.5 * (1 + 1e-6)


def test_the_grid_adds_no_more_than_the_noise_accounts_for():
    rows = np.arange(N)
    whole, rest = (
        clipped_sums.on_grid(summed(LINEAR, part, by_cell=True, clip=0.3)) for part in (rows, rows[rows != 3])
    )
    moved = np.linalg.norm(flat(whole).astype(float) - flat(rest))
    assert moved <= 0.3 * (1 << GRID_BITS) + len(flat(whole)) ** 0.5


def test_units_are_drawn_whole():
    units = Units.of(np.arange(N), DONOR).drawn(np.array([0.1, 0.9, 0.2, 0.9, 0.9]), 0.5)
    assert set(DONOR[units.rows]) == {0, 2}
    assert [sorted(rows) for rows in units.split()] == [sorted(np.flatnonzero(d == DONOR)) for d in (0, 2)]
