"""AWS as a contract test's world: real boto3 over HTTP against moto behind its door, one process for all tests."""

from __future__ import annotations

import asyncio
import atexit
import base64
import itertools
import json
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from importlib.util import find_spec
from typing import Any, Final
from unittest.mock import patch

import pytest

from dsched.providers.aws import client, provider
from dsched.providers.aws.provider import AwsProvider
from dsched.providers.aws.settings import Settings
from dsched.providers.base import Node, NodeRef, NodeStatus
from dsched.scheduler.core.market import Market, Offer, Pool
from dsched.scheduler.core.units import Instant, Millis
from tests.support.awscloud.process import CREDENTIALS, AwsCloud
from tests.support.world import WAIT_S, RealWorld

REGION: Final = "us-east-1"
ZONES: Final = {"use1-az6": "us-east-1a", "use1-az1": "us-east-1b"}
SHAPE: Final = "g6.xlarge"
NOTICE_S: Final = 0.3  # a notice of two minutes, shortened
_REFUSALS: Final[dict[str, dict[str, Any]]] = {
    "throttled": {"code": "RequestLimitExceeded", "status": 503},
    "auth": {"code": "UnauthorizedOperation", "status": 403},
    "quota": {"code": "MaxSpotInstanceCountExceeded"},
    "invalid": {"code": "InvalidParameterCombination"},
}
_names = itertools.count(1)


def present() -> None:
    """Skip the test, and say so, where AWS cannot be played."""
    if missing := [name for name in ("boto3", "moto", "flask") if find_spec(name) is None]:
        pytest.skip(f"AWS needs {', '.join(missing)}: pip install dsched[dev]")


@cache
def cloud() -> AwsCloud:
    os.environ.update(CREDENTIALS)
    started = AwsCloud()
    atexit.register(started.close)
    return started


class AwsWorld(RealWorld):
    """A cluster of its own in the one account, and a queue of its own."""

    def __init__(self, **settings: Any) -> None:
        self.pool = Pool("aws", REGION, "use1-az6", SHAPE, Market.SPOT)
        self.cluster = f"cluster-{next(_names)}"
        self.settings = {"regions": (REGION,), "shapes": (SHAPE,), "queue": self.cluster, **settings}
        self.used: set[str] = set()
        self._patience = ExitStack()

    async def open(self) -> None:
        present()
        # What is no answer from AWS is only a slow one from a busy test machine.
        self._patience.enter_context(patch.object(client, "CHANGE_S", WAIT_S))
        self._patience.enter_context(patch.object(provider, "PREPARE_S", WAIT_S))
        self._patience.enter_context(patch.object(provider, "GANG_S", WAIT_S))
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        self.cloud = cloud()
        self.pull("reset")
        for zone in ZONES.values():
            self.pull("price", shape=SHAPE, zone=zone, usd=0.3, at=time.time() - 3_600)
            self.pull("capacity", shape=SHAPE, zone=zone, market="spot", free=40)
        self.pull("on_demand", shape=SHAPE, region=REGION, usd=0.8048)
        self.pull("set", lag_s=0.2)
        sqs, events = self.client("sqs"), self.client("events")
        url = sqs.create_queue(QueueName=self.cluster)["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        events.put_rule(Name=self.cluster, EventPattern=json.dumps({"source": ["aws.ec2"]}))
        events.put_targets(Rule=self.cluster, Targets=[{"Id": "queue", "Arn": arn}])

    async def close(self) -> None:
        self._patience.close()
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self.pull("reset")
        events, sqs = self.client("events"), self.client("sqs")
        events.remove_targets(Rule=self.cluster, Ids=["queue"])
        events.delete_rule(Name=self.cluster)
        sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=self.cluster)["QueueUrl"])

    def pull(self, lever: str, **what: Any) -> Any:
        return self.cloud.pull(lever, **what)

    def client(self, service: str, region: str = REGION) -> Any:
        import boto3

        return boto3.client(service, region_name=region, endpoint_url=self.cloud.url)

    def provider(self, **settings: Any) -> AwsProvider:
        return self._provider(settings.pop("endpoint", self.cloud.url), **settings)

    def dead_provider(self) -> AwsProvider:
        return self._provider("http://127.0.0.1:9")

    def _provider(self, endpoint: str, *, now: Callable[[], Instant] | None = None, **settings: Any) -> AwsProvider:
        quick = {"launches_per_second": 1_000.0, "launches_at_once": 100, "spot_every": Millis(0)}
        told = Settings(**{"endpoint": endpoint, **quick, **self.settings, **settings})
        return AwsProvider(told, self.cluster, now=now or self.wall, used=self.used.add)

    async def free(self) -> int:
        return int(await self._pull("free", shape=SHAPE, zone=ZONES[self.pool.zone], market="spot"))

    async def stockout(self) -> None:
        await self._pull("capacity", shape=SHAPE, zone=ZONES[self.pool.zone], market="spot", free=0)

    async def raise_price(self) -> None:
        await self._pull("price", shape=SHAPE, zone=ZONES[self.pool.zone], usd=0.6)

    async def refuse_launch(self, how: str) -> None:
        await self._pull("fault", action="RunInstances", **_REFUSALS[how])

    async def lose_reply(self, *, done: bool) -> None:
        await self._pull("fault", action="RunInstances", drop="after" if done else "before")

    async def break_reads(self, how: str) -> None:
        fault: dict[str, Any] = {"drop": "after"} if how == "lost" else _REFUSALS["throttled"]
        for action in ("DescribeInstances", "DescribeSpotPriceHistory"):
            await self._pull("fault", action=action, **fault)

    async def interrupt(self, ref: NodeRef, *, notice: bool) -> None:
        region, name = ref.id.split("/")
        await self._pull("interrupt", region=region, name=name, warn_s=NOTICE_S, notice=notice)

    async def foreign(self) -> NodeRef:
        run = self.client("ec2").run_instances
        answer = await asyncio.to_thread(run, ImageId="ami-03cf127a", InstanceType="t3.micro", MinCount=1, MaxCount=1)
        return NodeRef("aws", f"{REGION}/{answer['Instances'][0]['InstanceId']}")

    async def foreign_runs(self, ref: NodeRef) -> bool:
        ask = self.client("ec2").describe_instances
        rows: list[Any] = []

        async def listed() -> bool | None:
            answer = await asyncio.to_thread(ask, InstanceIds=[ref.id.split("/")[1]])
            rows[:] = [row for reservation in answer["Reservations"] for row in reservation["Instances"]]
            return bool(rows) or None

        await self.until(listed)  # a new machine shows in lists a moment late
        return bool(rows[0]["State"]["Name"] == "running")

    async def living(self) -> list[str]:
        """The token of every machine of ours that lives, whatever the API tells."""
        return [token for token, _ in await self._pull("living", cluster=self.cluster)]

    async def user_data(self, ref: NodeRef) -> bytes:
        ask = self.client("ec2").describe_instance_attribute
        answer = await asyncio.to_thread(ask, InstanceId=ref.id.split("/")[1], Attribute="userData")
        return base64.b64decode(answer["UserData"]["Value"])

    async def _pull(self, lever: str, **what: Any) -> Any:
        return await asyncio.to_thread(self.pull, lever, **what)


async def gone(world: AwsWorld, provider: AwsProvider, token: str) -> Node:
    async def told() -> Node | None:
        [node] = await provider.nodes([token])
        return node if node.status is NodeStatus.GONE else None

    return await world.until(told)


def spot(offers: list[Offer], region: str) -> Offer:
    return next(offer for offer in offers if offer.pool.region == region and offer.pool.market is Market.SPOT)
