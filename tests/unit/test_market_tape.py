"""The made-up market, the replay and the clock: pure functions from seeds and recordings to steps."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsched.providers.local import generator, replay
from dsched.providers.local.clock import MarketClock
from dsched.providers.local.generator import WEEK, Weather, spot_tape
from dsched.providers.local.market import LocalMarket, generated, replayed
from dsched.providers.local.tape import Step, Tape, constant
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.units import HOUR, Instant, MicroUsdPerHour, Millis

WEATHER = Weather(calm=0.2, dry=0.05, depth=8, share=0.4, swing=0.05, price_every=5.0)
LIST_PRICE = MicroUsdPerHour(50_000_000)
TICK = 600_000  # ten minutes
MONTHS = 26 * 7 * 144  # ticks of half a year

TRACE: dict[str, Any] = {
    "schema": "dsched.trace/1",
    "name": "aws23/us-west-2b",
    "gap_seconds": 600,
    "max_count": 2,
    "counts_rle": [[0, 3], [2, 4], [1, 2], [0, 1]],
    "spot_price_series": [0.9, 0.9, 1.1, 1.1],
    "spot_price_stride": 2,
    "od_price": 3.06,
}


def tape(seed: int = 1, region: str = "A", pool: str = "A1") -> Tape:
    return spot_tape(seed, region, pool, WEATHER, LIST_PRICE)


def up(tape: Tape) -> list[bool]:
    return [tape.at(Millis(tick * TICK)).capacity > 0 for tick in range(MONTHS)]


def correlation(one: list[bool], other: list[bool]) -> float:
    a, b = sum(one) / len(one), sum(other) / len(other)
    both = sum(x and y for x, y in zip(one, other, strict=True)) / len(one)
    return (both - a * b) / math.sqrt(a * (1 - a) * b * (1 - b))


def test_the_same_seed_gives_the_same_market_from_any_starting_point() -> None:
    ages = [Millis(n * 17 * HOUR) for n in range(100)]
    forwards = [tape().at(age) for age in ages]
    assert forwards == [tape().at(age) for age in reversed(ages)][::-1]
    assert forwards != [tape(seed=2).at(age) for age in ages]


def test_whatever_a_run_has_lasted_it_has_the_same_chance_to_last_as_long_again() -> None:
    """The law of the traces: a hazard that falls as 1 / age."""
    rng = Random(1)
    lengths = [generator.lasting(rng, 0.1) for _ in range(50_000)]
    for age in (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0):
        reached = [length for length in lengths if length >= age]
        doubled = sum(length >= 2 * age for length in reached)
        assert doubled / len(reached) == pytest.approx(2**-generator.LAW, abs=0.05)


def test_a_market_has_the_hazard_of_the_recorded_ones_at_every_age() -> None:
    exposure: Counter[int] = Counter()
    ends: Counter[int] = Counter()
    for seed in range(6):
        age = 0
        for here, then in pairwise(up(tape(seed))):
            age = age + 1 if here else 0
            if here:
                octave = int(math.log2(age))
                exposure[octave] += 1
                ends[octave] += not then
    for octave in (3, 4, 5, 6):  # 1.3 to 20 hours
        middle_hours = 1.5 * 2**octave / 6
        hazard = ends[octave] / (exposure[octave] / 6)
        assert 0.4 < hazard * middle_hours < 1.6  # recorded: 0.45 to 1.9


def test_zones_of_one_region_fall_together_more_often_than_zones_of_two() -> None:
    near = correlation(up(tape(pool="A1")), up(tape(pool="A2")))
    far = correlation(up(tape(pool="A1")), up(tape(region="B", pool="B1")))
    assert near > 0.2
    assert abs(far) < 0.15


def test_spot_prices_stay_below_on_demand_and_near_their_mean() -> None:
    prices = [tape().at(Millis(hour * HOUR)).price for hour in range(0, 24 * 7 * 8, 3)]
    assert min(prices) > 0
    assert max(prices) <= LIST_PRICE
    assert sum(prices) / len(prices) == pytest.approx(WEATHER.share * LIST_PRICE, rel=0.25)
    jumps = [abs(b - a) / a for a, b in pairwise(prices)]
    assert max(jumps) < 0.6  # also over the edges of weeks


@given(st.integers(0, 10_000), st.integers(0, 400 * 24 * HOUR))
def test_every_step_holds_from_its_beginning_until_the_next(seed: int, age: int) -> None:
    made = tape(seed)
    step, following = made.at(Millis(age)), made.next(Millis(age))
    assert step.at <= age < following
    assert step.since <= step.at
    assert 0 <= step.capacity <= WEATHER.depth
    assert made.at(Millis(following - 1)) == step
    assert made.at(following).at == following


def test_a_chunk_edge_is_a_step() -> None:
    week = Millis(round(WEEK * HOUR))
    assert tape().at(week).at == week


def test_a_constant_tape_never_moves() -> None:
    flat = constant(3, LIST_PRICE)
    assert {(s.capacity, s.price) for s in (flat.at(Millis(n * 97 * 24 * HOUR)) for n in range(50))} == {
        (3, LIST_PRICE)
    }


def test_a_trace_is_replayed_tick_by_tick_and_begins_again() -> None:
    trace = replay.parse(TRACE)
    counts = [trace.tape.at(Millis(tick * TICK)).capacity for tick in range(20)]
    assert counts == [0, 0, 0, 2, 2, 2, 2, 1, 1, 0] * 2
    prices = [trace.tape.at(Millis(tick * TICK)).price for tick in range(10)]
    assert prices == [900_000] * 4 + [1_100_000] * 6
    assert trace.tape.at(Millis(8 * TICK)) == Step(Millis(7 * TICK), 1, MicroUsdPerHour(1_100_000), Millis(3 * TICK))
    assert trace.tape.next(Millis(0)) == 3 * TICK


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({}, ("aws", "us-west-2", "usw2-az2", "p3.2xlarge")),
        ({"name": "aws22/us-west-2a_k80_8"}, ("aws", "us-west-2", "usw2-az1", "p2.8xlarge")),
        ({"name": "h100/europe-west1-c"}, ("gcp", "europe-west1", "europe-west1-c", "a3-highgpu-8g")),
        (
            {"name": "mine", "cloud": "gcp", "region": "r", "zone": "r-a", "shape": "g2-standard-4"},
            ("gcp", "r", "r-a", "g2-standard-4"),
        ),
    ],
)
def test_a_trace_names_its_pool(changes: dict[str, Any], place: tuple[str, ...]) -> None:
    trace = replay.parse({**TRACE, **changes})
    assert (trace.cloud, trace.region, trace.zone, trace.shape) == place


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"schema": "dsched.trace/2"}, "schema"),
        ({"name": "atlantis"}, "add cloud, region, zone and shape"),
        ({"counts_rle": [[1, 0]]}, "positive"),
        ({"gap_seconds": 0}, "positive"),
        ({"od_price": "much"}, "not an amount"),
        ({"counts_rle": None}, "TypeError"),
    ],
)
def test_a_bad_trace_names_the_file_and_the_fault(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(replay.BadTrace, match=complaint) as refusal:
        replay.parse({**TRACE, **changes}, file="market/x.json")
    assert "market/x.json" in str(refusal.value)


def test_a_folder_becomes_a_market_and_twins_become_two_zones(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({**TRACE, "name": "aws22/us-west-2b_v100_1"}))
    (tmp_path / "b.json").write_text(json.dumps(TRACE))
    market = replayed(tmp_path)
    spot = [pool for pool in market.listings if pool.market is Market.SPOT]
    assert [pool.zone for pool in spot] == ["usw2-az2", "usw2-az2-aws23"]
    assert market.listings[spot[0]].source == "replay:aws22/us-west-2b_v100_1"
    with pytest.raises(replay.BadTrace, match=r"no \*\.json traces"):
        replayed(tmp_path / "empty")


def test_the_made_up_market_has_zones_of_both_clouds_and_all_three_markets() -> None:
    market = generated(7)
    zones = {(listing.cloud, pool.zone) for pool, listing in market.listings.items()}
    assert Counter(cloud for cloud, _ in zones) == {"aws": 4, "gcp": 4}
    assert {pool.market for pool in market.listings} == set(Market)
    assert len({pool.shape for pool in market.listings}) >= 8
    for offer in market.offers(Millis(0), Instant(0), {}):
        assert offer.quote is not None
        assert offer.on_demand is not None
        assert 0 < offer.quote.price <= offer.on_demand
        assert (offer.notice > 0) == (offer.pool.market is Market.SPOT)


def test_an_old_run_is_offered_as_calmer_than_a_young_one() -> None:
    step = Step(Millis(0), 4, LIST_PRICE, Millis(0))
    listing = next(x for x in generated(1).listings.values() if x.pool.market is Market.SPOT)
    market = LocalMarket([_with(listing, Tape(Millis(1_000 * HOUR), lambda _: (step,)))], "")
    assert market.hazard(listing.pool, Millis(HOUR)) == pytest.approx(generator.LAW)
    assert market.hazard(listing.pool, Millis(10 * HOUR)) == pytest.approx(generator.LAW / 10)
    assert market.hazard(listing.pool, Millis(0)) < 10


def _with(listing: Any, tape: Tape) -> Any:
    return type(listing)(**{**{name: getattr(listing, name) for name in type(listing).__slots__}, "tape": tape})


def test_levers_bend_the_market_and_let_it_go() -> None:
    market = generated(7)
    [pool] = market.find("local/use1-az1/g6.xlarge/spot")
    [held] = market.find("local/use1-az1/g6.xlarge/on-demand")
    price = market.price(pool, Millis(0))
    market.bend_price([pool, held], 2.0)
    market.bend_capacity([pool, held], 0)
    assert market.price(pool, Millis(0)) == 2 * price
    assert market.price(held, Millis(0)) == market.listings[held].on_demand  # a list price does not move
    assert market.capacity(held, Millis(0)) == 0
    market.bend_price([pool], None)
    assert market.price(pool, Millis(0)) == price


def test_market_time_runs_faster_and_never_jumps() -> None:
    clock = MarketClock(birth=Instant(0), origin=Instant(0), origin_wall=Instant(1_000), scale=600.0)
    assert clock.market(Instant(2_000)) == 600_000
    slower = clock.rescaled(2.0, Instant(2_000))
    assert slower.market(Instant(2_000)) == 600_000
    assert slower.market(Instant(3_000)) == 602_000
    assert slower.age(Instant(3_000)) == 602_000
    assert clock.wall_left(Millis(600_000), Instant(1_500)) == pytest.approx(0.5)
    assert clock.wall_left(Millis(600_000), Instant(9_000)) == 0.0
