"""The contract suite's levers for Google Cloud: the real client library against the fake over HTTP."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Final

import pytest

from dsched.providers.base import Node, NodeRef, NodeStatus, Provider
from dsched.providers.gcp.provider import GcpProvider
from dsched.providers.gcp.settings import Settings
from dsched.scheduler.core.market import Market, Pool
from tests.support.gce.catalog import machine_types, skus
from tests.support.gce.cloud import Gce
from tests.support.gce.rest import FakeGce, Fault
from tests.support.world import RealWorld

TOKEN: Final = "ya29.fake"
REGIONS: Final = ("us-central1", "europe-west4")
ZONES: Final = ("us-central1-a", "us-central1-b", "europe-west4-a")
INSERT: Final = r"POST .*/instances(/bulkInsert)?$"
_REFUSALS: Final = {
    "throttled": Fault(INSERT, 403, "rateLimitExceeded", "Quota exceeded for quota metric 'Queries'"),
    "auth": Fault(INSERT, 403, "forbidden", "Required 'compute.instances.create' permission"),
    "quota": Fault(INSERT, 403, "quotaExceeded", "Quota 'PREEMPTIBLE_NVIDIA_A100_GPUS' exceeded.  Limit: 0.0"),
    "invalid": Fault(INSERT, 400, "invalid", "Invalid value for field 'resource.disks[0]'"),
}


class GcpWorld(RealWorld):
    """Time is real and short: machines boot in 50 ms and get 300 ms of notice."""

    def __init__(self, **settings: Any) -> None:
        self.pool = Pool("gcp", "us-central1", "us-central1-a", "a2-highgpu-1g", Market.SPOT)
        self.room = 40
        self.cloud = Gce(boot=0.05, notice=0.3, shapes=machine_types(ZONES), skus=skus(REGIONS))
        self.cloud.capacity[self.pool.zone, self.pool.shape, "SPOT"] = self.room
        self.front = FakeGce(self.cloud, token=TOKEN, page_size=3)  # every list has several pages
        self.settings = Settings(
            **{
                "project": "fake-project",
                "regions": REGIONS,
                "endpoint": self.front.url,
                "billing_endpoint": self.front.url,
                "look_seconds": 0.05,
                "prices_seconds": 1e-6,  # every question is asked anew
                "advice": False,
                **settings,
            }
        )
        self._made: list[GcpProvider] = []

    async def open(self) -> None:
        pytest.importorskip("google.cloud.compute_v1", reason="google-cloud-compute is missing: pip install .[gcp]")
        self.front.__enter__()

    async def close(self) -> None:
        for provider in self._made:
            await provider.close()
        await asyncio.to_thread(self.front.__exit__)

    def provider(self) -> GcpProvider:
        return self._provider(self.settings)

    def dead_provider(self) -> GcpProvider:
        dead = "http://127.0.0.1:9"
        return self._provider(replace(self.settings, endpoint=dead, billing_endpoint=dead))

    def _provider(self, settings: Settings) -> GcpProvider:
        from google.oauth2.credentials import Credentials

        provider = GcpProvider(settings, "Cluster_1", Credentials(TOKEN))  # type: ignore[no-untyped-call]
        self._made.append(provider)
        return provider

    async def stockout(self) -> None:
        self.cloud.capacity[self.pool.zone, self.pool.shape, "SPOT"] = 0

    async def free(self) -> int:
        return self.room - self.cloud.used(self.pool.zone, self.pool.shape, "SPOT")

    async def raise_price(self) -> None:
        self.cloud.skus = skus(REGIONS, factor=2.0)

    async def refuse_launch(self, how: str) -> None:
        self.front.faults.append(replace(_REFUSALS[how]))

    async def lose_reply(self, *, done: bool) -> None:
        self.front.faults.append(Fault(INSERT, cut="after" if done else "before"))

    async def break_reads(self, how: str) -> None:
        lost = {"cut": "after"} if how == "lost" else {"status": 429, "reason": "rateLimitExceeded"}
        self.front.faults += [Fault("GET .*/aggregated/instances", **lost), Fault("GET .*/skus", **lost)]

    async def interrupt(self, ref: NodeRef, *, notice: bool) -> None:
        zone, _, name = ref.id.partition("/")
        with self.cloud.changed:
            self.cloud.preempt(zone, name, notice=notice)

    async def foreign(self) -> NodeRef:
        """A machine of somebody else, who even has our way of naming."""
        name = f"x-s-{self.pool.shape}-0"
        body = {"machineType": f"zones/{self.pool.zone}/machineTypes/{self.pool.shape}"}
        with self.cloud.changed:
            self.cloud.create(self.pool.zone, {name: body}, "", bulk=False)
        return NodeRef("gcp", f"{self.pool.zone}/{name}")

    async def foreign_runs(self, ref: NodeRef) -> bool:
        with self.cloud.changed:
            self.cloud.settle()
            zone, _, name = ref.id.partition("/")
            return self.cloud.machine(zone, name).status == "RUNNING"

    async def user_data(self, ref: NodeRef) -> bytes:
        zone, _, name = ref.id.partition("/")
        return self.cloud.machine(zone, name).metadata["user-data"].encode()


async def ended(world: GcpWorld, provider: Provider, token: str) -> Node:
    async def told() -> Node | None:
        nodes = await provider.nodes([token])
        return nodes[0] if nodes and nodes[0].status is NodeStatus.GONE else None

    return await world.until(told)


def place_of(node: Node) -> tuple[str, str]:
    """(zone, name)"""
    zone, _, name = node.ref.id.partition("/")
    return zone, name
