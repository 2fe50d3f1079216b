"""When the planner may think: short passes at once, long ones after the answers, and never too late."""

from __future__ import annotations

import asyncio

from dsched.scheduler.core.effect import CallLaunch
from dsched.scheduler.core.message import Submit
from dsched.scheduler.engine.pace import PATIENCE_SECONDS, QUICK_SECONDS, Pace
from tests.support.rig import Rig, settle
from tests.support.stage import spec

SLOW = QUICK_SECONDS * 4


def test_a_planner_that_is_quick_need_not_wait_for_anybody() -> None:
    pace = Pace(owed=64)
    assert pace.due(1.0)
    pace.passed(QUICK_SECONDS)
    assert pace.due(2.0)


def test_a_slow_pass_waits_until_nobody_waits_for_an_answer() -> None:
    pace = Pace(owed=1)
    pace.passed(SLOW)
    assert not pace.due(1.0)
    pace.owed = 0
    assert pace.due(1.001)


def test_under_a_flood_of_submissions_a_slow_pass_comes_in_the_end_and_then_has_to_wait_again() -> None:
    pace = Pace(owed=64)
    pace.passed(SLOW)
    assert not pace.due(1.0)
    assert not pace.due(1.0 + PATIENCE_SECONDS / 2)
    assert pace.due(1.0 + PATIENCE_SECONDS)
    pace.passed(SLOW)
    assert not pace.due(1.0 + PATIENCE_SECONDS)


async def test_while_the_planner_is_slow_a_submission_is_answered_first_and_placed_right_after() -> None:
    async with Rig() as rig:
        rig.disk.auto = False
        rig.loop.pace.passed(SLOW)
        asked = asyncio.create_task(rig.loop.send(Submit(spec=spec(), key="k")))
        await settle()
        assert rig.loop.state.dirty, "the pass is put off"
        rig.disk.sync()
        assert await asked == "j1"
        assert not any(isinstance(effect, CallLaunch) for effect in rig.carried)
        rig.disk.auto = True
        async with asyncio.timeout(60):
            while not any(isinstance(effect, CallLaunch) for effect in rig.carried):
                await asyncio.sleep(0.001)
        assert not rig.loop.state.dirty
