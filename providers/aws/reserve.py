"""What has been paid for beforehand: capacity reservations, capacity blocks, reserved instances, savings plans.

Reservations and blocks are capacity that is ours: offers of the reserved market with so many free slots. A reserved
instance is a discount on machines that are bought on demand: an offer, too, as long as fewer of them run. Savings plans
are dollars per hour for whatever runs; they are told, and make no offers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from dsched.providers.aws.client import Account
from dsched.providers.aws.prices import instant
from dsched.providers.aws.zones import Zones
from dsched.scheduler.core.commitment import Contract
from dsched.scheduler.core.units import MINUTE, Instant, MicroUsd, Millis, price, usd

AWS: Final = "aws"
BLOCK_ENDS: Final = Millis(30 * MINUTE)  # EC2 takes the machines of a block so long before its end

What = Literal["block", "reservation", "instances"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Slots that are ours in one zone."""

    what: What
    id: str
    zone: str  # id
    shape: str
    free: int
    until: Instant | None  # when its machines are taken at the latest


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockOffer:
    """A capacity block that can be bought; nothing here buys one."""

    id: str
    zone: str
    shape: str
    count: int
    start: Instant
    end: Instant
    fee: MicroUsd


async def held(
    account: Account, region: str, zones: Zones, sold: Collection[tuple[str, str]], now: Instant
) -> list[Held]:
    """All slots of a region, the free ones and the taken. `sold`: (zone, shape) that the region offers."""
    active = [{"Name": "state", "Values": ["active"]}]
    rows = await account.rows("ec2", region, "describe_capacity_reservations", "CapacityReservations", Filters=active)
    found = [one for row in rows if (one := _reservation(row, zones, now)) is not None]
    return [*found, *await _instances(account, region, zones, sold)]


def _reservation(row: Mapping[str, Any], zones: Zones, now: Instant) -> Held | None:
    """None for what our machines cannot use."""
    if row.get("State", "active") != "active" or row.get("Tenancy", "default") != "default":
        return None
    if row.get("InstancePlatform", "Linux/UNIX") != "Linux/UNIX":
        return None
    block, end = row.get("ReservationType") == "capacity-block", row.get("EndDate")
    until = None if end is None else Instant(instant(end) - (BLOCK_ENDS if block else 0))
    if until is not None and until <= now:
        return None
    return Held(
        what="block" if block else "reservation",
        id=row["CapacityReservationId"],
        zone=zones.of(row),
        shape=row["InstanceType"],
        free=row["AvailableInstanceCount"],
        until=until,
    )


async def _instances(account: Account, region: str, zones: Zones, sold: Collection[tuple[str, str]]) -> list[Held]:
    """Discounts that nobody uses now. One for a whole region is offered in one zone, lest it be sold twice."""
    rows = [row for row in await _reserved(account, region) if row.get("ProductDescription", "").startswith("Linux")]
    shapes = sorted({row["InstanceType"] for row in rows})
    used = await _running(account, region, zones, shapes) if shapes else {}
    slots: list[Held] = []
    for row in sorted(rows, key=lambda row: ("AvailabilityZone" not in row, row["ReservedInstancesId"])):
        shape, fixed = row["InstanceType"], bool(row.get("AvailabilityZone") or row.get("AvailabilityZoneId"))
        places = [zones.of(row)] if fixed else sorted(zone for zone, name in sold if name == shape)
        if not places:
            continue
        key = (places[0], shape) if fixed else ("", shape)
        covered = min(row["InstanceCount"], used.get(key, 0) if fixed else sum(_of(used, shape)))
        _use(used, shape, key[0], covered)
        free = row["InstanceCount"] - covered
        name = row["ReservedInstancesId"]
        slots.append(Held(what="instances", id=name, zone=places[0], shape=shape, free=free, until=None))
    return slots


def _of(used: Mapping[tuple[str, str], int], shape: str) -> list[int]:
    return [count for (_, name), count in used.items() if name == shape]


def _use(used: dict[tuple[str, str], int], shape: str, zone: str, count: int) -> None:
    """These machines have their discount; `zone` "": anywhere."""
    for key in sorted(key for key in used if key[1] == shape and zone in ("", key[0])):
        taken = min(count, used[key])
        used[key] -= taken
        count -= taken


async def _reserved(account: Account, region: str) -> list[Any]:
    active = [{"Name": "state", "Values": ["active"]}]
    answer = await account.ask("ec2", region, "describe_reserved_instances", Filters=active)
    return list(answer.get("ReservedInstances", []))


async def _running(account: Account, region: str, zones: Zones, shapes: list[str]) -> dict[tuple[str, str], int]:
    """(zone, shape) -> machines of this account that are billed on demand, ours and others'."""
    filters = [
        {"Name": "instance-type", "Values": shapes},
        {"Name": "instance-state-name", "Values": ["pending", "running"]},
    ]
    used: dict[tuple[str, str], int] = {}
    for reservation in await account.rows("ec2", region, "describe_instances", "Reservations", Filters=filters):
        for row in reservation["Instances"]:
            if "InstanceLifecycle" not in row:  # neither spot nor a block
                key = (zones.of(row["Placement"]), row["InstanceType"])
                used[key] = used.get(key, 0) + 1
    return used


async def commitments(account: Account, regions: Collection[str]) -> list[Contract]:
    """Reserved instances and savings plans in force."""
    found = [
        Contract(
            provider=AWS,
            kind="reserved-instances",
            id=row["ReservedInstancesId"],
            region=region,
            covers=row["InstanceType"],
            count=row["InstanceCount"],
            until=instant(row["End"]) if "End" in row else None,
        )
        for region in regions
        for row in await _reserved(account, region)
    ]
    answer = await account.ask("savingsplans", "", "describe_savings_plans", states=["active"])
    return found + [_plan(row) for row in answer.get("savingsPlans", [])]


def _plan(row: Mapping[str, Any]) -> Contract:
    end = row.get("end")
    return Contract(
        provider=AWS,
        kind=row["savingsPlanType"],
        id=row["savingsPlanId"],
        region=row.get("region", ""),
        covers=row.get("ec2InstanceFamily", ""),
        per_hour=price(row["commitment"]),
        until=instant(datetime.fromisoformat(end.replace("Z", "+00:00"))) if end else None,
    )


async def blocks(account: Account, region: str, zones: Zones, shape: str, count: int, hours: int) -> list[BlockOffer]:
    """Capacity blocks on sale for so many machines and hours."""
    rows = await account.rows(
        "ec2",
        region,
        "describe_capacity_block_offerings",
        "CapacityBlockOfferings",
        InstanceType=shape,
        InstanceCount=count,
        CapacityDurationHours=hours,
    )
    return [
        BlockOffer(
            id=row["CapacityBlockOfferingId"],
            zone=zones.of(row),
            shape=row["InstanceType"],
            count=row["InstanceCount"],
            start=instant(row["StartDate"]),
            end=instant(row["EndDate"]),
            fee=usd(row["UpfrontFee"]),
        )
        for row in rows
        if row.get("CurrencyCode", "USD") == "USD"
    ]
