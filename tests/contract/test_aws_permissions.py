"""The policy for AWS is made of the calls that the code makes: one that is missing, and one too many, is found here."""

from __future__ import annotations

import asyncio
import json

import pytest

from dsched.providers.aws import permissions
from dsched.providers.aws.gang import UNUSED
from dsched.providers.aws.provider import AwsProvider
from dsched.scheduler.core.units import Instant
from tests.support.aws_world import REGION, SHAPE, AwsWorld
from tests.support.checkout import ROOT
from tests.support.world import want


async def everything(world: AwsWorld) -> None:
    """All that the provider can do, once."""
    instances = {"reservedInstancesId": "ri-1", "instanceType": SHAPE, "instanceCount": 1, "state": "active"}
    world.pull("set", reserved={REGION: [{**instances, "productDescription": "Linux/UNIX"}]})
    subnet = world.client("ec2").describe_subnets()["Subnets"][0]["SubnetId"]
    provider = world.provider(scores=(SHAPE,), subnets={world.pool.zone: subnet})
    hint = asyncio.ensure_future(anext(provider.events()))
    await provider.offers()
    nodes = [*await provider.launch(want(world, "a")), *await provider.launch(want(world, "b", count=2))]
    await provider.nodes()
    await provider.terminate([node.ref for node in nodes])
    await clear_away(world, subnet)
    await hint
    await world.until(lambda: deleted(world))
    await provider.history(REGION, Instant(world.wall() - 86_400_000), world.wall())
    await provider.limits()
    await provider.doctor()
    await provider.commitments()
    await provider.blocks(REGION, SHAPE, 1, 24)


async def clear_away(world: AwsWorld, subnet: str) -> None:
    """What a gang leaves behind, when time has passed."""
    later = [0]
    provider = world._provider(world.cloud.url, now=lambda: Instant(world.wall() + later[0]))

    async def taken() -> bool | None:
        later[0] += UNUSED + 1  # its machines show in lists for a moment after their end
        await provider.nodes()
        await world.until(lambda: idle(provider))
        return {"ec2:DeleteSecurityGroup", "ec2:DeletePlacementGroup"} <= world.used or None

    await world.until(taken)


async def idle(provider: AwsProvider) -> bool | None:
    return None if provider._tidying else True


async def deleted(world: AwsWorld) -> bool | None:
    return "sqs:DeleteMessageBatch" in world.used or None


async def test_the_policy_holds_every_action_that_is_used_and_no_other() -> None:
    async with AwsWorld() as world:
        await everything(world)
        assert permissions.unused(world.used) == set()
        assert permissions.policy(world.used) == json.loads((ROOT / "deploy/aws/iam.json").read_text())


def test_the_file_is_what_the_code_says() -> None:
    assert (ROOT / "deploy/aws/iam.json").read_text() == permissions.text()


def test_a_call_that_nobody_granted_is_named() -> None:
    with pytest.raises(permissions.Ungranted, match="ec2:StopInstances"):
        permissions.policy({"ec2:StopInstances"})


def test_a_grant_that_nobody_needs_is_named() -> None:
    assert "ec2:TerminateInstances" in permissions.unused({"ec2:RunInstances"})


def test_only_what_carries_our_mark_can_be_started_or_ended() -> None:
    told = {one["Sid"]: one for one in permissions.everything()["Statement"]}
    assert told["EndOnlyOurs"]["Condition"] == {"StringLike": {"aws:ResourceTag/dsched:cluster": "*"}}
    assert told["LaunchOnlyWhatIsMarked"]["Condition"] == {"StringLike": {"aws:RequestTag/dsched:cluster": "*"}}
    assert "arn:aws:ec2:*:*:instance/*" not in told["LaunchFromParts"]["Resource"]
