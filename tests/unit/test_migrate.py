"""Moves for money: only when they pay for themselves and a margin, seldom, and never losing a step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsched.scheduler.core import migrate
from dsched.scheduler.core.effect import TellStart, TellStop
from dsched.scheduler.core.elastic.options import options
from dsched.scheduler.core.market import Offer
from dsched.scheduler.core.message import Restarted
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.snapshot import Progress
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, MINUTE, Instant, Millis
from tests.support.question import NOW, ask, job
from tests.support.question import offer as quoted
from tests.support.stage import Stage, offer, spec
from tests.unit.test_timely import OTHER, SPOT, A, B, pool


def calm(zone: str, dollars: float, **changed: Any) -> Offer:
    return replace(offer(zone, dollars), hazard=0.01, **changed)


def running(*offers: Offer, hours: float = 40) -> Stage:
    s = Stage(*offers)
    s.policy = replace(s.policy, lease=Millis(1_000 * HOUR))
    s.run(spec(duration=Millis(round(hours * HOUR)), steps=1000))
    return s


def pass_time(s: Stage, minutes: int, *offers: Offer) -> None:
    """The market says `offers` every ten minutes; launches are answered, boots and drains are done at once."""
    for _ in range(minutes // 10):
        s.wait(10 * MINUTE)
        s.offers(*offers)
        settle(s)


def settle(s: Stage) -> None:
    if s.state.intents:
        s.hello(*s.launch())
    if s.job().state is JobState.DRAINING:
        s.saved(s.job().checkpoint_step + 1)
        s.exit(75, drained=True)
    if s.job().state is JobState.STARTING and s.job().nodes:
        s.started()
    for node in [n for n in s.state.nodes.values() if n.leaving and n.ref]:
        s.kill(node.id, "asked")


def stored(s: Stage) -> dict[str, Any]:
    """The reports of all decisions, by id."""
    return {c.key: c.fields["report"] for e in s.events for c in e.changes if c.table == "decision"}


def moves(s: Stage) -> int:
    return s.kinds().count("job.migrating")


def test_a_much_cheaper_place_is_moved_to() -> None:
    s = running(calm(A, 20.0), calm(B, 30.0))
    pass_time(s, 60, calm(A, 20.0), calm(B, 8.0))
    assert pool(s) == OTHER
    assert s.job().state is JobState.RUNNING
    assert "expected to cost" in next(e.why for e in s.events if e.kind == "job.migrating")


def test_it_works_on_until_the_new_machine_is_up_and_leaves_with_a_checkpoint() -> None:
    s = running(calm(A, 20.0), calm(B, 30.0))
    for _ in range(4):
        s.wait(10 * MINUTE)
        s.offers(calm(A, 20.0), calm(B, 8.0))
    assert s.job().state is JobState.RUNNING
    assert s.job().next_nodes
    s.hello(*s.launch())
    assert s.asked(TellStop)
    assert not s.asked(TellStart)


def test_a_gain_within_the_margin_is_no_reason() -> None:
    s = running(calm(A, 20.0), calm(B, 30.0))
    pass_time(s, 120, calm(A, 20.0), calm(B, 19.8))
    assert moves(s) == 0


def test_near_the_end_nothing_pays_for_a_move() -> None:
    s = running(calm(A, 20.0, boot=Millis(5 * MINUTE)), calm(B, 30.0, boot=Millis(5 * MINUTE)), hours=0.2)
    pass_time(s, 60, calm(A, 20.0, boot=Millis(5 * MINUTE)), calm(B, 14.0, boot=Millis(5 * MINUTE)))
    assert moves(s) == 0


def test_a_stormy_place_is_left_for_a_calm_one_of_the_same_price() -> None:
    s = running(calm(A, 20.0), calm(B, 30.0))
    stormy = replace(calm(A, 20.0), hazard=6.0, boot=Millis(6 * MINUTE))
    pass_time(s, 60, stormy, replace(calm(B, 20.0), boot=Millis(6 * MINUTE)))
    assert pool(s) == OTHER


def test_not_so_soon_after_its_start() -> None:
    s = running(calm(A, 20.0), calm(B, 30.0))
    pass_time(s, 20, calm(A, 20.0), calm(B, 8.0))
    assert moves(s) == 0


def test_prices_that_swing_do_not_make_jobs_swing() -> None:
    s = running(calm(A, 20.0), calm(B, 20.0))
    for swing in range(24):
        cheap, dear = (A, B) if swing % 2 else (B, A)
        pass_time(s, 60, calm(cheap, 10.0), calm(dear, 20.0))
    assert 1 <= moves(s) <= s.policy.moves_free + 24 // 4


def test_a_job_with_a_deadline_is_its_policys() -> None:
    s = Stage(calm(A, 20.0), calm(B, 30.0))
    s.policy = replace(s.policy, lease=Millis(1_000 * HOUR), deadline_policy="up")
    s.run(spec(duration=Millis(10 * HOUR), deadline=s.now.market + 100 * HOUR, steps=1000))
    s.state.progress["j1"] = Progress(step=1, steps=1000)
    pass_time(s, 120, calm(A, 20.0), calm(B, 8.0))
    assert moves(s) == 0  # Uniform Progress stays on spot until it is taken
    assert pool(s) == SPOT


def test_where_the_work_is_not_known_a_job_runs_on_for_as_long_as_it_has() -> None:
    s = Stage(calm(A, 20.0), calm(B, 30.0))
    s.policy = replace(s.policy, lease=Millis(1_000 * HOUR))
    s.run(spec())
    pass_time(s, 60, calm(A, 20.0), calm(B, 8.0))
    assert pool(s) == OTHER


@given(st.lists(st.tuples(st.floats(1, 100), st.floats(0, 3)), min_size=2, max_size=6), st.floats(0.0, 0.2))
def test_never_dearer_than_staying_by_more_than_the_margin(prices: list[tuple[float, float]], margin: float) -> None:
    """Whatever is on offer: what is moved to is expected to cost less than staying, by the margin at least."""
    market = [quoted(f"z{i}/p5.48xlarge/spot", dollars, hazard=risk) for i, (dollars, risk) in enumerate(prices)]
    one = job(duration=Millis(10 * HOUR))
    found = options(one, ask(one, *market), Policy(), NOW)
    here = found[0]
    move = migrate.better(found, here.id, 1.0, margin)
    stay = migrate.cost(here, 1.0, moves=False)
    if move is None:
        others = [migrate.cost(c, 1.0, moves=True) for c in found if c.id != here.id]
        assert min(others) >= stay * (1 - margin)
    else:
        assert migrate.cost(move.choice, 1.0, moves=True) < stay * (1 - margin)


def test_the_report_of_a_move_tells_of_every_offer() -> None:
    dear, gone = calm("use1-az5", 25.0), replace(calm("use1-az6", 5.0), free=0)
    s = running(calm(A, 20.0), calm(B, 30.0), dear, gone, hours=40)
    pass_time(s, 60, calm(A, 20.0), calm(B, 8.0), dear, gone)
    report = stored(s)[s.state.jobs["j1"].decision]
    lines = {line["offer"]: line for line in report["lines"]}
    assert lines.keys() == s.state.offers.keys()
    assert report["chosen"] == OTHER
    assert lines[gone.pool.id]["code"] == "no-capacity"
    assert all(line["code"] and line["why"] for id, line in lines.items() if id != OTHER)


def test_another_size_at_home_hides_no_better_place() -> None:
    """A smaller gang there would cost still less; but that is a resize, which has rules and times of its own."""
    here, there = (replace(offer(zone, dollars), hazard=1.0) for zone, dollars in ((A, 10.0), (B, 10.01)))
    s = Stage(here)
    s.policy = replace(s.policy, lease=Millis(1_000 * HOUR), move_margin=0.01)
    wish = spec(gpus=32, duration=Millis(400 * HOUR), steps=1000)
    s.run(wish)
    s.state.jobs["j1"] = replace(s.job(), spec=replace(wish, need=replace(wish.need, gpus_min=8)))
    s.state.reviewed["j1"] = Instant(s.now.market + 1_000 * HOUR)
    pass_time(s, 60, here, there)
    assert pool(s) == OTHER


def test_after_a_restart_running_jobs_have_their_turns_again() -> None:
    s = running(calm(A, 20.0), calm(B, 30.0))
    s.state.revisits.clear()  # not durable
    s.tell(Restarted())
    pass_time(s, 60, calm(A, 20.0), calm(B, 8.0))
    assert pool(s) == OTHER


def test_of_many_whose_turn_it_is_each_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "JUDGED_MAX", 0)  # as with a market of thousands of offers
    here = calm(A, 10.0, free=64)
    s = Stage(here)
    s.policy = replace(s.policy, lease=Millis(1_000 * HOUR))
    for _ in range(3 * migrate.LOOKS_MIN):
        s.run(spec(duration=Millis(40 * HOUR), steps=1000))
    seen: set[str] = set()
    for _ in range(6):
        before = dict(s.state.revisits)
        s.wait(10 * MINUTE)  # as a fast market has it: everybody's turn has come at every tick
        s.offers(here)
        seen |= {name for name, at in s.state.revisits.items() if before.get(name) != at}
    assert len(seen) == 3 * migrate.LOOKS_MIN
