"""Secure sums are the sums, to the bit, whoever drops out; no single part shows; a lie spoils nothing for good."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from benchmarks import bench_secure_sum
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from secret_sums import SLOTS, Swarm

from swarmcell.errors import ConfigError, MergeError, ModelError
from swarmcell.model import local_rounds
from swarmcell.model.encoding import Named, decode, encode
from swarmcell.model.merges import rules
from swarmcell.model.stages import check_study
from swarmcell.model.state import MergedState
from swarmcell.model.state import from_bytes as study_state
from swarmcell.model.study import FitRule, Floors, PrivacyRule, Study
from swarmcell.privacy import masks, secure_state, shares
from swarmcell.privacy.secure_sum import ATTEMPTS_MAX


def equal(found, expected):
    return all(np.array_equal(found[name], expected[name]) for name in expected)


def patterns():
    """Who is up in each of the four phases: at least a quorum, and three."""
    n = st.integers(3, 7)
    return n.flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.lists(st.sets(st.integers(0, n - 1), min_size=max(3, n // 2 + 1), max_size=n), min_size=4, max_size=4),
        )
    )


@settings(max_examples=25, deadline=None)
@given(patterns())
def test_the_sum_is_that_of_who_stayed_to_the_bit_whoever_drops_out(pattern):
    n, up = pattern
    swarm = Swarm(n)
    keyed, dealt = up[0], up[0] & up[1]
    swarm.turn(sorted(up[0]))
    swarm.turn(sorted(up[1]))
    staying = dealt & up[2]
    quorum = max(3, len(keyed) // 2 + 1)
    swarm.turn(sorted(up[2]))
    if len(dealt) < quorum or len(staying) < quorum:
        assert swarm.now.attempt == 1
        return
    holders = keyed & up[3]
    swarm.turn(sorted(up[3]))
    if len(holders) < len(keyed) // 2 + 1:
        assert (swarm.now.phase, swarm.now.attempt) == ("keys", 1), "a clean abort"
        return
    assert equal(swarm.summed(0), swarm.true_sum(0, staying))


def test_a_study_of_several_sums_takes_two_rounds_each_once_it_runs():
    swarm = Swarm(4, rounds=3)
    turns = 0
    while not (outcome := swarm.turn()).finished:
        turns += 1
    assert turns == 2 + 2 * 3 - 1
    state = study_state(outcome.state)
    assert state.finished, "the end is the study's own state, bare"
    for number in range(3):
        assert equal({name: state.arrays[f"{name}.{number}"] for name in SLOTS}, swarm.true_sum(number, range(4)))


def test_below_the_quorum_all_begins_anew_with_fresh_keys_and_then_succeeds():
    swarm = Swarm(5)
    swarm.turn()
    swarm.turn()
    first = swarm.now.current
    swarm.turn([0, 1])
    assert (swarm.now.phase, swarm.now.attempt) == ("keys", 1)
    swarm.turn()
    assert set(map(swarm.now.coming.pair_key, range(5))).isdisjoint(map(first.pair_key, range(5)))
    for _ in range(3):
        swarm.turn()
    assert equal(swarm.summed(0), swarm.true_sum(0, range(5)))


def test_a_block_says_that_the_next_round_needs_three_sites_until_a_quorum_is_enough():
    swarm = Swarm(3)
    needed = []
    for _ in range(5):
        facts = swarm.sites[0].describe(swarm.state)
        needed.append((facts.get("secure_sum", "start"), facts.get("sites_needed", 0)))
        swarm.turn()
    assert needed == [("start", 3), ("shares", 3), ("masked", 3), ("reveal", 0), ("masked", 3)]


def test_it_gives_up_in_words_when_it_never_comes_to_a_sum():
    swarm = Swarm(3)
    for _ in range(ATTEMPTS_MAX):
        assert not swarm.turn([0, 1]).finished
    outcome = swarm.turn([0, 1])
    assert outcome.finished
    assert "at least 3 sites" in outcome.failure


def test_a_late_site_is_waited_for_by_nobody_and_takes_part_in_the_sum_after():
    swarm = Swarm(4, rounds=4)
    swarm.turn([0, 1, 2])
    swarm.turn([0, 1, 2])
    assert swarm.turn().left_out == {}  # it has nothing to mask, and says so
    swarm.turn()
    assert equal(swarm.summed(0), swarm.true_sum(0, range(3)))
    swarm.turn()
    swarm.turn()
    assert equal(swarm.summed(1), swarm.true_sum(1, range(4)))


# -- what others see ---------------------------------------------------------------------------------------------------

WIDE = {"x": replace(SLOTS["big"], shape=(100, 256))}


def assert_uniform(words):
    counts = np.bincount(np.frombuffer(np.ascontiguousarray(words).tobytes(), np.uint8), minlength=256)
    assert chisquare(counts).pvalue > 1e-4


def masked_vectors(swarm):
    _, said = swarm.log[2]
    return {c.author: decode(c.parameters).arrays["masked"] for c in said}


def at_reveal(n, **options):
    swarm = Swarm(n, slots=WIDE, **options)
    for _ in range(3):
        swarm.turn()
    return swarm


def test_a_masked_vector_is_random_bytes_and_so_is_the_difference_of_two():
    vectors = list(masked_vectors(at_reveal(4)).values())
    for vector in vectors:
        assert_uniform(vector)
    assert_uniform(vectors[0] - vectors[1])


def test_nothing_shows_of_two_honest_sites_to_all_others_together():
    swarm = at_reveal(4)
    session, vectors = swarm.now.current, masked_vectors(swarm)
    n = len(vectors["00"])
    left = vectors["00"].view(np.uint64).copy()
    for i in (2, 3):  # the others take away what they share with it
        keys = masks.round_keys(bytes([i]) * 32, session.salt)
        left += masks.pair_mask(keys.pair_seed, session.pair_key(0), n, is_first=False)
    own = masks.round_keys(bytes(32), session.salt).own_seed  # and what will be revealed of it
    left -= masks.own_mask(own, n)
    assert_uniform(left)
    true = swarm.studies[0].mine(0)["x"].reshape(-1)
    assert not np.array_equal(left.view(np.int64)[: len(true)], true)
    b = masks.round_keys(bytes([1]) * 32, session.salt)
    left += masks.pair_mask(b.pair_seed, session.pair_key(0), n, is_first=False)
    assert np.array_equal(left.view(np.int64)[: len(true)], true), "the mask of the two was all that hid it"


def test_of_each_dealer_one_kind_of_share_is_revealed():
    swarm = Swarm(5)
    swarm.turn()
    swarm.turn()
    swarm.turn([0, 1, 2, 3])
    session = swarm.now.current
    for i in range(4):
        keys = masks.round_keys(bytes([i]) * 32, session.salt)
        revealed = decode(swarm.says(i).parameters).arrays["revealed"]
        for dealer in range(5):
            pair, own = shares.open_sealed(session.sealed(dealer, i), keys.share_key, session.share_key(dealer))
            assert revealed[dealer].astype("<i8").tobytes() == (pair if dealer == 4 else own)


def test_a_peer_that_starts_again_says_the_same_keys_and_masks():
    swarm = Swarm(3)
    assert swarm.says(1) == swarm.says(1)
    swarm.turn()
    swarm.turn()
    assert swarm.says(1) == swarm.says(1)


# -- liars -------------------------------------------------------------------------------------------------------------


def changed(contribution, **arrays):
    named = decode(contribution.parameters)
    return replace(contribution, parameters=encode(Named(named.header, {**named.arrays, **arrays})))


def test_false_shares_of_f_members_do_no_harm():
    swarm = Swarm(7, f=2)
    for _ in range(3):
        swarm.turn()
    lies = {i: changed(swarm.says(i), revealed=np.full((7, 2), 13 + i)) for i in (0, 4)}
    swarm.turn(instead=lies)
    assert equal(swarm.summed(0), swarm.true_sum(0, range(7)))


def test_a_dealer_of_false_shares_is_excluded_and_the_others_come_to_their_sum():
    swarm = Swarm(4, f=1)
    swarm.turn()
    lie = swarm.says(2)
    swarm.turn(instead={2: changed(lie, shares=np.ones_like(decode(lie.parameters).arrays["shares"]))})
    swarm.turn()
    swarm.turn()
    assert (swarm.now.phase, swarm.now.excluded) == ("keys", ("02",))
    for _ in range(4):
        swarm.turn()
    assert equal(swarm.summed(0), swarm.true_sum(0, (0, 1, 3)))


def test_a_sum_out_of_bounds_is_not_merged():
    swarm = Swarm(3)
    swarm.turn()
    swarm.turn()
    said = swarm.says(0)
    masked = decode(said.parameters).arrays["masked"].copy()
    masked[0] += 1 << 60
    swarm.turn(instead={0: changed(said, masked=masked)})
    swarm.turn()
    assert (swarm.now.phase, swarm.now.attempt) == ("keys", 1)


def test_keys_of_low_order_and_foreign_parts_are_left_out_with_the_reason():
    swarm = Swarm(4)
    said = swarm.says(3)
    header = dict(decode(said.parameters).header)
    weak = replace(said, parameters=encode(Named(header | {"keys": bytes(64)}, {})))
    stranger = replace(said, author="")
    early = replace(said, author="09", parameters=encode(Named(header, {"masked": np.zeros(3, np.int64)})))
    outcome = swarm.sites[0].merge(swarm.state, [weak, stranger, early, swarm.says(0), swarm.says(0)])
    assert outcome.left_out == {
        0: "its keys are none",
        1: "is of no site that takes part",
        2: "holds keys, masked in a round of keys",
        4: "is the second one of its site",
    }


@settings(max_examples=60, deadline=None)
@given(raw=st.binary(max_size=200), phase=st.sampled_from(range(4)))
def test_no_bytes_of_a_member_stop_a_merge(raw, phase):
    swarm = Swarm(3)
    for _ in range(phase):
        swarm.turn()
    garbage = replace(swarm.says(2), parameters=raw)
    assert list(swarm.turn(instead={2: garbage}).left_out) == [2]


def test_a_state_is_read_back_and_a_damaged_one_refused():
    swarm = Swarm(3)
    for _ in range(3):
        swarm.turn()
        assert secure_state.to_bytes(swarm.now) == swarm.state
    with pytest.raises(MergeError):
        secure_state.from_bytes(swarm.state[:40])


# -- studies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("merge", sorted(rules.SINGLE))
def test_a_merge_that_needs_single_updates_is_refused_in_words(merge):
    study = Study(
        name="x",
        modality="rna",
        stages=("features", "cell"),
        cell_types=("a", "b"),
        cell=FitRule(merge=merge),
        privacy=PrivacyRule(secure_aggregation=True),
    )
    with pytest.raises(ConfigError, match="needs each site's own update"):
        check_study(study)


def test_an_exact_fit_in_secret_is_the_exact_fit(lab_of_cells):
    plain, secret = lab_of_cells(secure=False), lab_of_cells(secure=True)
    assert_same(plain, secret)


@pytest.mark.parametrize("merge", sorted(rules.AVERAGES))
def test_an_average_in_secret_is_the_average_to_the_bit(lab_of_cells, merge):
    rule = FitRule(merge=merge, rounds_max=3, batch_rows=32)
    plain, secret = lab_of_cells(secure=False, rule=rule), lab_of_cells(secure=True, rule=rule)
    assert plain.arrays["cell.weight"].any()
    assert_same(plain, secret)


def test_parameters_too_large_for_a_secure_sum_are_refused_by_their_own_site():
    state = MergedState(rules="", stage="cell", phase="fit")
    fitted = {"bias": np.array([1 << 30], np.int32)}
    local_rounds.weighted(state, FitRule(merge="fedavg"), fitted, 1 << 25)
    with pytest.raises(ModelError, match="beyond the bound of a secure sum"):
        local_rounds.weighted(state, FitRule(merge="fedavg"), fitted, (1 << 25) + 1)


def assert_same(plain, secret):
    assert plain.results["cell"].sites == secret.results["cell"].sites == 3
    assert plain.results["cell"].rounds == secret.results["cell"].rounds
    assert plain.results["cell"].score == secret.results["cell"].score
    assert plain.arrays.keys() == secret.arrays.keys()
    for name, array in plain.arrays.items():
        np.testing.assert_array_equal(array, secret.arrays[name], err_msg=name)


@pytest.fixture
def lab_of_cells():
    from exact_cells import STUDY, pool, site

    from swarmcell.model.learning import Learner
    from swarmcell.privacy.secure_sum import SecureSum

    X, y = pool()
    parts = [slice(0, 80), slice(80, 150), slice(150, 240)]

    def learn(*, secure, rule=STUDY.cell):
        privacy = PrivacyRule(secure_aggregation=secure)
        study = replace(STUDY, cell=rule, privacy=privacy, floors=Floors(donors=1, cells=1))
        learners = [Learner(study, site(X[part], y[part]), threads=1) for part in parts]
        if secure:
            learners = [
                SecureSum(learner, n_cells=90, n_donors=1, me=f"s{i}", secret=bytes([i]) * 32, f=0)
                for i, learner in enumerate(learners)
            ]
        raw, stop = learners[0].start(), threading.Event()
        while True:
            said = [replace(one.contribute(raw, stop), author=f"s{i}") for i, one in enumerate(learners)]
            outcome = learners[0].merge(raw, said)
            assert outcome.left_out == {}
            raw = outcome.state
            if outcome.finished:
                return study_state(raw)

    return learn


def test_what_is_measured_of_secret_sums_is_right_after_drop_outs():
    plain, secret, dropped, is_right = bench_secure_sum.one_run()
    assert is_right
    assert (plain.rounds, secret.rounds, dropped.rounds) == (1, 2, 2)
