"""Rows of the wire: figures that can be checked by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from dsched.scheduler.api.fleet import filled, node_row, offer_row
from dsched.scheduler.api.money import bill, budget_rows
from dsched.scheduler.api.rows import JobRows, held_nodes, job_row, shown
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.message import SetBudget
from dsched.scheduler.core.snapshot import Progress
from dsched.scheduler.core.state import JobState
from dsched.scheduler.core.units import HOUR, Instant, MicroUsdPerHour, Millis, usd
from tests.support.stage import H100, P5, Stage, offer, spec


def running(*, scale: float = 1.0, **changed: Any) -> Stage:
    """One job that runs on one node for 20 $/h; on demand it would be 98.32 $/h."""
    stage = Stage(offer("use1-az1", 20.0), scale=scale)
    stage.run(spec(**changed))
    return stage


def row(stage: Stage, job: str = "j1") -> Any:
    return job_row(stage.state, stage.job(job), stage.now, held_nodes(stage.state))


def test_a_running_job_shows_where_it_is_and_what_it_burns() -> None:
    got = row(running())
    assert (got["state"], got["where"], got["next"]) == ("running", "local/use1-az1/p5.48xlarge/spot", "")
    assert (got["accelerator"], got["gpus"], got["nodes"], got["burn"]) == ("H100", 8, 1, "20.00")


def test_an_hour_that_is_not_booked_yet_is_spent_all_the_same() -> None:
    stage = running()
    stage.now = replace(stage.now, market=Instant(stage.now.market + HOUR))
    got = row(stage)
    assert (got["spent"], got["baseline"], got["saved"]) == ("20.00", "98.32", "78.32")


def test_a_job_that_moves_shows_where_it_goes() -> None:
    stage = running()
    stage.offers(offer("use1-az1", 20.0), offer("use1-az4", 21.0))
    stage.notice(stage.job().nodes[0])
    got = row(stage)
    assert got["state"] == "draining"
    assert got["notice_wall"] == stage.now.wall + 120_000
    assert got["next"] == "local/use1-az4/p5.48xlarge/spot"


def test_the_time_left_is_market_time_at_the_pace_of_the_steps() -> None:
    stage = running(scale=60.0, steps=1_000)
    stage.state.progress["j1"] = Progress(step=400, step_ms=100.0, at=stage.now.wall)
    got = row(stage)
    assert (got["step"], got["steps"], got["eta_s"]) == (400, 1_000, 600 * 0.1 * 60)
    assert got["slack_s"] is None, "there is no deadline"


def test_slack_is_what_the_deadline_leaves_beyond_the_work() -> None:
    stage = Stage(offer("use1-az1", 20.0))
    deadline = Instant(stage.now.market + 10 * HOUR)
    stage.run(spec(deadline=deadline, duration=Millis(2 * HOUR), steps=100))
    stage.state.progress["j1"] = Progress(step=50, step_ms=36_000.0, at=stage.now.wall)
    assert row(stage)["slack_s"] == 10 * 3600 - 50 * 36.0


def test_the_slack_of_a_job_that_tells_no_steps_heeds_how_fast_its_gang_is() -> None:
    half = replace(P5, accelerator=replace(H100, name="H100-half", bf16_tflops=H100.bf16_tflops / 2))
    slow, fast = replace(offer("use1-az1", 20.0), shape=half), offer("use1-az2", 98.32, free=0)
    stage = Stage(slow, fast)
    stage.policy = replace(stage.policy, lease=Millis(100 * HOUR))
    stage.run(spec(deadline=Instant(stage.now.market + 20 * HOUR), duration=Millis(4 * HOUR)))
    stage.now = replace(stage.now, market=Instant(stage.now.market + 2 * HOUR))
    assert row(stage)["slack_s"] == 18 * 3600 - (4 - 2 / 2) * 3600


def test_a_paused_job_stands_at_its_checkpoint_and_has_no_pace() -> None:
    stage = running(steps=100)
    stage.saved(40)
    stage.state.progress["j1"] = Progress(step=55, step_ms=10.0, tokens_per_s=5.0, at=stage.now.wall)
    job = replace(stage.job(), state=JobState.PAUSED, nodes=())
    got = job_row(stage.state, job, stage.now, {})
    assert (got["step"], got["eta_s"], got["tokens_per_s"], got["burn"]) == (40, None, None, "0.00")


def test_an_ended_job_is_shown_for_an_hour_on_the_wall() -> None:
    stage = running(scale=600.0)
    stage.exit(0)
    assert shown(stage.state, stage.job(), stage.now)
    stage.wait(HOUR - 1_000)
    assert shown(stage.state, stage.job(), stage.now)
    stage.wait(2_000)
    assert not shown(stage.state, stage.job(), stage.now)


def test_a_queued_job_is_encoded_once_and_a_running_one_each_time() -> None:
    stage = running()
    stage.submit(spec("waits", gpus=64 * 8))
    rows, held = JobRows(), held_nodes(stage.state)
    waiting = stage.job("j2")
    assert rows.encoded(stage.state, waiting, stage.now, held) is rows.encoded(stage.state, waiting, stage.now, held)
    before = rows.encoded(stage.state, stage.job(), stage.now, held)
    stage.now = replace(stage.now, market=Instant(stage.now.market + HOUR))
    assert rows.encoded(stage.state, stage.job(), stage.now, held) != before


def test_a_kept_row_gives_way_to_a_newer_one() -> None:
    stage = Stage(offer("use1-az1", 20.0))
    stage.submit(spec(gpus=64 * 8))
    rows, now = JobRows(), stage.now
    rows.encoded(stage.state, stage.job(), now, {})
    changed = replace(stage.job(), reason="the budget is spent")
    assert msgspec.json.decode(rows.encoded(stage.state, changed, now, {}))["reason"] == "the budget is spent"
    stage.state.progress["j1"] = Progress(step=1, loss=2.5, at=now.wall)
    assert msgspec.json.decode(rows.encoded(stage.state, changed, now, {}))["loss"] == 2.5


def test_a_cool_pool_tells_how_long_and_why() -> None:
    stage = Stage(offer("use1-az1", 20.0), offer("use1-az4", 30.0))
    stage.submit()
    stage.refuse(cooldown=180_000)
    cold = stage.state.offers["local/use1-az1/p5.48xlarge/spot"]
    got = offer_row(stage.state, cold, stage.now)
    assert (got["cool_s"], got["per_gpu"], got["on_demand"]) == (180.0, "2.50", "98.32")
    assert "sold out" in got["cool_why"]
    warm = stage.state.offers["local/use1-az4/p5.48xlarge/spot"]
    assert offer_row(stage.state, warm, stage.now)["cool_s"] is None


def test_a_price_that_is_not_known_is_none_and_never_zero() -> None:
    unpriced = replace(offer("use1-az1", 20.0, market=Market.ON_DEMAND), quote=None, on_demand=None)
    got = offer_row(Stage().state, unpriced, Stage().now)
    assert (got["price"], got["per_gpu"], got["on_demand"], got["age_s"]) == (None, None, None, None)


def test_a_history_has_no_holes() -> None:
    prices = [None, MicroUsdPerHour(2_000_000), None, MicroUsdPerHour(3_000_000)]
    assert filled(prices) == [2.0, 2.0, 2.0, 3.0]
    assert filled([None, None]) == []


def test_a_node_tells_its_lease_and_when_it_was_heard() -> None:
    stage = running()
    node = stage.state.nodes[stage.job().nodes[0]]
    stage.now = replace(stage.now, wall=Instant(stage.now.wall + 5_000))
    got = node_row(stage.state, node, stage.now)
    assert (got["heard_s"], got["lease_s"]) == (5.0, (node.lease_until - stage.now.wall) / 1e3)


def test_a_bill_counts_an_interval_once_even_if_it_was_booked_while_we_read() -> None:
    stage = running()
    node = stage.state.nodes[stage.job().nodes[0]]
    stage.now = replace(stage.now, market=Instant(stage.now.market + HOUR))
    nothing_booked = bill(stage.state, "j1", [], stage.now, "made up")
    assert (nothing_booked["spent"], nothing_booked["saved_share"]) == ("20.00", 1 - 20 / 98.32)
    assert node.metered is not None
    from dsched.scheduler.core.ledger import interval

    entry = interval(stage.state, node, stage.now.market)
    assert entry is not None
    assert bill(stage.state, "j1", [entry], stage.now, "")["spent"] == "20.00"


def test_a_budget_tells_what_is_left_and_what_leases_hold_back() -> None:
    stage = running()
    stage.tell(SetBudget(name="default", limit=usd(100)))
    stage.now = replace(stage.now, market=Instant(stage.now.market + HOUR))
    (got,) = budget_rows(stage.state, stage.now)
    assert (got["spent"], got["left"], got["used"], got["exhausted"]) == ("20.00", "80.00", 0.2, False)
    assert float(got["reserved"]) > 0
