"""What `dsched doctor` says of a cloud: every line with its remedy, whatever is broken, and nothing is changed."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

import pytest

from dsched.providers.aws.doctor import clock
from dsched.providers.base import Doctored, Finding
from dsched.scheduler.core.snapshot import Orphan, State
from dsched.scheduler.core.units import Instant, price
from dsched.scheduler.doctor import cloud, end_of, orphans
from tests.support.aws_world import REGION, AwsWorld
from tests.support.gce.rest import Fault
from tests.support.gce.world import GcpWorld


@pytest.fixture
async def aws() -> AsyncIterator[AwsWorld]:
    async with AwsWorld() as world:
        yield world


@pytest.fixture
async def gcp() -> AsyncIterator[GcpWorld]:
    async with GcpWorld() as world:
        yield world


def by_name(found: Iterable[Finding]) -> dict[str, Finding]:
    found = list(found)
    for one in found:
        assert one.status == "ok" or shlex.split(one.fix), one  # a command that a shell can read
    return {one.what: one for one in found}


async def test_a_sound_account_has_no_complaints(aws: AwsWorld) -> None:
    aws.pull("quota", region=REGION, code="L-3819A6DF", vcpus=768.0)
    provider = aws.provider()
    assert isinstance(provider, Doctored)
    await provider.limits()
    found = by_name(await provider.doctor())
    assert {one.status for one in found.values()} == {"ok"}, found
    assert {"credentials", "clock", f"region {REGION}", "permissions", "hints"} <= found.keys()
    assert "us-east-1 768 vcpus" in found["quota All G and VT Spot Instance Requests"].message
    assert await aws.living() == []


async def test_what_an_account_may_not_do_is_told_with_the_way_to_allow_it(aws: AwsWorld) -> None:
    aws.pull("fault", action="RunInstances", code="UnauthorizedOperation", status=403)
    aws.pull("quota", region=REGION, code="L-C4BD4855", vcpus=0.0)
    provider = aws.provider(queue="no-such-queue")
    await provider.limits()
    found = by_name(await provider.doctor())
    assert (found["permissions"].status, found["permissions"].fix) == ("fail", "dsched setup aws")
    assert "no-such-queue" in found["hints"].message
    assert "--quota-code L-C4BD4855" in found["quota All P5 Spot Instance Requests"].fix


async def test_credentials_that_are_refused_end_the_examination(aws: AwsWorld) -> None:
    aws.pull("fault", action="GetCallerIdentity", code="ExpiredToken", status=403, times=9)
    [one] = await aws.provider().doctor()
    assert (one.what, one.status, one.fix) == ("credentials", "fail", "aws sts get-caller-identity")


async def test_a_clock_that_is_wrong_is_named_as_the_cause(aws: AwsWorld) -> None:
    aws.pull("fault", action="GetCallerIdentity", code="RequestExpired", status=400, times=9)
    [one] = await aws.provider().doctor()
    assert one.fix == "timedatectl set-ntp true"
    [skewed] = clock({"ResponseMetadata": {"HTTPHeaders": {"date": "Sun, 22 Nov 2020 08:00:00 GMT"}}})
    assert (skewed.status, skewed.fix) == ("fail", "timedatectl set-ntp true")


async def test_an_account_out_of_reach_is_a_line_and_no_exception(aws: AwsWorld, gcp: GcpWorld) -> None:
    for provider in (aws.dead_provider(), gcp.dead_provider()):
        found = by_name(await provider.doctor())
        assert found["credentials"].status == "fail"


async def test_a_sound_project_has_no_complaints(gcp: GcpWorld) -> None:
    gcp.cloud.quotas["us-central1", "NVIDIA_A100_GPUS"] = 16
    provider = gcp.provider()
    assert isinstance(provider, Doctored)
    await provider.limits()
    found = by_name(await provider.doctor())
    assert {one.status for one in found.values()} == {"ok"}, found
    assert {"credentials", "clock", "permissions", "region us-central1", "region europe-west4"} <= found.keys()
    assert found["quota NVIDIA_A100_GPUS"].message == "us-central1 16 gpus"


async def test_permissions_that_a_project_lacks_are_named(gcp: GcpWorld) -> None:
    gcp.cloud.denied = {"compute.instances.create", "compute.disks.create"}
    gcp.front.faults.append(Fault("GET .*/regions/europe-west4", 403, "accessNotConfigured", times=9))
    found = by_name(await gcp.provider().doctor())
    assert found["permissions"].message == "missing: compute.disks.create, compute.instances.create"
    assert found["permissions"].fix == "dsched setup gcp"
    assert found["region europe-west4"].fix.startswith("gcloud services enable compute.googleapis.com")


async def test_a_login_that_is_over_is_told_with_the_way_to_renew_it(gcp: GcpWorld) -> None:
    gcp.front.faults.append(Fault("POST .*:testIamPermissions", 401, "authError"))
    [one] = await gcp.provider().doctor()
    assert (one.status, one.fix) == ("fail", "gcloud auth application-default login")


async def test_machines_without_a_job_are_told_with_what_they_burn(gcp: GcpWorld) -> None:
    told = Orphan(
        node="",
        pool=gcp.pool,
        since=Instant(0),
        least=Instant(0),
        rate=price(1.5),
        on_demand=None,
        source="",
        quoted=Instant(0),
    )
    state = State(orphans={"gcp:us-central1-a/x-s-a2-0": told, "gcp:us-central1-a/x-s-a2-1": replace(told)})
    [line] = orphans(state)
    assert "$3.00/h" in line["message"]
    assert line["fix"] == "gcloud compute instances delete x-s-a2-0 --zone us-central1-a"
    assert end_of("aws", "us-east-1/i-1") == "aws ec2 terminate-instances --region us-east-1 --instance-ids i-1"


def test_what_calls_have_met_is_told_beside_the_examination() -> None:
    lines = cloud("aws", [Finding("clock", "ok", "fine")], {"us-west-2": "InternalError"}, "AccessDenied")
    assert [(line["name"], line["status"]) for line in lines] == [
        ("aws clock", "ok"), ("aws us-west-2", "warn"), ("aws quotas", "warn"),
    ]  # fmt: skip
