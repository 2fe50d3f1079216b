"""What the account may run, and what a launch finds that has bought before: quotas, and repeats that meet a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsched.providers.aws import setup
from dsched.providers.aws.provider import AwsProvider
from dsched.providers.aws.settings import Settings
from dsched.providers.base import Ambiguous, NoticeKind
from dsched.scheduler import pricebook, pricefile
from dsched.scheduler.core.market import Market, Quote
from dsched.scheduler.core.units import Instant, Millis, price
from tests.support.aws_world import REGION, SHAPE, AwsWorld
from tests.support.world import want


@pytest.fixture
async def world() -> AsyncIterator[AwsWorld]:
    async with AwsWorld(reserved_every=Millis(0)) as world:
        yield world


async def told(provider: AwsProvider) -> bool | None:
    """A new machine is listed late."""
    return bool(await provider.nodes()) or None


@pytest.mark.parametrize("code", ["VcpuLimitExceeded", "InsufficientInstanceCapacity", "UnauthorizedOperation"])
async def test_a_refusal_after_a_lost_answer_does_not_lose_the_machine(world: AwsWorld, code: str) -> None:
    """What fills the quota may be the very machine that the first call bought."""
    provider = world.provider()
    await world.lose_reply(done=True)
    with pytest.raises(Ambiguous):
        await provider.launch(want(world, "a"))
    await world.until(lambda: told(provider))
    world.pull("fault", action="RunInstances", code=code)
    [node] = await provider.launch(want(world, "a"))
    assert await world.living() == ["a"]
    assert node.token == "a"


async def test_the_last_slot_of_a_reservation_that_is_ours_already_is_no_refusal(world: AwsWorld) -> None:
    """The list may be behind: until it cannot be any more, nobody knows."""
    row = {"capacityReservationId": "cr-1", "instanceType": SHAPE, "availabilityZone": "us-east-1a"}
    told = {"state": "active", "instancePlatform": "Linux/UNIX", "tenancy": "default", "totalInstanceCount": 1}
    world.pull("set", reservations={REGION: [{**row, **told}]}, lag_s=60.0)
    provider, held = world.provider(), want(world, "a", pool=replace(world.pool, market=Market.RESERVED))
    await world.lose_reply(done=True)
    for _ in range(2):
        with pytest.raises(Ambiguous):
            await provider.launch(held)
    world.pull("set", lag_s=0.0)
    [node] = await provider.launch(held)
    assert node.pool.market is Market.RESERVED


async def test_what_others_of_the_account_run_is_taken_off_a_quota_and_what_we_run_is_not(world: AwsWorld) -> None:
    world.pull("quota", region=REGION, code="L-3819A6DF", vcpus=768.0)
    provider = world.provider()
    await provider.launch(want(world, "ours"))
    market = {"MarketType": "spot"}
    asked: dict[str, Any] = {"ImageId": "ami-03cf127a", "MinCount": 2, "MaxCount": 2, "InstanceMarketOptions": market}
    world.client("ec2").run_instances(InstanceType=SHAPE, **asked)
    used = (
        2
        * world.client("ec2").describe_instance_types(InstanceTypes=[SHAPE])["InstanceTypes"][0]["VCpuInfo"][
            "DefaultVCpus"
        ]
    )

    async def told() -> int | None:
        [limit] = await provider.limits()
        return limit.limit if limit.limit < 768 else None  # a list is late

    assert await world.until(told) == 768 - used


async def test_an_imported_price_goes_before_an_older_one_of_the_catalog_and_after_amazons_own(
    world: AwsWorld, tmp_path: Path
) -> None:
    head = "date,provider,region,instance_type,price_kind,usd_per_hour\n"
    now = Instant(world.wall())
    text = f"{head}2026-09-01,aws,{REGION},{SHAPE},on_demand,0.7\n"
    pricebook.add(tmp_path, pricefile.parse(text, "p.csv", as_of=None, now=now, chips=pricebook.chips))
    told = Settings(endpoint=world.cloud.url, **world.settings)

    async def listed() -> Quote | None:
        offers = await AwsProvider(told, world.cluster, known=pricebook.Imported(tmp_path)).offers()
        return next(offer.quote for offer in offers if offer.pool.market is Market.ON_DEMAND)

    own = await listed()
    assert own is not None
    assert own.source == "GetProducts"
    world.pull("fault", action="GetProducts", code="AccessDeniedException", times=100)
    quote = await listed()
    assert quote is not None
    assert (quote.price, quote.source) == (price(0.7), "imported")
    assert now - quote.at > 30 * 86_400_000  # as old as it is


async def test_the_stack_that_setup_writes_carries_an_interruption_to_us_and_not_a_start(world: AwsWorld) -> None:
    stacks = world.client("cloudformation")
    queue = f"dsched-{world.cluster}"
    template = setup.yaml(setup.notices_stack(queue))
    await asyncio.to_thread(stacks.create_stack, StackName=queue, TemplateBody=template)
    try:
        provider = world.provider(queue=queue)
        events = provider.events()
        hint = asyncio.ensure_future(anext(events))
        [node] = await provider.launch(want(world, "a"))
        await world.interrupt(node.ref, notice=True)
        told = await asyncio.wait_for(hint, 30)
        assert (told.kind, told.ref) == (NoticeKind.INTERRUPT, node.ref)
        await events.aclose()  # type: ignore[attr-defined]
    finally:
        await asyncio.to_thread(stacks.delete_stack, StackName=queue)
