"""A class of jobs that found nothing waits until the world changes; whatever could help it must wake it."""

from __future__ import annotations

from dsched.scheduler.core.effect import CallLaunch, TellStart
from dsched.scheduler.core.message import RefusedBy, SetBudget
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import Instant, usd
from tests.support.stage import Stage, offer, spec

CHEAP, DEAR = "us-east-1a", "us-west-2b"


def test_a_node_that_becomes_idle_is_given_to_a_job_that_found_nothing_before() -> None:
    s = Stage(offer(CHEAP, 20.0, free=1))
    s.run()
    s.offers(offer(CHEAP, 20.0, free=0))
    s.submit()
    assert s.job("j2").state is JobState.QUEUED
    s.exit(0)
    assert [order.job for order in s.asked(TellStart)] == ["j2"]


def test_a_raised_limit_wakes_the_jobs_that_it_kept_from_being_placed() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.tell(SetBudget(name="default", limit=usd(1)))
    s.submit()
    assert s.job().state is JobState.QUEUED
    s.tell(SetBudget(name="default", limit=usd(1_000)))
    assert s.job().state is JobState.STARTING


def test_money_that_an_ended_machine_had_set_aside_wakes_the_jobs_that_lacked_it() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.tell(SetBudget(name="default", limit=usd(20)))
    s.run()
    s.submit()
    assert s.job("j2").state is JobState.QUEUED
    s.exit(0)
    s.wait(s.terms.idle_keep)
    s.list_all(n0="asked")
    assert s.job("j2").state is JobState.STARTING


def test_a_job_that_can_be_placed_is_not_kept_waiting_by_one_of_its_kind_that_cannot() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.submit(spec(cost_max=usd("0.01")))
    assert s.job("j1").state is JobState.QUEUED
    s.submit()
    assert s.job("j2").state is JobState.STARTING


def test_a_crowd_of_jobs_that_cannot_be_placed_hides_nobody_behind_it() -> None:
    s = Stage(offer(CHEAP, 20.0))
    for _ in range(70):
        s.submit(spec(cost_max=usd("0.01")))
    last = s.submit()
    assert s.job(last).state is JobState.STARTING


def test_a_migration_whose_launch_is_refused_looks_again_by_itself() -> None:
    s = Stage(offer(CHEAP, 20.0), offer(DEAR, 30.0), offer("eu-west-4a", 40.0))
    s.run()
    s.notice(s.job().nodes[0])
    s.refuse()
    s.wait(1_000)
    (call,) = s.asked(CallLaunch)
    assert s.state.intents[call.intent].pool.zone == "eu-west-4a"


def test_a_shorter_cool_down_never_cuts_a_longer_one() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.submit()
    s.submit()
    s.refuse(RefusedBy.QUOTA, scope="account", cooldown=3_600_000)
    s.refuse(RefusedBy.CAPACITY, cooldown=180_000)
    (memory,) = s.state.pools.values()
    assert memory.cool_until == s.now.market + 3_600_000


def test_two_pools_that_refuse_at_one_instant_raise_an_alert_each_and_no_more() -> None:
    s = Stage(offer(CHEAP, 20.0, free=2), offer(DEAR, 20.0))
    for _ in range(3):
        s.submit()
    for _ in range(3):
        s.refuse(RefusedBy.QUOTA, cooldown=3_600_000)
    assert sorted("us-east" in alert.text for alert in s.state.alerts.values()) == [False, True]


def test_a_pool_that_refused_is_asked_by_one_launch_at_a_time_until_it_sells_again() -> None:
    s = Stage(offer(CHEAP, 20.0, free=8))
    for _ in range(4):
        s.submit()
    assert len(s.state.intents) == 4
    for _ in range(4):
        s.refuse()
    s.wait(180_001)
    assert len(s.asked(CallLaunch)) == 1
    s.wait(1_000)
    assert not s.asked(CallLaunch)
    s.launch()
    assert len(s.asked(CallLaunch)) == 3


def test_in_a_drought_every_pool_is_asked_once_in_its_cool_down() -> None:
    s = Stage(offer(CHEAP, 20.0), offer(DEAR, 30.0))
    for _ in range(3):
        s.submit()
    calls = 0
    for _ in range(600):
        while s.state.intents:
            s.refuse(cooldown=300_000)
            calls += 1
        s.wait(1_000)
    assert 6 <= calls <= 12  # 3 and 3 before anybody knew, then one for each pool per 300 s


def test_a_stale_price_that_is_confirmed_wakes_the_jobs_that_would_not_pay_it() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.now = type(s.now)(s.now.wall, Instant(s.now.market + s.policy.stale_after + 1))
    s.submit()
    assert "stale-price" in s.job().reason
    s.offers(offer(CHEAP, 20.0))
    assert s.job().state is JobState.STARTING
