"""What the slack policy must do in any market: answer with sums, the same ones alone and in company."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from dsched.scheduler.core.deadline.chronicle import Chronicle
from dsched.scheduler.core.deadline.guard import guarded
from dsched.scheduler.core.deadline.hazard import HOUR
from dsched.scheduler.core.deadline.outlook import Library, Outlook, foresee
from dsched.scheduler.core.deadline.slack import SlackPolicy
from dsched.scheduler.core.deadline.view import DOWN, IDLE, ON_DEMAND, SPOT, Batch, Ints
from dsched.scheduler.sim.foresight import Foresight, past
from dsched.scheduler.sim.optimum import optimum
from dsched.scheduler.sim.replay import Jobs, replay
from dsched.scheduler.sim.world import World
from tests.support.markets import built

ZONES, JOBS, CHANGEOVER = 3, 40, 360.0
POLICY = SlackPolicy()


@pytest.fixture(scope="module")
def outlook() -> Outlook:
    luck = np.random.default_rng(3)
    book, up = Chronicle(ZONES, 600.0), np.ones(ZONES, np.int64)
    for _ in range(400):
        up = np.where(luck.random(ZONES) < 0.05, 1 - up, up)
        book.observe(up, np.array([1.0, 1.1, 1.4]))
    span = {"horizon": 30 * HOUR, "slack_max": 12 * HOUR}
    return foresee(book.reading(), on_demand=3.0, changeover=CHANGEOVER, library=Library(), **span)


def moments(outlook: Outlook, seed: int) -> Batch:
    """JOBS random moments over one on-demand option and ZONES spot options."""
    luck = np.random.default_rng(seed)
    shape = (JOBS, 1 + ZONES)
    left = luck.uniform(0.1, 20, JOBS) * HOUR
    up = np.concatenate([np.ones((JOBS, 1), np.int64), luck.integers(-1, 2, (JOBS, ZONES))], axis=1)
    running = luck.integers(-1, 1 + ZONES, JOBS)
    rows = np.flatnonzero(running >= 0)
    up[rows, running[rows]] = 1
    warm = np.where((running >= 0) & (luck.random(JOBS) < 0.5), luck.uniform(0, CHANGEOVER, JOBS), 0.0)
    return Batch(
        now=np.full(JOBS, 400 * 600.0),
        work=left * 1.5,
        left=left,
        begun=np.zeros(JOBS),
        deadline=400 * 600.0 + left + luck.uniform(0.05, 10, JOBS) * HOUR + warm,
        running=running,
        warm_in=warm,
        lost=np.full(JOBS, -1),
        grain=600.0,
        usable=np.ones(shape, bool),
        up=up,
        age=luck.uniform(0, 20, shape) * HOUR,
        price=np.tile([3.0, 1.0, 1.1, 1.4], (JOBS, 1)),
        speed=np.ones(shape),
        hazard=luck.uniform(0.3, 3, shape),
        changeover=np.full(shape, CHANGEOVER),
        egress=np.zeros(shape),
        market=np.tile([ON_DEMAND] + [SPOT] * ZONES, (JOBS, 1)),
        region=np.zeros(shape, np.int64),
        outlook=outlook,
    )


def one_of(batch: Batch, job: int) -> Batch:
    kept = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return Batch(**{name: v[job : job + 1] if isinstance(v, np.ndarray) else v for name, v in kept.items()})


@pytest.mark.parametrize("seed", range(8))
def test_every_answer_is_a_sum_and_every_target_can_be_had(outlook: Outlook, seed: int) -> None:
    batch = moments(outlook, seed)
    got = POLICY.choose(batch)
    assert not np.isnan(got.cost).any()
    assert not np.isnan(got.idle).any()
    assert (got.cost > 0).all()
    assert (got.slack_price >= 0).all()
    assert np.isfinite(got.slack_price).all()
    rows = np.flatnonzero(got.target != IDLE)
    assert (batch.up[rows, got.target[rows]] != DOWN).all()
    assert np.isfinite(got.cost[rows, got.target[rows]]).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_job_is_answered_alone_as_in_company(outlook: Outlook, seed: int) -> None:
    batch = moments(outlook, seed)
    all_ = POLICY.choose(batch)
    for job in range(JOBS):
        alone = POLICY.choose(one_of(batch, job))
        assert alone.target[0] == all_.target[job]
        assert np.array_equal(alone.cost[0], all_.cost[job])


def test_the_same_moment_gets_the_same_answer(outlook: Outlook) -> None:
    batch = moments(outlook, 1)
    first, second = POLICY.choose(batch), POLICY.choose(batch)
    assert np.array_equal(first.cost, second.cost)
    assert np.array_equal(first.target, second.target)


def test_a_later_deadline_makes_no_option_dearer(outlook: Outlook) -> None:
    batch = replace(moments(outlook, 2), running=np.full(JOBS, IDLE), warm_in=np.zeros(JOBS))
    tight = replace(batch, deadline=batch.now + batch.left + 2 * HOUR)
    loose = replace(batch, deadline=batch.now + batch.left + 8 * HOUR)
    dear, cheap = POLICY.choose(tight).cost, POLICY.choose(loose).cost
    seen = np.isfinite(dear) & np.isfinite(cheap) & (batch.up == 1)
    assert (cheap[seen] <= dear[seen] * 1.02 + 0.02).all()


def test_old_spot_is_taken_rather_than_as_cheap_young_spot(outlook: Outlook) -> None:
    batch = one_of(moments(outlook, 0), 0)
    same = replace(
        batch,
        running=np.array([IDLE]),
        warm_in=np.zeros(1),
        left=np.array([10 * HOUR]),
        deadline=batch.now + 12 * HOUR,
        up=np.array([[1, 1, 1, 0]]),
        price=np.array([[3.0, 1.0, 1.0, 1.4]]),
        age=np.array([[0.0, 600.0, 12 * HOUR, 0.0]]),
        hazard=np.ones((1, 4)),
    )
    assert POLICY.choose(same).target[0] == 2


def test_a_running_spot_is_not_left_for_a_hunch(outlook: Outlook) -> None:
    batch = one_of(moments(outlook, 0), 0)
    on_spot = replace(
        batch,
        running=np.array([2]),
        warm_in=np.zeros(1),
        up=np.array([[1, -1, 1, -1]]),
        price=np.array([[3.0, 0.5, 1.1, 1.4]]),
        deadline=batch.now + batch.left + 6 * HOUR,
    )
    assert POLICY.choose(on_spot).target[0] == 2


def tiered(days: int = 7) -> World:
    """Two cheap zones that come and go for hours, and one 38 % dearer that stays; on-demand at three times."""
    luck, ticks = np.random.default_rng(1), days * 144
    state = np.ones((ticks, 3), np.int64)
    for zone in (0, 1):
        tick, up = 0, True
        while tick < ticks:
            span = max(1, int(luck.exponential(18 if up else 24)))
            state[tick : tick + span, zone] = up
            tick, up = tick + span, not up
    return built(state, np.tile([1.0, 1.0, 1.38], (ticks, 1)), [3.06], [0, 0, 0], 600.0)


def test_with_time_to_spare_it_waits_for_the_cheap_tier_and_without_it_pays_for_the_dear_one() -> None:
    """And pays a few per cent more than with perfect foresight."""
    world = tiered()
    loose, tight = 240, 165  # ticks for 24 hours of work
    ticks = np.array([loose] * 4 + [tight] * 4)
    start = np.tile(np.array([450, 510, 570, 630]), 2)
    jobs = Jobs(start=start, ticks=ticks, work=np.full(8, 24 * HOUR), changeover=np.full(8, CHANGEOVER))
    seen = past(world)
    ahead = Foresight(seen, world, horizon=40 * HOUR, slack_max=16 * HOUR, library=Library())
    dear = np.zeros(8)

    def watch(who: Ints, batch: Batch, target: Ints) -> None:
        np.add.at(dear, who, target == 3)

    got = replay(world, jobs, guarded(POLICY), foresee=ahead, hazard=seen.factor, watch=watch)
    assert not got.missed.any()
    assert dear[:4].sum() < 0.5 * dear[4:].sum()
    assert got.cost[:4].sum() < 1.05 * optimum(world, jobs)[:4].sum()
