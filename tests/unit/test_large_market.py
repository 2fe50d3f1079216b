"""In a large market passes are short and decisions brief, and whoever asks is still told of every offer."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from bench import contention
from dsched.scheduler.core.asking import ASKED
from dsched.scheduler.core.fleetplan.brief import KEPT
from dsched.scheduler.core.job import Need, Spec
from dsched.scheduler.core.message import OffersSeen, Place, Submit
from dsched.scheduler.core.placement import LARGE, Policy
from dsched.scheduler.core.placing import dry_run
from dsched.scheduler.core.report import to_wire
from dsched.scheduler.core.snapshot import State
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.step import Step, handle
from dsched.scheduler.core.terms import Terms
from dsched.scheduler.core.units import HOUR, Millis, Moment
from dsched.scheduler.view.plan import plan_text

OFFERS, JOBS, CLASSES = LARGE + 100, 3 * ASKED, 6
NOW: Moment = contention.NOW


def spec(kind: int) -> Spec:
    gpus = 1 << kind % 3
    need = Need(gpus_min=gpus, gpus_max=gpus, gpu_memory_gib=16 + kind // 3)
    return Spec(name="moe", run="train", need=need, duration=Millis(10 * HOUR))


class Market:
    """A core with a queue, and what its passes say."""

    def __init__(self) -> None:
        self.state = State(cluster="c" * 32)
        self.tell(OffersSeen(provider="aws", offers=tuple(contention.market(OFFERS).values())))
        for number in range(JOBS):
            self.tell(Submit(spec=spec(number % CLASSES), key=str(number)))
        self.passes = list(self._passes())

    def tell(self, message: Any) -> Step:
        return handle(self.state, message, NOW, Random(1), Policy(), Terms())

    def _passes(self) -> Iterator[Step]:
        while self.state.dirty:
            yield self.tell(Place())

    @property
    def decisions(self) -> list[Any]:
        changes = (change for one in self.passes for event in one.events for change in event.changes)
        return [change.fields["report"] for change in changes if change.table == "decision"]


@pytest.fixture(scope="module")
def market() -> Market:
    return Market()


def test_a_queue_drains_in_passes_of_bounded_length(market: Market) -> None:
    placed = [sum(event.kind == "job.placed" for event in one.events) for one in market.passes]
    assert sum(placed) == JOBS
    assert max(placed) <= ASKED
    assert len(placed) <= JOBS // ASKED + 3
    assert all(job.state is not JobState.QUEUED for job in market.state.jobs.values())


def test_a_stored_decision_keeps_the_best_and_counts_the_rest(market: Market) -> None:
    assert len(market.decisions) == JOBS
    for report in market.decisions:
        assert 1 <= len(report["lines"]) <= KEPT
        assert report["lines"][0]["verdict"] == "chosen"
        assert report["kept"]["possible"] + sum(report["refused"].values()) == report["kept"]["offers"] == OFFERS


def test_whoever_asks_is_told_of_every_offer(market: Market) -> None:
    asked = market.state.jobs["j1"]
    whole, _ = dry_run(market.state, asked, Policy(), NOW, Random(1))
    assert (len(whole.lines), whole.kept) == (OFFERS, None)
    brief, _ = dry_run(market.state, asked, Policy(), NOW, Random(1), whole=False)
    assert (brief.id, brief.summary, brief.refused) == (whole.id, whole.summary, whole.refused)


def test_a_brief_plan_says_how_to_see_the_rest(market: Market) -> None:
    plan: Any = {**to_wire(dry_run(market.state, market.state.jobs["j1"], Policy(), NOW, Random(1), whole=False)[0])}
    text = "\n".join(plan_text(plan, NOW, width=None, colour=False))
    assert f"of {OFFERS:,} offers would do, too, and were not kept: --whole asks again now" in text
