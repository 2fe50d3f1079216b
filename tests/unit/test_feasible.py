"""Each constraint refuses with its own reason and a sentence that carries the numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsched.providers import catalog
from dsched.scheduler.core import feasible
from dsched.scheduler.core.job import Need
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.placement import Policy
from dsched.scheduler.core.report import Line, Verdict, Why, sentence
from dsched.scheduler.core.snapshot import PoolMemory
from dsched.scheduler.core.units import HOUR, MINUTE, Charge, price, usd
from tests.support.question import ask, hours, job, later, line, offer, reported, where

H100 = "p5.48xlarge"


def refused(*args: object, **fields: object) -> Line:
    """The line of zone "a" when this job meets this offer alone."""
    found = line(reported(ask(*args, **fields)), "a")  # type: ignore[arg-type]
    assert found.verdict is Verdict.REFUSED
    return found


def wants(**fields: object) -> Need:
    return Need(**{"accelerators": ("H100",), "gpus_min": 8, "gpus_max": 8, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("need", "name", "code", "words"),
    [
        (wants(markets=(Market.SPOT,)), f"a/{H100}/on-demand", Why.MARKET_NOT_WANTED, "the job wants spot"),
        (wants(places=("gcp/*",)), f"a/{H100}/spot", Why.PLACE_NOT_WANTED, "aws/a matches none of gcp/*"),
        (wants(accelerators=("B200",)), f"a/{H100}/spot", Why.WRONG_ACCELERATOR, "H100; the job wants B200"),
        (wants(accelerators=()), "a/c7i.large/spot", Why.WRONG_ACCELERATOR, "c7i.large has no GPU"),
        (wants(gpu_memory_gib=141), f"a/{H100}/spot", Why.TOO_LITTLE_MEMORY, "80 GiB per GPU; the job needs 141"),
        (wants(accelerators=("A100",), fp8_required=True), "a/p4d.24xlarge/spot", Why.NO_FP8, "A100-40 has no FP8"),
        (wants(gpus_min=800, gpus_max=800), f"a/{H100}/spot", Why.TOO_FEW_GPUS, "100 nodes of 8 GPUs would be needed"),
        (wants(nodes_max=1, gpus_min=16, gpus_max=16), f"a/{H100}/spot", Why.TOO_FEW_GPUS, "2 nodes of 8 GPUs would"),
        (wants(gpus_min=1, gpus_max=4), f"a/{H100}/spot", Why.TOO_MANY_GPUS, "has 8 GPUs; the job wants 1..4 GPUs"),
        (wants(gpus_min=12, gpus_max=15), f"a/{H100}/spot", Why.UNEVEN_GANG, "nodes with 8 GPUs gives 12..15 GPUs"),
        (wants(price_max=price(10)), f"a/{H100}/spot", Why.OVER_PRICE_MAX, "$20.00/h is above the limit of $10.00/h"),
    ],
)
def test_what_the_spec_excludes_is_named(need: Need, name: str, code: Why, words: str) -> None:
    got = refused(job(need=need), offer(name, 20))
    assert got.code is code
    assert words in got.words


@pytest.mark.parametrize("need", [wants(accelerators=()), Need(cpu_only=True), wants()])
def test_a_tpu_is_for_jobs_that_name_it(need: Need) -> None:
    tpu = replace(offer(f"a/{H100}/spot", 20), shape=catalog.tpus().listings["ct6e-standard-8t"].shape)
    got = refused(job(need=need), tpu)
    assert got.code is Why.WRONG_ACCELERATOR
    assert "TPU-v6e" in got.words
    named = reported(ask(job(need=wants(accelerators=("TPU-v6e",))), tpu))
    assert line(named, "a").verdict is Verdict.CHOSEN


def test_a_price_that_nobody_knows_is_never_paid() -> None:
    got = refused(job(), offer(f"a/{H100}/spot", None))
    assert got.code is Why.NO_PRICE
    assert got.value is None


def test_an_old_price_is_not_believed() -> None:
    got = refused(job(), offer(f"a/{H100}/spot", 20, age=2.5))
    assert got.code is Why.STALE_PRICE
    assert got.words == "the price is 2.5 h old; 2.0 h is the limit"


def test_a_pool_that_refused_cools_down_and_says_how_long() -> None:
    pool = f"aws/a/{H100}/spot"
    memory = {pool: PoolMemory(pool=pool, cool_until=later(0.5), why="InsufficientInstanceCapacity")}
    got = refused(job(), offer(f"a/{H100}/spot", 20), pools=memory)
    assert got.code is Why.COOLING_DOWN
    assert got.words == "cooling down for another 30 min (InsufficientInstanceCapacity)"


def test_a_cool_down_that_is_over_is_forgotten() -> None:
    pool = f"aws/a/{H100}/spot"
    memory = {pool: PoolMemory(pool=pool, cool_until=later(0))}
    assert where(ask(job(), offer(f"a/{H100}/spot", 20), pools=memory)) == f"a/{H100}/spot"


def test_sold_out_and_too_few_are_different_reasons() -> None:
    gang = job(need=wants(gpus_min=32, gpus_max=32))
    assert refused(gang, offer(f"a/{H100}/spot", 20, free=0)).code is Why.NO_CAPACITY
    got = refused(gang, offer(f"a/{H100}/spot", 20, free=3))
    assert got.code is Why.NOT_ENOUGH_FOR_GANG
    assert got.words == "only 3 of the gang's 4 nodes can be had: all or nothing"


def test_idle_nodes_count_towards_the_gang() -> None:
    assert feasible.short(4, idle=2, free=2) is None
    assert feasible.short(4, idle=2, free=1) is not None


def test_a_price_limit_is_for_the_whole_gang() -> None:
    pair = job(need=wants(gpus_min=16, gpus_max=16, price_max=price(30)))
    assert refused(pair, offer(f"a/{H100}/spot", 20)).code is Why.OVER_PRICE_MAX


def test_capacity_that_is_not_told_is_worth_a_try() -> None:
    assert where(ask(job(), offer(f"a/{H100}/spot", 20, free=None))) == f"a/{H100}/spot"


def test_the_jobs_own_limit_must_cover_the_expected_cost() -> None:
    rich, poor = (job(duration=hours(10), cost_max=usd(amount)) for amount in (260, 200))
    market = offer(f"a/{H100}/on-demand", 20)
    assert where(ask(rich, market)) is not None
    got = refused(poor, market)
    assert got.code is Why.OVER_COST_MAX
    assert "$200.00 is left of cost_max" in got.words


def test_what_was_spent_before_counts_against_the_limit() -> None:
    tired = job(duration=hours(10), cost_max=usd(260), spent=Charge(usd(100) * HOUR))
    assert "$160.00 is left" in refused(tired, offer(f"a/{H100}/on-demand", 20)).words


def test_work_of_unknown_length_needs_at_least_one_lease() -> None:
    got = refused(job(cost_max=usd(5)), offer(f"a/{H100}/on-demand", 20))
    assert got.words.startswith("the first lease alone costs $6.67")


def test_a_budget_must_carry_the_first_lease_at_its_ceiling() -> None:
    got = refused(job(), offer(f"a/{H100}/spot", 20, on_demand=55), room={"default": Charge(usd(10) * HOUR)})
    assert got.code is Why.OVER_BUDGET
    assert got.words == "the first lease must reserve $13.44; budget default has $10.00 left"


def test_an_offer_that_would_miss_the_deadline_is_late() -> None:
    got = refused(job(duration=hours(10), deadline=later(9)), offer(f"a/{H100}/on-demand", 20))
    assert got.code is Why.LATE
    assert got.words == "expected to finish 1.0 h after the deadline"


def test_a_pool_that_hurt_this_job_is_tried_only_when_nothing_else_fits() -> None:
    hurt = job(avoid=(f"aws/a/{H100}/spot",))
    cheap, dear = offer(f"a/{H100}/spot", 20), offer(f"b/{H100}/spot", 40)
    report = reported(ask(hurt, cheap, dear))
    assert line(report, "a").code is Why.AVOIDED
    assert report.chosen is line(report, "b")
    assert where(ask(hurt, cheap)) == f"a/{H100}/spot"


def test_the_dearer_say_by_how_much() -> None:
    report = reported(ask(job(), offer(f"a/{H100}/on-demand", 30), offer(f"b/{H100}/on-demand", 20)))
    other = line(report, "a")
    assert (other.verdict, other.code) == (Verdict.POSSIBLE, Why.DEARER)
    assert sentence(other, report.chosen) == "50% dearer by expected cost"


def test_the_cheaper_that_must_be_bought_say_so() -> None:
    ours, other = offer(f"a/{H100}/on-demand", 22), offer(f"b/{H100}/on-demand", 20)
    report = reported(ask(job(), ours, other, idle={ours.pool.id: ("n1",)}))
    cheaper = line(report, "b")
    assert cheaper.code is Why.NEEDS_BUYING
    assert "9% cheaper, but it has to be bought" in sentence(cheaper, report.chosen)


def test_a_family_name_means_all_of_its_models() -> None:
    chips = [offer(f"a/{shape}/spot", 1).shape.accelerator for shape in ("p4d.24xlarge", "p4de.24xlarge", "g5.xlarge")]
    assert [feasible.accelerator_matches("A100", chip) for chip in chips if chip] == [True, True, False]
    assert [feasible.accelerator_matches("A100-80", chip) for chip in chips if chip] == [False, True, False]


def test_a_place_may_be_a_zone_or_a_region() -> None:
    pool = offer("use1-az1/p5.48xlarge/spot", 1, region="us-east-1").pool
    assert feasible.wrong_place(("aws/use1-*",), pool) is None
    assert feasible.wrong_place(("gcp/*", "aws/us-east-1"), pool) is None
    assert feasible.wrong_place(("aws/us-west-2*",), pool) is not None


def test_a_job_without_gpus_takes_one_machine_of_any_kind() -> None:
    need = Need(cpu_only=True, gpus_min=0, gpus_max=0)
    assert where(ask(job(need=need), offer("a/c7i.large/on-demand", 0.09), offer(f"b/{H100}/spot", 20))) == (
        "a/c7i.large/on-demand"
    )


@pytest.mark.parametrize(
    ("ms", "words"), [(30_000, "30 s"), (5 * MINUTE, "5 min"), (90 * MINUTE, "1.5 h"), (72 * HOUR, "3.0 days")]
)
def test_durations_read_well(ms: int, words: str) -> None:
    assert feasible.lasting(ms) == words


@pytest.mark.parametrize("field", ["stale_after", "lease", "write", "nodes_max", "spot_ceiling", "reuse_premium"])
def test_a_policy_that_no_plan_could_heed_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=f"policy.{field}: 0 must be a finite number"):
        Policy(**{field: 0})
