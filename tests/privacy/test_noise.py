"""Noise is normal, secret, the same for the same sums, new for others, and whole whoever drops out."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2, kstest
from secret_sums import SLOTS, Adding, Swarm

from swarmcell.model.contribution import Contribution
from swarmcell.model.encoding import Named, decode, encode
from swarmcell.model.state import from_bytes
from swarmcell.privacy.noise import Noise, normal
from swarmcell.privacy.secure_sum import SecureSum

SECRET, SALT = bytes(range(32)), bytes(32)
WIDE = {"x": replace(SLOTS["big"], shape=(20, 256))}
DEVIATION = 1000.0


def noise_of(arrays, secret=SECRET, salt=SALT, deviation=DEVIATION):
    found = Noise(secret, salt).added(arrays, deviation)
    return np.concatenate([(found[name] - array).ravel() for name, array in arrays.items()])


def is_deviation(values, deviation, least=False):
    """Say whether values can be normal with that deviation (or, `least`, with a larger one)."""
    n = len(values)
    p = chi2.cdf(float((values.astype(float) ** 2).sum()) / deviation**2, n)
    return p > 1e-6 and (least or p < 1 - 1e-6)


def test_noise_is_normal():
    values = normal(SECRET, 200_000)
    assert kstest(values, "norm").pvalue > 1e-3
    assert abs(np.mean(values**4) - 3) < 0.1
    assert 3.5 < np.abs(values).max() < 7


def test_the_same_sums_in_the_same_round_have_the_same_noise_and_any_others_another():
    zeros = {"a": np.zeros((50, 40), np.int64), "b": np.zeros(500, np.int64)}
    one_more = {"a": zeros["a"] + (np.arange(2000).reshape(50, 40) == 7), "b": zeros["b"]}
    first = noise_of(zeros)
    assert np.array_equal(first, noise_of(zeros))
    assert is_deviation(first, DEVIATION)
    for other in (noise_of(one_more), noise_of(zeros, salt=bytes([1]) * 32), noise_of(zeros, secret=bytes(32))):
        assert is_deviation(first - other, DEVIATION * 2**0.5), "as different as two draws"


def test_coins_are_uniform_and_of_one_round():
    coins = Noise(SECRET, SALT).coins(100_000)
    assert kstest(coins, "uniform").pvalue > 1e-3
    assert not np.array_equal(coins, Noise(SECRET, bytes([1]) * 32).coins(100_000))


# -- shares of noise, under secure aggregation -------------------------------------------------------------------------


class Noisy(Adding):
    """Adds with noise; implements `privacy.secure_sum.Noisy`."""

    def contribute(self, state, stop, *, noise=None):
        made = super().contribute(state, stop)
        if noise is None:
            return made
        named = decode(made.parameters)
        arrays = noise.added({name: array.astype(np.int64) for name, array in named.arrays.items()}, DEVIATION)
        return Contribution(**vars(made) | {"parameters": encode(Named(named.header, arrays))})


class NoisySwarm(Swarm):
    """Sites that add with noise."""

    def __post_init__(self):
        super().__post_init__()
        self.studies = [Noisy(seed=i, rounds=self.rounds, slots=self.slots) for i in range(self.n)]
        self.sites = [
            SecureSum(s, n_cells=10, n_donors=2, me=f"{i:02d}", secret=bytes([i]) * 32, f=self.f, noised=s)
            for i, s in enumerate(self.studies)
        ]

    def turn(self, up=None, *, instead=None):
        said = [(instead or {}).get(i) or self.says(i) for i in (range(self.n) if up is None else up)]
        outcome = self.sites[0].merge(self.state, said)
        self.log.append((self.state, said))
        self.state = outcome.state
        return outcome


@pytest.mark.parametrize(("n", "f", "staying"), [(3, 0, 3), (7, 0, 7), (7, 0, 4), (7, 2, 5), (10, 3, 7)])
def test_whoever_drops_out_the_sum_has_the_whole_noise_even_to_one_who_knows_his_own(n, f, staying):
    swarm = NoisySwarm(n, f=f, slots=WIDE)
    swarm.turn()
    swarm.turn()
    session = swarm.now.current
    swarm.turn(range(staying))
    swarm.turn()
    noise = (swarm.summed(0)["x"] - swarm.true_sum(0, range(staying))["x"]).ravel()
    share = DEVIATION / swarm.sites[0].honest_min(n) ** 0.5
    assert is_deviation(noise, share * staying**0.5), "every site that stayed added its share"
    for i in range(max(1, f)):  # readers take away what they added themselves
        mine = swarm.studies[i].mine(0)
        key = Noise(bytes([i]) * 32, session.salt, share=1 / swarm.sites[0].honest_min(n))
        noise = noise - (key.added(mine, DEVIATION)["x"] - mine["x"]).ravel()
    assert is_deviation(noise, DEVIATION, least=True)
    assert swarm.sites[0].honest_min(n) <= staying - max(1, f)


def test_a_peer_that_starts_again_publishes_the_same_noised_bytes():
    swarm = NoisySwarm(4, slots=WIDE)
    for _ in range(2):
        swarm.turn()
    assert swarm.says(1) == swarm.says(1)


def test_an_attempt_that_revealed_nothing_is_taken_again_with_fresh_noise():
    swarm = NoisySwarm(5, slots=WIDE)
    swarm.turn()
    swarm.turn()
    first = swarm.studies[1].contribute(swarm.now.inner, threading.Event(), noise=Noise(SECRET, swarm.now.current.salt))
    swarm.turn([0, 1])  # too few mask
    assert (swarm.now.phase, swarm.now.attempt) == ("keys", 1)
    swarm.turn()
    swarm.turn()
    again = swarm.studies[1].contribute(swarm.now.inner, threading.Event(), noise=Noise(SECRET, swarm.now.current.salt))
    x, y = (decode(c.parameters).arrays["x"] for c in (first, again))
    assert is_deviation((x - y).ravel(), DEVIATION * 2**0.5)


def test_after_shares_were_revealed_the_sum_is_spent_and_never_taken_again():
    swarm = NoisySwarm(5, slots=WIDE)
    for _ in range(3):
        swarm.turn()
    before = from_bytes(swarm.now.inner)
    swarm.turn([0, 1])  # two revealed their shares, too few for a sum that counts
    assert (swarm.now.phase, swarm.now.attempt) == ("keys", 0)
    assert from_bytes(swarm.now.inner).round == before.round + 1
    assert "x.0" not in from_bytes(swarm.now.inner).arrays
