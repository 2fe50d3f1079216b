"""A gang's own network at AWS: made once per token, open among its machines alone, gone when they are."""

from __future__ import annotations

from typing import Any

import pytest

from dsched.providers.aws import provider as provider_module
from dsched.providers.aws.gang import UNUSED
from dsched.providers.aws.provider import AwsProvider
from dsched.providers.base import NodeStatus, Throttled
from dsched.scheduler.core.units import Instant
from tests.support.aws_world import AwsWorld
from tests.support.world import want


class Hours:
    """Wall time that a test may move on."""

    def __init__(self, world: AwsWorld) -> None:
        self.world, self.later = world, 0

    def __call__(self) -> Instant:
        return Instant(self.world.wall() + self.later)


def groups(world: AwsWorld) -> list[Any]:
    ours = [{"Name": "tag:dsched:cluster", "Values": [world.cluster]}]
    found: list[Any] = world.client("ec2").describe_security_groups(Filters=ours)["SecurityGroups"]
    return found


def placements(world: AwsWorld) -> list[str]:
    ours = [{"Name": "tag:dsched:cluster", "Values": [world.cluster]}]
    found = world.client("ec2").describe_placement_groups(Filters=ours)["PlacementGroups"]
    return [row["GroupName"] for row in found]


def machines(world: AwsWorld) -> list[Any]:
    world.pull("set", lag_s=0.0)  # a list that is not behind
    ours = [{"Name": "tag:dsched:cluster", "Values": [world.cluster]}]
    found = world.client("ec2").describe_instances(Filters=ours)["Reservations"]
    return [row for reservation in found for row in reservation["Instances"]]


async def swept(world: AwsWorld, provider: AwsProvider) -> None:
    await provider.nodes()

    async def done() -> bool | None:
        return None if provider._tidying else True

    await world.until(done)


async def gone(provider: AwsProvider) -> bool | None:
    return all(node.status is NodeStatus.GONE for node in await provider.nodes()) or None


async def test_a_gang_is_open_to_its_own_machines_and_to_nobody_else() -> None:
    async with AwsWorld() as world:
        await world.provider().launch(want(world, "t-1", count=2))
        [group] = groups(world)
        for permissions in (group["IpPermissions"], group["IpPermissionsEgress"]):
            among = [one for one in permissions if one["UserIdGroupPairs"]]
            assert [pair["GroupId"] for one in among for pair in one["UserIdGroupPairs"]] == [group["GroupId"]]
        assert [one["IpRanges"] for one in group["IpPermissions"]] == [[]]
        assert placements(world) == ["dsched-t-1"]
        assert [[one["GroupId"] for one in row["SecurityGroups"]] for row in machines(world)] == [
            [group["GroupId"]]
        ] * 2


async def test_two_gangs_share_nothing_and_a_single_machine_needs_nothing() -> None:
    async with AwsWorld() as world:
        provider = world.provider()
        await provider.launch(want(world, "alone"))
        assert groups(world) == []
        await provider.launch(want(world, "t-1", count=2))
        await provider.launch(want(world, "t-2", count=2))
        assert sorted(group["GroupName"] for group in groups(world)) == ["dsched-t-1", "dsched-t-2"]


async def test_a_launch_whose_answer_was_lost_finds_the_network_that_it_made() -> None:
    async with AwsWorld() as world:
        provider = world.provider()
        wish = want(world, "t-1", count=2)
        assert await provider.launch(wish) == await world.provider().launch(wish)
        assert len(groups(world)) == len(placements(world)) == 1


@pytest.mark.parametrize("where", ["RunInstances", "AuthorizeSecurityGroupIngress"])
async def test_a_group_that_is_not_seen_everywhere_yet_only_takes_a_repeat(where: str) -> None:
    async with AwsWorld() as world:
        provider, wish = world.provider(), want(world, "t-1", count=2)
        world.pull("fault", action=where, code="InvalidGroup.NotFound")
        with pytest.raises(Throttled):
            await provider.launch(wish)
        assert len(await provider.launch(wish)) == 2
        assert len(groups(world)) == 1


async def test_a_network_has_more_time_than_questions_that_were_answered_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with AwsWorld() as world:
        provider = world.provider()
        await provider.launch(want(world, "alone"))  # what is asked once for all launches
        monkeypatch.setattr(provider_module, "PREPARE_S", 0.2)
        world.pull("fault", action="CreateSecurityGroup", delay_s=0.3)
        assert len(await provider.launch(want(world, "t-1", count=2))) == 2


async def test_what_no_machine_uses_any_more_is_taken_away_and_nothing_before() -> None:
    async with AwsWorld() as world:
        hours = Hours(world)
        provider = world._provider(world.cloud.url, now=hours)
        nodes = await provider.launch(want(world, "t-1", count=2))

        async def listed() -> bool | None:
            return len(await provider.nodes()) == 2 or None

        await world.until(listed)  # new machines show in lists a moment late
        await swept(world, provider)
        hours.later += UNUSED + 1
        await swept(world, provider)
        assert len(groups(world)) == len(placements(world)) == 1  # its machines live
        await provider.terminate([node.ref for node in nodes])
        await world.until(lambda: gone(provider))
        hours.later += UNUSED + 1
        await swept(world, provider)
        assert len(groups(world)) == 1  # seen unused for the first time: a launch may be under way
        hours.later += UNUSED + 1
        await swept(world, provider)
        assert (groups(world), placements(world)) == ([], [])
