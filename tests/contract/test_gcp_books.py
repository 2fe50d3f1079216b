"""What Google Cloud tells beside its prices of now: quotas, the past, what is reserved and until when."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from dsched.providers.base import ProviderError
from dsched.providers.gcp.provider import GcpProvider
from dsched.scheduler import pricebook, pricefile
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.units import Instant, price
from tests.support.gce.rest import Fault
from tests.support.gce.world import TOKEN, GcpWorld
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


async def test_a_booking_by_the_calendar_is_an_offer_until_its_end_for_machines_that_are_bound_to_it(
    world: GcpWorld,
) -> None:
    now = time.time()
    zone, shape, end = world.pool.zone, world.pool.shape, now + 86_400
    world.cloud.reservations[zone, "booked-0"] = {"count": 2, "shape": shape}
    told = {"start": now - 60, "end": end, "mode": "CALENDAR", "reservations": ["booked-0"]}
    world.cloud.bookings[zone, "booked"] = told
    provider, pool = world.provider(), replace(world.pool, market=Market.RESERVED)
    [offer] = [one for one in await provider.offers() if one.pool.market is Market.RESERVED]
    assert (offer.pool, offer.free) == (pool, 2)
    assert offer.until == pytest.approx(end * 1_000, abs=2)
    [node] = await provider.launch(want(world, "a", pool=pool))
    assert node.pool == pool
    [machine] = world.cloud.machines.values()
    assert machine.model == "RESERVATION_BOUND"


async def test_a_role_that_may_not_list_bookings_still_sells_reservations(world: GcpWorld) -> None:
    world.cloud.reservations[world.pool.zone, "plain"] = {"count": 1, "shape": world.pool.shape}
    world.front.faults.append(Fault("GET .*/aggregated/futureReservations", 403, "forbidden"))
    [offer] = [one for one in await world.provider().offers() if one.pool.market is Market.RESERVED]
    assert (offer.free, offer.until) == (1, None)


async def test_bookings_that_could_not_be_asked_are_asked_again_and_not_taken_for_none(world: GcpWorld) -> None:
    zone, now = world.pool.zone, time.time()
    world.cloud.reservations[zone, "booked-0"] = {"count": 2, "shape": world.pool.shape}
    told = {"start": now - 60, "end": now + 86_400, "mode": "CALENDAR", "reservations": ["booked-0"]}
    world.cloud.bookings[zone, "booked"] = told
    world.front.faults.append(Fault("GET .*/aggregated/futureReservations", 400, "invalid"))
    provider = world.provider()
    with pytest.raises(ProviderError):
        await provider.offers()
    [offer] = [one for one in await provider.offers() if one.pool.market is Market.RESERVED]
    assert offer.until == pytest.approx(told["end"] * 1_000, abs=2)


async def test_without_the_price_list_imported_prices_are_offered_with_their_age(
    world: GcpWorld, tmp_path: Path
) -> None:
    head = "date,machine,region,hour_od,hour_spot\n"
    found = pricefile.parse(
        f"{head}2026-11-20,{world.pool.shape},us-central1,3.9,1.2\n",
        "p.csv",
        as_of=None,
        now=world.wall(),
        chips=pricebook.chips,
    )
    pricebook.add(tmp_path, found)
    world.front.faults += [Fault("GET .*/skus", 403, "forbidden") for _ in range(3)]
    from google.oauth2.credentials import Credentials

    signed = Credentials(TOKEN)  # type: ignore[no-untyped-call]
    provider = GcpProvider(world.settings, "c", signed, known=pricebook.Imported(tmp_path))
    try:
        [quote] = [offer.quote for offer in await provider.offers() if offer.pool == world.pool]
        assert quote is not None
        assert (quote.price, quote.source) == (price(1.2), "imported")
        assert world.wall() - quote.at > DAY // 2
        assert "forbidden" in provider.ailing["price list"]
    finally:
        await provider.close()


async def test_committed_use_of_accelerators_is_read_with_its_end(world: GcpWorld) -> None:
    end = time.time() + 86_400
    told = {"name": "cud", "region": "us-central1", "plan": "THIRTY_SIX_MONTH", "chip": "nvidia-tesla-a100"}
    world.cloud.commitments = [{**told, "count": 8, "end": end}, {**told, "region": "us-west9", "count": 1, "end": end}]
    [contract] = await world.provider().commitments()
    assert (contract.kind, contract.covers, contract.count) == ("cud-3y", "gpu:A100-40", 8)
    assert contract.until == pytest.approx(end * 1_000, abs=2)
