"""What could be wrong with a project of Google Cloud, each finding with its fix as a command. It only asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final

from dsched.providers.base import Auth, Finding, ProviderError
from dsched.providers.gcp.client import Client
from dsched.providers.gcp.permissions import METHODS
from dsched.providers.gcp.settings import Settings
from dsched.scheduler.core.quota import Quota

PATIENCE_S: Final = 6.0  # for each of two rounds of questions; loading the library takes a second of it
SKEW_WARN_S, SKEW_FAIL_S = 5.0, 240.0  # a token's times are checked to minutes
SETUP: Final = "dsched setup gcp"
CLOCK: Final = "timedatectl set-ntp true"
LOGIN: Final = "gcloud auth application-default login"
_DISABLED: Final = ("accessNotConfigured", "SERVICE_DISABLED")

Run = Callable[..., Awaitable[Any]]


async def examine(settings: Settings, client: Client, run: Run, limits: Sequence[Quota]) -> list[Finding]:
    """`run` carries a blocking call to a thread; `limits`: quotas as they were told last."""
    who = await _within(_granted(settings, client, run), "credentials")
    if any(finding.status == "fail" and finding.what == "credentials" for finding in who):
        return who
    asked = [_within(_region(settings, client, run, name), f"region {name}") for name in settings.regions]
    return [*who, *(one for found in await asyncio.gather(*asked) for one in found), *quotas(settings, limits)]


async def _within(asking: Any, what: str) -> list[Finding]:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return list(await asking)
    except TimeoutError:
        message = f"no answer in {PATIENCE_S:.0f} s; is there a way out of this host?"
        return [Finding(what, "fail", message, "curl -sS -m 5 -o /dev/null https://compute.googleapis.com")]


async def _granted(settings: Settings, client: Client, run: Run) -> list[Finding]:
    """Which permissions of the role we have: an answer also proves the credentials, and tells the time."""
    needed = sorted({permission for permissions in METHODS.values() for permission in permissions})
    try:
        granted, date = await run(client.granted, needed)
    except Auth as error:
        if error.code in _DISABLED:
            fix = f"gcloud services enable cloudresourcemanager.googleapis.com --project {settings.project}"
            return [Finding("permissions", "warn", str(error), fix)]
        return [Finding("credentials", "fail", str(error), LOGIN)]
    except ProviderError as error:
        return [Finding("credentials", "fail", str(error), "curl -sS -m 5 -o /dev/null https://compute.googleapis.com")]
    found = [Finding("credentials", "ok", f"project {settings.project}"), *_clock(date)]
    return [*found, permissions(needed, granted)]


def permissions(needed: Collection[str], granted: Collection[str]) -> Finding:
    missing = sorted(set(needed) - set(granted))
    if not missing:
        return Finding("permissions", "ok", f"all {len(needed)} that the calls need")
    words = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
    return Finding("permissions", "fail", f"missing: {words}", SETUP)


def _clock(date: str) -> list[Finding]:
    if not date:
        return []
    apart = abs(time.time() - parsedate_to_datetime(date).timestamp())
    if apart <= SKEW_WARN_S:
        return [Finding("clock", "ok", f"within {SKEW_WARN_S:.0f} s of Google's")]
    return [Finding("clock", "fail" if apart > SKEW_FAIL_S else "warn", f"{apart:.0f} s apart from Google's", CLOCK)]


async def _region(settings: Settings, client: Client, run: Run, region: str) -> list[Finding]:
    began = time.monotonic()
    try:
        await run(client.limits, region)
    except ProviderError as error:
        disabled = error.code in _DISABLED
        fix = f"gcloud services enable compute.googleapis.com --project {settings.project}" if disabled else SETUP
        return [Finding(f"region {region}", "fail", str(error), fix)]
    return [Finding(f"region {region}", "ok", f"answers in {(time.monotonic() - began) * 1_000:.0f} ms")]


def quotas(settings: Settings, limits: Sequence[Quota]) -> list[Finding]:
    """One line for each accelerator, over all regions."""
    by_name: dict[str, list[Quota]] = {}
    for quota in limits:
        by_name.setdefault(quota.name, []).append(quota)
    found = []
    for name, told in sorted(by_name.items()):
        words = ", ".join(f"{quota.pattern.split('/')[1]} {quota.limit} {quota.unit}" for quota in told)
        if any(quota.limit for quota in told):
            found.append(Finding(f"quota {name}", "ok", words))
            continue
        region = told[0].pattern.split("/")[1]
        fix = f"gcloud compute regions describe {region} --project {settings.project} --format 'yaml(quotas)'"
        ask = "nothing of it can start; ask for more under IAM & Admin, Quotas"
        found.append(Finding(f"quota {name}", "warn", f"{words}: {ask}", fix))
    return found
