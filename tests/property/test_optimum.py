"""The exact optimum: equal to trying everything on tiny worlds, and never dearer than any policy on larger ones."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dsched.scheduler.core.deadline.cheapest import HOUR
from dsched.scheduler.core.deadline.guard import guarded
from dsched.scheduler.core.deadline.policies import named
from dsched.scheduler.sim import optimum as size
from dsched.scheduler.sim.optimum import exact, optimum
from dsched.scheduler.sim.replay import Jobs, replay
from dsched.scheduler.sim.world import World
from tests.property.test_deadline_guard import Wild
from tests.support.markets import built, market

GAP = 600.0
ROUNDING = 1e-6  # of the cost: whole units of money

SEEDS = st.integers(0, 2**32 - 1)


def one(ticks: int, work: float, changeover: float, start: int = 0) -> Jobs:
    return Jobs(
        start=np.array([start]), ticks=np.array([ticks]), work=np.array([work]), changeover=np.array([changeover])
    )


def by_trying_everything(world: World, ticks: int, work: float, changeover: float) -> float:
    """The least cost over all ways to be somewhere at every tick, exactly as the replay bills them."""

    @cache
    def rest(tick: int, left: float, running: int, warm: float, held: int) -> float:
        if left <= 1e-6:
            return 0.0
        if tick == ticks:
            return np.inf
        best = rest(tick + 1, left, -1, 0.0, held)
        for option in range(world.price.shape[1]):
            zone = option - len(world.regions)
            if zone >= 0 and not world.up[tick, zone]:
                continue
            goes_on = option == running
            place = int(world.place[option])
            fee = 0.0 if goes_on or held < 0 else float(world.egress[held, place])
            delay = warm if goes_on else changeover
            done = max(0.0, GAP - delay)
            paid = fee + float(world.price[tick, option]) * GAP / HOUR
            best = min(best, paid + rest(tick + 1, round(left - done, 3), option, max(0.0, delay - GAP), place))
        return best

    return rest(0, work, -1, 0.0, -1)


@given(seed=SEEDS, changeover=st.sampled_from([0.0, 180.0, 600.0, 720.0, 1300.0]), ticks=st.integers(3, 8))
@settings(max_examples=60, deadline=None)
def test_it_equals_trying_everything_on_tiny_worlds(seed: int, changeover: float, ticks: int) -> None:
    world = market(seed, ticks=ticks, gap=GAP, zones=2)
    work = float(np.random.default_rng(seed).integers(2, ticks * 6)) * 100.0
    exact = by_trying_everything(world, ticks, work, changeover)
    found = optimum(world, one(ticks, work, changeover))[0]
    if np.isinf(exact):
        assert np.isinf(found)
    else:
        assert found == pytest.approx(exact, rel=ROUNDING)


@given(seed=SEEDS, changeover=st.sampled_from([0.0, 180.0, 360.0, 720.0]), slack=st.sampled_from([1.1, 1.5, 3.0]))
@settings(max_examples=40, deadline=None)
def test_no_policy_is_ever_cheaper(seed: int, changeover: float, slack: float) -> None:
    world = market(seed, ticks=200, gap=GAP)
    ticks = np.full(6, 60)
    work = float(int(60 * GAP / slack / 60) * 60 - 60 * int(changeover / 60))
    assume(work > 0)
    luck = np.random.default_rng(seed)
    jobs = Jobs(start=luck.integers(0, 140, 6), ticks=ticks, work=np.full(6, work), changeover=np.full(6, changeover))
    least = optimum(world, jobs)
    for policy in (*map(named, ("on-demand", "greedy", "up", "up-s", "skynomad")), Wild(luck, 0.1)):
        outcome = replay(world, jobs, guarded(policy))
        assert (outcome.cost >= least * (1 - ROUNDING))[~outcome.missed].all(), policy.name


def test_a_job_that_cannot_end_in_time_has_no_optimum() -> None:
    assert np.isinf(optimum(market(1, ticks=50, gap=GAP), one(10, 10 * GAP, 60.0))).all()


def test_what_is_too_fine_to_be_exact_is_a_lower_bound_that_is_hardly_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    world, job = market(5, ticks=400, gap=32.0), one(300, 100 * 32.0, 180.0)
    right = optimum(world, job)[0]
    assert exact(32.0, 300, 3200.0, 180.0)
    monkeypatch.setattr(size, "STATES_MAX", 300 * 3200 // 16)
    assert not exact(32.0, 300, 3200.0, 180.0)
    assert exact(32.0, 300, 3200.0, 720.0)
    assert 0.99 * right < optimum(world, job)[0] < right


def test_jobs_of_one_batch_do_not_disturb_each_other() -> None:
    world = market(5, ticks=300, gap=GAP)
    jobs = Jobs(
        start=np.arange(0, 200, 5), ticks=np.full(40, 80), work=np.full(40, 40 * GAP), changeover=np.full(40, 360.0)
    )
    together = optimum(world, jobs)
    apart = [optimum(world, one(80, 40 * GAP, 360.0, start))[0] for start in jobs.start]
    assert together == pytest.approx(apart, rel=ROUNDING)


def test_it_waits_for_the_cheap_zone_and_pays_no_egress_for_nothing() -> None:
    state = np.ones((10, 2))
    state[:4, 0] = 0
    world = built(state, np.tile([1.0, 2.0], (10, 1)), [9.0, 9.0], [0, 1], GAP, fee=5.0)
    assert optimum(world, one(10, 4 * GAP, 0.0))[0] == pytest.approx(4 * GAP / HOUR, rel=ROUNDING)


def test_egress_that_makes_detours_pay_is_refused() -> None:
    world = market(1, ticks=20, gap=GAP, zones=3, regions=3)
    table = np.array([[0.0, 1.0, 9.0], [1.0, 0.0, 1.0], [9.0, 1.0, 0.0]])
    world.egress.flags.writeable = True
    world.egress[:] = table
    with pytest.raises(ValueError, match="detour"):
        optimum(world, one(10, GAP, 0.0))
