"""EC2 as it behaves and moto does not: tokens, capacity, prices, placement scores, lag, short pages."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree

from tests.support.awscloud import machines
from tests.support.awscloud.call import Call
from tests.support.awscloud.placement import GROUP
from tests.support.awscloud.reply import Reply, items, page, refusal, xml_reply
from tests.support.awscloud.state import PRICE_MEMORY_S, Market

if TYPE_CHECKING:
    from tests.support.awscloud.front import Front

IMAGE: Final = "ami-03cf127a"  # one that moto knows: where a public parameter was asked for
HISTORY_MAX: Final = 1_000
RESERVATION: Final = "CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId"


def run_instances(front: Front, call: Call) -> Reply:
    """All or nothing, once per token."""
    market, asked = front.market, call.parameters
    if asked.get("DryRun") == "true":
        return front.forward(call, **_for_moto(asked))
    key = (call.region, asked.get("ClientToken", ""))
    shape = hashlib.sha256(json.dumps(sorted(asked.items())).encode()).hexdigest()
    with market.lock:
        if known := market.tokens.get(key) if key[1] else None:
            return _again(call, *known, shape)
        if (refused := _refused(front, call)) is not None:
            return refused
        reply = front.forward(call, **_for_moto(asked))
        names = re.findall(rb"<instanceId>([^<]+)</instanceId>", reply[2])
        if reply[0].startswith("200"):
            started = [name.decode() for name in names]
            _take(market, call, started)
            market.placed.update(dict.fromkeys(started, asked.get(GROUP, "")))
            market.tokens[key] = (shape, started, reply)
    machines.tell_state(call.region, started, "running")
    return reply


def _again(call: Call, shape: str, names: list[str], reply: Reply, asked: str) -> Reply:
    if shape != asked:
        return refusal(call, "IdempotentParameterMismatch", "The client token was used with other parameters.")
    alive = [one for name in names if (one := machines.machine(call.region, name)) and one._state.name != "terminated"]
    if not alive:
        return refusal(call, "IdempotentInstanceTerminated", "The instance of this client token has been terminated.")
    return reply


def _refused(front: Front, call: Call) -> Reply | None:
    market, asked = front.market, call.parameters
    key = _pool(call)
    limit = asked.get("InstanceMarketOptions.SpotOptions.MaxPrice")
    price = market.price(key[0], key[1])
    if key[2] == "spot" and limit and price is not None and float(limit) < price:
        text = f"Your Spot request price of {limit} is lower than the minimum required of {price}."
        return refusal(call, "SpotMaxPriceTooLow", text)
    row = _reservation(market, call)
    if RESERVATION in asked:
        if row is None:
            return refusal(call, "InvalidCapacityReservationId.NotFound", asked[RESERVATION])
        if row["totalInstanceCount"] - len(row.setdefault("_held", [])) < int(asked["MinCount"]):
            return refusal(call, "ReservationCapacityExceeded", "The reservation does not have enough capacity.")
    elif (free := market.capacity.get(key)) is not None and free < int(asked["MinCount"]):
        text = f"We currently do not have sufficient {key[0]} capacity in the Availability Zone ({key[1]})."
        return refusal(call, "InsufficientInstanceCapacity", text, 500)  # 500 it is, which clients retry
    return None


def _for_moto(asked: dict[str, Any]) -> dict[str, str | None]:
    changed: dict[str, str | None] = {}
    if str(asked.get("ImageId", "")).startswith("resolve:ssm:"):
        changed["ImageId"] = IMAGE
    if asked.get("InstanceMarketOptions.MarketType") == "capacity-block":
        changed["InstanceMarketOptions.MarketType"] = None  # moto takes every market for spot
    return changed


def _take(market: Market, call: Call, names: list[str]) -> None:
    now, key = time.time(), _pool(call)
    for name in names:
        market.changed[name] = (now, "")
    if (row := _reservation(market, call)) is not None:
        row["_held"] += names
    elif key in market.capacity:
        market.capacity[key] -= len(names)


def _reservation(market: Market, call: Call) -> dict[str, Any] | None:
    wanted = call.parameters.get(RESERVATION)
    rows = market.reservations.get(call.region, [])
    return next((row for row in rows if row["capacityReservationId"] == wanted), None)


def _pool(call: Call) -> tuple[str, str, str]:
    asked = call.parameters
    zone = asked.get("Placement.AvailabilityZone") or f"{call.region}a"
    kind = asked.get("InstanceMarketOptions.MarketType", "on-demand")
    return asked["InstanceType"], zone, kind


def terminate_instances(front: Front, call: Call) -> Reply:
    market, names = front.market, call.several("InstanceId")
    with market.lock:
        found = [one for name in names if (one := machines.machine(call.region, name))]
        ending = [one for one in found if one._state.name == "running"]
        reply = front.forward(call)
        if not reply[0].startswith("200"):
            return reply
        for one in ending:
            market.changed[one.id] = (time.time(), "running")
            machines.give_back(market, one)
    machines.tell_state(call.region, [one.id for one in ending], "terminated")
    return reply


def describe_instances(front: Front, call: Call) -> Reply:
    """Late, and a page at a time."""
    market = front.market
    asked = {"MaxResults": str(market.page)} if market.page and "InstanceId.1" not in call.parameters else {}
    with market.lock:
        reply = front.forward(call, **asked)
        late = {n: before for n, (at, before) in market.changed.items() if time.time() - at < market.lag_s}
    if not late or not reply[0].startswith("200"):
        return reply
    tree = ElementTree.fromstring(reply[2])
    ElementTree.register_namespace("", tree.tag.rpartition("}")[0].removeprefix("{"))
    for listed in tree.findall(".//{*}instancesSet"):
        for item in list(listed):
            name = item.findtext("{*}instanceId") or ""
            if late.get(name) == "":
                listed.remove(item)
            elif name in late:
                _as_before(item, late[name])
    return reply[0], reply[1], ElementTree.tostring(tree)


def _as_before(item: ElementTree.Element, state: str) -> None:
    found = item.find("{*}instanceState/{*}name")
    assert found is not None
    found.text = state


def describe_spot_price_history(front: Front, call: Call) -> Reply:
    market, now, shapes = front.market, time.time(), set(call.several("InstanceType"))
    since = _seconds(call.parameters.get("StartTime"), now - PRICE_MEMORY_S)
    until = _seconds(call.parameters.get("EndTime"), now)
    rows = [
        (at, shape, zone, usd)
        for (shape, zone), steps in market.prices.items()
        if (not shapes or shape in shapes) and zone.startswith(call.region)
        for at, usd in steps.told(max(since, now - PRICE_MEMORY_S), until)
    ]
    rows.sort(reverse=True)
    shown, following = page(call, rows, most=market.page or HISTORY_MAX)
    listed = items(
        {
            "instanceType": shape,
            "productDescription": "Linux/UNIX",
            "spotPrice": f"{usd:.6f}",
            "timestamp": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "availabilityZone": zone,
        }
        for at, shape, zone, usd in shown
    )
    return xml_reply(call, f"<spotPriceHistorySet>{listed}</spotPriceHistorySet><nextToken>{following}</nextToken>")


def get_spot_placement_scores(front: Front, call: Call) -> Reply:
    rows = [
        {"region": region, "availabilityZoneId": zone, "score": score}
        for region in call.several("RegionName") or [call.region]
        for zone, score in front.market.scores.items()
        if zone in machines.zone_ids(region).values()
    ]
    return xml_reply(call, f"<spotPlacementScoreSet>{items(rows)}</spotPlacementScoreSet>")


def _seconds(text: str | None, default: float) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else default


HANDLERS: Final[dict[tuple[str, str], Callable[[Front, Call], Reply]]] = {
    ("ec2", "RunInstances"): run_instances,
    ("ec2", "TerminateInstances"): terminate_instances,
    ("ec2", "DescribeInstances"): describe_instances,
    ("ec2", "DescribeSpotPriceHistory"): describe_spot_price_history,
    ("ec2", "GetSpotPlacementScores"): get_spot_placement_scores,
}
