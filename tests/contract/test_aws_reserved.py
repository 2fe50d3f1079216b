"""What was paid for beforehand, read from AWS and used: reservations, blocks, reserved instances, plans."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dsched.providers.aws.provider import AwsProvider
from dsched.providers.base import Ambiguous, Capacity, NodeStatus
from dsched.scheduler.core.market import Market, Offer, Pool
from dsched.scheduler.core.units import Millis, price, usd
from tests.support.aws_world import REGION, SHAPE, AwsWorld
from tests.support.world import want


@pytest.fixture
async def world() -> AsyncIterator[AwsWorld]:
    async with AwsWorld(reserved_every=Millis(0)) as world:
        yield world


@pytest.fixture
def pool(world: AwsWorld) -> Pool:
    return replace(world.pool, market=Market.RESERVED)


def reservation(name: str, count: int, **more: Any) -> dict[str, Any]:
    row = {"capacityReservationId": name, "instanceType": SHAPE, "availabilityZone": "us-east-1a", "state": "active"}
    return {**row, "instancePlatform": "Linux/UNIX", "tenancy": "default", "totalInstanceCount": count, **more}


def ending(**after: float) -> str:
    return (datetime.now(UTC) + timedelta(**after)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def hold(world: AwsWorld, *rows: dict[str, Any]) -> None:
    world.pull("set", reservations={REGION: list(rows)})


async def offer(provider: AwsProvider, pool: Pool) -> Offer | None:
    return next((offer for offer in await provider.offers() if offer.pool == pool), None)


async def test_a_reservation_is_an_offer_with_its_free_slots_that_costs_nothing_more(
    world: AwsWorld, pool: Pool
) -> None:
    hold(world, reservation("cr-1", 3), reservation("cr-2", 1))
    found = await offer(world.provider(), pool)
    assert found is not None
    assert found.quote is not None
    assert (found.free, found.hazard, found.notice) == (4, 0.0, 0)
    assert 0 < found.quote.price < price("0.0001")
    assert found.on_demand == price("0.8048")


async def test_a_launch_takes_its_slots_from_one_reservation_and_gives_them_back(world: AwsWorld, pool: Pool) -> None:
    provider = world.provider()
    hold(world, reservation("cr-1", 2), reservation("cr-2", 2))
    with pytest.raises(Capacity):
        await provider.launch(want(world, "a", pool=pool, count=3))  # a gang goes together
    nodes = await provider.launch(want(world, "b", pool=pool, count=2))
    assert {node.pool for node in nodes} == {pool}
    left = await offer(provider, pool)
    assert left is not None
    assert left.free == 2
    wish = want(world, "b", pool=pool, count=2, lease_until=world.wall())
    world.pull("set", lag_s=3_600.0)
    with pytest.raises(Ambiguous):  # bought, but not listed yet: no refusal, or it would be bought anew elsewhere
        await provider.launch(wish)
    world.pull("set", lag_s=0.0)
    again = await provider.launch(wish)
    assert {node.ref for node in again} == {node.ref for node in nodes}
    await provider.terminate([node.ref for node in nodes])
    left = await offer(provider, pool)
    assert left is not None
    assert left.free == 4


async def test_a_reserved_machine_is_known_as_one_by_a_new_daemon(world: AwsWorld, pool: Pool) -> None:
    hold(world, reservation("cr-1", 1))
    await world.provider().launch(want(world, "a", pool=pool))

    async def found() -> bool | None:
        return [node.pool for node in await world.provider().nodes()] == [pool] or None

    await world.until(found)


async def test_a_full_reservation_is_no_capacity_and_buys_nothing_on_demand(world: AwsWorld, pool: Pool) -> None:
    provider = world.provider()
    hold(world, reservation("cr-1", 0))
    with pytest.raises(Capacity):
        await provider.launch(want(world, "a", pool=pool))
    assert world.pull("calls", action="RunInstances") == []


@pytest.mark.parametrize(
    "more",
    [{"state": "expired"}, {"instancePlatform": "Windows"}, {"tenancy": "dedicated"}, {"instanceType": "m5.large"}],
    ids=lambda more: next(iter(more)),
)
async def test_what_our_machines_cannot_use_is_no_offer(world: AwsWorld, pool: Pool, more: dict[str, Any]) -> None:
    hold(world, reservation("cr-1", 3, **more))
    assert await offer(world.provider(), pool) is None


async def test_the_end_of_a_block_is_told_half_an_hour_early_for_that_is_when_ec2_takes_the_machines(
    world: AwsWorld, pool: Pool
) -> None:
    end = datetime(2040, 1, 31, 11, 30, tzinfo=UTC)
    block = {"reservationType": "capacity-block", "endDate": "2040-01-31T11:30:00.000Z"}
    hold(world, reservation("cr-1", 2, **block))
    provider = world.provider()
    found = await offer(provider, pool)
    assert found is not None
    assert found.until == round(end.timestamp() * 1_000) - 30 * 60_000
    assert found.hazard == 0.0
    [node] = await provider.launch(want(world, "a", pool=pool))
    assert node.status is not NodeStatus.GONE


async def test_a_block_whose_machines_are_taken_already_is_not_offered(world: AwsWorld, pool: Pool) -> None:
    hold(world, reservation("cr-1", 2, reservationType="capacity-block", endDate=ending(minutes=25)))
    assert await offer(world.provider(), pool) is None


async def test_reserved_instances_are_slots_as_long_as_fewer_machines_run(world: AwsWorld, pool: Pool) -> None:
    instances = {"reservedInstancesId": "ri-1", "instanceType": SHAPE, "instanceCount": 2, "state": "active"}
    world.pull("set", reserved={REGION: [{**instances, "productDescription": "Linux/UNIX", "scope": "Region"}]})
    provider = world.provider()
    [found] = [offer for offer in await provider.offers() if offer.pool.market is Market.RESERVED]
    assert found.free == 2
    running = len(world.pull("calls", action="RunInstances"))
    await provider.launch(want(world, "a", pool=replace(world.pool, market=Market.ON_DEMAND)))

    async def fewer() -> bool | None:
        [left] = [offer for offer in await provider.offers() if offer.pool.market is Market.RESERVED]
        return left.free == 1 or None

    await world.until(fewer)
    [node] = await provider.launch(want(world, "b", pool=found.pool))
    assert node.pool.market is Market.RESERVED
    assert len(world.pull("calls", action="RunInstances")) == running + 2


async def test_commitments_and_blocks_on_sale_can_be_read(world: AwsWorld) -> None:
    world.pull(
        "set",
        plans=[
            {
                "savingsPlanId": "sp-1",
                "savingsPlanType": "EC2Instance",
                "commitment": "1.5",
                "region": REGION,
                "ec2InstanceFamily": "g6",
                "end": "2027-01-01T00:00:00.000Z",
                "state": "active",
            }
        ],
        blocks={
            REGION: [
                {
                    "capacityBlockOfferingId": "cb-1",
                    "instanceType": "p5.48xlarge",
                    "availabilityZone": "us-east-1a",
                    "instanceCount": 2,
                    "startDate": "2027-01-01T11:30:00.000Z",
                    "endDate": "2027-01-02T11:30:00.000Z",
                    "upfrontFee": "755.14",
                    "currencyCode": "USD",
                }
            ]
        },
    )
    provider = world.provider()
    [plan] = await provider.commitments()
    assert (plan.kind, plan.covers, plan.per_hour) == ("EC2Instance", "g6", price("1.5"))
    [block] = await provider.blocks(REGION, "p5.48xlarge", 2, 24)
    assert (block.zone, block.count, block.fee) == ("use1-az6", 2, usd("755.14"))
    assert block.end - block.start == 24 * 3_600_000


async def test_limits_of_the_account_are_told_by_family(world: AwsWorld) -> None:
    world.pull("quota", region=REGION, code="L-3819A6DF", vcpus=768.0)
    world.pull("quota", region=REGION, code="L-1216C47A", vcpus=1.0)  # one that no GPU shape meets
    [limit] = await world.provider().limits()
    assert (limit.limit, limit.unit, limit.covers(world.pool)) == (768, "vcpus", True)
    assert not limit.covers(replace(world.pool, market=Market.ON_DEMAND))
    assert "G and VT Spot" in limit.name
