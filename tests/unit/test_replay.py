"""The replay's ticks, worked out by hand: an hour each, spot at 1 $/h, on-demand at 3 $/h."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from dsched.scheduler.core.deadline.cheapest import unvalued
from dsched.scheduler.core.deadline.guard import guarded
from dsched.scheduler.core.deadline.patience import Patient
from dsched.scheduler.core.deadline.policies import POLICIES, named
from dsched.scheduler.core.deadline.view import Batch, Choices, DeadlinePolicy, Ints
from dsched.scheduler.sim.replay import Jobs, Mishaps, Outcomes, replay
from dsched.scheduler.sim.world import World
from tests.support.markets import built, market

GAP = 3600.0
SURE, SPOT, OTHER = 0, 2, 3  # options of a world with two regions of one zone each


def world(*zones: Sequence[int], fee: float = 0.0) -> World:
    state = np.array(zones).T
    return built(state, np.ones(state.shape), [3.0, 3.0], [0, 1], GAP, fee)


def one(hours: float, deadline: int, changeover: float = 0.0) -> Jobs:
    return Jobs(
        start=np.zeros(1, np.int64),
        ticks=np.array([deadline]),
        work=np.array([hours * GAP]),
        changeover=np.array([changeover * GAP]),
    )


class Script:
    """Wants these options, one per look."""

    name = "script"

    def __init__(self, *wishes: int) -> None:
        self.wishes = list(wishes)

    def choose(self, batch: Batch) -> Choices:
        return unvalued(batch, np.array([self.wishes.pop(0)]))


def play(where: World, job: Jobs, policy: DeadlinePolicy) -> Outcomes:
    return replay(where, job, policy)


UP = [1] * 8


def test_a_launch_spends_its_changeover_and_the_last_tick_is_billed_whole() -> None:
    got = play(world(UP, UP), one(2, 8, 0.5), Script(SPOT, SPOT, SPOT))
    assert got.cost.tolist() == [3.0]  # half an hour of changeover, two of work, half an hour for nothing
    assert got.finish.tolist() == [2.5 * GAP]
    assert got.launches.tolist() == [1]


def test_a_changeover_may_outlast_a_tick() -> None:
    got = play(world(UP, UP), one(1, 8, 1.5), Script(SPOT, SPOT, SPOT))
    assert got.cost.tolist() == [3.0]
    assert got.finish.tolist() == [2.5 * GAP]


def test_an_interruption_keeps_what_was_done_and_costs_a_launch() -> None:
    got = play(world([1, 1, 0, 1, 1, 1, 1, 1], UP), one(3, 8, 0.5), Script(SPOT, SPOT, -1, SPOT, SPOT))
    assert got.interruptions.tolist() == [1]
    assert got.launches.tolist() == [2]
    assert got.finish.tolist() == [5 * GAP]  # 1.5 hours done, an hour lost, half an hour of changeover, 1.5 hours
    assert got.cost.tolist() == [4.0]


def test_egress_is_paid_when_the_checkpoint_moves() -> None:
    got = play(world(UP, UP, fee=0.25), one(3, 8), Script(SPOT, OTHER, SURE))
    assert got.egress.tolist() == [0.5]  # the first launch brings nothing
    assert got.by_market.tolist() == [[3.0, 2.0]]
    assert got.cost.tolist() == [5.5]


def test_idling_costs_time_alone() -> None:
    got = play(world(UP, UP), one(1, 8), Script(-1, -1, SPOT))
    assert got.cost.tolist() == [1.0]
    assert got.finish.tolist() == [3 * GAP]


def test_a_job_past_its_deadline_is_a_miss_and_ends_on_on_demand() -> None:
    got = play(world(UP, UP), one(3, 2), Script(SPOT, SPOT))
    assert got.missed.tolist() == [True]
    assert got.cost.tolist() == [2.0 + 3.0]


def test_a_launch_of_what_is_down_fails_and_is_asked_again_in_the_same_tick() -> None:
    class Stubborn(Script):
        def choose(self, batch: Batch) -> Choices:
            seen.append(batch.up[0].tolist())
            return super().choose(batch)

    seen: list[list[int]] = []
    blind = Mishaps(probe=100 * GAP, fail=(60.0, 60.0))
    down = world([1, 0, 0, 0, 0, 0, 0, 0], UP)
    got = replay(down, one(2, 8), Stubborn(-1, SPOT, OTHER, OTHER, OTHER), mishaps=blind)
    assert seen[:3] == [[1, 1, 1, 1], [1, 1, -1, -1], [1, 1, 0, -1]]  # probed; not seen; refused
    assert got.finish.tolist() == [3 * GAP + 60.0]
    assert got.launches.tolist() == [1]


def test_a_patient_policy_is_asked_less_and_ends_the_same() -> None:
    looks: list[Ints] = []
    where = market(4, ticks=400, gap=100.0, zones=1, regions=1)
    jobs = Jobs(
        start=np.arange(0, 100, 10), ticks=np.full(10, 250), work=np.full(10, 15_000.0), changeover=np.full(10, 180.0)
    )
    often = replay(where, jobs, guarded(named("up")), watch=lambda who, batch, target: looks.append(who))
    count = sum(map(len, looks))
    looks.clear()
    seldom = replay(where, jobs, guarded(Patient(named("up"))), watch=lambda who, batch, target: looks.append(who))
    assert sum(map(len, looks)) < 0.8 * count
    assert not seldom.missed.any()
    assert seldom.cost.sum() == pytest.approx(often.cost.sum(), rel=0.1)


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"slack"}))
def test_lockstep_and_one_by_one_are_the_same(name: str) -> None:
    where = market(11, ticks=300, gap=600.0)
    starts = np.arange(0, 150, 15)
    jobs = Jobs(start=starts, ticks=np.full(10, 120), work=np.full(10, 50_000.0), changeover=np.full(10, 360.0))
    together = replay(where, jobs, guarded(named(name)))
    for j, start in enumerate(starts):
        alone = Jobs(start=np.array([start]), ticks=jobs.ticks[:1], work=jobs.work[:1], changeover=jobs.changeover[:1])
        assert replay(where, alone, guarded(named(name))).cost[0] == pytest.approx(together.cost[j])


def test_a_job_that_leaves_the_trace_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves the 8 ticks"):
        replay(world(UP, UP), one(1, 9), Script())
