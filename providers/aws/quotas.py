"""What this account may run at most: vCPUs per family of shapes, one figure for spot and one for on-demand.

Machines that are not ours use the same quotas, so what they use is taken off. Service Quotas tells limits and no use;
who runs what, EC2 tells.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from dsched.providers.aws.client import Account
from dsched.providers.aws.compute import CLUSTER, NAME
from dsched.providers.aws.fleet import FILTER_MAX
from dsched.scheduler.core.market import Market
from dsched.scheduler.core.quota import Quota


class Family(NamedTuple):
    """The shapes that one quota is about."""

    words: str  # as the console calls it
    shapes: str  # glob
    market: Market


FAMILIES: Final[Mapping[str, Family]] = {  # by EC2's code of the quota
    "L-3819A6DF": Family("All G and VT Spot Instance Requests", "[gv]*", Market.SPOT),
    "L-7212CCBC": Family("All P4, P3 and P2 Spot Instance Requests", "p[234]*", Market.SPOT),
    "L-C4BD4855": Family("All P5 Spot Instance Requests", "p5*", Market.SPOT),
    "L-DB2E81BA": Family("Running On-Demand G and VT instances", "[gv]*", Market.ON_DEMAND),
    "L-417A185B": Family("Running On-Demand P instances", "p[0-9]*", Market.ON_DEMAND),
}


async def limits(account: Account, region: str, cluster: str, vcpus: Mapping[str, int]) -> list[Quota]:
    """The quotas that GPU shapes meet, less what others run. `vcpus`: of each shape that we know.

    Raises ProviderError.
    """
    rows = await account.rows("service-quotas", region, "list_service_quotas", "Quotas", ServiceCode="ec2")
    others = await _others(account, region, cluster, sorted(vcpus))
    return [
        Quota(
            pattern=f"{NAME}/{region}/{family.shapes}/{family.market}",
            limit=max(0, int(row["Value"]) - _used(others, family, vcpus)),
            unit="vcpus",
            name=f"{family.words} ({row['QuotaCode']})",
        )
        for row in rows
        if (family := FAMILIES.get(row["QuotaCode"])) is not None
    ]


async def _others(account: Account, region: str, cluster: str, shapes: Sequence[str]) -> list[Mapping[str, Any]]:
    """Machines of this account that are of these shapes and not of our cluster."""
    found: list[Mapping[str, Any]] = []
    for start in range(0, len(shapes), FILTER_MAX):
        filters = [
            {"Name": "instance-type", "Values": list(shapes[start : start + FILTER_MAX])},
            {"Name": "instance-state-name", "Values": ["pending", "running"]},
        ]
        pages = await account.rows("ec2", region, "describe_instances", "Reservations", Filters=filters)
        found += [row for page in pages for row in page["Instances"] if _owner(row) != cluster]
    return found


def _owner(row: Mapping[str, Any]) -> str:
    return next((str(tag["Value"]) for tag in row.get("Tags", ()) if tag["Key"] == CLUSTER), "")


def _used(rows: Collection[Mapping[str, Any]], family: Family, vcpus: Mapping[str, int]) -> int:
    """vCPUs. Machines within a capacity block are in nobody's quota."""
    return sum(
        vcpus[row["InstanceType"]]
        for row in rows
        if fnmatchcase(row["InstanceType"], family.shapes) and _market(row) is family.market
    )


def _market(row: Mapping[str, Any]) -> Market:
    lifecycle = row.get("InstanceLifecycle", "")
    return {"spot": Market.SPOT, "": Market.ON_DEMAND}.get(lifecycle, Market.RESERVED)


def code_for(shape: str, market: Market) -> str | None:
    """The quota that a launch of this shape meets; None: it has none that we know."""
    return next((c for c, f in FAMILIES.items() if f.market is market and fnmatchcase(shape, f.shapes)), None)
