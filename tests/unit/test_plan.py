"""The decisions of the planner, each with its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dsched.scheduler.core.check import check
from dsched.scheduler.core.job import Need
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.placement import Policy, Promise
from dsched.scheduler.core.plan import feasible_deadline
from dsched.scheduler.core.report import Why
from dsched.scheduler.core.snapshot import PoolMemory
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, MINUTE, Charge, Instant, Millis, Moment, price, usd
from tests.support.question import NOW, ask, hours, job, later, line, offer, placed, reported, solve, where

H100, A100 = "p5.48xlarge", "p4d.24xlarge"


def range_of(least: int, most: int, *accelerators: str) -> Need:
    return Need(accelerators=accelerators or ("H100",), gpus_min=least, gpus_max=most)


# -- which offer


def test_a_calm_dearer_pool_beats_a_cheap_stormy_one() -> None:
    slow = Policy(restart=Millis(10 * MINUTE))  # 2 interruptions an hour x 10 min: a third of every hour is lost
    calm, stormy = offer(f"calm/{H100}/spot", 12, hazard=0.0), offer(f"stormy/{H100}/spot", 10, hazard=2.0)
    report = reported(ask(job(), calm, stormy), slow)
    assert report.chosen is line(report, "calm")
    assert line(report, "stormy").code is Why.DEARER


def test_the_same_storm_matters_less_with_a_notice_in_which_a_checkpoint_fits() -> None:
    slow = Policy(write=Millis(MINUTE))
    calm = offer(f"calm/{H100}/spot", 11.4, hazard=0.0)
    silent = offer(f"storm/{H100}/spot", 10, hazard=1.0)
    warned = offer(f"storm/{H100}/spot", 10, hazard=1.0, notice=Millis(2 * MINUTE))
    assert where(ask(job(), calm, silent), slow) == f"calm/{H100}/spot"
    assert where(ask(job(), calm, warned), slow) == f"storm/{H100}/spot"


def test_a_pool_that_interrupted_us_often_is_believed_over_its_own_word() -> None:
    liar, honest = offer(f"liar/{H100}/spot", 10, hazard=0.01), offer(f"honest/{H100}/spot", 10.5, hazard=0.01)
    known = {liar.pool.id: PoolMemory(pool=liar.pool.id, seen=400, expected=2, aged=NOW.market)}
    restart = Policy(restart=Millis(10 * MINUTE))
    assert where(ask(job(), liar, honest), restart) == f"liar/{H100}/spot"
    assert where(ask(job(), liar, honest, pools=known), restart) == f"honest/{H100}/spot"


def test_the_fp8_chip_wins_when_the_job_can_use_it() -> None:
    chips = ("H100", "A100")
    market = offer(f"new/{H100}/on-demand", 40), offer(f"old/{A100}/on-demand", 10)
    plain = Need(accelerators=chips, gpus_min=8, gpus_max=8)
    fp8 = Need(accelerators=chips, gpus_min=8, gpus_max=8, fp8=True)
    assert where(ask(job(need=plain), *market)) == f"old/{A100}/on-demand"
    assert where(ask(job(need=fp8), *market)) == f"new/{H100}/on-demand"


def test_a_short_job_prefers_the_machine_that_is_up_sooner() -> None:
    quick, slow = offer(f"quick/{H100}/on-demand", 21), offer(f"slow/{H100}/on-demand", 20, boot=Millis(6 * MINUTE))
    assert where(ask(job(duration=hours(0.2)), quick, slow)) == f"quick/{H100}/on-demand"
    assert where(ask(job(duration=hours(50)), quick, slow)) == f"slow/{H100}/on-demand"


def test_equal_offers_are_decided_by_name() -> None:
    twins = [offer(f"{zone}/{H100}/on-demand", 20) for zone in "bac"]
    assert where(ask(job(), *twins)) == f"a/{H100}/on-demand"


def test_a_migrations_wish_overrides_the_specs_places() -> None:
    need = Need(accelerators=("H100",), gpus_min=8, gpus_max=8, places=("aws/a",))
    market = offer(f"a/{H100}/spot", 10), offer(f"b/{H100}/spot", 20)
    assert where(ask(job(need=need), *market)) == f"a/{H100}/spot"
    assert where(ask(job(need=need, places=("aws/b",)), *market)) == f"b/{H100}/spot"


# -- idle nodes


def test_idle_nodes_are_reused_before_buying() -> None:
    ours, cheaper = offer(f"ours/{H100}/spot", 11), offer(f"new/{H100}/spot", 10)
    got = placed(ask(job(), ours, cheaper, idle={ours.pool.id: ("n2", "n1")}))
    assert got is not None
    assert (got.reuse, got.buy) == (("n1",), 0)


def test_but_not_at_any_price() -> None:
    ours, cheaper = offer(f"ours/{H100}/on-demand", 55), offer(f"new/{H100}/spot", 10)
    assert where(ask(job(), ours, cheaper, idle={ours.pool.id: ("n1",)})) == f"new/{H100}/spot"


def test_a_gang_takes_the_idle_nodes_first_and_buys_the_rest() -> None:
    market = offer(f"a/{H100}/spot", 10)
    got = placed(ask(job(need=range_of(24, 24)), market, idle={market.pool.id: ("n1", "n2")}))
    assert got is not None
    assert (got.nodes, got.reuse, got.buy, got.gpus) == (3, ("n1", "n2"), 1, 24)


def test_idle_nodes_can_be_had_in_a_sold_out_pool() -> None:
    market = offer(f"a/{H100}/spot", 10, free=0)
    assert where(ask(job(), market, idle={market.pool.id: ("n1",)})) == f"a/{H100}/spot"


def test_idle_nodes_of_a_cooling_pool_are_a_last_resort_and_nothing_is_bought_there() -> None:
    shaky, other = offer(f"shaky/{H100}/spot", 10), offer(f"other/{H100}/spot", 12)
    known = {
        "idle": {shaky.pool.id: ("n1",)},
        "pools": {shaky.pool.id: PoolMemory(pool=shaky.pool.id, cool_until=later(1))},
    }
    assert where(ask(job(), shaky, other, **known)) == f"other/{H100}/spot"
    assert where(ask(job(), shaky, **known)) == f"shaky/{H100}/spot"
    assert placed(ask(job(need=range_of(16, 16)), shaky, **known)) is None


# -- many jobs


def test_no_two_jobs_get_the_same_idle_node() -> None:
    market = offer(f"a/{H100}/spot", 10)
    got = solve(ask([job("j1"), job("j2")], market, idle={market.pool.id: ("n1",)})).placements
    assert [p.reuse for p in got] == [("n1",), ()]


def test_no_two_jobs_get_the_last_machine() -> None:
    cheap, dear = offer(f"a/{H100}/spot", 10, free=1), offer(f"b/{H100}/spot", 20, free=1)
    plan = solve(ask([job(f"j{n}") for n in (1, 2, 3)], cheap, dear))
    assert [p.pool.zone for p in plan.placements] == ["a", "b"]
    assert plan.reports["j3"].blocked is Why.NO_CAPACITY


def test_no_two_jobs_get_the_last_dollars() -> None:
    market = offer(f"a/{H100}/on-demand", 20)
    one_lease = Charge(usd(7) * HOUR)
    plan = solve(ask([job("j1"), job("j2")], market, room={"default": one_lease}))
    assert [p.job for p in plan.placements] == ["j1"]
    assert plan.reports["j2"].blocked is Why.OVER_BUDGET


def test_budgets_do_not_pay_for_each_other() -> None:
    market = offer(f"a/{H100}/on-demand", 20)
    room = {"poor": Charge(0), "rich": Charge(usd(100) * HOUR), "free": None}
    jobs = [job(name, budget=name) for name in ("poor", "rich", "free", "never-set")]
    assert {p.job for p in solve(ask(jobs, market, room=room)).placements} == {"rich", "free", "never-set"}


def test_the_lease_of_an_idle_machine_is_set_aside_once() -> None:
    market = offer(f"a/{H100}/on-demand", 20)
    pool = market.pool.id
    lease = Promise("default", Charge(usd(20 / 3) * HOUR))  # 20 minutes at $20
    drain = Charge(usd(1) * HOUR)  # what a reserve has beyond the lease
    idle = ask([job("j1"), job("j2")], market, idle={pool: ("n1",)}, room={"default": drain}, promised={"n1": lease})
    plan = solve(idle)
    assert [(p.job, p.reuse) for p in plan.placements] == [("j1", ("n1",))]
    assert plan.reports["j2"].blocked is Why.OVER_BUDGET
    assert check(idle, plan) == ()


def test_what_a_dear_lease_has_promised_buys_no_other_machine() -> None:
    """The idle machine was leased while its price might rise to 60; the one beside it may come to 20."""
    lease = Promise("default", Charge(usd(20) * HOUR))
    two = job(need=Need(accelerators=("H100",), gpus_min=16, gpus_max=16))
    market, pool = offer("a/p5.48xlarge/on-demand", 20.0), "aws/a/p5.48xlarge/on-demand"
    room = Charge(usd(20 / 3) * HOUR)  # 20 minutes at $20, and no drain
    poor = ask(two, market, idle={pool: ("n1",)}, room={"default": room}, promised={"n1": lease})
    assert placed(poor) is None
    rich = replace(poor, room={"default": Charge(room * 2)})
    assert placed(rich) is not None


def test_what_another_budget_has_promised_for_a_machine_is_not_lent() -> None:
    market = offer(f"a/{H100}/on-demand", 20)
    lease = Promise("default", Charge(usd(20 / 3) * HOUR))
    room = {"llm": Charge(usd(1) * HOUR), "default": Charge(usd(1) * HOUR)}
    idle = ask(job(budget="llm"), market, idle={market.pool.id: ("n1",)}, room=room, promised={"n1": lease})
    assert reported(idle).blocked is Why.OVER_BUDGET


def test_a_gang_that_does_not_fit_leaves_the_machines_to_those_behind_it() -> None:
    market = offer(f"a/{H100}/spot", 10, free=3)
    gang, single = job("gang", need=range_of(32, 32), priority=1), job("single")
    plan = solve(ask([gang, single], market))
    assert [p.job for p in plan.placements] == ["single"]
    assert plan.reports["gang"].blocked is Why.NOT_ENOUGH_FOR_GANG


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"priority": 5}, {"priority": 1, "deadline": later(1)}),
        ({"deadline": later(5)}, {"deadline": later(6)}),
        ({"deadline": later(5)}, {}),
        ({"submitted": Moment(wall=Instant(0), market=Instant(0))}, {}),
        ({"state": JobState.DRAINING}, {"deadline": later(1)}),
    ],
)
def test_the_queue_is_served_by_priority_then_notice_then_deadline_then_age(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    market = offer(f"a/{H100}/spot", 10, free=1)
    got = solve(ask([job("a2", **second), job("z1", **first)], market)).placements
    assert [p.job for p in got] == ["z1"]


def test_a_pass_is_bounded_and_says_that_more_is_waiting() -> None:
    market = offer(f"a/{H100}/spot", 10, free=None)
    queue = [job(f"j{n}") for n in range(5)]
    plan = solve(ask(queue, market), Policy(placements_max=3))
    assert (len(plan.placements), len(plan.reports), plan.more) == (3, 3, True)
    assert not solve(ask(queue, market), Policy(placements_max=5)).more


def test_equal_jobs_that_cannot_be_placed_share_one_reason() -> None:
    plan = solve(ask([job("j1"), job("j2")], offer(f"a/{H100}/spot", 10, free=0)))
    assert plan.reports["j1"] is plan.reports["j2"]


def test_jobs_that_differ_only_in_what_hurt_them_are_judged_apart() -> None:
    cheap, dear = offer(f"a/{H100}/spot", 10), offer(f"b/{H100}/spot", 20)
    plan = solve(ask([job("hurt", avoid=(cheap.pool.id,)), job("whole")], cheap, dear))
    assert {p.job: p.pool.zone for p in plan.placements} == {"hurt": "b", "whole": "a"}


def test_what_an_earlier_job_took_is_missing_in_the_reasons_of_the_next() -> None:
    cheap, dear = offer(f"a/{H100}/spot", 10, free=1), offer(f"b/{H100}/spot", 20)
    plan = solve(ask([job("j1"), job("j2")], cheap, dear))
    assert line(plan.reports["j1"], "a").code is None
    assert line(plan.reports["j2"], "a").code is Why.NO_CAPACITY


# -- the elastic range


def test_the_smallest_gang_is_the_cheapest() -> None:
    got = placed(ask(job(need=range_of(8, 32), duration=hours(10)), offer(f"a/{H100}/spot", 10)))
    assert got is not None
    assert got.nodes == 1


def test_a_deadline_makes_the_gang_grow_only_as_far_as_it_must() -> None:
    elastic = job(need=range_of(8, 32), duration=hours(10), deadline=later(5.5))
    got = placed(ask(elastic, offer(f"a/{H100}/on-demand", 10)))
    assert got is not None
    assert (got.nodes, got.gpus, got.world_size, got.price) == (2, 16, 2, price(20))


def test_a_gang_grows_no_further_than_the_price_limit_and_the_capacity_allow() -> None:
    capped = Need(accelerators=("H100",), gpus_min=8, gpus_max=64, price_max=price(35))
    hasty = job(need=capped, duration=hours(10), deadline=later(1))
    assert line(reported(ask(hasty, offer(f"a/{H100}/on-demand", 10))), "a").value.nodes == 3  # type: ignore[union-attr]
    few = ask(hasty, offer(f"a/{H100}/on-demand", 10, free=2))
    assert line(reported(few), "a").value.nodes == 2  # type: ignore[union-attr]


def test_ranks_follow_the_nodes() -> None:
    got = placed(ask(job(need=range_of(16, 16), ranks_per_node=8), offer(f"a/{H100}/spot", 10)))
    assert got is not None
    assert got.world_size == 16


# -- deadlines


def test_a_dearer_offer_wins_when_only_it_makes_the_deadline() -> None:
    fast, slow = offer(f"fast/{H100}/on-demand", 90), offer(f"slow/{A100}/on-demand", 20)
    hasty = job(need=range_of(8, 8, "H100", "A100"), duration=hours(10), deadline=later(12))
    report = reported(ask(hasty, fast, slow))
    assert report.chosen is line(report, "fast")
    assert line(report, "slow").code is Why.LATE


def test_new_work_that_cannot_make_it_is_not_begun() -> None:
    report = reported(ask(job(duration=hours(10), deadline=later(5)), offer(f"a/{H100}/on-demand", 20)))
    assert (report.chosen, report.blocked) == (None, Why.LATE)


def test_work_already_paid_for_takes_what_finishes_first() -> None:
    begun = job(need=range_of(8, 8, "H100", "A100"), duration=hours(10), deadline=later(2), started=NOW.market)
    market = offer(f"fast/{H100}/on-demand", 90), offer(f"slow/{A100}/on-demand", 20)
    assert where(ask(begun, *market)) == f"fast/{H100}/on-demand"


def test_a_boot_can_make_the_difference() -> None:
    hasty = job(duration=hours(10), deadline=later(10.05))
    assert where(ask(hasty, offer(f"a/{H100}/on-demand", 20)), Policy(write=Millis(1))) is not None
    slow = offer(f"a/{H100}/on-demand", 20, boot=Millis(6 * MINUTE))
    assert where(ask(hasty, slow), Policy(write=Millis(1))) is None
    assert where(ask(hasty, slow, idle={slow.pool.id: ("n1",)}), Policy(write=Millis(1))) is not None


def test_the_nearest_feasible_deadline_comes_with_its_price() -> None:
    hasty = job(need=range_of(8, 16), duration=hours(10), deadline=later(1))
    question = ask(hasty, offer(f"a/{H100}/on-demand", 20, free=0), offer(f"b/{H100}/on-demand", 30))
    got = feasible_deadline(question, hasty, Policy(write=Millis(1)), NOW)
    assert got is not None
    assert got.offer == f"aws/b/{H100}/on-demand"
    assert (got.nodes, got.price) == (2, price(60))
    assert got.finish == pytest.approx(later(5), abs=MINUTE)
    assert got.expected == pytest.approx(usd(300), rel=0.01)


def test_a_sold_out_market_makes_no_deadline_infeasible() -> None:
    calm = job(duration=hours(10), deadline=later(20))
    memory = {f"aws/a/{H100}/on-demand": PoolMemory(pool="", cool_until=later(1))}
    got = feasible_deadline(ask(calm, offer(f"a/{H100}/on-demand", 20, free=0), pools=memory), calm, Policy(), NOW)
    assert got is not None
    assert got.finish <= later(20)


def test_there_is_no_nearest_deadline_for_unknown_work() -> None:
    assert feasible_deadline(ask(job(), offer(f"a/{H100}/spot", 20)), job(), Policy(), NOW) is None


# -- the same question, the same plan


def test_a_plan_is_known_by_its_choices() -> None:
    question = ask(job(), offer(f"a/{H100}/spot", 20))
    again = ask(job(), offer(f"a/{H100}/spot", 20))
    dearer = ask(job(), offer(f"a/{H100}/spot", 21))
    assert solve(question).id == solve(again).id
    assert solve(question).id != solve(dearer).id


def test_a_dry_run_and_the_submit_after_it_have_one_id() -> None:
    market = offer(f"a/{H100}/spot", 20)
    assert reported(ask(job("dry"), market), name="dry").id == reported(ask(job("j7"), market), name="j7").id
    assert reported(ask(job(), market)).id != reported(ask(job(), offer(f"a/{H100}/spot", 21))).id


def test_nothing_on_offer_is_said_so() -> None:
    report = reported(ask(job()))
    assert report.summary == "no offer at all for 8 x H100: no provider has told prices yet"
    assert not report.hopeless


def test_reserved_capacity_is_an_offer_like_any_other() -> None:
    market = offer(f"a/{H100}/reserved", 15), offer(f"b/{H100}/spot", 16)
    assert where(ask(job(), *market)) == f"a/{H100}/reserved"
    only_spot = Need(accelerators=("H100",), gpus_min=8, gpus_max=8, markets=(Market.SPOT,))
    assert where(ask(job(need=only_spot), *market)) == f"b/{H100}/spot"
