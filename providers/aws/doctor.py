"""What could be wrong with an AWS account, each finding with its fix as a command. Everything here only asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal

from dsched.providers.aws.client import Account
from dsched.providers.aws.compute import CLUSTER
from dsched.providers.aws.quotas import FAMILIES
from dsched.providers.aws.settings import Settings
from dsched.providers.base import Auth, Finding, ProviderError
from dsched.scheduler.core.quota import Quota

PATIENCE_S: Final = 4.0  # for all questions together, which are asked at once
SKEW_WARN_S, SKEW_FAIL_S = 5.0, 240.0  # AWS refuses what was signed five minutes ago
SETUP: Final = "dsched setup aws"
CLOCK: Final = "timedatectl set-ntp true"
MAY: Final = "DryRunOperation"  # what EC2 answers a dry run that would have been allowed
_CLOCKS: Final = ("RequestExpired", "SignatureDoesNotMatch", "InvalidSignatureException")


async def examine(
    account: Account, settings: Settings, cluster: str, shape: str, limits: Mapping[str, Collection[Quota]]
) -> list[Finding]:
    """`shape`: one that is sold, for a launch that is only tried; `limits`: region -> quotas as they were told last."""
    who = await _within(_who(account, settings), "credentials")
    if any(finding.status == "fail" and finding.what == "credentials" for finding in who):
        return who
    asked = [_within(_region(account, name), f"region {name}") for name in settings.regions]
    asked += [_within(_launch(account, settings, cluster, shape), "permissions")]
    asked += [_within(_queue(account, settings), "hints")]
    return [*who, *(one for found in await asyncio.gather(*asked) for one in found), *quotas(limits)]


async def _within(asking: Any, what: str) -> list[Finding]:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return list(await asking)
    except TimeoutError:
        message = f"no answer in {PATIENCE_S:.0f} s; is there a way out of this host, by a proxy or an endpoint?"
        return [Finding(what, "fail", message, "curl -sS -m 5 -o /dev/null https://sts.amazonaws.com")]


async def _who(account: Account, settings: Settings) -> list[Finding]:
    try:
        answer = await account.ask("sts", settings.regions[0], "get_caller_identity")
    except Auth as error:
        if error.code in _CLOCKS:
            return [Finding("credentials", "fail", f"{error}: this host's clock may be wrong", CLOCK)]
        profile = f" --profile {settings.profile}" if settings.profile else ""
        return [Finding("credentials", "fail", str(error), f"aws sts get-caller-identity{profile}")]
    except ProviderError as error:
        return [Finding("credentials", "fail", str(error), "curl -sS -m 5 -o /dev/null https://sts.amazonaws.com")]
    return [Finding("credentials", "ok", f"{answer['Arn']}"), *clock(answer)]


def clock(answer: Mapping[str, Any]) -> list[Finding]:
    """How far this host's clock is from that of an answer's sender, which tells whole seconds."""
    told = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    if not told:
        return []
    apart = abs(time.time() - parsedate_to_datetime(told).timestamp())
    if apart <= SKEW_WARN_S:
        return [Finding("clock", "ok", f"within {SKEW_WARN_S:.0f} s of Amazon's")]
    status: Literal["warn", "fail"] = "fail" if apart > SKEW_FAIL_S else "warn"
    return [Finding("clock", status, f"{apart:.0f} s apart from Amazon's; at five minutes it refuses us", CLOCK)]


async def _region(account: Account, region: str) -> list[Finding]:
    began = time.monotonic()
    try:
        answer = await account.ask("ec2", region, "describe_availability_zones")
    except ProviderError as error:
        fix = SETUP if isinstance(error, Auth) else f"aws ec2 describe-availability-zones --region {region}"
        return [Finding(f"region {region}", "fail", str(error), fix)]
    took, zones = time.monotonic() - began, len(answer["AvailabilityZones"])
    return [Finding(f"region {region}", "ok", f"{zones} zones, answers in {took * 1_000:.0f} ms")]


async def _launch(account: Account, settings: Settings, cluster: str, shape: str) -> list[Finding]:
    """A launch that is only tried: EC2 says whether it would have been allowed."""
    tags = [{"ResourceType": "instance", "Tags": [{"Key": CLUSTER, "Value": cluster}]}]
    asked: dict[str, Any] = {"InstanceType": shape, "MinCount": 1, "MaxCount": 1, "TagSpecifications": tags}
    asked["ImageId"] = settings.image.replace("{arch}", "x86_64")
    if settings.instance_profile:
        key = "Arn" if settings.instance_profile.startswith("arn:") else "Name"
        asked["IamInstanceProfile"] = {key: settings.instance_profile}
    try:
        await account.change("ec2", settings.regions[0], "run_instances", DryRun=True, **asked)
    except ProviderError as error:
        if error.code == MAY:
            return [Finding("permissions", "ok", f"may launch {shape} in {settings.regions[0]} (tried, not done)")]
        return [Finding("permissions", "fail" if isinstance(error, Auth) else "warn", str(error), SETUP)]
    return [Finding("permissions", "ok", "may launch")]


async def _queue(account: Account, settings: Settings) -> list[Finding]:
    if not settings.queue:
        message = "no queue: interruptions are heard from the machines alone, and ends by looking"
        return [Finding("hints", "warn", message, f"{SETUP} --queue dsched")]

    async def missing(region: str) -> str:
        try:
            await account.ask("sqs", region, "get_queue_url", QueueName=settings.queue)
        except ProviderError as error:
            return f"{region}: {error.code}"
        return ""

    found = [one for one in await asyncio.gather(*map(missing, settings.regions)) if one]
    if found:
        return [Finding("hints", "fail", f"queue {settings.queue}: {', '.join(found)}", f"{SETUP} --queue dsched")]
    return [Finding("hints", "ok", f"queue {settings.queue} in every region")]


def quotas(limits: Mapping[str, Collection[Quota]]) -> list[Finding]:
    """One line for each family, over all regions."""
    by_name: dict[str, list[tuple[str, Quota]]] = {}
    for region, told in limits.items():
        for quota in told:
            by_name.setdefault(quota.name, []).append((region, quota))
    return [_quota(name, told) for name, told in sorted(by_name.items())]


def _quota(name: str, told: list[tuple[str, Quota]]) -> Finding:
    words = ", ".join(f"{region} {quota.limit} {quota.unit}" for region, quota in told)
    what = f"quota {name.partition(' (')[0]}"
    if any(quota.limit for _, quota in told):
        return Finding(what, "ok", words)
    code = next((code for code in FAMILIES if code in name), "")
    fix = (
        f"aws service-quotas request-service-quota-increase --service-code ec2 --quota-code {code} "
        f"--desired-value 192 --region {told[0][0]}"
    )
    return Finding(what, "warn", f"{words}: nothing of this family can start", fix)
