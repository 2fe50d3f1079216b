"""A pass of the planner is short however many classes wait, and forgets none of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsched.scheduler.core import asking
from dsched.scheduler.core.effect import CallLaunch
from dsched.scheduler.core.job import Spec
from dsched.scheduler.core.message import OffersSeen, Place, Submit
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.step import handle
from dsched.scheduler.core.units import price
from tests.support.stage import Stage, offer, spec

DEAR = 50.0


def poor(name: str, dollars: float = 1.0, **more: object) -> Spec:
    """A job that cannot pay the market's price; each limit makes a class of its own."""
    made = spec(name, **more)
    return replace(made, need=replace(made.need, price_max=price(dollars)))


def crowd(stage: Stage, count: int) -> list[str]:
    return [stage.submit(poor(f"p{n}", 1 + n / 100)) for n in range(count)]


@pytest.fixture
def one_class_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "LOOKS", 0)


def passes(stage: Stage) -> int:
    """Planner passes until nothing is left to do."""
    count = 0
    while stage.state.dirty:
        stage._handle(Place())
        count += 1
    return count


@pytest.mark.usefixtures("one_class_a_pass")
def test_many_classes_take_many_passes_and_each_is_told_its_reason() -> None:
    stage = Stage(offer("a", DEAR))
    for n in range(5):
        stage._handle(Submit(spec=poor(f"p{n}", 1 + n), key=str(n)))
    assert passes(stage) == 5
    assert all("over-price-max" in job.reason for job in stage.state.jobs.values())


@pytest.mark.usefixtures("one_class_a_pass")
def test_the_first_in_the_queue_is_placed_first_even_when_a_pass_looks_at_one_class() -> None:
    stage = Stage(offer("a", DEAR, free=0))
    low = stage.submit(spec("low"))
    high = stage.submit(replace(spec("high", gpus_max=16), priority=5))
    stage.offers(offer("a", DEAR, free=1))
    assert stage.job(high).state is JobState.STARTING
    assert stage.job(low).state is JobState.QUEUED


def test_a_class_without_hope_is_not_judged_again_and_writes_nothing() -> None:
    stage = Stage(offer("a", DEAR))
    crowd(stage, 20)
    written = len(stage.events)
    stage.offers(offer("a", DEAR + 1))
    assert len(stage.events) == written
    assert not stage.state.waiting


def test_a_blocked_class_is_placed_as_soon_as_the_market_falls_to_its_limit() -> None:
    stage = Stage(offer("a", DEAR))
    jobs = crowd(stage, 20)
    stage.offers(offer("a", 1.15))
    able = [name for name in jobs if (limit := stage.job(name).spec.need.price_max) and limit >= price(1.15)]
    assert [stage.job(name).state is JobState.STARTING for name in able] == [True] * 5


def test_a_class_that_was_placed_once_is_told_anew_why_it_waits() -> None:
    stage = Stage(offer("a", 1.0))
    job = stage.run(poor("p"))
    stage.offers(offer("a", DEAR))
    stage.kill(stage.job(job).nodes[0])
    assert stage.job(job).state is JobState.QUEUED
    assert "over-price-max" in stage.job(job).reason


@pytest.mark.usefixtures("one_class_a_pass")
def test_two_passes_do_not_ask_for_the_same_free_machine() -> None:
    stage = Stage(offer("a", DEAR, free=0))
    stage.submit(spec("one"))
    stage.submit(spec("two", gpus_max=16))
    seen = replace(offer("a", DEAR, free=1), quote=replace(offer("a", DEAR).quote, at=stage.now.market))
    stage.tell(OffersSeen(provider="local", offers=(seen,)))
    assert len(stage.asked(CallLaunch)) == 1


def test_a_stored_decision_counts_the_offers_that_never_fit_without_listing_them() -> None:
    wanted = offer("a", DEAR)
    other = replace(offer("b", 1.0), shape=replace(wanted.shape, name="tiny", gpus=0, accelerator=None))
    stage = Stage(wanted, other)
    stage.submit(poor("p"))
    told = next(c.fields for e in stage.events for c in e.changes if c.table == "decision")["report"]
    assert [line["code"] for line in told["lines"]] == ["over-price-max"]
    assert told["refused"] == {"over-price-max": 1, "wrong-accelerator": 1}


def test_a_tick_with_nothing_to_do_costs_nothing_to_the_disk() -> None:
    stage = Stage(offer("a", DEAR))
    crowd(stage, 5)
    written = len(stage.events)
    stage.wait(1_000)
    assert len(stage.events) == written


def test_a_submission_into_a_blocked_class_asks_the_planner_nothing() -> None:
    stage = Stage(offer("a", DEAR))
    stage.submit(poor("first"))
    step = handle(stage.state, Submit(spec=poor("second"), key="2"), stage.now, stage.rng, stage.policy, stage.terms)
    assert len(step.events) == 1
    assert not stage.state.waiting
