"""The bill to the millisecond, and budgets that stop work in time without killing it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsched.scheduler.core.effect import CallLaunch, CallTerminate, SendAlert, TellStop
from dsched.scheduler.core.message import Action, Refusal, RenewLease, SetBudget
from dsched.scheduler.core.snapshot import LedgerEntry
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, MINUTE, Instant, price, to_micro_usd, usd
from tests.support.stage import Stage, offer, spec

CHEAP = "us-east-1a"


def entries(stage: Stage) -> list[LedgerEntry]:
    return [
        LedgerEntry(**change.fields) for event in stage.events for change in event.changes if change.table == "ledger"
    ]


def keep_leases(stage: Stage) -> None:
    for node in list(stage.state.nodes):
        stage.tell(RenewLease(node=node))


def test_an_hour_costs_the_hourly_price_and_stands_beside_its_on_demand_price() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.run()
    (node,) = s.job().nodes
    s.now = type(s.now)(s.now.wall, Instant(s.now.market + HOUR))
    s.kill(node, by="failed")
    assert to_micro_usd(s.job().spent) == usd(20)
    assert to_micro_usd(s.job().baseline) == usd("98.32")


def test_a_price_step_splits_the_interval_where_it_was_observed() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.run()
    began = s.now.market
    s.now = type(s.now)(s.now.wall, Instant(began + HOUR))
    s.offers(offer(CHEAP, 30.0, at=began + 45 * MINUTE))
    s.kill(s.job().nodes[0], by="failed")
    assert [(e.rate, e.end - e.start) for e in entries(s)] == [(price(20), 45 * MINUTE), (price(30), 15 * MINUTE)]
    assert to_micro_usd(s.job().spent) == usd(15) + usd("7.5")


def test_a_machine_of_ten_seconds_is_billed_for_a_minute() -> None:
    s = Stage(offer(CHEAP, 36.0))
    s.run()
    s.now = type(s.now)(s.now.wall, Instant(s.now.market + 10_000))
    s.kill(s.job().nodes[0], by="failed")
    assert [(e.kind, e.end - e.start) for e in entries(s)] == [("compute", 10_000), ("minimum", 50_000)]


def test_the_rest_of_the_minute_is_paid_by_the_job_that_the_machine_ran_last() -> None:
    s = Stage(offer(CHEAP, 36.0))
    s.run(spec(budget="research"))
    s.now = type(s.now)(s.now.wall, Instant(s.now.market + 10_000))
    s.exit(0)
    s.now = type(s.now)(s.now.wall, Instant(s.now.market + 5_000))
    s.kill(next(iter(s.state.nodes)), by="asked")
    told = [(e.kind, e.job, e.end - e.start) for e in entries(s)]
    assert told == [("compute", "j1", 10_000), ("compute", "", 5_000), ("minimum", "j1", 45_000)]
    assert s.job().spent == sum(e.owed for e in entries(s) if e.job == "j1")
    assert s.job().spent == sum(e.owed for e in entries(s) if e.budget == "research")


def test_idle_time_is_nobodys_job_but_still_somebodys_money() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.run()
    s.exit(0)
    spent = s.job().spent
    s.wait(s.terms.idle_keep)
    s.kill(next(iter(s.state.nodes)), by="asked")
    assert s.job().spent == spent
    assert [e.job for e in entries(s)][-1] == ""
    assert s.state.budgets["default"].spent == sum(e.owed for e in entries(s))


def test_alerts_fire_once_per_level_and_at_the_limit_jobs_checkpoint_and_are_held() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.tell(SetBudget(name="default", limit=usd(80)))
    s.run()
    fired = []
    for _ in range(4 * 3600 // 5):
        s.wait(5_000)
        keep_leases(s)
        fired += [alert.id.split("-")[2] for alert in s.asked(SendAlert)]
        if s.job().state is JobState.DRAINING:
            break
    assert s.job().state is JobState.DRAINING
    assert sorted(s.state.budgets["default"].fired) == [50, 80, 100]
    s.exit(75, drained=True)
    assert (s.job().state, s.job().reason) == (JobState.HELD, "the budget is spent")
    assert usd(79) * HOUR < s.state.budgets["default"].spent < usd(80) * HOUR


def test_levels_that_are_passed_at_one_look_ring_once_with_the_highest() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.tell(SetBudget(name="default", limit=usd(0)))
    assert [alert.id.split("-")[2] for alert in s.asked(SendAlert)] == ["100"]
    assert s.state.budgets["default"].fired == (50, 80, 100)
    s.wait(1_000)
    assert not s.asked(SendAlert)


def test_raising_the_limit_lets_the_held_jobs_go_on() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.tell(SetBudget(name="default", limit=usd(0)))
    s.submit()
    assert s.job().state is JobState.HELD
    with pytest.raises(Refusal, match="budget default is spent"):
        s.act("j1", Action.RESUME)
    s.tell(SetBudget(name="default", limit=usd(1000)))
    assert s.job().state is JobState.STARTING


def test_two_jobs_never_get_the_same_last_dollars() -> None:
    s = Stage(offer(CHEAP, 20.0, free=8))
    s.tell(SetBudget(name="default", limit=usd(20)))  # one lease of 20 min at twice the price is $13
    s.submit()
    s.submit()
    assert [s.job(j).state for j in ("j1", "j2")] == [JobState.STARTING, JobState.QUEUED]


def test_the_next_job_takes_over_an_idle_machine_though_the_budget_carries_no_second_lease() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.tell(SetBudget(name="default", limit=usd(20)))
    s.run()
    (node,) = s.job().nodes
    s.exit(0)
    s.submit()
    assert (s.job("j2").state, s.job("j2").nodes) == (JobState.STARTING, (node,))


def test_a_gang_grows_by_what_its_own_leases_have_not_set_aside() -> None:
    s = Stage(offer(CHEAP, 40.0), scale=60.0)
    s.tell(SetBudget(name="default", limit=usd(3_000)))  # a lease of 20 h at twice the price is $1,600
    s.run(spec(gpus=8, gpus_max=16))
    s.offers(offer(CHEAP, 20.0, at=s.now.market))
    s.wait(10 * MINUTE // 60)
    assert [s.state.intents[call.intent].count for call in s.asked(CallLaunch)] == [1]


def test_a_lease_is_renewed_only_as_far_as_the_budget_carries() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.tell(SetBudget(name="default", limit=usd(16)))
    s.run()
    (name,) = s.job().nodes
    s.now = replace(s.now, wall=Instant(s.now.wall + 18 * MINUTE), market=Instant(s.now.market + 18 * MINUTE))
    left = s.tell(RenewLease(node=name))
    assert left == 15 * MINUTE  # $6 are spent; $10 carry a quarter of an hour at twice the price
    assert s.state.nodes[name].lease_until == s.now.wall + left


def test_a_budget_of_another_name_holds_nobody_else() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.tell(SetBudget(name="llm", limit=usd(0)))
    s.submit(spec(budget="llm"))
    s.submit()
    assert [s.job(j).state for j in ("j1", "j2")] == [JobState.HELD, JobState.STARTING]
    assert not s.asked(TellStop)


def test_when_the_default_budget_is_spent_idle_nodes_go_back_at_once() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.run()
    s.exit(0)
    s.tell(SetBudget(name="default", limit=usd(0)))
    (node,) = s.state.nodes.values()
    assert node.leaving
    assert s.asked(CallTerminate)


def test_what_was_booked_past_an_end_that_became_known_late_is_taken_back() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.run()
    (node,) = s.job().nodes
    began = s.now.market
    s.now = type(s.now)(s.now.wall, Instant(began + HOUR))
    s.offers(offer(CHEAP, 30.0, at=began + HOUR))
    s.now = type(s.now)(s.now.wall, Instant(began + 2 * HOUR))
    s.offers(offer(CHEAP, 40.0, at=began + 2 * HOUR))
    s.list_all(n0="interrupted")  # now
    assert to_micro_usd(s.job().spent) == usd(50)

    s = Stage(offer(CHEAP, 20.0))
    s.run()
    (node,) = s.job().nodes
    s.now = type(s.now)(s.now.wall, Instant(began + HOUR))
    s.offers(offer(CHEAP, 30.0, at=began + HOUR))
    s.now = type(s.now)(s.now.wall, Instant(began + 2 * HOUR))
    s.offers(offer(CHEAP, 40.0, at=began + 2 * HOUR))
    s.list(s.seen(s.state.nodes[node], alive=False, by="interrupted", ended=began + 30 * MINUTE))
    assert to_micro_usd(s.job().spent) == usd(10)
    assert sum(e.owed for e in entries(s)) == s.state.budgets["default"].spent == s.job().spent
    assert [e.kind for e in entries(s)] == ["compute", "compute", "correction", "correction"]


def test_a_price_that_moved_between_plan_and_launch_is_paid_from_the_launch() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.submit()
    s.offers(offer(CHEAP, 30.0))
    (node,) = s.launch()
    s.now = type(s.now)(s.now.wall, Instant(s.now.market + HOUR))
    s.kill(node, by="failed")
    assert to_micro_usd(s.job().spent) == usd(30)


def test_two_leases_of_one_gang_that_end_together_are_billed_once_each() -> None:
    s = Stage(offer(CHEAP, 20.0))
    s.run(spec(gpus=16))
    began = s.now.market
    s.exit(0, nodes=s.job().nodes[1:])
    lease = s.state.nodes[s.job().nodes[0]].lease_until
    s.wait(s.policy.lease + s.terms.proof_margin + 1)
    assert {(e.start, e.end) for e in entries(s) if e.kind == "compute"} >= {(began, lease)}
    assert s.state.budgets["default"].spent == 2 * price(20) * (lease - began)
