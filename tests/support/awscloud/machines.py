"""moto's instances, seen and changed behind its API."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend
from moto.ec2.models.instances import StateReason
from moto.events.models import events_backends

from tests.support.awscloud.state import Market


def zone_ids(region: str) -> dict[str, str]:
    """Zone name -> zone id."""
    return {zone.name: zone.zone_id for zone in RegionsAndZonesBackend.zones[region]}


def machines(region: str) -> list[Any]:
    return list(ec2_backends[DEFAULT_ACCOUNT_ID][region].all_instances())


def machine(region: str, name: str) -> Any | None:
    return next((one for one in machines(region) if one.id == name), None)


def forget_all() -> None:
    """End every machine of the account, and remember none, nor a gang's group."""
    for backend in list(ec2_backends[DEFAULT_ACCOUNT_ID].values()):
        for groups in backend.groups.values():
            for name in [name for name, group in groups.items() if group.name.startswith("dsched-")]:
                del groups[name]
        for one in backend.all_instances():
            if one._state.name != "terminated":
                one.terminate()
        backend.reservations.clear()


def forget(region: str, name: str) -> None:
    for reservation in ec2_backends[DEFAULT_ACCOUNT_ID][region].reservations.values():
        reservation.instances = [one for one in reservation.instances if one.id != name]


def guests() -> list[dict[str, Any]]:
    return [
        {"id": one.id, "region": region, "index": int(one.ami_launch_index), "user_data": str(one.user_data or "")}
        for region, backend in list(ec2_backends[DEFAULT_ACCOUNT_ID].items())
        for one in backend.all_instances()
        if one._state.name == "running" and any(tag["key"] == "dsched:cluster" for tag in one.get_tags())
    ]


def living(cluster: str) -> list[tuple[str, str]]:
    found = []
    for backend in list(ec2_backends[DEFAULT_ACCOUNT_ID].values()):
        for one in backend.all_instances():
            tags = {tag["key"]: tag["value"] for tag in one.get_tags()}
            if tags.get("dsched:cluster") == cluster and one._state.name != "terminated":
                found.append((tags["dsched:token"], one.id))
    return found


def pool_of(one: Any) -> tuple[str, str, str]:
    return one.instance_type, one.placement.zone, one.lifecycle or "on-demand"


def give_back(market: Market, one: Any) -> None:
    """Its place is free again."""
    if pool_of(one) in market.capacity:
        market.capacity[pool_of(one)] += 1
    for rows in market.reservations.values():
        for row in rows:
            if one.id in row.get("_held", ()):
                row["_held"].remove(one.id)


def tell(region: str, kind: str, names: Iterable[str], **detail: str) -> None:
    """An event of EC2's own, on the default bus."""
    arn = f"arn:aws:ec2:{region}:{DEFAULT_ACCOUNT_ID}:instance"
    events_backends[DEFAULT_ACCOUNT_ID][region].put_events(
        [
            {
                "Source": "aws.ec2",
                "DetailType": kind,
                "Resources": [f"{arn}/{name}"],
                "Detail": json.dumps({"instance-id": name, **detail}),
            }
            for name in names
        ]
    )


def tell_state(region: str, names: Iterable[str], state: str) -> None:
    tell(region, "EC2 Instance State-change Notification", names, state=state)


def reclaim(market: Market, region: str, name: str, code: str) -> None:
    """End it by another's hand than the API's: the reason says whose."""
    with market.lock:
        one = machine(region, name)
        if one is None or one._state.name == "terminated":
            return
        market.changed[name] = (datetime.now(UTC).timestamp(), one._state.name)
        give_back(market, one)
        one.terminate()
        one._reason = f"{code} ({datetime.now(UTC):%Y-%m-%d %H:%M:%S} GMT)"
        one.state_reason = StateReason(f"{code}: ended", code)
    tell_state(region, [name], "terminated")
