"""Capacity that is held for us: nothing more to pay while slots last, booked by the hour, left before its end."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dsched.scheduler.config import ConfigError
from dsched.scheduler.config import read as settings
from dsched.scheduler.core import hold
from dsched.scheduler.core.check import EndsSoon, OverQuota, check
from dsched.scheduler.core.effect import CallLaunch, TellStop
from dsched.scheduler.core.hold import Hold
from dsched.scheduler.core.holdings import holdings
from dsched.scheduler.core.job import Need
from dsched.scheduler.core.market import Market, Offer
from dsched.scheduler.core.message import Tick
from dsched.scheduler.core.placement import Policy, Question
from dsched.scheduler.core.plan import Plan
from dsched.scheduler.core.quota import Left
from dsched.scheduler.core.report import Why
from dsched.scheduler.core.snapshot import After, LedgerEntry
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, MINUTE, Instant, Millis, charge, price, to_charge
from dsched.scheduler.held import read
from tests.property.test_crowd import solve as in_crowd
from tests.support.question import NOW, ask, hours, job, later, line, solve
from tests.support.question import offer as offered
from tests.support.stage import Stage, offer, spec


def crowded(question: Question) -> Plan:
    return in_crowd(question, Policy())


H100, A100 = "p5.48xlarge", "p4d.24xlarge"
POOL = "local/a/p5.48xlarge/reserved"


def stage(*holds: Hold, free: int = 8, spot: float = 40.0) -> Stage:
    """Reserved capacity at $60/h on the list, and dearer or cheaper spot beside it."""
    made = Stage()
    made.policy = replace(made.policy, held=holds, lease=Millis(100 * HOUR))
    made.now = replace(made.now, market=Instant(1_000 * HOUR))
    made.tell(Tick())
    see(made, free=free, spot=spot)
    return made


def see(made: Stage, *, free: int = 8, spot: float = 40.0) -> None:
    made.offers(offer("a", 60.0, market=Market.RESERVED, free=free), offer("b", spot))


def held(limit: int = 2, *, name: str = "block", dollars: float = 50.0, hours: float | None = None) -> Hold:
    end = None if hours is None else Instant(1_000 * HOUR + round(hours * HOUR))
    return Hold(name, "local/a/p5*", limit, price(dollars), None, end)


def test_a_slot_costs_nothing_more_until_all_are_used_and_then_the_step_is_paid() -> None:
    play = stage(held(2))
    names = [play.submit(spec(f"s{n}")) for n in range(3)]
    rates = [sum(n.rate for n in play.state.nodes.values() if n.job == name) for name in names]
    assert rates == [hold.SUNK, hold.SUNK, price(40)]


def test_without_a_hold_the_same_capacity_costs_its_list_price() -> None:
    play = stage(spot=70.0)
    name = play.submit()
    assert [n.rate for n in play.state.nodes.values() if n.job == name] == [price(60)]


def test_a_budget_sets_only_the_marginal_price_aside() -> None:
    play = stage(held(1))
    play.submit(replace(spec("s"), budget="small"))
    (intent,) = play.state.intents.values()
    assert intent.price_max == hold.SUNK


def test_the_bill_of_two_hours_by_hand() -> None:
    """Two machines held at $50/h for two hours, one of them used for one: $200 sunk, $0 for the job, $98.32 beside."""
    play = stage(held(2))
    name = play.run()
    play.wait(HOUR)
    see(play)
    play.exit(0)
    play.kill(next(iter(play.state.nodes)), by="terminated")
    play.wait(HOUR)
    booked = [c.fields for e in play.events for c in e.changes if c.table == "ledger"]
    sunk = [entry for entry in booked if entry["kind"] == "hold"]
    assert [entry["owed"] for entry in sunk] == [charge(price(100), HOUR)] * 2
    assert sum(entry["baseline"] for entry in sunk) == 0
    assert play.state.budgets[hold.BUDGET].spent == to_charge(200_000_000)  # type: ignore[arg-type]
    row = play.job(name)
    assert row.state is JobState.SUCCEEDED
    assert (row.spent, row.baseline) == (charge(hold.SUNK, HOUR), charge(price(98.32), HOUR))
    (told,) = holdings(LedgerEntry(**entry) for entry in booked)
    assert (told.name, told.paid, told.share) == ("block", charge(price(100), Millis(2 * HOUR)), 0.25)
    assert told.beside == row.baseline


def test_an_hour_is_booked_once_and_hours_without_a_daemon_are_made_up_for() -> None:
    play = stage(held(1, dollars=10.0))
    for _ in range(4):
        play.wait(30 * MINUTE)
    play.wait(3 * HOUR)
    booked = [c.fields for e in play.events for c in e.changes if c.table == "ledger"]
    assert [(b["end"] - b["start"]) // HOUR for b in booked] == [1, 1, 3]
    assert play.state.budgets[hold.BUDGET].spent == charge(price(10), Millis(5 * HOUR))


def test_a_block_is_paid_to_its_end_and_no_further() -> None:
    play = stage(held(1, dollars=10.0, hours=2.5))
    play.wait(9 * HOUR)
    play.wait(HOUR)
    assert play.state.budgets[hold.BUDGET].spent == charge(price(10), Millis(5 * HOUR // 2))


def test_what_ends_first_is_used_first() -> None:
    play = Stage()
    play.now = replace(play.now, market=Instant(1_000 * HOUR))
    lasting, ending = held(1, name="all-year"), replace_pattern(held(1, hours=30.0), "local/b/p5*")
    play.policy = replace(play.policy, held=(lasting, ending))
    play.offers(*(offer(zone, 60.0, market=Market.RESERVED) for zone in "ab"))
    play.submit(replace(spec(), duration=Millis(3 * HOUR)))
    assert [n.pool.zone for n in play.state.nodes.values()] == ["b"]
    play.submit(replace(spec("long"), duration=Millis(90 * HOUR)), key="k-long")
    assert [n.pool.zone for n in play.state.nodes.values()] == ["b", "a"]


def replace_pattern(one: Hold, pattern: str) -> Hold:
    return one._replace(pattern=pattern)


def test_a_job_with_much_to_do_goes_where_it_can_stay() -> None:
    block = replace(offered(f"a/{H100}/reserved", 0.000001), until=later(5))
    year = offered(f"b/{H100}/reserved", 0.000011)
    question = ask([job("long", duration=hours(90)), job("short", duration=hours(2))], block, year)
    assert {p.job: p.pool.zone for p in solve(question).placements} == {"long": "b", "short": "a"}


def test_a_job_longer_than_the_block_moves_off_before_its_end() -> None:
    play = stage(held(1, hours=3.0))
    name = play.run(replace(spec(), duration=Millis(50 * HOUR)))
    assert {n.pool.market for n in play.state.nodes.values()} == {Market.RESERVED}
    play.wait(2 * HOUR)
    see(play)
    play.wait(50 * MINUTE)
    row = play.job(name)
    assert row.after is After.MOVE
    assert row.reason.startswith("placed on 1 x local/b/")
    moved = [e.why for e in play.events if e.kind == "job.migrating"]
    assert moved
    assert moved[0].startswith(hold.ENDS)
    assert row.state is JobState.RUNNING, "it works on until its new machines are up"


def test_a_job_without_another_place_leaves_at_the_last_moment() -> None:
    play = stage(held(1, hours=3.0))
    name = play.run()
    play.offers(offer("a", 60.0, market=Market.RESERVED))
    play.wait(2 * HOUR + 50 * MINUTE)
    for _ in range(9):
        play.wait(10_000)
    assert play.job(name).state is JobState.RUNNING
    play.wait(8 * MINUTE + 15_000)
    assert play.job(name).state is JobState.DRAINING
    assert len(play.asked(TellStop)) == 1
    told = [e for e in play.events if e.kind == "job.migrating"]
    assert 0 < len(told) < 5, "it does not ask again at every tick"


def test_nobody_is_sent_to_what_ends_in_minutes() -> None:
    ending = replace(offered(f"a/{H100}/reserved", 0.000001), until=later(0.4))
    question = ask(job(), ending, offered(f"b/{H100}/spot", 20))
    for plan in (solve(question), crowded(question)):
        assert [p.pool.zone for p in plan.placements] == ["b"]
        assert line(plan.reports["j1"], "a").code is Why.ENDS_SOON
        assert check(question, plan) == ()


def test_the_checker_sees_who_is_sent_to_what_ends() -> None:
    good = offered(f"a/{H100}/reserved", 0.000001)
    plan = solve(ask(job(), good))
    late = replace(good, until=later(0.4))
    assert EndsSoon("j1", good.pool.id, later(0.4)) in check(ask(job(), late), plan)


def test_the_checker_counts_slots_over_all_pools_of_a_hold() -> None:
    both = [offered(f"{zone}/{H100}/reserved", 0.000001) for zone in "ab"]
    two = Hold("h", "aws/*/p5*", 2, price(50))
    question = ask([job(f"j{n}") for n in range(4)], *both, offered(f"c/{H100}/spot", 20), quotas=(Left(two, 2),))
    for plan in (solve(question), crowded(question)):
        assert sorted(p.pool.zone for p in plan.placements) == ["a", "a", "c", "c"]
        assert check(question, plan) == ()
    plan = solve(ask(question.jobs, *both))
    assert OverQuota("aws/*/p5*", 4, 2) in check(replace(question, offers={o.pool.id: o for o in both}), plan)


def contested(*slots: Offer) -> Question:
    """Two jobs that came in the wrong order: the second saves more by the slot, since it has no cheap place besides."""
    earlier = replace(NOW, market=Instant(NOW.market - 1))
    any_gpu = job("modest", need=Need(gpus_min=8, gpus_max=8), submitted=earlier)
    picky = job("picky")
    return ask([any_gpu, picky], *slots, offered(f"c/{A100}/spot", 5), offered(f"d/{H100}/on-demand", 90))


def test_the_only_slot_goes_to_whom_it_saves_most() -> None:
    question = contested(offered(f"a/{H100}/reserved", 0.000001, free=1))
    for plan in (solve(question), crowded(question)):
        assert {p.job: p.pool.zone for p in plan.placements} == {"modest": "c", "picky": "a"}
        assert check(question, plan) == ()


def test_without_a_slot_the_order_is_that_of_age() -> None:
    assert [p.job for p in solve(contested()).placements] == ["modest", "picky"]


def test_a_job_on_paid_capacity_moves_to_a_slot_that_becomes_free() -> None:
    play = stage(held(1), free=0)
    name = play.run(replace(spec(), duration=Millis(50 * HOUR)))
    assert {n.pool.market for n in play.state.nodes.values()} == {Market.SPOT}
    for _ in range(6):
        play.wait(20 * MINUTE)
        see(play, free=1)
    assert any(n.pool.id == POOL for n in play.state.nodes.values()), play.job(name).reason
    assert play.asked(CallLaunch) or play.state.intents


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"pool": "aws/p5", "count": 1, "price": 3}, "no glob over provider/zone/shape"),
        ({"pool": "a/b/c", "count": 0, "price": 3}, "count = 0"),
        ({"pool": "a/b/c", "count": 1}, "price = None"),
        ({"pool": "a/b/c", "count": 1, "price": -3}, "not an amount of dollars"),
        ({"pool": "a/b/c", "count": 1, "price": 3, "until": datetime(2027, 1, 1)}, "with its zone"),  # noqa: DTZ001
        ({"pool": "a/b/c", "count": 1, "price": 3, "til": 1}, "unknown key 'til'"),
    ],
)
def test_a_wrong_hold_is_told_its_remedy(row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read(row)


def test_a_hold_is_read_from_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    text = '[[held]]\npool = "aws/use1-az4/p5*"\ncount = 4\nprice = 43.2\nuntil = 2027-01-31T11:30:00Z\n'
    (tmp_path / "config.toml").write_text(text)
    (row,) = settings(["--state", str(tmp_path)]).held
    end = Instant(round(datetime(2027, 1, 31, 11, 30, tzinfo=UTC).timestamp() * 1000))
    assert read(row) == Hold("aws/use1-az4/p5*", "aws/use1-az4/p5*", 4, price(43.2), None, end)
    (tmp_path / "config.toml").write_text(text + text)
    with pytest.raises(ConfigError, match="give each a name"):
        settings(["--state", str(tmp_path)])
