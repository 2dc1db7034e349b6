"""The mutation gate: a rule is only kept if a schedule or a seed notices that it is gone."""

import pytest
import schedules
from test_histories import check_inclusion, honest, hostile
from world import Faults, Violation, build

from swarmcell.swarm import me, roster, state, views, votes, voting
from swarmcell.swarm.actions import Sign
from swarmcell.swarm.blocks import Merged
from swarmcell.swarm.payloads import Next


def caught(*attempts) -> bool:
    for attempt in attempts:
        try:
            attempt()
        except Violation:
            return True
    return False


def seeds(run, count: int):
    return [lambda seed=seed: run(seed) for seed in range(count)]


def test_no_durable_write_before_append(monkeypatch):
    def run(seed):
        world = build(seed, n=3, f=0, crash=0.05, faults=Faults(store_after_append=True))
        world.run(300)
        world.heal()
        world.settle(4000)

    assert caught(*seeds(run, 10))


def test_two_attests_in_a_view(monkeypatch):
    remember = me.Me.remember

    def forgetful(self, entry):
        remember(self, entry)
        if not self.since:  # a start, before the first look: what was attested earlier is forgotten
            self.attested.clear()

    monkeypatch.setattr(me.Me, "remember", forgetful)
    assert caught(*seeds(lambda seed: hostile(seed, 4, 0, ""), 12))


def test_quorum_one_less(monkeypatch):
    monkeypatch.setattr(roster, "quorum", lambda n, f: (n + f) // 2)
    assert caught(schedules.lonely_votes)


def test_certificate_not_carried_into_the_next_view(monkeypatch):
    def call(state, me, view):
        return Sign(Next(height=state.height, view=view, known=voting.known(state, me)))

    monkeypatch.setattr(voting, "_call", call)
    assert caught(schedules.carried_certificate)


def test_certificate_carried_but_not_taken_up(monkeypatch):
    monkeypatch.setattr(views, "highest_certificate", lambda nexts: Next(height=0, view=1))
    assert caught(schedules.carried_certificate)


def test_signing_in_an_old_view_after_next(monkeypatch):
    monkeypatch.setattr(voting, "may_commit", lambda state, me, view: (state.height, view) not in me.committed)
    assert caught(schedules.left_view)


def test_votes_of_non_members(monkeypatch):
    for module in (state, votes):
        monkeypatch.setattr(module, "is_member", lambda roster, author: True)
    assert caught(schedules.outsiders)


def test_swarm_digest_not_checked(monkeypatch):
    monkeypatch.setattr(state.State, "of_this_swarm", lambda self, entry: True)
    assert caught(schedules.other_swarm)


def test_update_after_the_closing_entry_counted(monkeypatch):
    true = views.plan

    def late(state, view):
        found = true(state, view)
        if view == 0 and isinstance(state.candidate, Merged):
            valid = state.closing.valid
            return views.Plan(Merged(tuple(valid[author] for author in sorted(valid))))
        return found

    monkeypatch.setattr(voting, "plan", late)
    assert caught(*seeds(lambda seed: check_inclusion(honest(seed)), 40))


def test_cursor_not_checked_on_reconnect():
    assert caught(*seeds(lambda seed: hostile(seed, 4, 0, "", faults=Faults(cursor_unchecked=True)), 6))


@pytest.mark.parametrize("count", [0, 1])
def test_a_lower_doubt_lets_a_liar_choose(monkeypatch, count):
    """What one `next` says counts only with f others: a liar's list of updates that nobody has must bind nobody."""
    monkeypatch.setattr(roster.Roster, "doubt", property(lambda self: count + self.f))
    run = seeds(lambda seed: hostile(seed, 4, 1, "l"), 3)
    if count == 1:
        assert not caught(*run)
