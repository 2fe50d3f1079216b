"""Jobs with a deadline in the daemon's core: placed, kept, moved and made to wait as policy and safety net decide."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from dsched.scheduler.core.asking import ask
from dsched.scheduler.core.deadline.cheapest import cheapest_sure, spots, unvalued
from dsched.scheduler.core.deadline.policies import named
from dsched.scheduler.core.deadline.view import IDLE, Batch, Choices
from dsched.scheduler.core.effect import CallLaunch, TellStop, WakeAt
from dsched.scheduler.core.market import Market, Offer
from dsched.scheduler.core.message import Action, Place, Refusal, Restarted
from dsched.scheduler.core.placement import Question
from dsched.scheduler.core.snapshot import After, Job, Progress, State
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.timely import obey, rule
from dsched.scheduler.core.timely.look import look
from dsched.scheduler.core.units import HOUR, MINUTE, Instant, Millis
from tests.support.stage import H100, P5, Stage, offer, spec

A, B = "us-east-1a", "us-east-1b"
SPOT, OTHER = f"local/{A}/p5.48xlarge/spot", f"local/{B}/p5.48xlarge/spot"
SURE = f"local/{A}/p5.48xlarge/on-demand"


def on_demand(**changed: Any) -> Offer:
    return replace(offer(A, 98.32, market=Market.ON_DEMAND), **changed)


def wish(*, work: float, within: float, **changed: Any) -> Any:
    """A job with `work` hours and a deadline so many hours from the stage's beginning."""
    deadline = Instant(1_000_000 + round(within * HOUR))
    return spec(duration=Millis(round(work * HOUR)), deadline=deadline, steps=1000, **changed)


def stage(*offers: Offer, policy: str = "up") -> Stage:
    made = Stage(*offers)
    made.policy = replace(made.policy, lease=Millis(100 * HOUR), deadline_policy=policy)
    return made


def pool(s: Stage, job: str = "j1") -> str:
    row = s.job(job)
    nodes = row.next_nodes or row.nodes
    return s.state.nodes[nodes[0]].pool.id if nodes else ""


def later(s: Stage, hours: float, *offers: Offer) -> None:
    """Time passes in looks of the policy; the market goes on saying `offers`."""
    for _ in range(round(hours * 6)):
        s.wait(10 * MINUTE)
        if offers:
            s.offers(*offers)


def steps(s: Stage, share: float) -> None:
    """The job tells how far it is."""
    s.state.progress["j1"] = Progress(step=round(1000 * share), steps=1000)


def deadline_of(s: Stage) -> dict[str, Any]:
    changes = [c for event in s.events for c in event.changes if c.table == "decision"]
    told: dict[str, Any] = changes[-1].fields["report"]["deadline"]
    return told


def test_with_time_to_spare_it_takes_spot() -> None:
    s = stage(offer(A, 10.0), on_demand())
    s.submit(wish(work=10, within=20))
    assert pool(s) == SPOT


def test_without_spot_and_with_time_it_waits_and_says_until_when() -> None:
    s = stage(offer(A, 10.0, free=0), on_demand())
    s.submit(wish(work=10, within=30))
    assert s.job().state is JobState.QUEUED
    assert s.job().reason.startswith("waits for cheaper capacity until")
    assert "slack 20.0 h" in s.job().reason
    assert s.asked(CallLaunch) == []
    assert s.asked(WakeAt)


def test_spot_that_comes_back_ends_the_wait() -> None:
    s = stage(offer(A, 10.0, free=0), on_demand())
    s.submit(wish(work=10, within=30))
    s.offers(offer(A, 10.0, free=8), on_demand())
    assert pool(s) == SPOT


def test_the_net_buys_on_demand_before_it_is_too_late() -> None:
    s = stage(offer(A, 10.0, free=0), on_demand(), policy="greedy")
    s.submit(wish(work=10, within=12))
    later(s, 1.5, offer(A, 10.0, free=0), on_demand())
    assert s.job().state is JobState.QUEUED
    later(s, 0.5, offer(A, 10.0, free=0), on_demand())
    assert pool(s) == SURE
    assert deadline_of(s)["net"]
    bought = next(e.at.market for e in s.events if e.kind == "job.placed")
    assert bought + 10 * HOUR < s.job().spec.deadline


def test_without_time_it_goes_to_on_demand_at_once() -> None:
    s = stage(offer(A, 10.0), on_demand())
    s.submit(wish(work=10, within=10.1))
    assert pool(s) == SURE


def test_a_refused_launch_falls_back_to_the_next_best_spot_and_then_to_what_is_sure() -> None:
    s = stage(offer(A, 10.0), offer(B, 12.0), on_demand())
    s.submit(wish(work=10, within=11))
    assert pool(s) == SPOT
    s.refuse(cooldown=10 * HOUR)
    s.wait(1_000)
    assert pool(s) == OTHER
    s.refuse(cooldown=10 * HOUR)
    later(s, 1)
    assert pool(s) == SURE


def test_a_stale_on_demand_price_does_not_stop_the_net() -> None:
    s = stage(offer(A, 10.0, free=0), on_demand(), policy="greedy")
    s.submit(wish(work=10, within=16))
    later(s, 6)  # nobody answers for prices any more
    assert pool(s) == SURE


def test_a_job_on_spot_that_is_on_schedule_stays_there() -> None:
    s = stage(offer(A, 10.0), on_demand())
    s.run(wish(work=10, within=14))
    for done in range(1, 10):
        steps(s, done / 10)
        later(s, 1, offer(A, 10.0), on_demand())
    assert pool(s) == SPOT
    assert s.job().state is JobState.RUNNING
    assert s.job().moves == 0


def test_a_job_whose_work_goes_slower_than_said_is_saved_while_that_is_possible() -> None:
    slow = offer(A, 10.0)
    s = stage(slow, on_demand())
    s.run(wish(work=10, within=14))
    steps(s, 0.01)
    later(s, 4, slow, on_demand())
    assert pool(s) == SPOT or s.job().next_nodes  # nothing is faster than the machine that it has
    assert s.job().state is JobState.RUNNING


def test_back_from_on_demand_to_spot_when_it_is_there_again() -> None:
    s = stage(offer(A, 10.0, free=0), on_demand())
    s.submit(wish(work=10, within=12))
    later(s, 1.5, offer(A, 10.0, free=0), on_demand())
    s.hello(*s.launch())
    s.started()
    assert pool(s) == SURE
    for done in range(1, 9):
        steps(s, done / 9)
        later(s, 1, offer(A, 10.0, free=8 if done > 2 else 0), on_demand())
        if s.job().next_nodes:
            break
    assert s.state.nodes[s.job().next_nodes[0]].pool.id == SPOT
    s.hello(*s.launch())
    assert s.job().state is JobState.DRAINING
    assert s.asked(TellStop)


def test_a_job_is_looked_at_again_after_a_move_that_took_longer_than_its_revisit_time() -> None:
    s = stage(offer(A, 10.0, free=0), on_demand())
    s.submit(wish(work=10, within=12))
    later(s, 1.5, offer(A, 10.0, free=0), on_demand())
    s.hello(*s.launch())
    s.started()
    steps(s, 0.9)
    later(s, 1, offer(A, 10.0), on_demand())
    assert s.job().after is After.MOVE
    later(s, 1, offer(A, 10.0), on_demand())
    s.hello(*s.launch())
    s.exit(75, drained=True)
    s.started()
    assert s.job().state is JobState.RUNNING
    assert s.state.revisits["j1"] <= s.now.market + 10 * MINUTE


def test_a_slow_gang_of_a_job_that_tells_no_steps_is_not_believed_done_before_its_time() -> None:
    slow = replace(offer(A, 3.0), shape=replace(P5, accelerator=replace(H100, bandwidth_gb_s=1675, bf16_tflops=494.5)))
    fast = on_demand(pool=replace(on_demand().pool, zone=B))
    s = stage(slow, fast)
    s.run(replace(wish(work=10, within=40), steps=None))
    later(s, 6, slow, fast)
    assert pool(s) == SPOT
    seen = look(s.state, s.job(), ask(s.state, [s.job()], s.policy, s.now), s.policy, s.now)
    assert seen is not None
    speed = seen.choices[f"{SPOT}*1"].speed
    assert speed < 0.8
    assert seen.observation.job.left / HOUR * 1000 == pytest.approx(10 - 6 * speed)


@pytest.mark.parametrize(("ran", "left"), [(9, 1.0), (10, 1 / 60), (11, 1.0), (12, 2.0)])
def test_what_outlives_its_duration_is_not_believed_done(ran: int, left: float) -> None:
    """It still runs, which is the only proof there is: it is expected to need as long again as it is late."""
    s = stage(offer(A, 10.0), on_demand())
    s.run(replace(wish(work=10, within=100), steps=None))
    later(s, ran, offer(A, 10.0), on_demand())
    seen = look(s.state, s.job(), ask(s.state, [s.job()], s.policy, s.now), s.policy, s.now)
    assert seen is not None
    assert seen.observation.job.left / 3600 == pytest.approx(left)


@pytest.mark.parametrize("told", [None, 1000], ids=["no steps", "steps that nobody tells"])
def test_spot_is_left_while_all_that_is_not_proved_can_be_done_again(told: int | None) -> None:
    market = [offer(A, 10.0), on_demand()]
    s = stage(*market)
    s.run(replace(wish(work=10, within=16), steps=told))
    for _ in range(10 * 6):
        s.wait(10 * MINUTE)
        s.offers(*market)
        if pool(s) == SURE:
            break
    assert pool(s) == SURE
    assert s.now.market + 10 * HOUR < (s.job().spec.deadline or 0) < s.now.market + 12 * HOUR


def test_a_notice_buys_the_replacement_before_the_kill() -> None:
    s = stage(offer(A, 10.0), offer(B, 12.0), on_demand())
    s.run(wish(work=10, within=20))
    s.notice(s.job().nodes[0])
    assert pool(s) == OTHER
    assert s.job().nodes
    assert s.job().state is JobState.DRAINING


def test_after_a_restart_every_such_job_is_looked_at_again() -> None:
    s = stage(offer(A, 10.0, free=0), on_demand())
    s.submit(wish(work=10, within=12))
    s.state.revisits.clear()
    s.tell(Restarted())
    s.wait(1)
    assert "j1" in s.state.revisits


def test_a_launch_that_nobody_answers_does_not_cost_the_deadline() -> None:
    s = stage(offer(A, 10.0), on_demand())
    s.submit(wish(work=10, within=12))
    assert pool(s) == SPOT
    later(s, 2, offer(A, 10.0), on_demand())
    assert pool(s) == SURE


def test_jobs_without_a_deadline_never_wait_for_a_price() -> None:
    s = stage(on_demand())
    s.submit(spec(duration=Millis(10 * HOUR)))
    assert pool(s) == SURE


def test_a_waiting_job_does_not_write_down_every_look() -> None:
    s = stage(offer(A, 10.0, free=0), on_demand(), policy="greedy")
    s.submit(wish(work=10, within=40))
    later(s, 6, offer(A, 10.0, free=0), on_demand())
    waits = [e for e in s.events if e.kind == "job.waits"]
    assert 2 <= len(waits) <= 8


def test_the_decision_is_stored_with_what_it_was_made_from() -> None:
    s = stage(offer(A, 10.0), on_demand())
    s.submit(wish(work=10, within=20))
    told = deadline_of(s)
    assert told["target"] == f"{SPOT}*1"
    assert told["slack_s"] == 10 * 3600
    assert {o["id"] for o in told["observation"]["options"]} == {f"{SPOT}*1", f"{SURE}*1"}


@pytest.mark.parametrize("market", [(offer(A, 10.0), on_demand()), (offer(A, 10.0),), (on_demand(free=0),)])
def test_a_deadline_that_nothing_can_meet_is_refused_with_the_nearest_and_its_price(market: tuple[Offer, ...]) -> None:
    s = stage(*market)
    with pytest.raises(Refusal, match=r"the earliest finish is 1.. h later.*for about") as refused:
        s.submit(wish(work=10, within=9))
    assert refused.value.code == "E407"
    s.submit(wish(work=10, within=12))
    assert s.job("j1").state is not JobState.FAILED


def test_a_job_that_waits_is_asked_again_only_for_news_of_its_pools() -> None:
    s = stage(offer(A, 10.0, free=0), offer(B, 12.0, free=0), on_demand(), policy="greedy")
    s.submit(wish(work=10, within=40))
    asked = s.state.revisits["j1"]
    s.now = type(s.now)(s.now.wall + MINUTE, s.now.market + MINUTE)  # type: ignore[arg-type]
    s.offers(offer(A, 10.2, free=0), offer(B, 12.0, free=0), on_demand())
    assert s.state.revisits["j1"] == asked
    s.offers(offer(A, 10.2, free=0), offer(B, 9.0, free=0), on_demand())
    assert s.state.revisits["j1"] > asked
    s.offers(offer(A, 10.2, free=8), offer(B, 9.0, free=0), on_demand())
    assert pool(s) == SPOT


def test_a_pass_that_moves_nobody_asks_for_the_world_once(monkeypatch: pytest.MonkeyPatch) -> None:
    s = stage(offer(A, 10.0), on_demand())
    for name in ("j1", "j2", "j3"):
        s.submit(wish(work=10, within=30))
        s.hello(*s.launch())
        s.started(name)
    asked: list[int] = []

    def counted(state: State, jobs: list[Job], *more: Any) -> Question:
        asked.append(len(jobs))
        return ask(state, jobs, *more)

    monkeypatch.setattr(obey, "ask", counted)
    s.state.due.update(dict.fromkeys(("j1", "j2", "j3"), s.now.market))
    s.tell(Place())
    assert asked == [3]


def test_of_a_job_that_is_over_nothing_is_remembered() -> None:
    s = stage(offer(A, 10.0, free=0), on_demand(), policy="slack")
    for _ in range(2):
        s.submit(wish(work=10, within=30))
    assert s.state.waits["j1"].pools is s.state.waits["j2"].pools  # thousands wait for the same pools
    s.act("j1", Action.CANCEL)
    known = {name: getattr(s.state, name) for name in ("revisits", "due", "waits", "said", "blind")}
    assert [name for name, of in known.items() if "j1" in of] == []


def test_a_pass_asks_about_a_few_and_the_next_ones_about_the_rest() -> None:
    s = stage(offer(A, 10.0, free=0), on_demand(), policy="greedy")
    for number in range(11):
        s.submit(wish(work=10, within=40), key=f"k{number}")
    s.offers(offer(A, 10.0, free=100), on_demand())
    assert all(s.job(f"j{number}").next_nodes for number in range(1, 12))


@dataclass(frozen=True)
class Quits:
    """A policy that stops whatever runs."""

    name: str = "quits"

    def choose(self, batch: Batch) -> Choices:
        return unvalued(batch, np.where(batch.running >= 0, IDLE, cheapest_sure(batch)))


def test_a_policy_may_stop_a_job_to_wait_and_it_leaves_with_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule, "_named", lambda _: Quits())
    s = stage(on_demand())
    s.run(wish(work=10, within=40))
    later(s, 1, on_demand())
    assert s.job().state is JobState.DRAINING
    assert s.asked(TellStop) or any(e.kind == "job.draining" for e in s.events)
    monkeypatch.setattr(rule, "_named", named)
    s.state.offers.clear()
    s.saved(5)
    s.exit(75, drained=True)
    assert s.job().state is JobState.QUEUED
    assert s.job().checkpoint_step == 5
    s.offers(offer(A, 10.0), on_demand())
    assert pool(s) in (SPOT, SURE)


@dataclass(frozen=True)
class Hops:
    """A policy that is always on its way to the cheapest spot."""

    name: str = "hops"

    def choose(self, batch: Batch) -> Choices:
        return unvalued(batch, np.where(spots(batch), batch.price, np.inf).argmin(axis=1))


def test_a_move_to_spot_that_nobody_answers_is_ended_by_the_net_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = replace(offer(A, 9.0), shape=replace(P5, accelerator=replace(H100, bandwidth_gb_s=1675, bf16_tflops=494.5)))
    s = stage(slow, on_demand())
    s.run(replace(wish(work=10, within=16), steps=None))
    monkeypatch.setattr(rule, "_named", lambda _: Hops())
    later(s, 1, slow, offer(B, 1.0), on_demand())
    assert pool(s) == OTHER
    for _ in range(12 * 6):
        s.wait(10 * MINUTE)
        s.offers(slow, offer(B, 1.0), on_demand())
        if pool(s) == SURE:
            break
    seen = look(s.state, s.job(), ask(s.state, [s.job()], s.policy, s.now), s.policy, s.now)
    assert seen is not None
    assert pool(s) == SURE
    assert seen.observation.now + seen.observation.job.left < seen.observation.job.deadline
    hands = [e.kind for e in s.events if e.kind in ("job.placed", "job.stayed")]
    assert hands == ["job.placed", "job.placed", "job.stayed", "job.placed"]  # the promise is kept without a flutter
