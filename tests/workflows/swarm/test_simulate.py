"""Facts about simulated swarms."""

import pytest

from swarmcell.errors import UsageError
from swarmcell.workflows.swarm.simulate import Plan, simulate


def test_an_honest_swarm_merges_every_round_and_the_figures_add_up():
    heard = []
    found = simulate(Plan(peers=5, f=1, rounds=12, update_bytes=3_000_000), heard.append)
    assert heard == list(range(1, 13))
    assert (found.rounds, found.stalled, found.views, found.quorum) == (12, "", 0, 4)
    assert found.virtual_s_per_round == 0
    assert found.log_bytes == pytest.approx(5 * found.written_bytes_per_peer)
    assert 1 < found.overhead_ratio < 1.01
    assert found.checkpoint_bytes == pytest.approx(3_000_000 / 12, rel=0.02), "one checkpoint in twelve rounds"


def test_the_same_plan_gives_the_same_swarm():
    plan = Plan(peers=4, rounds=4, down=0.25, seed=7)
    one, two = simulate(plan), simulate(plan)
    assert (one.log_bytes, one.virtual_s_per_round) == (two.log_bytes, two.virtual_s_per_round)
    assert one.virtual_s_per_round >= 30, "nobody waited for those who were down"


def test_as_many_liars_as_are_tolerated_stop_nothing_and_one_more_does():
    assert not simulate(Plan(peers=4, f=1, rounds=3, liars=1)).stalled
    found = simulate(Plan(peers=4, f=1, rounds=3, liars=2))
    assert (found.rounds, found.stalled) == (0, "votes on block 0")


def test_below_the_quorum_it_says_how_many_are_missing():
    found = simulate(Plan(peers=3, rounds=5, down=0.7))
    assert found.stalled.startswith("below the quorum: 1 of 3 members are up, 2 are needed")


def test_a_body_of_many_members_travels_a_few_times_and_not_with_every_vote():
    """All commit at about the same time: a body of n rows in each of n commits would grow with n squared."""
    found = simulate(Plan(peers=60, rounds=2, update_bytes=0))
    assert found.log_bytes < 60 * 2_000 + 3 * 60 * 250
    assert found.views == 0


@pytest.mark.parametrize("plan", [Plan(peers=3, f=1), Plan(peers=2, liars=3), Plan(down=1.0), Plan(peers=2000)])
def test_numbers_by_which_no_swarm_can_run_are_refused(plan):
    with pytest.raises(UsageError, match=r"expected 1 to|no swarm can run"):
        simulate(plan)
