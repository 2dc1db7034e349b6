"""The mutation gate: a rule is only kept if a schedule or a seed notices that it is gone."""

import pytest
import schedules
from test_histories import hostile
from world import Faults, Violation, build

from swarmcell.swarm import duties, me, roster, state, views, votes, voting, wanted
from swarmcell.swarm.actions import Sign
from swarmcell.swarm.blocks import Merged
from swarmcell.swarm.genesis import Quotas
from swarmcell.swarm.payloads import Commit, Next


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


def test_a_snapshot_that_forgets_votes(monkeypatch):
    """A peer that starts from what it had verified must know all that it had signed."""
    dump = me.Me.dump
    monkeypatch.setattr(me.Me, "dump", lambda self: dump(self) | {"attested": [], "committed": [], "views": []})

    def run(seed):
        world = build(seed, n=3, f=0, crash=0.06, snapshots=0.5)
        world.run(400)
        world.heal()
        world.settle(4000)

    assert caught(*seeds(run, 30))


def test_limits_that_let_nothing_in(monkeypatch):
    """What others' votes rest on must be read whatever its author's quota says, or a flood stops the swarm."""
    monkeypatch.setattr(wanted.Wanted, "__contains__", lambda self, entry: False)
    monkeypatch.setattr(duties, "_lend_patience", lambda state, me, now_ms: [])

    def run(seed):
        world = build(seed, n=4, f=1, liars="f", quotas=Quotas(entries=64, size_bytes=2**20))
        world.run(300)
        world.heal()
        world.settle(1500)

    assert caught(*seeds(run, 4))


def test_a_next_that_hides_a_certificate_it_committed_to(monkeypatch):
    """After a restart the certificate may not be read yet: calling without it would leave a final body behind."""
    certificate = voting.certificate

    def forgetful(state, me):
        found = certificate(state, me)
        return found if found is None or (state.height, found[0]) not in me.committed else None

    monkeypatch.setattr(voting, "certificate", forgetful)
    monkeypatch.setattr(voting, "_commit", lambda state, me: _commit_by(certificate, state, me))

    def call(state, me, view):
        return Sign(Next(height=state.height, view=view, known=voting.known(state, me)))

    monkeypatch.setattr(voting, "_call", call)
    assert caught(schedules.carried_certificate)


def _commit_by(certificate, state, me):
    found = certificate(state, me)
    if found is None or not voting.may_commit(state, me, found[0]):
        return None
    return Sign(Commit(height=state.height, view=found[0], body=found[1], content=found[2]))


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
    assert caught(schedules.late_update)


def test_cursor_not_checked_on_reconnect():
    assert caught(*seeds(lambda seed: hostile(seed, 4, 0, "", faults=Faults(cursor_unchecked=True)), 6))


@pytest.mark.parametrize("count", [0, 1])
def test_a_lower_doubt_lets_a_liar_choose(monkeypatch, count):
    """What one `next` says counts only with f others: a liar's list of updates that nobody has must bind nobody."""
    monkeypatch.setattr(roster.Roster, "doubt", property(lambda self: count + self.f))
    run = seeds(lambda seed: hostile(seed, 4, 1, "l"), 3)
    if count == 1:
        assert not caught(*run)
