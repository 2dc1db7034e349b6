"""The directed schedules of `schedules.py` end well under the true rules: one body per height, everybody goes on."""

import pytest
from schedules import SCHEDULES, carried_certificate, left_view


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.__name__)
def test_schedule(schedule):
    script = schedule()
    assert len({peer.state.last.digest for peer in (script.a, script.b, script.c)}) == 1


def test_a_certificate_is_carried_into_the_next_view():
    script = carried_certificate()
    assert script.world.bodies[1].view == 0
    assert script.c.state.blocks[1].body.included == script.a.state.blocks[1].body.included


def test_a_member_that_left_a_view_commits_nothing_in_it():
    script = left_view()
    assert script.b.state.blocks[1].view == 1
    assert (1, 0) not in script.b.me.committed
