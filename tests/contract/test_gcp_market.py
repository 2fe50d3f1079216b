"""Google Cloud's prices, advice, reservations and hints over HTTP, and how old they may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from dsched.providers.base import (
    Capacity,
    EndReason,
    NoticeKind,
)
from dsched.providers.gcp.prices import Usage
from dsched.scheduler.core.hold import SUNK
from dsched.scheduler.core.market import Market, Pool
from tests.support.gce.replay import Replay
from tests.support.gce.rest import Fault
from tests.support.gce.world import GcpWorld
from tests.support.world import WAIT_S, want


@pytest.fixture
async def world() -> AsyncIterator[GcpWorld]:
    async with GcpWorld() as world:
        yield world


async def test_a_refresh_that_hangs_holds_up_no_launch(world: GcpWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsched.providers.gcp.market.PATIENCE_S", 0.05)
    provider = world.provider()
    [offer] = [offer for offer in await provider.offers() if offer.pool == world.pool]
    assert offer.quote is not None
    world.front.faults.append(Fault("GET .*/skus", delay=2 * WAIT_S, times=1_000))
    async with asyncio.timeout(WAIT_S):
        await provider.launch(want(world, "a", price_max=offer.quote.price))
    world.front.faults.clear()


async def test_old_prices_keep_their_age_when_a_refresh_fails(world: GcpWorld) -> None:
    provider = world.provider()
    first = {offer.pool: offer.quote for offer in await provider.offers()}
    world.front.faults.append(Fault("GET .*/skus", 403, "forbidden", times=1_000))
    second = {offer.pool: offer.quote for offer in await provider.offers()}
    assert first == second


async def test_every_zone_of_every_region_is_offered_at_its_regions_price(world: GcpWorld) -> None:
    offers = await world.provider().offers()
    assert {offer.pool.zone for offer in offers} == {"us-central1-a", "us-central1-b", "europe-west4-a"}
    assert {offer.pool.shape for offer in offers} >= {
        "a2-highgpu-1g",
        "a3-highgpu-8g",
        "g2-standard-4",
        "a4-highgpu-8g",
    }
    assert all(offer.on_demand for offer in offers)


async def test_the_price_list_is_not_read_again_before_its_time(world: GcpWorld) -> None:
    world.settings = replace(world.settings, prices_seconds=3_600.0)
    provider = world.provider()
    await asyncio.gather(provider.offers(), provider.offers())
    await provider.offers()
    assert len([call for call in world.front.calls if "pageToken=&" in call or call.endswith("pageToken=")]) == 1


async def test_advice_and_the_history_of_preemptions_stand_at_the_spot_offer(world: GcpWorld) -> None:
    pool = world.pool
    world.settings = replace(world.settings, advice=True, shapes=(pool.shape,))
    world.cloud.advice[pool.zone, pool.shape] = (0.7, "7200s")
    world.cloud.history[pool.zone, pool.shape] = [0.9, *[0.2] * 7]  # only the last week counts
    provider = world.provider()
    await provider.offers()  # asks in the background
    await provider.advised()
    told = {offer.pool: offer for offer in await provider.offers()}
    spot, on_demand = told[pool], told[replace(pool, market=Market.ON_DEMAND)]
    assert spot.advice is not None
    assert (spot.advice.obtainability, spot.advice.uptime) == (0.7, 7_200_000)
    assert spot.hazard == pytest.approx(0.2231 / 24, rel=1e-2)
    assert (on_demand.advice, on_demand.hazard) == (None, None)
    other = told[replace(pool, zone="us-central1-b")]
    assert (other.advice, other.hazard) == (None, None)  # refused for this one, not for all


async def test_advice_that_is_forbidden_costs_no_offer(world: GcpWorld) -> None:
    world.settings = replace(world.settings, advice=True)
    world.front.faults.append(Fault("POST .*/advice/", 403, "forbidden", times=1_000))
    provider = world.provider()
    await provider.offers()
    await provider.advised()
    assert await provider.offers()
    assert len([call for call in world.front.calls if "/advice/" in call]) == 1


async def test_a_reservation_is_an_offer_for_nothing_until_it_is_full(world: GcpWorld) -> None:
    zone = world.pool.zone
    world.cloud.reservations[zone, "mine"] = {"shape": "a2-highgpu-1g", "count": 3}
    provider, pool = world.provider(), Pool("gcp", "us-central1", zone, "a2-highgpu-1g", Market.RESERVED)

    async def free() -> int | None:
        [offer] = [offer for offer in await provider.offers() if offer.pool.market is Market.RESERVED]
        assert offer.quote is not None
        assert offer.quote.price == SUNK
        return offer.free

    assert await free() == 3
    wish = want(world, "a", pool=pool, count=2)
    nodes = await provider.launch(wish)
    assert [node.pool for node in nodes] == [pool, pool]
    assert await free() == 1
    with pytest.raises(Capacity):
        await provider.launch(want(world, "b", pool=pool, count=2))
    assert [node.ref for node in await provider.launch(wish)] == [node.ref for node in nodes]  # though it is full


async def test_what_a_commitment_would_cost_can_be_asked(world: GcpWorld) -> None:
    provider = world.provider()
    await provider.offers()
    prices = [await provider.listed(world.pool, usage) for usage in Usage]
    assert all(prices)
    on_demand, spot, one_year, three_years = prices
    assert on_demand > one_year > three_years > spot  # type: ignore[operator]


async def test_a_recorded_market_takes_machines_back_and_moves_the_price(world: GcpWorld) -> None:
    trace = {"counts_rle": [[3, 1], [1, 1]], "spot_price_series": [1.0, 1.5], "spot_price_stride": 1}
    market, provider = Replay(world.cloud, trace, world.pool.shape, world.pool.zone), world.provider()

    async def price() -> int:
        [offer] = [offer for offer in await provider.offers() if offer.pool == world.pool]
        assert offer.quote is not None
        return offer.quote.price

    assert market.play()
    first = await price()
    await provider.launch(want(world, "a", count=3))
    with pytest.raises(Capacity):
        await provider.launch(want(world, "b"))
    assert market.play()
    assert await price() == pytest.approx(1.5 * first, rel=1e-5)

    async def two_gone() -> bool | None:
        gone = [node for node in await provider.nodes(["a"]) if node.ended_by is EndReason.INTERRUPTED]
        return True if len(gone) == 2 else None

    await world.until(two_gone)
    assert not market.play()


async def test_a_gap_in_the_hints_is_told_when_they_come_again(world: GcpWorld) -> None:
    provider = world.provider()
    world.front.faults.append(Fault("GET .*/aggregated/operations", 403, "forbidden"))
    events = provider.events()
    first, second = await anext(events), await anext(events)
    await events.aclose()  # type: ignore[attr-defined]
    assert (first.kind, second.kind) == (NoticeKind.GONE, NoticeKind.PRICES)
