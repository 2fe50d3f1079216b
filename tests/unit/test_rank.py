"""What an hour somewhere is worth: the reference gang, and the work that is left."""

from __future__ import annotations

import pytest

from dsched.providers import catalog
from dsched.scheduler.core.job import Checkpointing, Need
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.rank import reference, remaining_hours
from dsched.scheduler.core.report import Value
from dsched.scheduler.core.units import HOUR, MINUTE, SECOND, Millis, price
from tests.support.question import NOW, ask, hours, job, later, line, offer, placed, reported

H100 = "p5.48xlarge"
CALM = Policy(hazard_failure=0.0, write=Millis(1))
"""No failures and checkpoints that cost next to nothing: a paid hour is a useful hour, and sums can be done by hand."""


def valued(*args: object, policy: Policy = CALM, zone: str = "a", **fields: object) -> Value:
    value = line(reported(ask(*args, **fields), policy), zone).value  # type: ignore[arg-type]
    assert value is not None
    return value


def test_a_duration_counts_on_the_smallest_gang_of_the_first_gpu_named() -> None:
    need = Need(accelerators=("A100-80", "H100"), gpus_min=8, gpus_max=8)
    market = offer("a/p4de.24xlarge/on-demand", 27), offer(f"b/{H100}/on-demand", 55)
    question = ask(job(need=need, duration=hours(10)), *market)
    assert reference(need, question).words == "8 x A100-80"
    report = reported(question, CALM)
    slow, fast = line(report, "a").value, line(report, "b").value
    assert slow is not None
    assert fast is not None
    assert slow.hours == pytest.approx(10, rel=1e-3)
    assert fast.hours == pytest.approx(10 * 312 / 989, rel=1e-3)


def test_without_a_name_the_fastest_gpu_that_fits_counts() -> None:
    need = Need(gpus_min=1, gpus_max=8, gpu_memory_gib=40)
    question = ask(job(need=need), offer("a/g6e.xlarge/spot", 1), offer("b/p4d.24xlarge/spot", 9))
    assert reference(need, question).words == "1 x L40S"


def test_the_catalog_keeps_the_reference_when_the_gpu_is_not_on_sale() -> None:
    need = Need(accelerators=("B200", "H100"), gpus_min=8, gpus_max=8)
    sold = offer(f"a/{H100}/on-demand", 55)
    chips = catalog.load().accelerators
    assert reference(need, ask(job(), sold)).words == "8 x H100"
    assert reference(need, ask(job(), sold, accelerators=chips)).words == "8 x B200"


def test_work_left_follows_the_last_committed_checkpoint() -> None:
    assert remaining_hours(job(duration=hours(10), steps=100, checkpoint_step=25), ask(())) == 7.5
    assert remaining_hours(job(duration=hours(10), checkpoint_step=25), ask(())) == 10
    assert remaining_hours(job(), ask(())) is None


def test_what_the_engine_knows_of_the_work_beats_the_spec() -> None:
    got = valued(job(duration=hours(10)), offer(f"a/{H100}/on-demand", 20), remaining={"j1": 2.0})
    assert got.hours == pytest.approx(2, rel=1e-3)


def test_money_is_work_times_price_with_boot_and_rework_apart() -> None:
    slow_start = offer(f"a/{H100}/on-demand", 20, boot=Millis(6 * MINUTE))
    got = valued(job(duration=hours(10)), slow_start)
    assert got.compute == price(200)
    assert got.move == price(2)  # a tenth of an hour paid while booting
    assert got.redo is not None
    assert 0 <= got.redo < price(0.1)
    assert got.expected == got.compute + got.redo + got.move
    assert got.finish == pytest.approx(later(10.1), abs=2 * MINUTE)


def test_work_that_nobody_knows_has_a_rate_but_no_total() -> None:
    got = valued(job(), offer(f"a/{H100}/on-demand", 20))
    assert (got.hours, got.expected, got.finish) == (None, None, None)
    assert got.per_useful_hour == pytest.approx(price(20), rel=1e-3)


def test_a_boot_is_wall_time_and_costs_market_time() -> None:
    got = valued(job(duration=hours(10)), offer(f"a/{H100}/on-demand", 20, boot=SECOND), scale=3600.0)
    assert got.move == price(20)


def test_half_off_is_told() -> None:
    assert valued(job(), offer(f"a/{H100}/spot", 20, on_demand=40)).off == 0.5
    assert valued(job(), offer(f"a/{H100}/spot", 20)).off is None


@pytest.mark.parametrize(
    ("quote", "on_demand", "limit", "ceiling"),
    [(20, 55, None, 40), (40, 55, None, 55), (20, None, None, 40), (60, 55, None, 60), (20, 55, 25, 25)],
)
def test_a_spot_price_may_rise_within_a_lease(
    quote: float, on_demand: float | None, limit: float | None, ceiling: float
) -> None:
    need = Need(accelerators=("H100",), gpus_min=8, gpus_max=8, price_max=None if limit is None else price(limit))
    got = placed(ask(job(need=need), offer(f"a/{H100}/spot", quote, on_demand=on_demand)))
    assert got is not None
    assert got.price_max == price(ceiling)


def test_a_price_by_contract_does_not_rise() -> None:
    got = placed(ask(job(), offer(f"a/{H100}/on-demand", 20, on_demand=20)))
    assert got is not None
    assert got.price_max == price(20)


def test_the_reservation_covers_lease_and_drain_at_the_ceiling_in_market_time() -> None:
    policy = Policy(lease=Millis(MINUTE))
    question = ask(job(drain=SECOND), offer(f"a/{H100}/on-demand", 20), scale=60.0)
    got = placed(question, policy)
    assert got is not None
    assert got.reserve == price(20) * 61 * MINUTE  # 61 wall seconds at 60x


def test_the_users_checkpoint_interval_is_kept_and_the_automatic_one_is_bounded() -> None:
    market = offer(f"a/{H100}/spot", 20)
    told = placed(ask(job(checkpoint=Checkpointing(every=Millis(7 * MINUTE))), market))
    auto = placed(ask(job(), market))
    calm = placed(ask(job(), offer(f"a/{H100}/on-demand", 20)))
    assert told is not None
    assert auto is not None
    assert calm is not None
    assert told.checkpoint_every == 7 * MINUTE
    assert auto.checkpoint_every < Policy().checkpoint_max
    assert calm.checkpoint_every == Policy().checkpoint_max


def test_the_checkpoint_interval_is_wall_time_whatever_the_pace_of_the_market() -> None:
    every = Checkpointing(every=Millis(3_000))
    got = placed(ask(job(checkpoint=every), offer(f"a/{H100}/spot", 20), scale=60.0))
    assert got is not None
    assert got.checkpoint_every == 3_000


def test_a_larger_gang_is_interrupted_more_often() -> None:
    pair = Need(accelerators=("H100",), gpus_min=16, gpus_max=16)
    one, two = (valued(job(need=n) if n else job(), offer(f"a/{H100}/spot", 20)) for n in (None, pair))
    assert two.hazard == pytest.approx(2 * one.hazard)
    assert two.goodput < one.goodput


def test_a_finished_job_has_nothing_left_to_pay() -> None:
    got = valued(job(), offer(f"a/{H100}/on-demand", 20), remaining={"j1": -1.0})
    assert (got.expected, got.finish) == (0, NOW.market)


def test_the_hours_are_market_hours() -> None:
    fast = ask(job(duration=hours(10)), offer(f"a/{H100}/on-demand", 20), scale=600.0)
    value = line(reported(fast, CALM), "a").value
    assert value is not None
    assert value.finish == pytest.approx(NOW.market + 10 * HOUR, rel=1e-6)
