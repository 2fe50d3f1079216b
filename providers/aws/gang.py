"""The network of a gang: a placement group, and a security group that is open among its own machines alone.

Both are named by the launch's token and carry our mark. They are made before the machines, by calls that may be
repeated, and taken away once no machine of the gang has been seen for a while: until then EC2 would refuse, or a launch
be under way. A gang of one has neither.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dsched.providers.aws.client import Account, Json
from dsched.providers.aws.settings import Settings
from dsched.providers.base import Ambiguous, Invalid, Launch, ProviderError
from dsched.scheduler.core.units import MINUTE, Instant, Millis

CLUSTER, TOKEN = "dsched:cluster", "dsched:token"
SWEEP_EVERY: Final = Millis(10 * MINUTE)  # two questions per region
UNUSED: Final = Millis(10 * MINUTE)  # without a machine for so long; a launch is over within two
_THERE: Final = ("InvalidGroup.Duplicate", "InvalidPlacementGroup.Duplicate", "InvalidPermission.Duplicate")
_GONE: Final = ("InvalidGroup.NotFound", "InvalidPlacementGroup.Unknown")


@dataclass(frozen=True, slots=True)
class Network:
    group: str  # id of the security group
    placement: str  # name of the placement group; "": none


def unsettled(error: ProviderError) -> bool:
    """What was made a moment ago is not seen everywhere yet: EC2 is eventually consistent. The same call, later."""
    return error.code in _GONE


class Gangs:
    """Of one region."""

    def __init__(
        self, account: Account, region: str, cluster: str, settings: Settings, now: Callable[[], Instant]
    ) -> None:
        self._account, self._region, self._cluster = account, region, cluster
        self._settings, self._now = settings, now
        self._swept: Instant | None = None
        self._unused: dict[str, Instant] = {}  # token -> since when no machine of it has been seen

    async def network(self, want: Launch) -> Network | None:
        """Raises ProviderError; a repeat finds what an earlier one made. None for a gang of one."""
        if want.count == 1:
            return None
        self._unused.pop(want.token, None)
        name = f"dsched-{want.token}"
        placement = ""
        if self._settings.placement:
            placement = name
            asked = {"GroupName": name, "Strategy": self._settings.placement}
            await self._made("create_placement_group", TagSpecifications=self._tags("placement-group", want), **asked)
        return Network(await self._group(name, want), placement)

    def due(self) -> bool:
        """Whether it is time to look for what no machine uses."""
        return self._swept is None or self._now() - self._swept >= SWEEP_EVERY

    async def sweep(self, living: Collection[str]) -> None:
        """Take away the networks of gangs of which no machine lives. `living`: tokens. Raises ProviderError."""
        now = self._swept = self._now()
        ours = [{"Name": f"tag:{CLUSTER}", "Values": [self._cluster]}]
        groups = await self._account.rows(
            "ec2", self._region, "describe_security_groups", "SecurityGroups", Filters=ours
        )
        answer = await self._account.ask("ec2", self._region, "describe_placement_groups", Filters=ours)
        placements = answer["PlacementGroups"]
        tokens = {_token(row) for row in [*groups, *placements]} - set(living) - {""}
        self._unused = {token: self._unused.get(token, now) for token in tokens}
        old = {token for token, since in self._unused.items() if now - since >= UNUSED}
        for row in groups:
            if _token(row) in old:
                await self._taken("delete_security_group", GroupId=row["GroupId"])
        for row in placements:
            if _token(row) in old:
                await self._taken("delete_placement_group", GroupName=row["GroupName"])

    async def _group(self, name: str, want: Launch) -> str:
        asked: Json = {"GroupName": name, "Description": "machines of one gang of dsched, among themselves"}
        vpc = await self._vpc(want)
        if vpc:
            asked["VpcId"] = vpc
        made = await self._made("create_security_group", TagSpecifications=self._tags("security-group", want), **asked)
        group = made["GroupId"] if made else await self._found(name, vpc)
        among = {"GroupId": group, "IpPermissions": [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}]}
        await self._made("authorize_security_group_ingress", **among)
        await self._made("authorize_security_group_egress", **among)  # EFA wants it said, though all may go out
        return str(group)

    async def _vpc(self, want: Launch) -> str:
        """Of the subnet that the settings name; "": the default one."""
        subnet = self._settings.subnets.get(want.pool.zone)
        if not subnet:
            return ""
        answer = await self._account.ask("ec2", self._region, "describe_subnets", SubnetIds=[subnet])
        return str(answer["Subnets"][0]["VpcId"])

    async def _found(self, name: str, vpc: str) -> str:
        filters = [{"Name": "group-name", "Values": [name]}, {"Name": f"tag:{CLUSTER}", "Values": [self._cluster]}]
        filters += [{"Name": "vpc-id", "Values": [vpc]}] if vpc else []
        answer = await self._account.ask("ec2", self._region, "describe_security_groups", Filters=filters)
        if not answer["SecurityGroups"]:
            # Its name holds our cluster: it is ours, and lists lag behind what was made. A repeat finds it.
            raise Ambiguous("InvalidGroup.Duplicate", f"{name} exists in {self._region} and is not listed yet")
        return str(answer["SecurityGroups"][0]["GroupId"])

    async def _made(self, action: str, **what: Any) -> Json:
        """Empty where it was there already."""
        try:
            return await self._account.change("ec2", self._region, action, **what)
        except ProviderError as error:
            if error.code in _THERE:
                return {}
            raise

    async def _taken(self, action: str, **what: Any) -> None:
        """A machine that still ends keeps its group: the next sweep comes back to it."""
        try:
            await self._account.change("ec2", self._region, action, **what)
        except Invalid as error:
            if error.code not in (*_GONE, "DependencyViolation", "InvalidPlacementGroup.InUse"):
                raise

    def _tags(self, kind: str, want: Launch) -> list[Json]:
        rows = [{"Key": CLUSTER, "Value": self._cluster}, {"Key": TOKEN, "Value": want.token}]
        return [{"ResourceType": kind, "Tags": rows}]


def interfaces(group: list[str], subnet: str, count: int) -> list[Json]:
    """`count` EFA interfaces, one per network card: the first is the machine's own, too.

    A machine with several gets no public address: its subnet needs a way out of its own (NAT).
    """
    return [
        {
            "DeviceIndex": min(card, 1),
            "NetworkCardIndex": card,
            "InterfaceType": "efa",
            "Groups": group,
            "DeleteOnTermination": True,
            **({"SubnetId": subnet} if subnet else {}),
        }
        for card in range(count)
    ]


def _token(row: Mapping[str, Any]) -> str:
    return next((str(tag["Value"]) for tag in row.get("Tags", ()) if tag["Key"] == TOKEN), "")
