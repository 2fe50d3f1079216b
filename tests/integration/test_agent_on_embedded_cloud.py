"""The production agent on the embedded cloud: launched, greeted, noticed and taken, as a daemon sees it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from dsched.providers.base import EndReason, NodeStatus
from dsched.providers.local.options import AGENT
from tests.support.home import FakeHome
from tests.support.world import LocalWorld, want

SAVER = (
    "exec 2>/dev/null; trap 'exit 75' TERM; echo ready; (setsid sleep 1000 &); while :; do sleep 1000 & wait $!; done"
)


@pytest.mark.parametrize("zone", ["use1-az1", "us-central1-a"])
async def test_an_interrupted_node_drains_tells_and_is_gone(tmp_path: Path, zone: str) -> None:
    shape = "g6.xlarge" if zone == "use1-az1" else "g2-standard-4"
    home = FakeHome(tmp_path / "api.sock")
    try:
        async with LocalWorld(zone=zone, shape=shape, agent=AGENT, notice_scale=30.0) as world:
            provider = world.provider()
            data = {
                "cluster": "test",
                "token": "launch-1",
                "daemon": f"unix:{home.path}",
                "secret": "secret",
                "lease_until": world.wall() + 60_000,
                "drain_ms": 1_000,
                "heartbeat_ms": 1_000,
            }
            [node] = await provider.launch(want(world, "launch-1", user_data=json.dumps(data)))
            hello = (await asyncio.to_thread(home.wait, lambda: home.hellos))[0]
            assert hello["node"] == "launch-1.0"
            assert hello["metadata"]["zone"]
            home.start(SAVER)
            await asyncio.to_thread(home.wait, lambda: b"ready" in home.log())
            await world.interrupt(node.ref, notice=True)
            ended = await asyncio.to_thread(home.fact, "exited")
            noticed = await asyncio.to_thread(home.fact, "noticed")
            assert (ended["exits"], ended["drained"]) == ({"0": 75}, True)
            assert ended["at"] < noticed["deadline"]
            assert await world.until(lambda: _gone(world)) is EndReason.INTERRUPTED
    finally:
        home.close()


async def _gone(world: LocalWorld) -> EndReason | None:
    [node] = await world.provider().nodes()
    return node.ended_by if node.status is NodeStatus.GONE else None
