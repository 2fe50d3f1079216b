"""RunInstances as dsched means it, and EC2's instances as nodes. Plain functions: no call is made here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from dsched.providers.aws.client import Json
from dsched.providers.aws.gang import Network, interfaces
from dsched.providers.aws.prices import instant
from dsched.providers.aws.reserve import Held
from dsched.providers.aws.settings import Settings
from dsched.providers.aws.shapes import Kind
from dsched.providers.aws.zones import Zones
from dsched.providers.base import EndReason, Invalid, Launch, Node, NodeRef, NodeStatus, Scope
from dsched.scheduler.core.market import Market, Pool
from dsched.scheduler.core.units import MICRO, Instant

NAME: Final = "aws"
USER_DATA_MAX: Final = 16 * 1024  # bytes, EC2's limit before base64
TOKEN_MAX: Final = 64  # characters of a client token
HOPS: Final = 2  # a container on the machine is one hop further from the metadata service
CLUSTER, TOKEN, MARKET = "dsched:cluster", "dsched:token", "dsched:market"

STATUS: Final[Mapping[str, NodeStatus]] = {
    "pending": NodeStatus.PENDING,
    "running": NodeStatus.RUNNING,
    "shutting-down": NodeStatus.STOPPING,
    "stopping": NodeStatus.STOPPING,
    "stopped": NodeStatus.STOPPING,  # somebody stopped it: its disk costs on, until it is terminated
    "terminated": NodeStatus.GONE,
}
_TAKEN: Final = re.compile(r"Server\.(Spot|InsufficientInstanceCapacity|CapacityBlock|CapacityReservation)")
_ENDED_AT: Final = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")


def request(
    want: Launch,
    *,
    cluster: str,
    zone: str,
    kind: Kind,
    held: Held | None,
    settings: Settings,
    gang: Network | None = None,
) -> Json:
    """The arguments of RunInstances: the same wish gives the same arguments. `zone`: by this account's name.

    `gang`: what was made for several machines that are to speak with each other. Raises Invalid for what EC2 could only
    refuse.
    """
    check(want)
    asked: Json = {
        "ImageId": settings.image_in(want.pool, kind.arch),
        "InstanceType": want.pool.shape,
        "MinCount": want.count,
        "MaxCount": want.count,
        "ClientToken": want.token,
        "UserData": want.user_data,
        "Placement": {"AvailabilityZone": zone, **({"GroupName": gang.placement} if gang and gang.placement else {})},
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": HOPS},
        "TagSpecifications": _tags(want, cluster),
        **_market(want, held),
        **_network(want.pool, kind, gang, settings),
    }
    if settings.instance_profile:
        key = "Arn" if settings.instance_profile.startswith("arn:") else "Name"
        asked["IamInstanceProfile"] = {key: settings.instance_profile}
    if settings.disk_gib:
        disk = {"VolumeSize": settings.disk_gib, "VolumeType": "gp3", "DeleteOnTermination": True}
        asked["BlockDeviceMappings"] = [{"DeviceName": "/dev/sda1", "Ebs": disk}]
    return asked


def _network(pool: Pool, kind: Kind, gang: Network | None, settings: Settings) -> Json:
    subnet, groups = settings.subnets.get(pool.zone, ""), list(settings.groups.get(pool.region, ()))
    if gang is not None:
        groups.append(gang.group)
    if gang is not None and settings.efa and kind.efa:
        return {"NetworkInterfaces": interfaces(groups, subnet, kind.efa)}
    return {**({"SubnetId": subnet} if subnet else {}), **({"SecurityGroupIds": groups} if groups else {})}


def check(want: Launch) -> None:
    if want.count < 1:
        raise Invalid("InvalidParameterValue", f"{want.count} machines", scope=Scope.REQUEST)
    if not 0 < len(want.token) <= TOKEN_MAX or not want.token.isascii():
        raise Invalid("InvalidParameterValue", f"the token {want.token!r} has not 1 to {TOKEN_MAX} ASCII characters")
    if (size := len(want.user_data.encode())) > USER_DATA_MAX:
        raise Invalid("InvalidUserData", f"user-data of {size} bytes; EC2 takes {USER_DATA_MAX}")


def _tags(want: Launch, cluster: str) -> list[Json]:
    """Set with the launch, never afterwards: no machine of ours exists without them."""
    tags = {
        **want.tags,
        CLUSTER: cluster,
        TOKEN: want.token,
        MARKET: str(want.pool.market),
        "Name": f"dsched-{want.token}",
    }
    rows = [{"Key": key, "Value": value} for key, value in tags.items()]
    kinds = ["instance", "volume", "network-interface"]
    kinds += ["spot-instances-request"] if want.pool.market is Market.SPOT else []
    return [{"ResourceType": kind, "Tags": rows} for kind in kinds]


def _market(want: Launch, held: Held | None) -> Json:
    if want.pool.market is Market.SPOT:
        spot: Json = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        if want.price_max is not None:
            spot["MaxPrice"] = f"{want.price_max // MICRO}.{want.price_max % MICRO:06d}"
        return {"InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": spot}}
    if held is None or held.what == "instances":
        # What is bought on demand must not eat a reservation that another job has been promised.
        return {"CapacityReservationSpecification": {"CapacityReservationPreference": "none"}}
    target = {"CapacityReservationTarget": {"CapacityReservationId": held.id}}
    block = {"InstanceMarketOptions": {"MarketType": "capacity-block"}} if held.what == "block" else {}
    return {"CapacityReservationSpecification": target, **block}


def node_from(row: Mapping[str, Any], region: str, zones: Zones, *, before: Node | None, now: Instant) -> Node | None:
    """None for a machine that is not ours. `before`: as it was known; a dead one may have lost its tags."""
    tags = {tag["Key"]: tag["Value"] for tag in row.get("Tags", ())}
    token = tags.get(TOKEN) or (before.token if before else "")
    if not token:
        return None
    status, launched = STATUS[row["State"]["Name"]], instant(row["LaunchTime"])
    gone = status is NodeStatus.GONE
    return Node(
        ref=ref_of(region, row["InstanceId"]),
        token=token,
        index=before.index if before else row.get("AmiLaunchIndex", 0),
        pool=before.pool
        if before
        else Pool(NAME, region, zones.of(row["Placement"]), row["InstanceType"], _sold(row, tags)),
        status=status,
        launched_at=launched,
        ended_at=max(launched, _ended(row, before, now)) if gone else None,
        ended_by=end_reason(row.get("StateReason", {}).get("Code", "")) if gone else None,
    )


def _sold(row: Mapping[str, Any], tags: Mapping[str, str]) -> Market:
    if tags.get(MARKET) in tuple(Market):
        return Market(tags[MARKET])
    return Market.SPOT if row.get("InstanceLifecycle") == "spot" else Market.ON_DEMAND


def _ended(row: Mapping[str, Any], before: Node | None, now: Instant) -> Instant:
    """When EC2 says so, else when it was first seen dead."""
    if told := _ENDED_AT.search(row.get("StateTransitionReason", "")):
        return instant(datetime.strptime(told[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC))
    return before.ended_at if before is not None and before.ended_at is not None else now


def end_reason(code: str) -> EndReason:
    """Who ended it, by EC2's code. A machine that shuts itself down was asked to, by the daemon or by its lease."""
    if _TAKEN.match(code):
        return EndReason.INTERRUPTED
    return (
        EndReason.ASKED
        if code in ("Client.UserInitiatedShutdown", "Client.InstanceInitiatedShutdown")
        else EndReason.FAILED
    )


def ref_of(region: str, instance: str) -> NodeRef:
    """EC2 finds a machine only in its region."""
    return NodeRef(NAME, f"{region}/{instance}")


def place_of(ref: NodeRef) -> tuple[str, str]:
    """(region, instance id); region "" where the reference names none."""
    region, _, instance = ref.id.rpartition("/")
    return region, instance
