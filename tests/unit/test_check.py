"""The checker sees what the planner never does: every plan here is spoiled by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dsched.scheduler.core import check as judge
from dsched.scheduler.core.check import check
from dsched.scheduler.core.job import Need
from dsched.scheduler.core.market import Offer
from dsched.scheduler.core.placement import Placement, Promise, Question
from dsched.scheduler.core.plan import Plan
from dsched.scheduler.core.snapshot import PoolMemory
from dsched.scheduler.core.units import HOUR, Charge, MicroUsdPerHour, usd
from tests.support.question import ask, job, later, offer, solve

H100 = "p5.48xlarge"
MARKET = offer(f"a/{H100}/spot", 20, on_demand=55)
POOL = MARKET.pool.id
IDLE = {POOL: ("n1",)}


def spoiled(question: Question, **changes: Any) -> Plan:
    """A right plan whose first placement is changed."""
    plan = solve(question)
    first, *rest = plan.placements
    return replace(plan, placements=(first._replace(**changes), *rest))


def kinds(question: Question, plan: Plan) -> set[type]:
    return {type(finding) for finding in check(question, plan)}


def asked(need: Mapping[str, Any] | None = None, market: Offer = MARKET, **fields: Any) -> Question:
    wants = Need(**{"accelerators": ("H100",), "gpus_min": 8, "gpus_max": 8, **(need or {})})
    return ask(job(need=wants), market, idle=IDLE, **fields)


def test_a_right_plan_has_nothing_wrong() -> None:
    assert check(asked(), solve(asked())) == ()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"buy": 1}, judge.GangNotWhole),
        ({"nodes": 2, "buy": 1}, judge.OutsideRange),
        ({"reuse": ("n9",)}, judge.NodeNotIdle),
        ({"nodes": 100, "reuse": (), "buy": 100}, judge.OverCapacity),
        ({"reserve": Charge(1)}, judge.ReservesTooLittle),
        ({"price": MicroUsdPerHour(1)}, judge.PriceWrong),
        ({"price_max": MicroUsdPerHour(1)}, judge.PriceWrong),
        ({"job": "j9"}, judge.JobUnknown),
        ({"pool": offer(f"b/{H100}/spot", 1).pool}, judge.PriceUnknown),
    ],
)
def test_a_spoiled_placement_is_found(changes: dict[str, Any], kind: type) -> None:
    assert kind in kinds(asked(), spoiled(asked(), **changes))


@pytest.mark.parametrize(
    ("need", "what"),
    [
        ({"markets": ("on-demand",)}, "market"),
        ({"places": ("gcp/*",)}, "place"),
        ({"accelerators": ("B200",)}, "accelerator"),
        ({"gpu_memory_gib": 141}, "memory"),
    ],
)
def test_a_machine_that_was_not_asked_for_is_found(need: dict[str, Any], what: str) -> None:
    assert judge.Unsuitable("j1", POOL, what) in check(asked(need), solve(asked()))


def test_a_chip_without_fp8_is_found() -> None:
    old = offer("a/p4d.24xlarge/spot", 10)
    need = {"accelerators": ("A100",)}
    plan = solve(asked(need, old))
    assert judge.Unsuitable("j1", old.pool.id, "fp8") in check(asked({**need, "fp8_required": True}, old), plan)


def test_a_gang_of_more_machines_than_asked_for_is_found() -> None:
    need = {"gpus_min": 16, "gpus_max": 16}
    plan = solve(asked(need))
    assert judge.Unsuitable("j1", POOL, "nodes") in check(asked({**need, "nodes_max": 1}), plan)


def test_prices_that_may_not_be_paid_are_found() -> None:
    plan = solve(asked())
    assert judge.PriceUnknown("j1", POOL) in check(asked(market=offer(f"a/{H100}/spot", None)), plan)
    assert judge.PriceStale in kinds(asked(market=offer(f"a/{H100}/spot", 20, age=3)), plan)
    assert judge.PriceWrong in kinds(asked({"price_max": usd(30)}), plan)


def test_a_job_or_a_node_given_twice_is_found() -> None:
    plan = solve(asked())
    twice = replace(plan, placements=plan.placements * 2)
    assert {judge.JobTwice, judge.NodeTwice} <= kinds(asked(), twice)


def test_spending_more_than_the_budget_has_is_found() -> None:
    plan = solve(asked())
    room = Charge(usd(1) * HOUR)
    found = check(asked(room={"default": room}), plan)
    assert judge.OverBudget("default", plan.placements[0].reserve, room) in found


def test_a_lease_that_is_promised_already_is_counted_once_and_only_for_its_own_budget() -> None:
    plan = solve(asked())
    (placed,) = plan.placements
    (node, *_) = placed.reuse
    room = {"default": Charge(0)}
    own, other = Promise("default", placed.reserve), Promise("llm", placed.reserve)
    assert judge.OverBudget not in kinds(asked(room=room, promised={node: own}), plan)
    assert judge.OverBudget in kinds(asked(room=room, promised={node: other}), plan)


def test_buying_where_we_were_just_refused_is_found() -> None:
    memory = {POOL: PoolMemory(pool=POOL, cool_until=later(1))}
    plan = spoiled(asked(), reuse=(), buy=1)
    assert judge.BoughtWhileCooling in kinds(asked(pools=memory), plan)


def test_what_was_left_unexplained_is_found() -> None:
    plan = solve(asked())
    silent = replace(plan, reports={})
    more = ask(job(), MARKET, offer(f"b/{H100}/spot", 30), idle=IDLE)
    assert judge.Unexplained("j1", "", 0) in check(asked(), silent)
    assert judge.Unexplained("j1", f"aws/b/{H100}/spot", 0) in check(more, plan)


def test_a_report_that_tells_another_story_is_found() -> None:
    plan = solve(asked())
    nothing: tuple[Placement, ...] = ()
    assert judge.Disagrees("j1", "", POOL) in check(asked(), replace(plan, placements=nothing))
