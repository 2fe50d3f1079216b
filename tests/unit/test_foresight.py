"""Outlooks for the jobs of the daemon: asked for by the core, made of the journal by a worker, heeded once there."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsched.scheduler.core.asking import ask
from dsched.scheduler.core.deadline.outlook import Library, Outlook
from dsched.scheduler.core.deadline.table import STRIDE
from dsched.scheduler.core.effect import Foresee
from dsched.scheduler.core.hold import Hold
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.message import MarketForeseen, Submit
from dsched.scheduler.core.sighting import Sight, Sighting
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.timely import outlooks
from dsched.scheduler.core.timely.foresight import Foreseen, Request
from dsched.scheduler.core.timely.judge import judge
from dsched.scheduler.core.units import HOUR, MINUTE, Instant, Millis, price
from dsched.scheduler.engine.foresee import Foreseer
from dsched.scheduler.engine.journal import Journal, read
from dsched.scheduler.engine.seer import foreseen
from tests.support.stage import Stage, offer
from tests.unit.test_timely import SPOT, A, B, deadline_of, later, on_demand, pool, wish


def stage() -> Stage:
    made = Stage(offer(A, 10.0), offer(B, 12.0), on_demand())
    made.policy = replace(made.policy, deadline_policy="slack")
    return made


def asked(s: Stage) -> Request:
    (effect,) = s.asked(Foresee)
    request: Request = effect.request
    return request


def made(request: Request, folder: Path) -> Foreseen:
    return Foreseen(request=request, outlook=foreseen(request, folder, Library()))


def test_a_first_job_is_placed_at_once_and_an_outlook_is_asked_for(tmp_path: Path) -> None:
    s = stage()
    s.submit(wish(work=10, within=20))
    request = asked(s)
    assert s.job().next_nodes
    assert [zone.pool for zone in request.zones] == [SPOT, f"local/{B}/p5.48xlarge/spot"]
    assert request.on_demand == pytest.approx(98.32)
    assert request.horizon >= 20 * 3600


def test_jobs_of_a_class_share_one_request() -> None:
    s = stage()
    s.submit(wish(work=10, within=20))
    s.submit(wish(work=9, within=19))
    assert s.asked(Foresee) == []


def test_a_job_stays_in_its_class_when_it_runs_and_when_its_checkpoint_interval_changes() -> None:
    s = stage()
    s.run(wish(work=10, within=20))
    classes = set()
    for interval in (MINUTE, 20 * MINUTE, 90 * MINUTE):
        s.state.intervals["j1"] = Millis(interval)
        judged = judge(s.state, s.job(), ask(s.state, [s.job()], s.policy, s.now), s.policy, s.now)
        assert judged is not None
        assert judged.wanted is not None
        classes.add(judged.wanted.base)
    s.submit(wish(work=10, within=20))
    assert classes == {s.state.blind["j2"]}


def test_with_an_outlook_the_named_policy_decides_and_prices_the_slack(tmp_path: Path) -> None:
    s = stage()
    s.submit(wish(work=10, within=20))
    request = asked(s)
    s.tell(MarketForeseen(request=request, foreseen=made(request, tmp_path)))
    s.submit(wish(work=9, within=19))
    told = deadline_of(s)
    assert told["policy"] == "slack"
    assert told["outlook"]["base"] == request.base
    assert all(cost is not None for cost in told["costs"].values())


def test_an_old_outlook_serves_until_the_next_is_made(tmp_path: Path) -> None:
    s = stage()
    s.submit(wish(work=30, within=90))
    request = asked(s)
    s.tell(MarketForeseen(request=request, foreseen=made(request, tmp_path)))
    again = []
    for _ in range(8 * 6):
        s.wait(10 * MINUTE)
        again += s.asked(Foresee)
        s.offers(offer(A, 10.0), offer(B, 12.0), on_demand())
        again += s.asked(Foresee)
    s.submit(wish(work=9, within=60))
    again += s.asked(Foresee)
    assert len(again) >= 1
    assert again[-1].request.base == request.base
    assert deadline_of(s)["policy"] == "slack"


def test_a_short_job_that_asks_for_the_next_outlook_asks_for_the_long_ones_of_its_class_too(tmp_path: Path) -> None:
    s = stage()
    s.submit(wish(work=30, within=90))
    request = asked(s)
    s.tell(MarketForeseen(request=request, foreseen=made(request, tmp_path)))
    s.state.revisits.clear()  # the long one is not looked at first
    s.now = replace(s.now, market=Instant(s.now.market + 7 * HOUR))
    s.offers(offer(A, 10.0), offer(B, 12.0), on_demand())
    s.submit(wish(work=9, within=19))
    again = asked(s)
    assert (again.base, again.horizon, again.slack_max) == (request.base, request.horizon, request.slack_max)


def test_an_outlook_that_could_not_be_made_is_asked_for_again() -> None:
    s = stage()
    s.submit(wish(work=10, within=20))
    assert deadline_of(s)["policy"] == "greedy"  # for the seconds until it comes
    s.tell(MarketForeseen(request=asked(s), foreseen=None))
    s.wait(MINUTE)
    s.submit(wish(work=9, within=19))
    assert s.asked(Foresee)
    assert deadline_of(s)["policy"] == "up"  # which needs none


@given(st.lists(st.integers(1_000_000, 40_000_000), min_size=2, max_size=2))
@settings(max_examples=25, deadline=None)
def test_prices_do_not_move_an_elastic_job_to_another_class(prices: list[int]) -> None:
    """Its sizes work equally cheap in one pool, but for the last digit of a quotient."""
    bases = set()
    for micro in prices:
        s = Stage(offer(A, micro / 1e6, free=8), on_demand())
        s.policy = replace(s.policy, deadline_policy="slack")
        one = replace(wish(work=10, within=40), need=replace(wish(work=10, within=40).need, gpus_max=56))
        s.submit(one)
        bases.add(asked(s).base)
    assert len(bases) == 1


def test_an_outlook_is_not_asked_for_twice_while_the_worker_has_the_question_unless_it_is_lost() -> None:
    s = stage()
    s.submit(wish(work=10, within=20))
    request = asked(s)
    s.wait(2 * MINUTE)
    s.submit(wish(work=9, within=19))
    assert s.asked(Foresee) == []
    s.now = replace(s.now, wall=Instant(s.now.wall + outlooks.UNANSWERED))
    s.submit(wish(work=9, within=18))
    assert asked(s).base == request.base


def test_the_outlook_that_was_used_least_lately_makes_room(tmp_path: Path) -> None:
    s = stage()
    s.submit(wish(work=10, within=20))
    mine = made(asked(s), tmp_path)
    s.tell(MarketForeseen(request=mine.request, foreseen=mine))
    others = [replace(mine, request=replace(mine.request, base=f"class{n}")) for n in range(outlooks.OUTLOOKS)]
    for n, other in enumerate(others):
        s.submit(wish(work=9, within=19, name=f"n{n}"))  # uses its own
        s.tell(MarketForeseen(request=other.request, foreseen=other))
    assert len(s.state.outlooks) == outlooks.OUTLOOKS
    assert mine.request.base in s.state.outlooks
    assert "class0" not in s.state.outlooks


def journal_of_a_week(folder: Path, now: int) -> None:
    """A: up but for ten minutes an hour. B: up all the time."""
    lines = []
    for tick in range(6 * 24 * 7):
        at = Instant(now - 7 * 24 * HOUR + tick * 10 * MINUTE)
        for zone, dollars, free in ((A, 10.0, tick % 6), (B, 12.0, 8)):
            lines.append(
                Sighting(
                    at=at,
                    kind=Sight.QUOTE,
                    pool=f"local/{zone}/p5.48xlarge/spot",
                    region="us-east",
                    provider="local",
                    price=price(dollars),
                    free=free,
                )
            )
    Journal(folder).append(lines)


def request_at(now: int) -> Request:
    s = stage()
    s.submit(wish(work=10, within=20))
    return replace(asked(s), made=Instant(now))


def test_the_outlook_knows_from_the_journal_which_pool_is_stormy(tmp_path: Path) -> None:
    now = 2_000 * HOUR
    journal_of_a_week(tmp_path, now)
    outlook = foreseen(request_at(now), tmp_path, Library())
    assert outlook.made == pytest.approx(now / 1000, abs=600)
    assert outlook.tiers.up[0] > 1.5 * outlook.tiers.up[-1]  # the cheapest tier is A alone


def test_the_same_journal_gives_the_same_outlook(tmp_path: Path) -> None:
    now = 2_000 * HOUR
    journal_of_a_week(tmp_path, now)
    one, two = (foreseen(request_at(now), tmp_path, Library()) for _ in range(2))
    assert (one.tiers.idle == two.tiers.idle).all()


def test_a_worker_process_makes_it_and_ends_with_its_pipe(tmp_path: Path) -> None:
    journal, heard = Journal(tmp_path), Sighting(at=Instant(1_999 * HOUR), kind=Sight.TAKEN, pool=SPOT)

    async def ask() -> tuple[Outlook, int]:
        foreseer = Foreseer(loop=None, journal=journal)  # type: ignore[arg-type]
        journal.note(heard)
        got = await foreseer.make(request_at(2_000 * HOUR))
        assert list(read(tmp_path)) == [heard]  # or the same request made again later would give another outlook
        process = foreseer.worker.process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        return got, await process.wait()

    outlook, status = asyncio.run(ask())
    assert outlook.changeover == pytest.approx(30, rel=0.1)
    assert status == 0
    assert not any(name.endswith(".lock") for name in os.listdir(tmp_path))


def test_a_question_that_is_given_up_does_not_leave_its_answer_to_the_next(tmp_path: Path) -> None:
    short = request_at(2_000 * HOUR)
    long = replace(short, horizon=20 * short.horizon)

    async def ask() -> Outlook:
        foreseer = Foreseer(loop=None, journal=Journal(tmp_path))  # type: ignore[arg-type]
        given_up = asyncio.create_task(foreseer.make(short))
        while foreseer.worker.process is None:
            await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        got = await foreseer.make(long)
        process = foreseer.worker.process
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        return got

    grid = asyncio.run(ask()).grid
    assert grid.step * STRIDE * grid.kept >= long.horizon


@dataclass
class Posted:
    """The loop's post box."""

    told: list[object] = field(default_factory=list)

    def post(self, message: object) -> None:
        self.told.append(message)


def test_an_answer_that_is_none_is_told_as_no_outlook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speaks = tmp_path / "speaks"  # a length, and so many bytes that mean nothing
    speaks.write_text("#!/bin/sh\nprintf '\\004\\000\\000\\000\\000\\000\\000\\000abcd'\nexec cat >/dev/null\n")
    speaks.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(speaks))
    box, request = Posted(), request_at(2_000 * HOUR)
    foreseer = Foreseer(loop=box, journal=Journal(tmp_path))  # type: ignore[arg-type]

    async def ask() -> None:
        asking = asyncio.create_task(foreseer.foresee(request))
        while (process := foreseer.worker.process) is None:
            await asyncio.sleep(0)
        await asking
        await process.wait()

    asyncio.run(ask())
    assert box.told == [MarketForeseen(request=request, foreseen=None)]
    assert foreseer.failed == 1


def test_without_sure_capacity_a_late_job_runs_as_soon_as_it_can(tmp_path: Path) -> None:
    s = Stage(offer(A, 10.0, free=0), offer(B, 12.0, free=0))
    s.policy = replace(s.policy, deadline_policy="slack")
    s.submit(wish(work=10, within=12))
    request = asked(s)
    s.tell(MarketForeseen(request=request, foreseen=made(request, tmp_path)))
    later(s, 3, offer(A, 10.0, free=0), offer(B, 12.0, free=0))
    assert s.job().state is JobState.QUEUED
    s.offers(offer(A, 10.0), offer(B, 12.0))
    assert deadline_of(s)["policy"] == "slack"
    assert pool(s) == SPOT


def test_the_reason_to_wait_names_the_price_of_an_hour_of_slack(tmp_path: Path) -> None:
    s = Stage(offer(A, 10.0, free=0), offer(B, 12.0, free=0), on_demand())
    s.policy = replace(s.policy, deadline_policy="slack")
    s.submit(wish(work=10, within=30))
    request = asked(s)
    s.tell(MarketForeseen(request=request, foreseen=made(request, tmp_path)))
    s.submit(wish(work=9, within=29))
    assert re.search(r"slack 20\.0 h at \$\d+\.\d\d/h; buys sure capacity at", s.job("j2").reason)
    assert deadline_of(s)["slack_price"] > 0


@pytest.mark.parametrize("tight_first", [True, False])
def test_the_only_slot_that_is_held_goes_to_the_job_whose_slack_is_dearest(tight_first: bool, tmp_path: Path) -> None:
    s = stage()
    s.submit(wish(work=10, within=40))
    request = asked(s)
    s.tell(MarketForeseen(request=request, foreseen=made(request, tmp_path)))
    s.policy = replace(s.policy, held=(Hold("block", "local/a/p5*", 1, price(50.0)),))
    wishes = [wish(work=10, within=11, name="tight"), wish(work=10, within=40, name="loose")]
    for n, one in enumerate(wishes if tight_first else reversed(wishes)):
        s._handle(Submit(spec=one, key=str(n)))
    s.offers(offer("a", 60.0, market=Market.RESERVED), offer(A, 10.0), offer(B, 12.0), on_demand())
    markets = {job.spec.name: pool(s, job.id).rpartition("/")[2] for job in s.state.jobs.values()}
    assert markets["tight"] == "reserved"
    assert markets["loose"] == "spot"  # and does not wait for the slot, which is taken
