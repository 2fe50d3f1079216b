"""What was paid for beforehand: capacity reservations, capacity blocks, reserved instances."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tests.support.awscloud.call import Call
from tests.support.awscloud.reply import Reply, items, page, xml_reply

if TYPE_CHECKING:
    from tests.support.awscloud.front import Front

ROWS_MAX: Final = 1_000


def describe_capacity_reservations(front: Front, call: Call) -> Reply:
    with front.market.lock:
        rows = [
            {**row, "availableInstanceCount": row["totalInstanceCount"] - len(row.get("_held", ()))}
            for row in front.market.reservations.get(call.region, [])
        ]
    return _listed(call, "capacityReservationSet", rows)


def describe_capacity_block_offerings(front: Front, call: Call) -> Reply:
    asked = call.parameters
    rows = [
        row
        for row in front.market.blocks.get(call.region, [])
        if row["instanceType"] == asked.get("InstanceType", row["instanceType"])
    ]
    return _listed(call, "capacityBlockOfferingSet", rows)


def describe_reserved_instances(front: Front, call: Call) -> Reply:
    rows = items(front.market.reserved.get(call.region, []))
    return xml_reply(call, f"<reservedInstancesSet>{rows}</reservedInstancesSet>")


def _listed(call: Call, name: str, rows: list[dict[str, Any]]) -> Reply:
    shown, following = page(call, rows, most=ROWS_MAX)
    return xml_reply(call, f"<{name}>{items(shown)}</{name}><nextToken>{following}</nextToken>")


HANDLERS: Final[dict[tuple[str, str], Callable[[Front, Call], Reply]]] = {
    ("ec2", "DescribeCapacityReservations"): describe_capacity_reservations,
    ("ec2", "DescribeCapacityBlockOfferings"): describe_capacity_block_offerings,
    ("ec2", "DescribeReservedInstances"): describe_reserved_instances,
}
