"""The deadline promise: whatever the policy inside answers, a job that could still end in time does."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsched.scheduler.core.deadline.guard import Guarded, guarded
from dsched.scheduler.core.deadline.view import ON_DEMAND, SPOT, UNKNOWN, UP, Batch, Choices
from dsched.scheduler.sim.replay import Jobs, Mishaps, replay
from tests.support.markets import market

GAP = 600.0
ROOM = 3 * GAP  # s of slack that a job needs for its first look and its first tick


@dataclass(slots=True)
class Wild:
    """Answers anything: idles, hops, names options that are down or do not exist, and wants to sleep for ever."""

    luck: np.random.Generator
    moody: float = 0.5  # chance of another wish than the last
    name: str = "wild"

    def choose(self, batch: Batch) -> Choices:
        jobs, options = batch.price.shape
        wish = self.luck.integers(-3, options + 2, jobs)
        target = np.where(self.luck.random(jobs) < self.moody, wish, batch.running)
        nothing = np.full((jobs, options), np.nan)
        sleep = np.where(self.luck.random(jobs) < 0.5, np.inf, batch.now)
        return Choices(
            target=target,
            cost=nothing,
            idle=nothing[:, 0],
            slack_price=nothing[:, 0],
            revisit=sleep,
            net=np.zeros(jobs, bool),
        )


@dataclass(slots=True)
class Fixed:
    """Always wants the same."""

    target: int
    name: str = "fixed"

    def choose(self, batch: Batch) -> Choices:
        return replace(Wild(np.random.default_rng(0)).choose(batch), target=np.array([self.target]))


def jobs(seed: int, ticks: int, slack: float, changeover: float, count: int = 8) -> Jobs:
    """Jobs that fit: work, a changeover and a little room before the deadline."""
    luck = np.random.default_rng(seed)
    length = luck.integers(20, ticks - 10, count)
    work = np.maximum((length * GAP - changeover - ROOM) / slack, GAP)
    fits = work + changeover + ROOM <= length * GAP
    return Jobs(
        start=luck.integers(0, ticks - length)[fits],
        ticks=length[fits],
        work=work[fits],
        changeover=np.full(int(fits.sum()), changeover),
    )


SEEDS = st.integers(0, 2**32 - 1)
SLACKS = st.sampled_from([1.0, 1.02, 1.1, 1.5, 3.0])
CHANGEOVERS = st.sampled_from([0.0, 60.0, 180.0, 600.0, 720.0, 1500.0])
MISHAPS = st.one_of(
    st.none(),
    st.builds(
        Mishaps,
        seed=st.integers(0, 9),
        refusal=st.sampled_from([0.0, 0.3, 1.0]),
        sure_refusal=st.sampled_from([0.0, 0.3, 1.0]),
        probe=st.sampled_from([None, 600.0, 7200.0]),
        spread=st.sampled_from([0.0, 0.5]),
    ),
)


@given(seed=SEEDS, slack=SLACKS, changeover=CHANGEOVERS, mishaps=MISHAPS, moody=st.sampled_from([0.05, 0.5, 1.0]))
@settings(max_examples=150, deadline=None)
def test_no_job_misses_its_deadline_whatever_the_policy_answers(
    seed: int, slack: float, changeover: float, mishaps: Mishaps | None, moody: float
) -> None:
    world = market(seed, ticks=150, gap=GAP)
    stretch = 1.0 + (mishaps.spread if mishaps else 0.0)
    retry = mishaps.retry if mishaps else 0.0
    margin = mishaps.fail[1] if mishaps else 0.0
    wild = guarded(Wild(np.random.default_rng(seed), moody), margin=margin, stretch=stretch, retry=retry)
    some = jobs(seed, world.ticks, slack * stretch, changeover * stretch + retry)
    outcomes = replay(world, some, wild, mishaps=mishaps)
    assert not outcomes.missed.any()


@given(seed=SEEDS, speeds=st.lists(st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0]), min_size=5, max_size=5))
@settings(max_examples=200, deadline=None)
def test_the_promise_outlives_failing_launches_and_options_that_differ_in_speed(seed: int, speeds: list[float]) -> None:
    """Stepped by hand: interruptions strike whenever they can, nothing is taken for granted but sure launches."""
    luck = np.random.default_rng(seed)
    speed = np.array(speeds)
    fails = float(luck.choice([0.0, 180.0, 900.0]))  # s until a launch of spot is seen to fail
    wild = Guarded(Wild(luck), margin=fails)
    changeover = luck.choice([0.0, 120.0, 600.0, 900.0], 5)
    work = float(luck.integers(10, 60)) * GAP
    fastest = (work / speed + changeover)[:2].min()
    deadline = fastest + float(luck.choice([0.0, luck.uniform(0, 5 * GAP), 40 * GAP]))
    left, warm, running, now = work, 0.0, -1, 0.0
    while left > 1e-6:
        assert now < deadline + 1e-3, "the deadline has passed"
        up = np.where(luck.random(5) < 0.6, UP, luck.choice([0, UNKNOWN], 5))
        up[:2] = UP
        if running >= 2 and luck.random() < 0.4:
            running, warm = -1, 0.0
        elif running >= 2:
            up[running] = UP
        target = int(wild.choose(look(now, work, left, deadline, running, warm, up, speed, changeover)).target[0])
        if target != running and target >= 2 and fails and luck.random() < 0.5:
            now, running, warm = now + fails, -1, 0.0
            continue
        if target != running:
            running, warm = target, 0.0 if target < 0 else float(changeover[target])
        span = min(GAP, deadline - now) if deadline - now > 1e-3 else GAP
        useful = max(0.0, span - warm) if running >= 0 else 0.0
        left = max(0.0, left - useful * (speed[running] if running >= 0 else 0.0))
        warm, now = max(0.0, warm - span), now + span
    assert now <= deadline + 1e-3


def look(
    now: float,
    work: float,
    left: float,
    deadline: float,
    running: int,
    warm: float,
    up: np.ndarray,  # type: ignore[type-arg]
    speed: np.ndarray,  # type: ignore[type-arg]
    changeover: np.ndarray,  # type: ignore[type-arg]
) -> Batch:
    """Two sure options, then three of spot, for one job."""
    return Batch(
        now=np.array([now]),
        work=np.array([work]),
        left=np.array([left]),
        begun=np.zeros(1),
        deadline=np.array([deadline]),
        running=np.array([running]),
        warm_in=np.array([warm]),
        lost=np.array([-1]),
        grain=GAP,
        usable=np.ones((1, 5), bool),
        up=up[None].astype(np.int64),
        age=np.zeros((1, 5)),
        price=np.array([[3.0, 4.0, 1.0, 1.1, 1.2]]),
        speed=speed[None],
        hazard=np.ones((1, 5)),
        changeover=changeover[None],
        egress=np.zeros((1, 5)),
        market=np.array([[ON_DEMAND, ON_DEMAND, SPOT, SPOT, SPOT]]),
        region=np.zeros((1, 5), np.int64),
    )


@pytest.mark.parametrize("target", [-1, 0, 2, 3])
def test_a_wish_that_is_safe_is_followed(target: int) -> None:
    batch = look(0.0, 10 * GAP, 10 * GAP, 14 * GAP, -1, 0.0, np.full(5, UP), np.ones(5), np.full(5, 600.0))
    got = guarded(Fixed(target)).choose(batch)
    assert got.target.tolist() == [target]
    assert not got.net[0]


@pytest.mark.parametrize("target", [-1, 2, 7])
def test_a_wish_that_endangers_the_deadline_becomes_the_cheapest_sure_option(target: int) -> None:
    batch = look(0.0, 10 * GAP, 10 * GAP, 12 * GAP, -1, 0.0, np.full(5, UP), np.ones(5), np.full(5, 600.0))
    got = guarded(Fixed(target)).choose(batch)
    assert got.target.tolist() == [0]
    assert got.net[0]


@given(
    prices=st.tuples(st.floats(1, 20), st.floats(1, 20)),
    boots=st.tuples(st.floats(0, 900), st.floats(0, 900)),
    work=st.integers(6, 100),
    slack=st.floats(4, 20),
)
def test_who_idles_for_ever_ends_on_the_cheapest_of_the_sure_options_that_end_as_soon(
    prices: tuple[float, float], boots: tuple[float, float], work: int, slack: float
) -> None:
    """Not on the one that boots fastest, which alone is left at the last minute. As soon: within a look."""
    changeover, price = np.array([*boots, 600.0, 600.0, 600.0]), np.array([*prices, 1.0, 1.0, 1.0])
    deadline, now, target = (work + slack) * GAP, 0.0, -1
    while target < 0:
        batch = look(now, work * GAP, work * GAP, deadline, -1, 0.0, np.full(5, UP), np.ones(5), changeover)
        target = int(guarded(Fixed(-1)).choose(replace(batch, price=price[None])).target[0])
        now += GAP
    needs = work * GAP + changeover[:2]
    cost, later = price[:2] * needs / 3600.0, needs - needs.min()
    near = cost + price[needs.argmin()] * later / 3600.0  # a look's slack counts by what the first one costs
    assert cost[target] <= near[later <= GAP].min() + 1e-6


@pytest.mark.parametrize(("margin", "target"), [(0.0, 2), (900.0, 0)])
def test_a_try_that_may_fail_unseen_for_longer_than_a_grain_needs_that_much_more_slack(
    margin: float, target: int
) -> None:
    batch = look(0.0, 10 * GAP, 10 * GAP, 11 * GAP + 100, -1, 0.0, np.full(5, UP), np.ones(5), np.zeros(5))
    assert guarded(Fixed(2), margin=margin).choose(batch).target.tolist() == [target]


@pytest.mark.parametrize("left", [10, 11, 12, 20])
def test_without_a_sure_option_the_policy_decides_alone(left: int) -> None:
    luck = np.random.default_rng(left)
    batch = look(0.0, 10 * GAP, 10 * GAP, left * GAP, -1, 0.0, np.full(5, UP), np.ones(5), np.full(5, 600.0))
    spots = replace(batch, market=np.full((1, 5), SPOT))
    wish = int(np.clip(Wild(np.random.default_rng(left), 1.0).choose(spots).target[0], -1, 4))
    got = guarded(Wild(luck, 1.0)).choose(spots)
    assert not got.net[0]
    assert got.target[0] in (wish, -1)


@pytest.mark.parametrize(("retry", "misses"), [(True, False), (False, True)])
def test_the_promise_reckons_with_on_demand_that_comes_at_the_third_try_only(retry: bool, misses: bool) -> None:
    """A job that waits to the last moment; without a stated `retry` the net would launch too late."""
    world = market(3, ticks=150, gap=GAP)
    mishaps = Mishaps(sure_refusal=1.0, fail=(180.0, 180.0))
    length = np.full(4, 100)
    some = Jobs(
        start=np.arange(4), ticks=length, work=length * GAP / 2 - np.array([0, 60, 120, 350]), changeover=np.zeros(4)
    )
    waits = guarded(Fixed(-1), margin=180.0, retry=mishaps.retry if retry else 0.0)
    assert replay(world, some, waits, mishaps=mishaps).missed.any() == misses
