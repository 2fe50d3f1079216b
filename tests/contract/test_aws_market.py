"""AWS's prices, scores and recorded markets over HTTP, and how old they may be."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dsched.providers.base import (
    Capacity,
    EndReason,
)
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.units import Instant, Millis, price
from tests.support.aws_world import REGION, SHAPE, ZONES, AwsWorld, gone, spot
from tests.support.world import want


@pytest.fixture
async def world() -> AsyncIterator[AwsWorld]:
    async with AwsWorld() as world:
        yield world


async def test_prices_of_ninety_days_come_step_by_step_and_none_twice(world: AwsWorld) -> None:
    now, zone, day = time.time(), ZONES["use1-az1"], 86_400
    for age, usd in ((80, 0.21), (40, 0.22), (8, 0.23), (1, 0.24)):
        world.pull("price", shape=SHAPE, zone=zone, usd=usd, at=now - age * day)
    world.pull("set", page=2)
    since = Instant(round((now - 60 * day) * 1_000))
    steps = await world.provider().history(REGION, since, world.wall())
    told = [(pool.zone, quote.price) for pool, quote in steps if pool.zone == "use1-az1"]
    assert told == [("use1-az1", price(usd)) for usd in (0.21, 0.22, 0.23, 0.24, 0.3)]
    assert steps[0][1].at == since
    assert [quote.at for _, quote in steps] == sorted(quote.at for _, quote in steps)


async def test_without_the_price_list_the_catalogs_price_has_the_catalogs_age(world: AwsWorld) -> None:
    world.pull("fault", action="GetProducts", code="AccessDeniedException", times=100)
    offers = {offer.pool.market: offer for offer in await world.provider().offers()}
    quote = offers[Market.ON_DEMAND].quote
    assert quote is not None
    assert quote.source.startswith("catalog")
    assert world.wall() - quote.at > 86_400_000
    assert offers[Market.SPOT].on_demand == quote.price


async def test_a_refresh_that_fails_does_not_look_fresh(world: AwsWorld) -> None:
    provider = world.provider(list_every=Millis(0))
    first = {offer.pool: offer.quote for offer in await provider.offers()}
    world.pull("fault", action="GetProducts", code="AccessDeniedException", times=100)
    again = {offer.pool: offer.quote for offer in await provider.offers()}
    pools = [pool for pool in first if pool.market is Market.ON_DEMAND]
    assert pools
    assert all(again[pool] == first[pool] for pool in pools)


async def test_scores_are_hints_and_their_refusal_costs_no_offer(world: AwsWorld) -> None:
    world.pull("set", scores={"use1-az6": 9, "use1-az1": 3})
    told = {o.pool.zone: o.advice for o in await world.provider(scores=(SHAPE,)).offers() if o.advice is not None}
    assert {zone: advice.score for zone, advice in told.items()} == {"use1-az6": 9, "use1-az1": 3}
    world.pull("fault", action="GetSpotPlacementScores", code="MaxConfigLimitExceeded", times=100)
    offers = await world.provider(scores=(SHAPE,)).offers()
    assert spot(offers, REGION).advice is None


async def test_a_recorded_market_can_be_replayed(world: AwsWorld) -> None:
    provider = world.provider()
    trace: dict[str, Any] = {
        "gap_seconds": 600,
        "counts_rle": [[2, 1], [0, 1_000]],
        "spot_price_series": [0.41, 0.42],
        "spot_price_stride": 1,
    }
    world.pull("replay", trace=trace, shape=SHAPE, zone=ZONES[world.pool.zone], scale=0)
    offer = next(offer for offer in await provider.offers() if offer.pool == world.pool)
    assert offer.quote is not None
    assert offer.quote.price == price("0.41")
    await provider.launch(want(world, "a"))
    world.pull("advance")
    assert (await gone(world, provider, "a")).ended_by is EndReason.INTERRUPTED
    with pytest.raises(Capacity):
        await provider.launch(want(world, "b"))
