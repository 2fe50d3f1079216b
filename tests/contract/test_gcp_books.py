"""What Google Cloud tells beside its prices of now: quotas, the past, what is reserved and until when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from dsched.providers.base import ProviderError
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.units import Instant, price
from tests.support.gce.rest import Fault
from tests.support.gce.world import GcpWorld
from tests.support.world import want

DAY = 86_400_000


@pytest.fixture
async def world() -> AsyncIterator[GcpWorld]:
    async with GcpWorld(advice=True) as world:
        yield world


async def test_spot_prices_of_the_past_are_told_zone_by_zone(world: GcpWorld) -> None:
    world.cloud.listed[world.pool.zone, world.pool.shape] = [0.9, 0.8, 0.8, 1.0]
    now = world.wall()
    provider = world.provider()
    assert list(provider.pasts()) == list(world.settings.regions)
    steps = await provider.history("us-central1", Instant(now - 3 * DAY - 1_000), now)
    assert [(pool, quote.price) for pool, quote in steps] == [(world.pool, price(usd)) for usd in (0.9, 0.8, 0.8, 1.0)]
    assert steps[0][1].at == now - 3 * DAY - 1_000
    assert await provider.history("europe-west4", Instant(now - 3 * DAY), now) == []


async def test_a_past_that_is_not_told_is_an_error_and_not_an_empty_one(world: GcpWorld) -> None:
    world.front.faults.append(Fault("POST .*/advice/capacityHistory", 403, "forbidden"))
    with pytest.raises(ProviderError):
        await world.provider().history("us-central1", Instant(0), world.wall())


async def test_spot_without_a_quota_of_its_own_uses_the_ordinary_one(world: GcpWorld) -> None:
    """As the documentation has it: until preemptible quota was granted."""
    world.cloud.quotas["us-central1", "NVIDIA_A100_GPUS"] = 16
    world.cloud.quotas["us-central1", "PREEMPTIBLE_NVIDIA_A100_GPUS"] = 0
    on_demand = replace(world.pool, market=Market.ON_DEMAND)
    [both] = await world.provider().limits()
    assert (both.limit, both.covers(world.pool), both.covers(on_demand)) == (16, True, True)
    assert not both.covers(replace(world.pool, market=Market.RESERVED))
    world.cloud.quotas["us-central1", "PREEMPTIBLE_NVIDIA_A100_GPUS"] = 4
    apart = {one.limit: (one.covers(world.pool), one.covers(on_demand)) for one in await world.provider().limits()}
    assert apart == {16: (False, True), 4: (True, False)}


async def test_what_others_use_of_a_quota_is_taken_off(world: GcpWorld) -> None:
    world.cloud.quotas["us-central1", "PREEMPTIBLE_NVIDIA_A100_GPUS"] = 8
    ours = world.provider()
    await ours.launch(want(world, "ours"))
    [seen] = await ours.limits()
    [strange] = await world.provider().limits()  # a daemon that has not listed its machines yet
    assert (seen.limit, strange.limit) == (8, 7)
