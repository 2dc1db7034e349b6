"""Members that lie about shares, keep silent or pool what they hold: no sum is wrong, and no site is laid bare."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare
from secret_sums import SLOTS, Swarm

from swarmcell.errors import ModelError
from swarmcell.model.encoding import Named, decode, encode
from swarmcell.privacy import masks, secure_state, shares

PAIR, OWN = 0, 1


def at(phase, n, **options):
    """Return a swarm whose next round is of this phase, everybody up before."""
    swarm = Swarm(n, **options)
    while swarm.now.phase != phase:
        swarm.turn()
    return swarm


def is_sum(swarm, number, staying):
    found, expected = swarm.summed(number), swarm.true_sum(number, staying)
    return all(np.array_equal(found[name], expected[name]) for name in expected)


def changed(contribution, header=(), **arrays):
    named = decode(contribution.parameters)
    return replace(contribution, parameters=encode(Named({**named.header, **dict(header)}, {**named.arrays, **arrays})))


def revealed(contribution):
    return decode(contribution.parameters).arrays["revealed"]


# -- lies in the reveal phase ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "lies"),
    [
        *((4, (lie,)) for lie in ("false", "replayed", "renamed", "swapped", "zeros", "silent")),
        (7, ("renamed", "silent")),
        (7, ("false", "replayed")),
    ],
)
def test_whatever_f_members_say_in_the_reveal_phase_the_sum_is_right(n, lies):
    swarm = at("reveal", n, f=len(lies), rounds=3)
    old = {i: swarm.says(i) for i in range(n)}
    swarm.turn()
    assert is_sum(swarm, 0, range(n))
    swarm.turn()
    liars = dict(enumerate(lies, start=1))
    said = {i: _lie(kind, swarm.says(i), old[i]) for i, kind in liars.items()}
    up = [i for i in range(n) if liars.get(i) != "silent"]
    outcome = swarm.turn(up, instead={i: lie for i, lie in said.items() if lie is not None})
    assert is_sum(swarm, 1, range(n))
    replayed = [up.index(i) for i in up if liars.get(i) == "replayed"]
    assert outcome.left_out == dict.fromkeys(replayed, "belongs to another round")


def _lie(kind, said, old):
    match kind:
        case "false":
            return changed(said, revealed=np.full_like(revealed(said), 77))
        case "replayed":  # the whole contribution of the sum before
            return old
        case "renamed":  # shares of the sum before, under this round's name
            return changed(said, revealed=revealed(old))
        case "swapped":  # each dealer's share in another one's place
            return changed(said, revealed=revealed(said)[::-1].copy())
        case "zeros":
            return changed(said, revealed=np.zeros_like(revealed(said)))
        case _:
            return None


def test_silence_of_too_many_in_the_reveal_phase_begins_anew_and_reveals_nothing_twice():
    swarm = at("reveal", 5)
    first = swarm.now.current
    told = {i: revealed(swarm.says(i)) for i in range(2)}
    swarm.turn([0, 1])
    assert (swarm.now.phase, swarm.now.attempt) == ("keys", 1)
    for dealer in range(5):
        held = {i: table[dealer].astype("<i8").tobytes() for i, table in told.items()}
        assert shares.combine(held, 3, lambda seed, d=dealer: masks.commitment(seed) == first.commitment(d)) is None
    while swarm.now.phase != "reveal":
        swarm.turn()
    assert swarm.now.current.salt != first.salt
    assert not {swarm.now.current.share_key(i) for i in range(5)} & {first.share_key(i) for i in range(5)}
    swarm.turn()
    assert is_sum(swarm, 0, range(5))


def test_a_site_that_is_asked_for_both_kinds_of_shares_reveals_one():
    """As if an engine showed it two histories, or two quorums had signed."""
    swarm = at("reveal", 5)
    told = revealed(swarm.says(0))
    forged = secure_state.to_bytes(swarm.now.with_(staying=(0, 1, 2, 3)))
    with pytest.raises(ModelError, match="both kinds of shares"):
        swarm.sites[0].contribute(forged, threading.Event())
    assert np.array_equal(revealed(swarm.says(0)), told), "and goes on with the first"


def test_who_masks_or_reveals_without_being_asked_is_left_out():
    swarm = at("masked", 4)
    early = changed(swarm.says(1), revealed=np.zeros((4, 2), np.int64))
    assert swarm.turn(instead={1: early}).left_out == {1: "holds keys, masked, revealed in a round of masked"}
    outcome = swarm.turn(instead={2: changed(swarm.says(2), masked=np.zeros(19, np.int64))})
    assert list(outcome.left_out) == [2]
    assert is_sum(swarm, 0, (0, 2, 3))


def test_a_site_that_commits_to_another_seed_than_it_shares_is_excluded():
    swarm = Swarm(4, f=1)
    swarm.turn()
    swarm.turn(instead={3: changed(swarm.says(3), header=[("commitment", bytes(32))])})
    swarm.turn()
    swarm.turn()
    assert swarm.now.excluded == ("03",)


@pytest.mark.parametrize("phase", ["keys", "shares", "masked", "reveal"])
def test_two_sites_come_to_no_sum_in_any_phase(phase):
    """With two, each would know the other's part: at least three, even where two are a quorum."""
    swarm = at(phase, 3) if phase != "keys" else Swarm(3)
    swarm.turn([0, 1])
    if phase == "reveal":  # three have masked: two holders are a quorum, and may take the masks away
        assert is_sum(swarm, 0, range(3))
        return
    assert (swarm.now.phase, swarm.now.attempt) == ("keys", 1)
    assert not any(name.startswith("big") for name in _arrays(swarm))


def _arrays(swarm):
    from swarmcell.model.state import from_bytes

    return from_bytes(swarm.now.inner).arrays


# -- pooling what is known ---------------------------------------------------------------------------------------------

WIDE = {"x": replace(SLOTS["big"], shape=(100, 256))}


def uniform(words):
    counts = np.bincount(np.frombuffer(np.ascontiguousarray(words).tobytes(), np.uint8), minlength=256)
    return chisquare(counts).pvalue > 1e-4


def seeds_of(swarm, session, target, colluders, enough):
    """Return what colluders make of their shares of a site's two seeds."""
    found = []
    for kind in (PAIR, OWN):
        held = {}
        for i in colluders:
            keys = masks.round_keys(bytes([i]) * 32, session.salt)
            held[i] = shares.open_sealed(session.sealed(target, i), keys.share_key, session.share_key(target))[kind]
        true = getattr(masks.round_keys(bytes([target]) * 32, session.salt), ("pair_seed", "own_seed")[kind])
        found.append(shares.combine(held, enough, lambda seed, true=true: seed == true))
    return found


@pytest.mark.parametrize(("n", "f"), [(4, 0), (5, 0), (7, 2)])
def test_fewer_than_a_quorum_learn_nothing_of_a_site_and_a_quorum_would(n, f):
    swarm = at("reveal", n, f=f, slots=WIDE)
    session, enough = swarm.now.current, (n + f) // 2 + 1
    colluders = range(1, enough)
    assert len(colluders) == enough - 1
    assert seeds_of(swarm, session, 0, colluders, enough) == [None, None]
    (vector,) = [decode(c.parameters).arrays["masked"] for c in swarm.log[2][1] if c.author == "00"]
    left = vector.view(np.uint64).copy()
    for i in colluders:
        keys = masks.round_keys(bytes([i]) * 32, session.salt)
        left += masks.pair_mask(keys.pair_seed, session.pair_key(0), len(left), is_first=False)
    assert uniform(left)
    own = masks.own_mask(masks.round_keys(bytes(32), session.salt).own_seed, len(left))  # revealed later: it stays
    assert uniform(left - own)
    assert all(seeds_of(swarm, session, 0, range(1, enough + 1), enough)), "so the bound is the quorum, as is said"


def test_all_but_two_of_four_colluding_learn_the_sum_of_the_two_only():
    swarm = at("reveal", 4, slots=WIDE)
    session = swarm.now.current
    assert seeds_of(swarm, session, 0, (2, 3), 3) == [None, None]
    swarm.turn()
    both = swarm.summed(0)["x"] - sum(swarm.studies[i].mine(0)["x"] for i in (2, 3))
    assert np.array_equal(both, sum(swarm.studies[i].mine(0)["x"] for i in (0, 1)))
