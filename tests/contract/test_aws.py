"""What AWS in particular does to us, over HTTP: pages, regions that fail, proxies, tokens that are used up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from dsched.providers.aws import client
from dsched.providers.aws import provider as provider_module
from dsched.providers.aws.client import CHANGE_S, CONNECT_S
from dsched.providers.aws.provider import BLIND_MAX, PREPARE_S, AwsProvider
from dsched.providers.base import (
    Ambiguous,
    Auth,
    Capacity,
    EndReason,
    NodeRef,
    Notice,
    NoticeKind,
    ProviderError,
)
from dsched.scheduler.core.units import Instant, Millis
from tests.support.aws_world import REGION, SHAPE, AwsWorld, gone, spot
from tests.support.world import WAIT_S, want

WEST = "us-west-2"
FIVE_MINUTES = 300_000


@pytest.fixture
async def world() -> AsyncIterator[AwsWorld]:
    async with AwsWorld() as world:
        yield world


@pytest.fixture
async def wide() -> AsyncIterator[AwsWorld]:
    """Two regions, one pool in each."""
    async with AwsWorld(regions=(REGION, WEST)) as world:
        world.pull("price", shape=SHAPE, zone="us-west-2a", usd=0.5)
        world.pull("on_demand", shape=SHAPE, region=WEST, usd=0.9)
        yield world


async def listed(world: AwsWorld, provider: AwsProvider, *tokens: str) -> None:
    async def told() -> bool | None:
        return {node.token for node in await provider.nodes()} == set(tokens) or None

    await world.until(told)


def forget_tags(world: AwsWorld, name: str) -> None:
    """EC2 takes them from a dead machine before it takes the machine from the list."""
    names = ("dsched:cluster", "dsched:token", "dsched:market")
    world.client("ec2").delete_tags(Resources=[name], Tags=[{"Key": key} for key in names])


# -- lists ------------------------------------------------------------------------------------------------------------


async def test_a_list_of_many_pages_is_whole(world: AwsWorld) -> None:
    provider = world.provider()
    tokens = [f"t{n}" for n in range(7)]
    await asyncio.gather(*(provider.launch(want(world, token)) for token in tokens))
    world.pull("set", page=2)
    await listed(world, provider, *tokens)
    assert len({offer.pool for offer in await provider.offers()}) == len(await provider.offers())


async def test_a_page_that_is_lost_loses_the_list(world: AwsWorld) -> None:
    provider = world.provider()
    for token in ("a", "b", "c"):
        await provider.launch(want(world, token))
    await listed(world, provider, "a", "b", "c")
    world.pull("set", page=1)
    world.pull("fault", action="DescribeInstances", code="InternalError", status=500, after=1, times=3)
    with pytest.raises(ProviderError, match="InternalError"):
        await provider.nodes()
    await listed(world, provider, "a", "b", "c")


async def test_a_machine_that_died_and_lost_its_tags_is_told_dead_all_the_same(world: AwsWorld) -> None:
    provider = world.provider()
    [node] = await provider.launch(want(world, "a"))
    await listed(world, provider, "a")
    world.pull("end", region=REGION, name=node.ref.id.split("/")[1], code="Server.InternalError")
    forget_tags(world, node.ref.id.split("/")[1])
    ended = await gone(world, provider, "a")
    assert (ended.ref, ended.pool, ended.ended_by) == (node.ref, world.pool, EndReason.FAILED)


# -- a region that fails ----------------------------------------------------------------------------------------------


async def test_a_region_that_fails_takes_nothing_from_the_others(wide: AwsWorld) -> None:
    provider = wide.provider()
    west = replace(wide.pool, region=WEST, zone="usw2-az2")
    before = await provider.offers()
    await provider.launch(want(wide, "east"))
    await provider.launch(want(wide, "west", pool=west))
    await listed(wide, provider, "east", "west")
    wide.pull("fault", action="*", region=WEST, code="InternalError", status=500, times=1_000)
    await provider.launch(want(wide, "more"))
    await listed(wide, provider, "east", "west", "more")
    after = await provider.offers()
    assert {offer.pool for offer in after} == {offer.pool for offer in before}
    assert spot(after, WEST).quote == spot(before, WEST).quote  # as old as it is
    told, had = spot(after, REGION).quote, spot(before, REGION).quote
    assert told is not None
    assert had is not None
    assert told.at > had.at
    assert list(provider.ailing) == [WEST]
    with pytest.raises(Ambiguous):
        await provider.launch(want(wide, "there", pool=west))
    wide.pull("heal")
    await listed(wide, provider, "east", "west", "more")
    assert provider.ailing == {}


async def test_a_region_that_was_never_seen_is_not_taken_for_empty(wide: AwsWorld) -> None:
    wide.pull("fault", action="DescribeInstances", region=WEST, code="InternalError", status=500, times=1_000)
    with pytest.raises(ProviderError, match="InternalError"):
        await wide.provider().nodes()


async def test_what_is_remembered_of_a_region_wears_out(wide: AwsWorld) -> None:
    passed = Millis(0)
    clock = wide.wall
    provider = wide.provider(now=lambda: Instant(clock() + passed))
    await provider.nodes()
    wide.pull("fault", action="DescribeInstances", region=WEST, code="InternalError", status=500, times=1_000)
    await provider.nodes()
    passed = Millis(BLIND_MAX + 1)
    with pytest.raises(ProviderError, match="InternalError"):
        await provider.nodes()


async def test_one_question_about_a_token_is_strict_about_every_region(wide: AwsWorld) -> None:
    provider = wide.provider()
    await provider.nodes()
    wide.pull("fault", action="DescribeInstances", region=WEST, code="InternalError", status=500, times=1_000)
    with pytest.raises(ProviderError, match="InternalError"):
        await provider.nodes(["a"])


# -- launches ---------------------------------------------------------------------------------------------------------


async def test_sold_out_costs_one_call_and_is_not_asked_again_for_five_minutes(world: AwsWorld) -> None:
    await world.stockout()
    with pytest.raises(Capacity) as refusal:
        await world.provider().launch(want(world, "a"))
    assert len(world.pull("calls", action="RunInstances")) == 1
    assert refusal.value.cooldown >= FIVE_MINUTES


async def test_the_page_of_a_proxy_is_no_answer(world: AwsWorld) -> None:
    provider = world.provider()
    world.pull("fault", action="RunInstances", html=True)
    with pytest.raises(Ambiguous):
        await provider.launch(want(world, "a"))
    world.pull("fault", action="DescribeInstances", html=True, times=3)
    with pytest.raises(ProviderError):
        await provider.nodes()


async def test_a_cloud_that_takes_a_launch_and_says_nothing_is_ambiguous_within_five_seconds(
    world: AwsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CONNECT_S + CHANGE_S < 5
    monkeypatch.setattr(client, "CHANGE_S", 0.3)
    world.pull("fault", action="RunInstances", delay_s=WAIT_S)
    with pytest.raises(Ambiguous):
        await world.provider().launch(want(world, "a"))
    assert len(world.pull("calls", action="RunInstances")) == 1  # what had no answer is not asked again


async def test_a_door_behind_which_nobody_is_says_so_within_five_seconds(
    world: AwsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PREPARE_S < 5
    monkeypatch.setattr(provider_module, "PREPARE_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        provider = world.provider(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(Ambiguous):
            await provider.launch(want(world, "a"))


async def test_a_launch_that_was_answered_after_its_time_is_found_by_its_token(
    world: AwsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, wish = world.provider(), want(world, "a")
    await provider.offers()
    with monkeypatch.context() as hasty:
        hasty.setattr(client, "CHANGE_S", 0.3)
        world.pull("fault", action="RunInstances", delay_s=1.0)
        with pytest.raises(Ambiguous):
            await provider.launch(wish)
    await listed(world, provider, "a")
    [again] = await provider.launch(wish)
    assert [node.ref for node in await provider.nodes()] == [again.ref]


async def test_a_token_finds_its_machines_when_the_settings_have_changed_since(world: AwsWorld) -> None:
    wish = want(world, "a")
    [bought] = await world.provider().launch(wish)
    await listed(world, world.provider(), "a")
    [found] = await world.provider(disk_gib=200).launch(wish)
    assert found.ref == bought.ref


async def test_a_token_whose_machines_are_forgotten_can_never_buy_again(world: AwsWorld) -> None:
    wish = want(world, "a")
    [node] = await world.provider().launch(wish)
    name = node.ref.id.split("/")[1]
    world.pull("end", region=REGION, name=name, code="Client.UserInitiatedShutdown")
    forget_tags(world, name)
    with pytest.raises(Capacity) as refusal:
        await world.provider().launch(wish)
    assert refusal.value.cooldown == 0  # of the pool this says nothing


async def test_a_machine_is_born_with_marks_and_ends_with_its_shutdown(world: AwsWorld) -> None:
    world.pull("set", lag_s=0.0)
    provider = world.provider()
    [node] = await provider.launch(want(world, "a", tags={"team": "moe"}))
    ec2, name = world.client("ec2"), node.ref.id.split("/")[1]
    [row] = ec2.describe_instances(InstanceIds=[name])["Reservations"][0]["Instances"] or [None]
    ask = ec2.describe_instance_attribute
    behaviour = ask(InstanceId=name, Attribute="instanceInitiatedShutdownBehavior")
    assert behaviour["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"
    assert row["MetadataOptions"]["HttpTokens"] == "required"
    assert row["InstanceLifecycle"] == "spot"
    tags = {tag["Key"]: tag["Value"] for tag in row["Tags"]}
    marks = {"dsched:cluster": world.cluster, "dsched:token": "a", "dsched:market": "spot", "team": "moe"}
    assert {**marks, "Name": "dsched-a"} == tags


async def test_launches_wait_for_their_turn_and_a_crowd_is_told_to_come_again(world: AwsWorld) -> None:
    provider = world.provider(launches_per_second=0.01, launches_at_once=1)
    await provider.launch(want(world, "a"))
    with pytest.raises(ProviderError, match="TooManyLaunches"):
        await provider.launch(want(world, "b"))
    assert len(world.pull("calls", action="RunInstances")) == 1


async def test_without_credentials_the_account_is_closed_and_the_remedy_named(
    world: AwsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(Auth, match="aws configure"):
        await world.provider().nodes()


# -- ends and hints ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("Client.InstanceInitiatedShutdown", EndReason.ASKED),
        ("Server.SpotInstanceTermination", EndReason.INTERRUPTED),
        ("Server.CapacityBlockTermination", EndReason.INTERRUPTED),
        ("Server.InternalError", EndReason.FAILED),
    ],
)
async def test_who_ended_a_machine_is_told_by_its_code(world: AwsWorld, code: str, reason: EndReason) -> None:
    provider = world.provider()
    [node] = await provider.launch(want(world, "a"))
    world.pull("end", region=REGION, name=node.ref.id.split("/")[1], code=code)
    assert (await gone(world, provider, "a")).ended_by is reason


async def test_hints_tell_rebalances_and_interruptions_and_a_machine_that_leaves_early_was_interrupted(
    world: AwsWorld,
) -> None:
    provider = world.provider()
    [node] = await provider.launch(want(world, "a"))
    name, notices = node.ref.id.split("/")[1], []

    async def listen() -> None:
        async for notice in provider.events():
            if notice.ref == node.ref:
                notices.append(notice)  # noqa: PERF401 - it never ends

    async def told(count: int) -> list[Notice]:
        async def enough() -> list[Notice] | None:
            return notices if len(notices) >= count else None

        return await world.until(enough)

    listener = asyncio.create_task(listen())
    world.pull("rebalance", region=REGION, name=name)
    assert (await told(1))[0].kind is NoticeKind.REBALANCE
    asked = world.wall()
    world.pull("interrupt", region=REGION, name=name, warn_s=60.0)
    warned = (await told(2))[1]
    assert warned.kind is NoticeKind.INTERRUPT
    assert warned.deadline is not None
    assert abs(warned.deadline - asked - 120_000) < 3_000  # EventBridge's time has whole seconds
    world.pull("end", region=REGION, name=name, code="Client.InstanceInitiatedShutdown")
    assert (await gone(world, provider, "a")).ended_by is EndReason.INTERRUPTED
    listener.cancel()


async def test_after_a_silence_of_the_queue_everything_is_looked_at(world: AwsWorld) -> None:
    world.pull("fault", action="GetQueueUrl", code="InternalError", status=500)
    hints = world.provider().events()
    assert [(await anext(hints)).kind, (await anext(hints)).kind] == [NoticeKind.GONE, NoticeKind.PRICES]
    await hints.aclose()


async def test_one_machine_that_ec2_has_forgotten_does_not_save_the_others(world: AwsWorld) -> None:
    provider = world.provider()
    [lost], [left] = [await provider.launch(want(world, token)) for token in ("a", "b")]
    world.pull("forget", region=REGION, name=lost.ref.id.split("/")[1])
    await provider.terminate([lost.ref, left.ref])
    assert (await gone(world, provider, "b")).ended_by is EndReason.ASKED


async def test_a_reference_without_a_region_is_looked_for_in_all_of_them(wide: AwsWorld) -> None:
    provider = wide.provider()
    west = replace(wide.pool, region=WEST, zone="usw2-az2")
    [node] = await provider.launch(want(wide, "a", pool=west))
    await listed(wide, provider, "a")
    await provider.terminate([NodeRef("aws", node.ref.id.split("/")[1])])
    assert (await gone(wide, provider, "a")).ended_by is EndReason.ASKED
