"""A gang's own rule at Google: one per token, open among its machines alone, gone when they are."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dsched.providers.gcp.gang import UNUSED
from dsched.scheduler.core.units import Instant
from tests.support.gce.world import GcpWorld
from tests.support.world import want


@pytest.fixture
async def world() -> AsyncIterator[GcpWorld]:
    async with GcpWorld() as world:
        yield world


async def test_a_gang_is_open_to_its_own_machines_and_to_nobody_else(world: GcpWorld) -> None:
    await world.provider().launch(want(world, "t-1", count=2))
    [rule] = world.cloud.firewalls.values()
    assert (rule["sourceTags"], rule["targetTags"], rule["direction"]) == (["t-1-gang"], ["t-1-gang"], "INGRESS")
    assert rule["allowed"] == [{"IPProtocol": "all"}]
    assert "sourceRanges" not in rule
    assert [machine.body["tags"]["items"] for machine in world.cloud.machines.values()] == [["t-1-gang"]] * 2


async def test_a_single_machine_needs_no_rule(world: GcpWorld) -> None:
    await world.provider().launch(want(world, "alone"))
    assert world.cloud.firewalls == {}
    assert all("tags" not in machine.body for machine in world.cloud.machines.values())


async def test_a_launch_whose_answer_was_lost_finds_the_rule_that_it_made(world: GcpWorld) -> None:
    wish = want(world, "t-1", count=2)
    first = await world.provider().launch(wish)
    assert [node.ref for node in await world.provider().launch(wish)] == [node.ref for node in first]
    assert list(world.cloud.firewalls) == ["t-1-gang"]


async def test_a_rule_goes_once_its_machines_have_been_gone_for_a_while(world: GcpWorld) -> None:
    provider = world.provider()
    await provider.launch(want(world, "t-1", count=2))
    world.cloud.firewalls["theirs-gang"] = {"description": "of another cluster"}
    now = world.wall()
    await provider._gangs.sweep(["t-1"], now)
    await provider._gangs.sweep(["t-1"], Instant(now + UNUSED))
    await provider._gangs.sweep([], Instant(now + UNUSED))
    assert "t-1-gang" in world.cloud.firewalls  # seen unused for the first time: a launch may be under way
    await provider._gangs.sweep([], Instant(now + 2 * UNUSED))
    assert list(world.cloud.firewalls) == ["theirs-gang"]


async def test_a_placement_policy_that_the_settings_name_is_for_gangs(world: GcpWorld) -> None:
    provider = GcpWorld(placement="projects/p/regions/us-central1/resourcePolicies/near")
    async with provider as near:
        await near.provider().launch(want(near, "t-1", count=2))
        await near.provider().launch(want(near, "alone"))
        asked = {name: machine.body.get("resourcePolicies") for (_, name), machine in near.cloud.machines.items()}
    assert asked["t-1-s-a2-highgpu-1g-0"] == ["projects/p/regions/us-central1/resourcePolicies/near"]
    assert asked["alone-s-a2-highgpu-1g-0"] is None
