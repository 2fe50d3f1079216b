"""Placement groups, which moto does not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tests.support.awscloud import machines
from tests.support.awscloud.call import Call
from tests.support.awscloud.reply import Reply, items, refusal, xml_reply

if TYPE_CHECKING:
    from tests.support.awscloud.front import Front

GROUP: Final = "Placement.GroupName"


def create_placement_group(front: Front, call: Call) -> Reply:
    name, asked = call.parameters["GroupName"], call.parameters
    with front.market.lock:
        if (call.region, name) in front.market.placements:
            return refusal(call, "InvalidPlacementGroup.Duplicate", f"The placement group '{name}' exists.")
        tags = [
            {
                "key": asked[f"TagSpecification.1.Tag.{place}.Key"],
                "value": asked[f"TagSpecification.1.Tag.{place}.Value"],
            }
            for place in range(1, 50)
            if f"TagSpecification.1.Tag.{place}.Key" in asked
        ]
        row = {"groupName": name, "strategy": asked.get("Strategy", ""), "state": "available", "tagSet": tags}
        front.market.placements[call.region, name] = row
    return xml_reply(call, "<return>true</return>")


def describe_placement_groups(front: Front, call: Call) -> Reply:
    wanted = {name.removeprefix("tag:"): values for name, values in call.filters().items() if name.startswith("tag:")}
    rows = [row for (region, _), row in front.market.placements.items() if region == call.region and _has(row, wanted)]
    return xml_reply(call, f"<placementGroupSet>{items(rows)}</placementGroupSet>")


def delete_placement_group(front: Front, call: Call) -> Reply:
    name = call.parameters["GroupName"]
    with front.market.lock:
        if (call.region, name) not in front.market.placements:
            return refusal(call, "InvalidPlacementGroup.Unknown", f"The placement group '{name}' is unknown.")
        used = {front.market.placed.get(one.id) for one in machines.machines(call.region) if alive(one)}
        if name in used:
            return refusal(call, "InvalidPlacementGroup.InUse", f"The placement group '{name}' is in use.")
        del front.market.placements[call.region, name]
    return xml_reply(call, "<return>true</return>")


def alive(one: Any) -> bool:
    return bool(one._state.name != "terminated")


def _has(row: dict[str, Any], wanted: dict[str, list[str]]) -> bool:
    tags = {tag["key"]: tag["value"] for tag in row["tagSet"]}
    return all(tags.get(key) in values for key, values in wanted.items())


HANDLERS: Final[dict[tuple[str, str], Callable[[Front, Call], Reply]]] = {
    ("ec2", "CreatePlacementGroup"): create_placement_group,
    ("ec2", "DescribePlacementGroups"): describe_placement_groups,
    ("ec2", "DeletePlacementGroup"): delete_placement_group,
}
