"""What-if: a change is read or refused with its remedy, and applied to the question so that the planner answers it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dsched.scheduler.core import hazard
from dsched.scheduler.core.message import Refusal
from dsched.scheduler.core.placement import Question
from dsched.scheduler.core.placing import dry_run
from dsched.scheduler.core.report import Report
from dsched.scheduler.core.snapshot import Budget, Job, PoolMemory
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, Charge, Millis, price, to_charge, usd
from dsched.scheduler.core.whatif import applied
from dsched.scheduler.wire.document import SpecError
from dsched.scheduler.wire.whatif import change, changes
from tests.support.question import NOW, ask, job
from tests.support.question import offer as quoted
from tests.support.stage import Stage, offer, spec
from tests.unit.test_timely import A, B

SPOT_A, SPOT_B, SURE = "use1-az1/p5.48xlarge/spot", "use1-az2/p5.48xlarge/spot", "use1-az1/p5.48xlarge/on-demand"
POLICY = Stage().policy


def market(**fields: Any) -> Question:
    offers = (quoted(SPOT_A, 20.0, on_demand=98.0), quoted(SPOT_B, 30.0, on_demand=98.0), quoted(SURE, 98.0))
    return ask(job(), *offers, **fields)


def tried(question: Question, *texts: str, spent: dict[str, tuple[Charge, Charge]] | None = None) -> Question:
    return applied(question, changes(texts), spent or {}, POLICY, NOW)


def prices(question: Question) -> list[float]:
    return [o.quote.price / 1e6 for o in question.offers.values() if o.quote]


# -- read ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "of", "value"),
    [
        ("price*1.2", "*", 1.2),
        ("price:aws/*/spot*1.2", "aws/*/spot", 1.2),
        ("price:use1-az1/*=12.50", "use1-az1/*", price("12.5")),
        ("hazard*2", "*", 2.0),
        ("hazard:*p5**0.5", "*p5*", 0.5),
        ("gone:use1-az1", "use1-az1", None),
        ("gone:*/spot", "*/spot", None),
        ("deadline=12h", "*", Millis(12 * HOUR)),
        ("budget:team=500", "team", usd(500)),
    ],
)
def test_a_change_is_read(text: str, of: str, value: float | None) -> None:
    read = change(text)
    told = [x for x in (read.times, read.price, read.after, read.limit) if x is not None]
    assert (read.of, told) == (of, [] if value is None else [value])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "nothing that can be changed"),
        ("weather=sunny", "'weather' is nothing that can be changed"),
        ("price", "does not say to what"),
        ("price*", "no factor"),
        ("price*-1", "between"),
        ("price*nan", "between"),
        ("price*1e9", "between"),
        ("price=12", "must name the pools"),
        ("price:*p5*=cheap", "not an amount"),
        ("price:*1.2", "must name"),
        ("gone", "must name a pool or a zone"),
        ("gone:", "must name a pool or a zone"),
        ("deadline=12", "no unit"),
        ("deadline:j1=12h", "no way to change deadline"),
        ("deadline*2", "no way to change deadline"),
        ("hazard=2", "no way to change hazard"),
        ("budget=500", "must name a budget"),
        ("budget:a*2", "no way to change budget"),
        ("gone:" + "x" * 400, "longer than"),
    ],
)
def test_a_change_that_cannot_be_read_is_named_with_the_remedy(text: str, complaint: str) -> None:
    with pytest.raises(SpecError) as refused:
        changes([text])
    (fault,) = refused.value.faults
    assert complaint in fault.message
    assert fault.message.startswith(text[:300])
    assert (fault.field, "gone:POOLGLOB" in fault.hint) == ("what_if", True)


def test_there_is_a_limit_to_what_is_tried_at_once() -> None:
    with pytest.raises(SpecError, match="21 changes; at most 20"):
        changes(["price*2"] * 21)


# -- applied ---------------------------------------------------------------------------------------------------------


def test_prices_change_where_they_are_meant_and_what_is_saved_is_against_the_changed_ones() -> None:
    assert prices(tried(market(), "price*1.5")) == [30.0, 45.0, 147.0]
    assert prices(tried(market(), "price:*/spot*2")) == [40.0, 60.0, 98.0]
    assert prices(tried(market(), "price:use1-az2=1.25", "price:use1-az2*2")) == [20.0, 2.5, 98.0]
    beside = [o.on_demand for o in tried(market(), "price:*/on-demand*0.5").offers.values()]
    assert beside == [price(49), price(49), None]


def test_the_question_asked_is_left_as_it_was() -> None:
    asked = market()
    tried(asked, "price*2", "gone:use1-az1", "hazard*3", "deadline=9h", "budget:default=1")
    assert asked == market()


def test_what_is_gone_can_neither_be_bought_nor_reused() -> None:
    asked = market(idle={"aws/" + SPOT_A: ("n1",), "aws/" + SPOT_B: ("n2",)})
    then = tried(asked, "gone:use1-az1")
    assert [o.free for o in then.offers.values()] == [0, 8, 0]
    assert dict(then.idle) == {"aws/" + SPOT_B: ("n2",)}


@pytest.mark.parametrize("times", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("seen", [0.0, 5.0])
def test_hazard_is_exactly_so_many_times_what_it_was_of_spot_alone(times: float, seen: float) -> None:
    id = "aws/" + SPOT_A
    memory = PoolMemory(pool=id, seen=seen, expected=1.0, aged=NOW.market)
    asked = market(pools={id: memory})
    then = tried(asked, f"hazard*{times}")
    offers, failures = asked.offers, POLICY.hazard_failure

    def taken_back(question: Question, pool: str) -> float:
        return hazard.per_node(offers[pool], question.pools.get(pool), POLICY, NOW.market) - failures

    for pool in (id, "aws/" + SPOT_B):
        assert taken_back(then, pool) == pytest.approx(times * taken_back(asked, pool))
    assert "aws/" + SURE not in then.pools


def test_a_budgets_limit_leaves_what_is_not_spent_or_promised() -> None:
    spent = {"default": (to_charge(usd(30)), to_charge(usd(20)))}
    assert tried(market(), "budget:default=80", spent=spent).room == {"default": to_charge(usd(30))}
    assert tried(market(), "budget:default=10", spent=spent).room == {"default": -to_charge(usd(40))}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("gone:mars", "no pool, zone or region on offer matches 'mars'"),
        ("hazard:*/on-demand*2", "matches no spot pool"),
        ("budget:other=5", "no budget is named 'other'; there are default"),
        ("budget:team=5", "the job draws on budget default"),
    ],
)
def test_a_change_of_nothing_is_refused_with_its_name(text: str, complaint: str) -> None:
    with pytest.raises(Refusal, match="^" + text.replace("*", r"\*")) as refused:
        tried(market(), text, spent={"team": (Charge(0), Charge(0))})
    assert complaint in str(refused.value)
    assert (refused.value.where, bool(refused.value.hint)) == ("what_if", True)


# -- planned ---------------------------------------------------------------------------------------------------------


def planned(stage: Stage, *texts: str, **wish: Any) -> Report:
    queued = Job(id="", key="", spec=spec(**wish), state=JobState.QUEUED, submitted=stage.now)
    return dry_run(stage.state, queued, stage.policy, stage.now, stage.rng, changes(texts))[0]


def zone(told: Report) -> str | None:
    return told.chosen.pool.zone if told.chosen else None


def test_the_production_planner_answers_and_nothing_is_changed() -> None:
    stage = Stage(offer(A, 20.0), offer(B, 30.0))
    before = (dict(stage.state.offers), dict(stage.state.pools), len(stage.events))
    tries = ((), (f"gone:{A}",), (f"price:{A}*2",), (f"price:{B}=5",), (f"gone:{A}", f"gone:{B}"))
    places = [zone(planned(stage, *texts)) for texts in tries]
    assert places == [A, B, B, B, None]
    assert before == (dict(stage.state.offers), dict(stage.state.pools), len(stage.events))


def test_a_budget_too_small_for_a_lease_refuses_every_offer() -> None:
    stage = Stage(offer(A, 20.0))
    stage.state.budgets["default"] = Budget(name="default")
    told = planned(stage, "budget:default=0.01")
    assert [line.code for line in told.lines] == ["over-budget"]


def test_a_deadline_policy_is_asked_too() -> None:
    stage = Stage(offer(A, 20.0), offer(B, 20.5))
    stage.policy = replace(stage.policy, deadline_policy="up")
    wish = {"duration": Millis(10 * HOUR), "deadline": stage.now.market + 40 * HOUR}
    tries = ((), (f"gone:{A}",), (f"gone:{A}", f"gone:{B}"))
    assert [zone(planned(stage, *texts, **wish)) for texts in tries] == [A, B, None]
